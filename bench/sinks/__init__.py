"""Mail servers that take everything and keep nothing but a count."""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import LOAD_CORE, Process, find_tool, free_port, running, wait_for_port

TAIL_BYTES = 400
SURPLUS_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Sink:
    """A running mail server on a loopback port."""

    process: Process
    port: int

    def mails(self) -> int:
        """Return how many final dots it has answered, from the last counter it printed."""
        with self.process.out.open("rb") as out:
            out.seek(0, os.SEEK_END)
            out.seek(max(0, out.tell() - TAIL_BYTES))
            counts = re.findall(rb"mesg=(\d+)\r", out.read())
        return int(counts[-1]) if counts else 0

    def wait_for(self, mails: int, *, stalled_seconds: float = 10.0) -> tuple[int, float]:
        """Wait until so many mails came, or none for a while; return their number and when the last came.

        The time is on CLOCK_MONOTONIC, exact to the 10 ms between two looks. What comes in the half second behind
        the last mail that was expected is in the number as well: mails sent twice show.
        """
        seen, changed = self.mails(), time.monotonic()
        while time.monotonic() - changed < (stalled_seconds if seen < mails else SURPLUS_SECONDS):
            time.sleep(0.01)
            if (now := self.mails()) != seen:
                seen, changed = now, time.monotonic()
        return seen, changed


def command(port: int, delay_ms: int) -> list[str]:
    """Return the command of the mail server: Postfix's smtp-sink, or our own where an answer takes its time."""
    if delay_ms:
        return [sys.executable, "-m", "bench.sinks.slow", "--port", str(port), "--delay-ms", str(delay_ms)]
    # Smtp-sink refuses to stay root. Its own `-u` would undo the promise to die with us, setpriv renews it.
    nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--pdeathsig", "KILL"]
    sink = [find_tool("smtp-sink") or "smtp-sink", "-c", f"127.0.0.1:{port}", "512"]
    return [*nobody, *sink] if os.getuid() == 0 else sink


@contextmanager
def mail_server(folder: Path, delay_ms: int) -> Iterator[Sink]:
    """Run a mail server on the load's core that answers each final dot after `delay_ms`, at once when 0."""
    port = free_port()
    with running("sink", command(port, delay_ms), core=LOAD_CORE, folder=folder) as process:
        wait_for_port(process, port)
        yield Sink(process, port)
