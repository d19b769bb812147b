"""The line to a mail server: what is written, and replies in the order in which they were asked for."""

import asyncio
import ssl
from collections import deque
from typing import cast

from aiosmtplib.errors import SMTPReadTimeoutError, SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.protocol import COMMAND_INJECTION_REGEX, MAX_RESPONSE_LENGTH, SMTPProtocol
from aiosmtplib.response import SMTPResponse
from aiosmtplib.typing import SMTPStatus


class Conversation(SMTPProtocol):
    """aiosmtplib's line protocol with replies in flight (RFC 2920), hanging up on a server that speaks unasked.

    It counts the replies that are still to come. Whatever goes beyond them could be taken for a later reply: plain
    text slipped in behind the answer to STARTTLS (RFC 3207, 6), a late 250. A 421 to a quiet connection ends here as
    well. The replies before it stand.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spoke_unasked = False
        self._to_come = 1  # the greeting is asked for by connecting
        self._replies: deque[SMTPResponse] = deque()
        self._failure: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._due = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    def ask(self, *commands: bytes) -> None:
        """Write these commands at once; each one's reply is then to be read, in their order.

        Raises ValueError for a command that could hold another. A cut line is told by the reading.
        """
        if any(COMMAND_INJECTION_REGEX.search(command) for command in commands):
            raise ValueError("a command contains a control character")
        self._say(b"\r\n".join((*commands, b"")), replies=len(commands))

    def hand_over(self, content: bytes) -> None:
        """Write a letter's content with its final dot, after DATA; the reply to the dot is then to be read."""
        self._say(as_data(content), replies=1)

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:  # noqa: ASYNC109 - overrides
        """Return the next reply that was asked for, waiting for it at most `timeout` seconds.

        Raises SMTPException when it did not come, or when what came is no reply; the line is of no use then.
        """
        if not self._replies and self._failure is None:
            self._watch(timeout)
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if self._replies:
            return self._replies.popleft()
        assert self._failure is not None  # noqa: S101 - for mypy: nothing else wakes the reader
        raise self._failure

    async def start_tls(
        self,
        tls_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - overrides
    ) -> SMTPResponse:
        """Say STARTTLS and encrypt, each within `timeout` seconds; return the server's reply.

        Raises SMTPException or OSError, the former with the reply when that was another than 220.
        """
        self._to_come = 1
        return await super().start_tls(tls_context, server_hostname, timeout)

    def hang_up(self) -> None:
        """Close at once, without QUIT and without sending what is still buffered."""
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).abort()

    def data_received(self, data: bytes) -> None:
        """Cut the replies that were asked for out of what came; hang up at anything more."""
        if self._failure is not None:
            return
        self._buffer += data
        try:
            while self._to_come and (reply := self._cut_reply()) is not None:
                self._to_come -= 1
                self._replies.append(reply)
        except SMTPResponseException as error:
            self._fail(error)
            self.hang_up()
            return
        if self._buffer and not self._to_come:
            self.spoke_unasked = True
            self.hang_up()
        if self._replies:
            self._wake()

    def eof_received(self) -> bool:
        """Fail whoever waits; the transport closes by itself."""
        self._fail(SMTPServerDisconnected("Unexpected EOF received"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits, and whoever asks from now on."""
        super().connection_lost(exc)
        lost = SMTPServerDisconnected("Connection lost")
        lost.__cause__ = exc
        self._fail(lost)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _say(self, data: bytes, *, replies: int) -> None:
        if self.is_connected:
            self._to_come += replies
            self.write(data)
        else:
            self._fail(SMTPServerDisconnected("Connection lost"))

    def _cut_reply(self) -> SMTPResponse | None:
        """Return the next whole reply, or None. Raises SMTPResponseException for what is none, or longer than any."""
        before = len(self._buffer)
        reply = self._read_response_from_buffer()
        length = before if reply is None else before - len(self._buffer)
        if length > MAX_RESPONSE_LENGTH:
            raise SMTPResponseException(SMTPStatus.invalid_response.value, "Response too long")
        return reply

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
        self._wake()

    def _watch(self, seconds: float | None) -> None:
        """Have the reader woken after so many seconds.

        One alarm serves for reply after reply: when it rings early it is set again. That is cheaper than one a reply.
        """
        self._due = self._loop.time() + (float("inf") if seconds is None else seconds)
        if self._alarm is not None and self._alarm_at <= self._due:
            return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if seconds is not None:
            self._set_alarm()

    def _set_alarm(self) -> None:
        self._alarm_at = self._due
        self._alarm = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._reader is None or self._reader.done():
            return
        if self._loop.time() < self._due:
            self._set_alarm()
        else:
            self._fail(SMTPReadTimeoutError("Timed out waiting for server response"))


def as_data(content: bytes) -> bytes:
    """Return the letter as DATA sends it: CRLF alone ends a line, dots are doubled, the dot closes (RFC 5321, 4.5.2).

    A bare CR or LF would let one server end the letter where the other does not.
    """
    # Joining the lines again is right for every letter, and faster than looking first whether it is needed.
    lines = b"\r\n".join(content.splitlines())
    return b"%b%b\r\n.\r\n" % (b"." if lines.startswith(b".") else b"", lines.replace(b"\r\n.", b"\r\n.."))
