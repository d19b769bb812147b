"""Letters and ways out for the tests of this folder."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.servers.scripted_smtp import ScriptedSmtp

from pillarbox.core.letter import Letter
from pillarbox.transports.smtp import SmtpServer, SmtpTransport

PLAIN_LETTER = Letter(
    id="17",
    message_id="<abc.notification@pillarbox.example>",
    sender="forms@pillarbox.example",
    recipient="ada@example.org",
    content=(
        b"From: Pillarbox <forms@pillarbox.example>\r\nTo: ada@example.org\r\n"
        b"Message-ID: <abc.notification@pillarbox.example>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n"
        b"Subject: Bob wrote\r\n\r\n.begins with a dot\r\n..\r\n.\r\nFrom here on\r\ntrailing blank \r\n"
    ),
)


def letter(**changes: Any) -> Letter:
    """Return a usual letter, with these changes."""
    return replace(PLAIN_LETTER, **changes)


def way_to(server: ScriptedSmtp, **changes: Any) -> SmtpTransport:
    """Return a way out to the scripted server, in the clear unless `changes` says otherwise, with short limits."""
    limits = {"connect_seconds": 2.0, "command_seconds": 2.0, "dot_seconds": 2.0, "goodbye_seconds": 0.2}
    usual = {"host": server.host, "port": server.port, "security": "plain"}
    return SmtpTransport(SmtpServer(**(usual | limits | changes)))


async def until(holds: Callable[[], bool]) -> None:
    """Return as soon as it holds; fails after ten seconds."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)
