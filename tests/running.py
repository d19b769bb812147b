"""A real Pillarbox on loopback: its own process, folder and port, started, killed and asked as an operator would."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

from tests import forking

T = TypeVar("T")

UNLIMITED = {
    "RATE_LIMIT": "off",
    "FORM_RATE_LIMIT": "off",
    "SITE_RATE_LIMIT": "off",
    "PAGE_RATE_LIMIT": "off",
    "CONFIRMATIONS_PER_HOUR": "off",
    "CONFIRMATIONS_PER_CLIENT": "off",
}
"""Tests come from one address, and many at once."""

BOB = {"name": "Bob", "email": "bob@example.org", "message": "Do you have the blue one?"}
"""What Bob writes."""


def until(ask: Callable[[], T], *, within: float = 20.0) -> T:
    """Return the first true answer; fails the test when none comes within so many seconds."""
    deadline = time.monotonic() + within
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r} after {within:.0f} s")
        time.sleep(0.01)
    return answer


def is_well(url: str) -> bool:
    """Whether a Pillarbox at this address says that messages can be kept."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


PORTS = 400
"""How many ports a process takes in turn before it begins again; the blocks end below the kernel's own (32768)."""


@cache
def _ports() -> Iterator[int]:
    """Take a block of ports that no other process of any run has until this one ends; give them round and round.

    The kernel's own choice is no reservation: before the server starts, it may have become another's.
    """
    for begin in range(12_000, 32_000, PORTS):
        with socket.socket(socket.AF_UNIX) as mark, suppress(OSError):
            mark.bind(f"\0pillarbox-tests-ports-{begin}")  # a name without a file, gone with its process
            yield from cycle(range(begin, begin + PORTS))


def free_port() -> int:
    """Return a port that nothing listens on, and that no other test is given soon."""
    for port in islice(_ports(), PORTS):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free: too many test runs at once")


class Pillarbox:
    """One installation: a folder with its database and Maildir, and the processes that work on it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {"PORT": str(self.port)} | UNLIMITED | settings
        self.database = folder / "data" / "pillarbox.db"
        self.log = folder / "log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.really_starts = False
        """Whether each of its processes is a Python that starts anew, as an operator's does, and none is forked."""

    @property
    def environment(self) -> dict[str, str]:
        """What its processes see."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")} | self.settings

    def start(self, *command: str, wrapper: tuple[str, ...] = (), **settings: str) -> subprocess.Popen[bytes]:
        """Start `pillarbox serve`, or another command, and return its process at once. A `wrapper` runs a real one."""
        with self.log.open("ab") as log:
            process = self._begin(*(command or ("serve",)), wrapper=wrapper, settings=settings, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def serve(self, *options: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start `pillarbox serve` and return once it answers."""
        process = self.start("serve", *options, **settings)
        until(lambda: self.answers() or process.poll() is not None)
        assert process.poll() is None, self.log.read_text()
        return process

    def answers(self) -> bool:
        """Whether it says that messages can be kept."""
        return is_well(self.url)

    def post(self, fields: dict[str, Any], path: str = "/api/contact", **headers: str) -> tuple[int, dict[str, Any]]:
        """Post JSON and return (status, answer). Raises OSError when no answer comes."""
        request = urllib.request.Request(
            self.url + path, json.dumps(fields).encode(), {"Content-Type": "application/json"} | headers
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        pipe = subprocess.PIPE
        with self._begin(*arguments, settings=settings, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                said = process.communicate(timeout=60)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, *said)

    def _begin(
        self, *command: str, settings: dict[str, str], wrapper: tuple[str, ...] = (), **streams: Any
    ) -> subprocess.Popen[Any]:
        whole, how = ("pillarbox", *command), {"cwd": self.folder, "env": self.environment | settings} | streams
        if wrapper:
            return subprocess.Popen([*wrapper, sys.executable, "-m", *whole], **how)
        return forking.begin(whole, really=self.really_starts, **how)

    def mails(self) -> list[bytes]:
        """Return what lies in the Maildir."""
        return [path.read_bytes() for path in sorted((self.folder / "mail" / "new").glob("*"))]

    def stop(self) -> None:
        """End every process that is left."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
