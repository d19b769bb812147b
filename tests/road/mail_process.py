"""The scripted mail server in its own process: it lives on while Pillarbox is killed, and its log is the witness."""

import json
import os
import signal
import smtplib
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.forking import begin

OWNER = "ada@example.org"


@dataclass(frozen=True)
class Dot:
    """One letter as the mail server saw it; times are wall clock, `answered_at` None: its client was gone."""

    message_id: str
    recipient: str
    answer: str
    received_at: float
    answered_at: float | None

    @property
    def submission_id(self) -> str:
        """The message that the letter is about."""
        return self.message_id.strip("<>").partition(".")[0]

    @property
    def purpose(self) -> str:
        """`notification` or `confirmation`."""
        return self.message_id.partition(".")[2].partition("@")[0]


class MailProcess:
    """A mail server on loopback that takes everything; `options` are those of tests.servers.scripted_smtp."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._log = folder / "mail-server.jsonl"
        self.port = 0
        self.start(*options)

    def start(self, *options: str) -> None:
        """Start it, after a kill on the port that it had; its log goes on."""
        where = ("--log", str(self._log), "--port", str(self.port))
        command = ["tests.servers.scripted_smtp", *where, *options]
        usual = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._process = begin(command, cwd=Path(__file__).parents[2], env=usual, stdout=subprocess.PIPE)
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())

    def kill(self) -> float:
        """Kill it and return the moment (wall clock); its clients see their connections end."""
        self._process.kill()
        at = time.time()
        self._process.wait(10)
        assert self._process.stdout
        self._process.stdout.close()
        return at

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it say nothing while the block runs: what is under way stays under way."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @property
    def settings(self) -> dict[str, str]:
        """What makes a Pillarbox send through it."""
        return {
            "SMTP_SERVER": "127.0.0.1",
            "SMTP_PORT": str(self.port),
            "SMTP_SECURITY": "plain",
            "EMAIL_ADDRESS": "forms@pillarbox.example",
            "RECIPIENT_EMAIL": OWNER,
        }

    def dots(self) -> list[Dot]:
        """Return every final dot so far, in the order of their answers."""
        if not self._log.exists():
            return []
        whole = self._log.read_text().rpartition("\n")[0]
        return [_dot(json.loads(line)) for line in whole.splitlines()]

    def by_letter(self) -> dict[tuple[str, str], list[Dot]]:
        """Return the dots of each letter: (Message-ID, recipient)."""
        found: dict[tuple[str, str], list[Dot]] = defaultdict(list)
        for dot in self.dots():
            found[dot.message_id, dot.recipient].append(dot)
        return found

    def reached(self, purpose: str = "notification") -> set[str]:
        """Return the ids of the messages whose letter of this purpose was taken with 250."""
        return {dot.submission_id for dot in self.dots() if dot.purpose == purpose and dot.answer.startswith("250")}

    def take(self, name: str) -> None:
        """Have it take a letter of somebody else's; returns once it has."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as other:
            other.sendmail("eve@example.org", ["eve@example.org"], f"Message-ID: <{name}.other@example.org>\n\nHello\n")

    def end(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout
        self._process.stdout.close()


def _dot(event: dict[str, object]) -> Dot:
    answered_at = event["dot_answered_at"]
    return Dot(
        str(event["message_id"]),
        str(event["recipient"]),
        str(event["answer"]),
        float(str(event["dot_received_at"])),
        float(str(answered_at)) if answered_at is not None else None,
    )
