"""One look at one contestant: start it fresh, load it, wait for its mails, say what was seen."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contestants import Contestant
from bench.load import Figures
from bench.processes import LOAD_CORE, ROOT, SERVER_CORE, Process, busy_seconds, free_port, running, wait_for_health
from bench.sinks import Sink, mail_server

WARM_UP = 64
LOAD_TIMEOUT_SECONDS = 360


@dataclass(frozen=True, slots=True)
class Bout:
    """A contestant that is up, warm, and has no mail under way."""

    contestant: Contestant
    server: Process
    sink: Sink
    port: int

    def post_watched(self, *arguments: str) -> "Watched":
        """Post, and look at the clocks of the processor before and after."""
        began, busy, own = time.monotonic(), busy_seconds(SERVER_CORE), self.server.processor_seconds()
        load = self.post(*arguments)
        spent = self.server.processor_seconds() - own
        others = busy_seconds(SERVER_CORE) - busy - spent
        return Watched(load, spent, max(0.0, others / (time.monotonic() - began)))

    def post(self, *arguments: str) -> Figures:
        """Run the load generator on the other core and return its figures."""
        command = [sys.executable, "-m", "bench.load", f"http://127.0.0.1:{self.port}{self.contestant.path}", "--json"]
        pinned = ["taskset", "-c", str(LOAD_CORE), "setpriv", "--pdeathsig", "KILL", *command, *arguments]
        done = subprocess.run(pinned, cwd=ROOT, capture_output=True, timeout=LOAD_TIMEOUT_SECONDS, check=False)
        if not done.stdout:
            raise RuntimeError(f"the load generator failed: {done.stderr.decode(errors='replace')[-1500:]}")
        return Figures(**json.loads(done.stdout))


@dataclass(frozen=True, slots=True)
class Watched:
    """A load's figures, the server's processor seconds meanwhile, and the share of its core others took (0 to 1)."""

    load: Figures
    processor_seconds: float
    disturbed: float


@contextmanager
def bout(contestant: Contestant, *, delay_ms: int, scratch: Path) -> Iterator[Bout]:
    """Run a contestant with a mail server and an empty folder of its own, warmed up by 64 messages."""
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with mail_server(folder, delay_ms) as sink:
            port = free_port()
            settings = contestant.settings_for(port, mail_port=sink.port, folder=folder)
            server = running("server", contestant.command_for(port), core=SERVER_CORE, folder=folder, env=settings)
            with server as process:
                wait_for_health(process, port)
                up = Bout(contestant, process, sink, port)
                warm = up.post("--count", str(WARM_UP), "--first", "900000000")
                if warm.accepted != WARM_UP:
                    raise RuntimeError(f"{contestant.name} refused the warm-up: {warm.statuses}, {warm.lost} lost")
                sink.wait_for(warm.accepted * contestant.mails)
                yield up


@dataclass(frozen=True, slots=True)
class Speed:
    """Accepted messages a second, mails a second until none is left (None: not waited for), and the load's figures.

    `disturbed` is the share of the server's core that other programs took meanwhile, 0 to 1.
    """

    accepted: float
    mails: float | None
    missing: int
    disturbed: float
    load: Figures


def measure_speed(contestant: Contestant, *, seconds: float, delay_ms: int, scratch: Path) -> Speed:
    """Load for so many seconds after one that is not counted; with an instant mail server wait for the last mail."""
    with bout(contestant, delay_ms=delay_ms, scratch=scratch) as up:
        before = up.sink.mails()
        watched = up.post_watched("--seconds", str(seconds), "--lead", "1")
        load = watched.load
        if delay_ms:
            return Speed(load.rate, None, 0, watched.disturbed, load)
        expected = load.accepted * contestant.mails
        seen, last = up.sink.wait_for(before + expected)
        mails = (seen - before) / (last - load.started)
        return Speed(load.rate, mails, before + expected - seen, watched.disturbed, load)


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time of the server in microseconds for each accepted message, and how fast it accepted."""

    microseconds: float
    accepted: float
    disturbed: float
    load: Figures


def measure_cost(contestant: Contestant, *, count: int, scratch: Path) -> Cost:
    """Post `count` messages and read the server's user and system time before and after."""
    with bout(contestant, delay_ms=0, scratch=scratch) as up:
        watched = up.post_watched("--count", str(count))
    load = watched.load
    return Cost(1e6 * watched.processor_seconds / max(1, load.accepted), load.rate, watched.disturbed, load)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes after `few` messages and after `many`, each time with every mail delivered."""

    few: int
    many: int
    resident_few: int
    resident_many: int
    missing: int
    loads: tuple[Figures, Figures]


def measure_memory(contestant: Contestant, *, few: int, many: int, scratch: Path) -> Memory:
    """Post `few`, wait for their mails, look; post on up to `many`, wait, look again."""
    with bout(contestant, delay_ms=0, scratch=scratch) as up:
        base = up.sink.mails()
        first = up.post("--count", str(few))
        up.sink.wait_for(base + first.accepted * contestant.mails)
        resident_few = up.server.resident_bytes()
        second = up.post("--count", str(many - few), "--first", str(few))
        expected = base + (first.accepted + second.accepted) * contestant.mails
        seen, _ = up.sink.wait_for(expected)
        # The counts are those that came in: a load that reached its time limit shows as fewer messages.
        accepted = first.accepted + second.accepted
        resident = up.server.resident_bytes()
        return Memory(first.accepted, accepted, resident_few, resident, expected - seen, (first, second))
