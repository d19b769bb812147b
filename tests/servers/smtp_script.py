"""What a scripted mail server is told to say, and what it remembers."""

import asyncio
import json
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OF_A_LETTER = ("MAIL", "RCPT", "DATA", "BODY", "DOT", "RSET")
STAGES = ("CONNECT", "EHLO", "STARTTLS", "TLS", "AUTH", *OF_A_LETTER, "NOOP", "QUIT", "IDLE")
"""What can be scripted; TLS is the handshake behind the answer to STARTTLS, BODY a letter's content before its dot."""

EXTENSIONS = ("PIPELINING", "SIZE 20971520", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
"""What EHLO offers unless a test wants it otherwise."""


@dataclass(frozen=True)
class Answer:
    """What to do at a stage: wait `after` seconds and for `once`, send `text` (None: the usual), hang up if `drop`.

    A str is sent with its line end; bytes are sent as they are. `endless` is repeated until the client goes. `once`
    is an event of the server's own loop: what a test has to do before the answer, it does however busy the machine is.
    """

    text: str | bytes | None = None
    after: float = 0.0
    drop: bool = False
    endless: bytes = b""
    once: asyncio.Event | None = None

    async def is_due(self) -> None:
        """Return when it may be given."""
        if self.after:
            await asyncio.sleep(self.after)
        if self.once is not None:
            await self.once.wait()


DROP = Answer(b"", drop=True)
SILENCE = Answer(b"")
USUAL = Answer()


@dataclass(frozen=True)
class Moment:
    """When a scripted callable is asked: the n-th time (from 1) that this stage is reached, and the client's line."""

    stage: str
    nth: int
    line: str
    connection: int


Script = str | bytes | Answer | list[Any] | dict[int, Any] | Callable[[Moment], Any]


@dataclass
class Transaction:
    """One letter as it came. Times: `dot_received`/`dot_answered` monotonic, `…_at` wall clock; None: not answered."""

    connection: int
    encrypted: bool
    auth: tuple[str, str, str] | None
    mail_from: str
    mail_options: str
    recipients: list[str] = field(default_factory=list)
    raw: bytes = b""
    answer: str = ""
    dot_received: float = 0.0
    dot_received_at: float = 0.0
    dot_answered: float | None = None
    dot_answered_at: float | None = None

    @property
    def content(self) -> bytes:
        """The letter without dot-stuffing and without the final dot's line."""
        lines = self.raw.removesuffix(b".\r\n")
        return re.sub(rb"(?:(?<=\n)|\A)\.", b"", lines)

    @property
    def accepted(self) -> bool:
        """Whether the dot was answered with 2xx."""
        return self.answer.startswith("2") and self.dot_answered is not None

    @property
    def message_id(self) -> str:
        """The Message-ID header's value."""
        found = re.search(rb"(?im)^Message-ID:\s*(\S+)", self.raw[:20_000])
        return found[1].decode("ascii", "replace") if found else ""


class Plan:
    """What a scripted server says and what it has been sent: `transactions`, `lines` (connection, line), `count`."""

    context: ssl.SSLContext | None = None
    implicit = False
    extensions: tuple[str, ...] = EXTENSIONS
    auth: tuple[str, ...] = ()
    keep = True
    dot_delay = 0.0

    def __init__(self, accounts: dict[str, str] | None = None, log: Path | None = None) -> None:
        self.accounts = accounts or {}
        self.transactions: list[Transaction] = []
        self.lines: list[tuple[int, str]] = []
        self.count = 0
        self.connections = 0
        self.open_connections: set[asyncio.Protocol] = set()
        self.scripted: dict[str, Script] = {}
        self._reached: dict[str, int] = {}
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log else None

    def script(self, **stages: Script) -> None:
        """Answer so at these stages from now on, counting their times anew; what is not named stays as it was."""
        for stage, answers in stages.items():
            if stage not in STAGES:
                raise ValueError(stage)
            self.scripted[stage] = answers
            self._reached[stage] = 0

    def heal(self) -> None:
        """Answer as usual at every stage from now on."""
        self.scripted.clear()

    def answer_to(self, stage: str, line: str, connection: int) -> Answer:
        """Return what the script says to this stage, reached once more."""
        script = self.scripted.get(stage)
        if script is None:
            return USUAL
        nth = self._reached[stage] = self._reached.get(stage, 0) + 1
        said: Any = script
        if isinstance(script, list):
            said = script[nth - 1] if nth <= len(script) else None
        elif isinstance(script, dict):
            said = script.get(nth)
        elif callable(script):
            said = script(Moment(stage, nth, line, connection))
        return said if isinstance(said, Answer) else Answer(said)

    @property
    def accepted(self) -> list[Transaction]:
        """The letters that were answered with 2xx, in order."""
        return [transaction for transaction in self.transactions if transaction.accepted]

    def verbs(self, connection: int | None = None) -> list[str]:
        """Return the first words of all lines that came, of one connection (from 1) or of all."""
        return [line.split(" ")[0].upper() for number, line in self.lines if connection in (None, number)]

    def record(self, transaction: Transaction) -> None:
        """Write the letter's fate into the log, at its answer or when its connection ends without one."""
        if self._log is None:
            return
        event = {
            "message_id": transaction.message_id,
            "recipient": transaction.recipients[0] if transaction.recipients else "",
            "recipients": transaction.recipients,
            "mail_from": transaction.mail_from,
            "answer": transaction.answer,
            "dot_received_at": transaction.dot_received_at,
            "dot_answered_at": transaction.dot_answered_at,
        }
        os.write(self._log, json.dumps(event).encode() + b"\n")

    def close_log(self) -> None:
        """Close the log; what comes later is not written down."""
        if self._log is not None:
            os.close(self._log)
            self._log = None
