"""A conversation with a mail server that remembers what it saw on the way, and sends nothing."""

import contextlib
import ssl
from collections.abc import Awaitable

from aiosmtplib.response import SMTPResponse

from pillarbox.core.delivery import Sent
from pillarbox.core.letter import Letter
from pillarbox.transports.smtp_replies import Stage
from pillarbox.transports.smtp_session import Halted, Session, SmtpServer

_USUAL = bytes(20_000)
"""As long as a letter of ours is: servers are told a size."""


class Probe(Session):
    """A session as letters use it; what it saw stays known when it ends.

    `banner` is the server's greeting, `offered` what EHLO offered so far (in lower case, with its parameters),
    `protocol` is "" while nothing is encrypted, and `certificate_ends` seconds since the epoch.
    """

    def __init__(self, server: SmtpServer) -> None:
        super().__init__(server)
        self.banner = ""
        self.offered: dict[str, str] = {}
        self.protocol = ""
        self.certificate_ends: float | None = None

    async def offer(self, sender: str, recipient: str) -> None:
        """Say whom a letter would be from and for, and take that back: nothing is sent. Raises Halted."""
        smtputf8 = not f"{sender}{recipient}".isascii()
        mail, rcpt = self._envelope(Letter("", "", sender, recipient, _USUAL, smtputf8), sender)
        try:
            await self._ask(Stage.MAIL, mail)
            await self._ask(Stage.RCPT, rcpt)
        finally:
            if self.usable:
                with contextlib.suppress(Halted):
                    await self._ask(Stage.RSET, b"RSET")

    async def _greet(self) -> None:
        self._see_the_encryption()
        await super()._greet()
        self.offered |= self._extensions

    async def _reply(self, stage: Stage, waiting: Awaitable[SMTPResponse]) -> tuple[Sent | None, str]:
        outcome, text = await super()._reply(stage, waiting)
        if stage is Stage.BANNER:
            self.banner = text
        return outcome, text

    def _see_the_encryption(self) -> None:
        transport = self._line.transport
        encrypted = transport.get_extra_info("ssl_object") if transport else None
        if encrypted:
            self.protocol = encrypted.version() or ""
            ends = (encrypted.getpeercert() or {}).get("notAfter")
            self.certificate_ends = ssl.cert_time_to_seconds(ends) if ends else None
