"""Many processes of one installation, web and worker apart, each killed and started again as what it was."""

import random
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from tests.road.crowd import Crowd
from tests.road.mail_process import Dot, MailProcess
from tests.running import Pillarbox, free_port, is_well, until

WAITING = """
    SELECT id, purpose, way, due_at, attempts, claim, unanswered, note FROM deliveries
    WHERE state = 'waiting' ORDER BY id LIMIT 8
"""


class Books:
    """What lies in an installation's database, asked past Pillarbox, whichever database it is."""

    def __init__(self, mailing: Pillarbox) -> None:
        self._file = mailing.database
        self._url = mailing.settings.get("DATABASE_URL", "")
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        """Return the rows that a query finds."""
        if not self._url:
            with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=10)) as connection:
                return connection.execute(question).fetchall()
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True)
        return self._connection.execute(question.encode()).fetchall()

    def count(self, what: str) -> int:
        """Return how many rows `… FROM …` has."""
        return int(self.ask(f"SELECT count(*) FROM {what}")[0][0])

    @property
    def waiting(self) -> int:
        """How many letters still wait or are in hand."""
        return self.count("deliveries WHERE state = 'waiting'")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


@dataclass
class Member:
    """One process: web with a port, or a worker (port 0) whose leases last for so many seconds (0: the usual)."""

    mailing: Pillarbox
    port: int = 0
    lease: float = 0.0
    wrapper: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        if self.port:
            return self.mailing.start("serve", "--no-worker", wrapper=self.wrapper, PORT=str(self.port))
        if not self.lease:
            return self.mailing.start("worker", wrapper=self.wrapper)
        script = Path(__file__).with_name("short_lease.py")
        with self.mailing.log.open("ab") as log:
            process = subprocess.Popen(
                [*self.wrapper, sys.executable, script, str(self.lease)],
                cwd=self.mailing.folder,
                env=self.mailing.environment,
                stdout=log,
                stderr=log,
            )
        self.mailing.processes.append(process)
        return process

    @property
    def answers(self) -> bool:
        """Whether messages can be kept through it."""
        return is_well(f"http://127.0.0.1:{self.port}")

    def kill_and_start(self) -> float:
        """Kill it, start it again and return the moment of its end (wall clock)."""
        self.process.kill()
        at = time.time()
        self.process.wait()
        self.process = self._start()
        return at

    def stop_and_start(self) -> int:
        """Tell it to stop, start it again and return the exit status of the first one."""
        status = self.stop()
        self.process = self._start()
        return status

    def stop(self) -> int:
        """Tell it to stop and return its exit status."""
        self.process.terminate()
        return self.process.wait(40)


@dataclass
class Fleet:
    """Some web processes and some workers on one database, with visitors who write to each."""

    mailing: Pillarbox
    webs: Sequence[Member]
    workers: Sequence[Member]
    ends: list[float] = field(default_factory=list)
    crowds: list[Crowd] = field(default_factory=list)

    @classmethod
    def of(cls, mailing: Pillarbox, *, webs: int, workers: int, lease: float = 0.0) -> "Fleet":
        """Start so many of each and return once all that serve answer; the first makes the database."""
        first = Member(mailing, free_port())
        until(lambda: first.answers, within=60)
        others = [Member(mailing, free_port()) for _ in range(webs - 1)]
        made = cls(mailing, [first, *others], [Member(mailing, lease=lease) for _ in range(workers)])
        made.is_up()
        return made

    def is_up(self) -> None:
        """Return once all that serve answer, and nobody has ended."""
        until(lambda: all(web.answers for web in self.webs), within=60)
        assert all(member.process.poll() is None for member in (*self.webs, *self.workers)), (
            self.mailing.log.read_text()
        )

    @property
    def thanked(self) -> int:
        """How many messages were thanked for so far."""
        return sum(len(crowd.thanked) for crowd in self.crowds)

    @property
    def ids(self) -> set[str]:
        """The ids of all messages that were thanked for."""
        return {identifier for crowd in self.crowds for identifier in crowd.thanked.values()}

    @contextmanager
    def visited(self, *crowds: Crowd) -> Iterator[None]:
        """Let visitors write while the block runs."""
        self.crowds += crowds
        with ExitStack() as stack:
            for crowd in crowds:
                stack.enter_context(crowd.posting())
            try:
                yield
            finally:
                for crowd in crowds:
                    crowd.going_home = True

    def live_through(self, *, kills: int, messages: int) -> None:
        """Kill any of the processes so often while so many messages are posted, and start it again at once."""
        for number in range(kills):
            enough = messages * (number + 1) // (kills + 1)
            until(lambda enough=enough: self.thanked >= enough, within=300)
            self.ends.append(random.choice([*self.webs, *self.workers]).kill_and_start())
        until(lambda: self.thanked >= messages, within=300)
        self.is_up()


def times_kept(mailing: Pillarbox) -> Counter[int]:
    """Return how often the message of each number is on disk."""
    with closing(Books(mailing)) as books:
        texts = [str(answers) for (answers,) in books.ask("SELECT answers FROM submissions")]
    return Counter(int(found[1]) for text in texts if (found := re.search(r"message (\d+)\.", text)))


def settled(mailing: Pillarbox, *, within: float = 60.0) -> None:
    """Return once no letter waits or is in hand."""
    with closing(Books(mailing)) as books:
        try:
            until(lambda: books.waiting == 0, within=within)
        except AssertionError:
            raise AssertionError(f"{time.time()}: {books.ask(WAITING)} {mailing.log.read_text()}") from None


def repeats(mail_server: MailProcess) -> list[Dot]:
    """Return each dot after which the same letter was sent once more."""
    return [dot for dots in mail_server.by_letter().values() for dot in dots[:-1]]


def unexcused(dots: Sequence[Dot], ends: Sequence[float], *, unwritten: float) -> list[Dot]:
    """Return those that no end explains: by the dot rule, an end cut the answer off or came so many seconds after."""
    return [
        dot
        for dot in dots
        if dot.answered_at is not None
        and not any(dot.received_at <= end + 0.1 and dot.answered_at >= end - unwritten for end in ends)
    ]


def on_postgresql(mailing: Pillarbox, url: str) -> Pillarbox:
    """Let the installation keep its messages in that PostgreSQL; it is not started yet."""
    mailing.settings |= {"DATABASE_URL": url, "SECRET_KEY": "0123456789abcdef" * 4}
    return mailing
