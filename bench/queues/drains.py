"""One look at one engine: fill it, start its workers, watch the mails arrive, kill a worker in the middle."""

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.postgresql import Postgresql

from bench.processes import LOAD_CORE, SERVER_CORE, Process, busy_seconds, free_port, running, stop, wait_for_port
from bench.queues.engines import Celery, Engine, PgQueuer, Pillarbox, empty

LINE = re.compile(rb"mesg=(\d+) twice=(\d+) later=(\d+) bytes=(\d+) first=([\d.]+) last=([\d.]+)\r")
STALLED_SECONDS = 150.0
"""So long without a mail, and what is missing counts as lost: longer than any lease or time-out here."""
SURPLUS_SECONDS = 0.5
Kind = type[Pillarbox | PgQueuer | Celery]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the mail server counted; `first` and `last` are on CLOCK_MONOTONIC."""

    mails: int = 0
    twice: int = 0
    later: int = 0
    bytes: int = 0
    first: float = 0.0
    last: float = 0.0


@dataclass(frozen=True, slots=True)
class CountingSink:
    """The running mail server."""

    process: Process
    port: int

    def seen(self) -> Seen:
        """Return what it counted so far."""
        with self.process.out.open("rb") as out:
            out.seek(max(0, out.seek(0, 2) - 400))
            found = LINE.findall(out.read())
        if not found:
            return Seen()
        mails, twice, later, size, first, last = found[-1]
        return Seen(int(mails), int(twice), int(later), int(size), float(first), float(last))

    def wait_for(self, mails: int) -> Seen:
        """Wait until so many different mails came, or none for a long time; repeats right behind count, too."""
        seen, changed = self.seen(), time.monotonic()
        while time.monotonic() - changed < (STALLED_SECONDS if seen.mails < mails else SURPLUS_SECONDS):
            time.sleep(0.01)
            if (now := self.seen()) != seen:
                seen, changed = now, time.monotonic()
        return seen

    def wait_for_some(self, mails: int) -> None:
        """Return as soon as so many came; RuntimeError when they don't."""
        deadline = time.monotonic() + STALLED_SECONDS
        while self.seen().mails < mails:
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {self.seen().mails} of {mails} mails came")
            time.sleep(0.002)


@contextmanager
def counting_sink(folder: Path, *, put_off: str = "visitor.", reply_ms: float = 0.0) -> Iterator[CountingSink]:
    """Run the mail server on the load's core."""
    port = free_port()
    command = [sys.executable, "-m", "bench.sinks.counting", "--port", str(port), "--put-off", put_off,
               "--reply-ms", str(reply_ms)]  # fmt: skip
    with running("sink", command, core=LOAD_CORE, folder=folder) as process:
        wait_for_port(process, port)
        yield CountingSink(process, port)


@dataclass(frozen=True, slots=True)
class Table:
    """Where engines are laid: the real PostgreSQL, and a folder for the rest."""

    postgresql: Postgresql
    scratch: Path

    @contextmanager
    def filled(self, kind: Kind, submissions: int) -> Iterator[tuple[Engine, Path]]:
        """Give an engine that holds the mails of so many messages, and a folder."""
        with (
            tempfile.TemporaryDirectory(dir=self.scratch, ignore_cleanup_errors=True) as name,
            empty(kind, self.postgresql, Path(name)) as engine,
        ):
            engine.fill(submissions, Path(name))
            yield engine, Path(name)


@dataclass(frozen=True, slots=True)
class Drain:
    """Mails a second from the first to the last, and what else was counted.

    `rate` counts different mails; `lost` never came, `twice` came again. `processor` is the worker's seconds of
    processor for 1,000 mails. `disturbed` is the share of its core that other programs took, 0 to 1.
    """

    rate: float
    lost: int
    twice: int
    later: int
    size: float
    processor: float
    disturbed: float


def drain(table: Table, kind: Kind, submissions: int) -> Drain:
    """Let one worker send the mails of so many messages."""
    with table.filled(kind, submissions) as (engine, folder), counting_sink(folder) as sink:
        with engine.worker(folder, mail_port=sink.port).at_work() as worker:
            began, busy = time.monotonic(), busy_seconds(SERVER_CORE)
            seen = sink.wait_for(2 * submissions)
            spent = worker.processor_seconds()
            others = busy_seconds(SERVER_CORE) - busy - spent
        took = seen.last - seen.first
        return Drain(
            rate=seen.mails / took,
            lost=2 * submissions - seen.mails,
            twice=seen.twice,
            later=seen.later,
            size=seen.bytes / (seen.mails + seen.twice),
            processor=1_000 * spent / seen.mails,
            disturbed=max(0.0, others / (time.monotonic() - began)),
        )


@dataclass(frozen=True, slots=True)
class Killed:
    """Seconds from kill -9 in mid-work, with a worker started again at once, to the last mail; lost and sent again."""

    seconds: float
    lost: int
    twice: int


def kill(table: Table, kind: Kind, submissions: int) -> Killed:
    """Kill the worker -9 when half of the mails are sent, and start another at once."""
    with table.filled(kind, submissions) as (engine, folder), counting_sink(folder) as sink:
        worker = engine.worker(folder, mail_port=sink.port)
        with worker.at_work() as first:
            sink.wait_for_some(submissions)
            killed = time.monotonic()
            stop(first.popen)
            with worker.at_work("second"):
                seen = sink.wait_for(2 * submissions)
        return Killed(seen.last - killed, 2 * submissions - seen.mails, seen.twice)


def share(table: Table, submissions: int, *, workers: int, reply_ms: float) -> Drain:
    """Let so many of our workers, with four connections each, send to a mail server that takes its time."""
    with (
        table.filled(Pillarbox, submissions) as (engine, folder),
        counting_sink(folder, put_off="", reply_ms=reply_ms) as sink,
        ExitStack() as both,
    ):
        worker = engine.worker(folder, mail_port=sink.port)
        at_work = [both.enter_context(worker.at_work(f"worker{number}")) for number in range(workers)]
        seen = sink.wait_for(2 * submissions)
        spent = sum(one.processor_seconds() for one in at_work)
        return Drain(
            rate=seen.mails / (seen.last - seen.first),
            lost=2 * submissions - seen.mails,
            twice=seen.twice,
            later=seen.later,
            size=seen.bytes / (seen.mails + seen.twice),
            processor=1_000 * spent / seen.mails,
            disturbed=0.0,
        )
