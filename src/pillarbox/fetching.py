"""The one way in which Pillarbox asks other servers over HTTP: bounded in time and size, and without their addresses in
the log, since those may hold secrets."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 10.0
TOTAL_SECONDS = 30.0
MAX_BYTES = 64 * 1024
NO_ADDRESS = "this is no web address"


class Unreachable(Exception):
    """No answer came; its text says why in plain words, without the address that was asked."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: the status code, and the first bytes of its body as they came (at most the fetcher's bound)."""

    status: int
    body: bytes

    @property
    def is_good(self) -> bool:
        """Whether the server took it (2xx)."""
        return 200 <= self.status < 300


class Fetcher:
    """Asks by HTTP and HTTPS, through HTTPS_PROXY and its kind where they are set. Belongs to one event loop.

    `connect_seconds` bounds the connection, `total_seconds` everything from the call to the last byte that is read.
    """

    def __init__(
        self,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
        max_bytes: int = MAX_BYTES,
        private: Sequence[str] = (),
    ) -> None:
        self._connect_seconds = connect_seconds
        self._total_seconds = total_seconds
        self._max_bytes = max_bytes
        self._private = private
        self._client: httpx2.AsyncClient | None = None

    async def fetch(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Reply:
        """Return the answer, whatever its status; a redirect is an answer, too, and not followed. Raises Unreachable.

        What lies beyond the bound of the body is not read.
        """
        if not _may_be_asked(url):
            raise Unreachable(NO_ADDRESS)
        try:
            async with asyncio.timeout(self._total_seconds):
                if self._client is None:
                    self._client = await asyncio.to_thread(self._make_client)
                return await self._ask(self._client, (method, url), headers=headers, content=content)
        except TimeoutError:
            raise Unreachable(f"no answer within {self._total_seconds:g} seconds") from None

    async def close(self) -> None:
        """Let go of every connection."""
        if self._client:
            await self._client.aclose()

    def _make_client(self) -> "httpx2.AsyncClient":
        """Import and read the certificates in a thread: both take a tenth of a second."""
        import httpx2  # noqa: PLC0415 - most runs never ask anybody

        try:
            return httpx2.AsyncClient(
                follow_redirects=False,
                timeout=httpx2.Timeout(self._total_seconds, connect=self._connect_seconds),
                # Seldom asked: a kept connection would mostly be one that the server has closed meanwhile.
                limits=httpx2.Limits(max_connections=20, max_keepalive_connections=0),
                headers={"User-Agent": "Pillarbox", "Accept-Encoding": "identity"},
            )
        except (OSError, ValueError, ImportError, httpx2.InvalidURL) as error:
            raise Unreachable("HTTPS_PROXY, SSL_CERT_FILE or a setting of their kind can't be used") from error

    async def _ask(
        self,
        client: "httpx2.AsyncClient",
        what: tuple[str, str],
        *,
        headers: Mapping[str, str] | None,
        content: bytes | None,
    ) -> Reply:
        import httpx2  # noqa: PLC0415

        method, url = what
        try:
            async with client.stream(method, url, headers=headers, content=content) as response:
                return Reply(response.status_code, await self._beginning(response))
        except httpx2.ConnectTimeout:
            reason = f"no connection within {self._connect_seconds:g} seconds"
        except httpx2.TimeoutException:
            reason = f"no answer within {self._total_seconds:g} seconds"
        except httpx2.InvalidURL:
            reason = NO_ADDRESS
        except httpx2.HTTPError as error:
            reason = _in_words(error)
        raise Unreachable(reason)  # outside of the handlers: the text of what was caught may hold the address

    async def _beginning(self, response: "httpx2.Response") -> bytes:
        body = bytearray()
        async for piece in response.aiter_raw():  # not unpacked: a few bytes could become gigabytes
            body += piece
            if len(body) >= self._max_bytes:
                break
        return bytes(body[: self._max_bytes])


def _may_be_asked(url: str) -> bool:
    """Whether it is an address on the web: the place for every rule on whom we ask."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond 65535, half an IPv6 address
        return False


_CAUSES = (
    (ssl.SSLCertVerificationError, "its certificate is not to be trusted"),
    (ssl.SSLError, "TLS failed"),
    (socket.gaierror, "its name is not known to DNS"),
    (ConnectionRefusedError, "connection refused"),
)
_BY_NAME = {
    "ConnectError": "no connection",
    "ProxyError": "the proxy refused",
}
_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH}


def _in_words(error: BaseException) -> str:
    for cause in _causes(error):
        for kind, words in _CAUSES:
            if isinstance(cause, kind):
                return words
        if isinstance(cause, OSError) and cause.errno in _NO_ROUTE:
            return "there is no route to it"
    return _BY_NAME.get(type(error).__name__, "it hung up, or what it said was no HTTP")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all it came from, members of groups included."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            members = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            waiting += [cause for cause in (*members, one.__cause__, one.__context__) if cause]
