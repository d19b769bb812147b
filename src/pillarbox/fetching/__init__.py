"""The one way in which Pillarbox asks other servers over HTTP: bounded in time and size, never inside the operator's
own network unless allowed, and without addresses in the log, since those may hold secrets."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pillarbox.fetching.addresses import Inside, Resolve, find_addresses
from pillarbox.fetching.exchange import Bounds, Reply
from pillarbox.fetching.unreachable import Unreachable, Why

if TYPE_CHECKING:
    from pillarbox.fetching.wire import Wire

__all__ = ["Fetcher", "Reply", "Unreachable", "Why"]

CONNECT_SECONDS = 10.0
TOTAL_SECONDS = 30.0
MAX_BYTES = 64 * 1024


class Fetcher:
    """Asks by HTTP and HTTPS. Belongs to one event loop.

    A host's name is resolved once; when one of its addresses is not public and neither `private` lists that address's
    network nor the host's name, nobody is asked. What is connected to is an address so judged.

    HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY count. A proxy may be anywhere: the operator named it. It resolves
    the names it is asked for by itself, so only a target that is written as an address is judged here.

    `connect_seconds` bounds the connection, `total_seconds` everything from the call to the last byte that is read.
    `context` says whom to trust in HTTPS; None trusts whom the system does. `resolve` finds a host's addresses.
    """

    def __init__(
        self,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
        max_bytes: int = MAX_BYTES,
        private: Sequence[str] = (),
        context: ssl.SSLContext | None = None,
        resolve: Resolve = find_addresses,
    ) -> None:
        self._bounds = Bounds(connect_seconds, total_seconds, max_bytes)
        self._inside = Inside.of(private)
        self._context = context
        self._resolve = resolve
        self._wire: Wire | None = None

    async def fetch(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Reply:
        """Return the answer, whatever its status; a redirect is an answer, too, and not followed. Raises Unreachable.

        What lies beyond the bound of the body is not read. A user and password in the address log in (RFC 7617).
        """
        try:
            async with asyncio.timeout(self._bounds.total_seconds):
                if self._wire is None:
                    made = await asyncio.to_thread(self._make_wire)
                    self._wire = self._wire or made
                return await self._wire.ask(method, url, headers=headers or {}, content=content)
        except TimeoutError:
            raise Unreachable(f"no answer within {self._bounds.total_seconds:g} seconds", Why.SILENCE) from None

    async def close(self) -> None:
        """Let go of every connection."""
        if self._wire:
            await self._wire.close()

    def _make_wire(self) -> "Wire":
        """Import what speaks HTTP, in a thread: it takes a tenth of a second, and most runs never ask anybody."""
        from pillarbox.fetching.wire import Wire  # noqa: PLC0415

        return Wire(self._bounds, inside=self._inside, context=self._context, resolve=self._resolve)
