"""HTTP as uvicorn speaks it, with the bounds that it leaves to a proxy: how large and how slow a request's head may be.

Without them one connection fills the memory with a header that never ends, and an idle one is held for ever. And how
many connections there may be at once: a crowd that takes every file descriptor would leave none to send mail with.
"""

import asyncio
import resource

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
MAX_HEAD_SECONDS = 30.0
DESCRIPTORS_OF_OUR_OWN = 128
"""What the store, the ways out and all that we read may need, or half of a small allowance."""
FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def most_connections(allowed: int) -> int:
    """Return how many visitors' connections leave enough of the allowed file descriptors for everything else."""
    if allowed == resource.RLIM_INFINITY:
        allowed = 1_000_000
    return max(allowed // 2, allowed - DESCRIPTORS_OF_OUR_OWN)


MAX_CONNECTIONS = most_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `_unread` counts the bytes since the parser last finished a head or gave out a piece of a body.

    Trailers and chunk extensions count like a head.
    """

    _unread = 0
    _too_slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head, but not for ever; one connection too many is told to come again."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.write(FULL)
            transport.close()
            return
        self._too_slow = self.loop.call_later(MAX_HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock."""
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse on; a head that grows too long is answered (RFC 6585, section 5) and cut."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD_BYTES and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n")
            self.transport.close()
        elif self._unread and self._too_slow is None:
            self._too_slow = self.loop.call_later(MAX_HEAD_SECONDS, self.transport.close)

    def on_headers_complete(self) -> None:
        """Begin the request."""
        self._in_time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of the body."""
        self._in_time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request's reading."""
        self._in_time()
        super().on_message_complete()

    def _in_time(self) -> None:
        self._unread = 0
        if self._too_slow:
            self._too_slow.cancel()
            self._too_slow = None
