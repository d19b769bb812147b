"""Several processes keep into one file and one dispatches: its death is the others' turn, its sleep is nobody's."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.road import ledger
from tests.road.crowd import Crowd
from tests.road.mail_process import MailProcess
from tests.road.results import write_table
from tests.running import BOB, Pillarbox, free_port, is_well, until


class Server:
    """One of several serving processes of an installation, with its own port and log."""

    def __init__(self, mailing: Pillarbox, number: int, **settings: str) -> None:
        self.port = free_port()
        self.log = mailing.folder / f"log-{number}"
        self.process: subprocess.Popen[bytes] = mailing.start(
            "serve", PORT=str(self.port), LOG_FILE=str(self.log), LOG_LEVEL="debug", **settings
        )

    @property
    def dispatches(self) -> bool:
        """Whether it took the right to dispatch."""
        return self.log.exists() and bool(re.search(r"\bdispatching\s", self.log.read_text()))

    @property
    def answers(self) -> bool:
        """Whether messages can be kept through it."""
        return is_well(f"http://127.0.0.1:{self.port}")

    def kill(self) -> float:
        """Kill it and return the moment."""
        os.kill(self.process.pid, signal.SIGKILL)
        at = time.time()
        self.process.wait()
        return at


def four_servers(mailing: Pillarbox) -> list[Server]:
    """Start four processes on one database and return once all keep and one dispatches."""
    servers = [Server(mailing, number) for number in range(4)]
    until(lambda: all(server.answers for server in servers))
    until(lambda: [server for server in servers if server.dispatches])
    return servers


@contextmanager
def crowds(servers: list[Server], pause: float) -> Iterator[list[Crowd]]:
    """Let visitors write to each of the servers while the block runs."""
    made = [Crowd(server.port, pause, begins_at=1_000_000 * place) for place, server in enumerate(servers)]
    posting = [crowd.posting() for crowd in made]
    for one in posting:
        one.__enter__()
    try:
        yield made
    finally:
        for crowd in made:
            crowd.going_home = True
        for one in posting:
            one.__exit__(None, None, None)


@pytest.mark.alone  # a letter's outcome is given 200 ms to be written down
@pytest.mark.parametrize(
    ("kills", "pause"),
    [
        pytest.param(1, 0.6, id="small"),
        pytest.param(3, 0.2, id="full", marks=[pytest.mark.full, pytest.mark.timeout(600)]),
    ],
)
def test_when_the_process_that_dispatches_is_killed_another_of_four_takes_over_and_nothing_is_lost(
    mailing: Pillarbox, mail_server: MailProcess, request: pytest.FixtureRequest, kills: int, pause: float
) -> None:
    servers = four_servers(mailing)
    took: list[float] = []
    ends: list[float] = []
    with crowds(servers, pause) as visitors:
        for _ in range(kills):
            [dispatching] = [server for server in servers if server.dispatches and server.process.poll() is None]
            before = len(mail_server.reached())
            until(lambda before=before: len(mail_server.reached()) > before + 20)
            ends.append(dispatching.kill())
            until(lambda: [one for one in servers if one.dispatches and one.process.poll() is None])
            until(lambda: [dot for dot in mail_server.dots() if dot.received_at > ends[-1] + 0.05])
            took.append(
                min(dot.received_at for dot in mail_server.dots() if dot.received_at > ends[-1] + 0.05) - ends[-1]
            )
    until(lambda: ledger.waiting(mailing.database) == 0, within=120)
    thanked = {identifier for crowd in visitors for identifier in crowd.thanked.values()}
    repeated = [dot for dots in mail_server.by_letter().values() for dot in dots[:-1]]
    if "full" in request.node.callspec.id:
        counts = {
            "processes that keep": 4,
            "dispatchers killed": kills,
            "thanked": len(thanked),
            "thanked, owner's letter missing": len(thanked - mail_server.reached()),
            "letters sent again": len(repeated),
            "from each kill to the next letter": ", ".join(f"{1000 * one:.0f} ms" for one in took),
        }
        write_table("takeover", "The dispatcher of four killed", counts, test="tests/road/test_takeover.py")
    assert not thanked - mail_server.reached()
    assert not thanked - mail_server.reached("confirmation")
    assert all(any(-0.2 <= (dot.answered_at or end) - end <= 0.1 for end in ends) for dot in repeated)
    alive = [server for server in servers if server.process.poll() is None]
    assert len([server for server in alive if server.dispatches]) == 1


def test_letters_in_the_hands_of_a_killed_dispatcher_are_sent_long_before_their_leases_would_end(
    pillarbox: Pillarbox, tmp_path: Path
) -> None:
    slow = MailProcess(tmp_path, "--delay-dot", "3")
    try:
        pillarbox.settings |= slow.settings | {"CONFIRMATION_EMAIL": "false"}
        first, second = Server(pillarbox, 1), Server(pillarbox, 2)
        until(lambda: first.answers and second.answers and (first.dispatches or second.dispatches))
        dispatching, other = (first, second) if first.dispatches else (second, first)
        pillarbox.url = f"http://127.0.0.1:{other.port}"
        thanked = {pillarbox.post(BOB | {"message": f"Message {n}."})[1]["id"] for n in range(4)}
        in_hand = "SELECT count(*) FROM deliveries WHERE unanswered = 1 AND state = 'waiting'"
        until(lambda: ledger.ask(pillarbox.database, in_hand) == [(4,)])
        dispatching.kill()
        until(lambda: other.dispatches)
        # Their leases end 30 s after the claim: sooner than that only a successor that voids them can send.
        until(lambda: slow.reached() >= thanked, within=20)
    finally:
        slow.end()


@pytest.mark.parametrize(
    ("lease", "dot_delay"),
    [
        pytest.param(0.6, 0.5, id="small"),
        pytest.param(30.0, 2.0, id="full", marks=[pytest.mark.full, pytest.mark.timeout(300)]),
    ],
)
def test_a_dispatcher_that_slept_for_longer_than_its_leases_sends_nothing_twice(
    pillarbox: Pillarbox, tmp_path: Path, lease: float, dot_delay: float
) -> None:
    slow = MailProcess(tmp_path, "--delay-dot", str(dot_delay))
    try:
        pillarbox.settings |= slow.settings | {"CONFIRMATION_EMAIL": "false"}
        pillarbox.serve("--no-worker")
        worker = start_worker(pillarbox, lease)
        thanked = {pillarbox.post(BOB | {"message": f"Message {n}."})[1]["id"] for n in range(12)}
        in_hand = "SELECT count(*) FROM deliveries WHERE unanswered > 0 AND state = 'waiting' AND due_at > ?"
        until(lambda: ledger.ask(pillarbox.database, in_hand, time.time())[0][0] >= 4)
        os.kill(worker.pid, signal.SIGSTOP)
        until(lambda: ledger.ask(pillarbox.database, in_hand, time.time()) == [(0,)], within=2 * lease + 20)
        os.kill(worker.pid, signal.SIGCONT)
        # What was claimed without an outcome is sent one by one: who held it may have died of it.
        until(lambda: ledger.waiting(pillarbox.database) == 0, within=20 + 20 * dot_delay)
        assert slow.reached() == thanked
        assert [dots for dots in slow.by_letter().values() if len(dots) > 1] == []
    finally:
        slow.end()


def start_worker(pillarbox: Pillarbox, lease: float) -> "subprocess.Popen[bytes]":
    """Start a worker with leases of so many seconds."""
    script = Path(__file__).with_name("short_lease.py")
    with pillarbox.log.open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, script, str(lease)],
            cwd=pillarbox.folder,
            env=pillarbox.environment,
            stdout=log,
            stderr=log,
        )
    pillarbox.processes.append(worker)
    return worker


def test_a_port_that_is_taken_is_said_in_one_plain_sentence(pillarbox: Pillarbox) -> None:
    with socket.create_server(("127.0.0.1", pillarbox.port)):
        ended = pillarbox.run("serve")
    assert ended.returncode == 1
    assert "set HOST and PORT to a free address" in ended.stderr
    assert "Traceback" not in ended.stderr
