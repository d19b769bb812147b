"""How a connection is made: the name is resolved once, every address judged, and a judged one is what is connected to.

So a name that has another address a moment later (DNS rebinding) wins nothing: nobody asks for it a second time.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore2

from pillarbox.fetching.addresses import Resolve
from pillarbox.fetching.unreachable import Unreachable, Why

PRIVATE = "its address is a private one; list it in PRIVATE_HOSTS if that is meant"
MOST_ADDRESSES = 8
"""So many addresses of one host are tried."""
_READ_BYTES = 16 * 1024
"""Read at once: parsing so much keeps others waiting for a few milliseconds only."""


class Door(httpcore2.AsyncNetworkBackend):
    """Makes connections to addresses that `may_ask(host, addresses)` lets pass, and reads at most so much from each."""

    def __init__(self, resolve: Resolve, may_ask: Callable[[str, Sequence[str]], bool], *, max_bytes: int) -> None:
        self._resolve = resolve
        self._may_ask = may_ask
        self._max_bytes = max_bytes
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the name that the library calls it by
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that answers. Raises Unreachable before any connection when one is private."""
        until = None if timeout is None else asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout_at(until):
                addresses = await self._find(host, port)
        except TimeoutError:
            raise Unreachable("its name could not be looked up in time", Why.SILENCE) from None
        failure: Exception = httpcore2.ConnectTimeout()
        for number, address in enumerate(addresses):
            share = None if until is None else _share(until, len(addresses) - number)
            try:
                stream = await self._backend.connect_tcp(address, port, share, local_address, socket_options)
                return Measured(stream, self._max_bytes)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _find(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = await self._resolve(host, port)
        except OSError:
            addresses = ()
        if not addresses:  # said outside of the handler: what was caught may hold the name
            raise Unreachable("its name is not known to DNS", Why.NAME)
        if not self._may_ask(host, addresses):
            raise Unreachable(PRIVATE, Why.PRIVATE)
        return addresses[:MOST_ADDRESSES]


def _share(until: float, among: int) -> float:
    """Return the seconds for one address: who swallows everything is not to take the time of those behind."""
    return max((until - asyncio.get_running_loop().time()) / among, 0.0)


class Measured(httpcore2.AsyncNetworkStream):
    """A connection from which no more than so many bytes are read, whatever they are: headers, chunks' frames, 1xx."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, max_bytes: int) -> None:
        self._stream = stream
        self._left = max_bytes

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Read some bytes. Raises Unreachable once there were too many."""
        if self._left <= 0:
            raise Unreachable("its answer does not end")
        read = await self._stream.read(min(max_bytes, self._left, _READ_BYTES), timeout)
        self._left -= len(read)
        return read

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Write all of it."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Hang up."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        """Go on in TLS, with a certificate of the host's name."""
        return Measured(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._left)

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection beneath knows of itself."""
        return self._stream.get_extra_info(info)
