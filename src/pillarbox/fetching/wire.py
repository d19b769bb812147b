"""One request as it goes over the wire: to whom, through which proxy, and how much of the answer is read."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Iterable, Mapping
from urllib.request import getproxies

import httpcore2
import httpx2

from pillarbox.fetching.addresses import Inside, Resolve, bare, literal
from pillarbox.fetching.connecting import PRIVATE, Door
from pillarbox.fetching.exchange import Bounds, Reply
from pillarbox.fetching.proxies import choose_proxy
from pillarbox.fetching.unreachable import Unreachable, Why, in_words

_FRAME_BYTES = 256 * 1024
"""What may come besides the body: headers, 1xx answers, the frames of chunks."""
_HEADERS = {"user-agent": "Pillarbox", "accept": "*/*", "accept-encoding": "identity"}
_PORTS = {"http": 80, "https": 443}
_MOST_AT_ONCE = 20
_FAILURES = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
)


class Wire:
    """Asks, and keeps no connection, cookie or login between two questions. Belongs to one event loop.

    `context` None trusts whom the system does.
    """

    def __init__(self, bounds: Bounds, *, inside: Inside, context: ssl.SSLContext | None, resolve: Resolve) -> None:
        self._bounds = bounds
        self._inside = inside
        self._context = context
        most = bounds.max_bytes + _FRAME_BYTES
        self._judging = Door(resolve, inside.may_ask_all, max_bytes=most)
        self._to_proxies = Door(resolve, lambda _host, _addresses: True, max_bytes=most)
        self._proxies = getproxies()
        self._pools: dict[tuple[str, str], httpcore2.AsyncConnectionPool] = {}

    async def ask(self, method: str, url: str, *, headers: Mapping[str, str], content: bytes | None) -> Reply:
        """Return the answer. Raises Unreachable."""
        where = read_url(url)
        proxy = self._proxy_for(where)
        key = (where.scheme, proxy)
        if key not in self._pools:
            self._pools.setdefault(key, await asyncio.to_thread(self._make_pool, *key))
        try:
            async with self._pools[key].stream(
                method,
                _target(where, bracketed=bool(proxy)),
                headers=_headers(where, headers),
                content=b"" if content is None and method not in {"GET", "HEAD"} else content,
                extensions={"timeout": self._timeouts(), "sni_hostname": bare(_host(where))},
            ) as response:
                return Reply(response.status, await self._beginning(response), _by_name(response.headers))
        except httpcore2.ConnectTimeout:
            failure = Unreachable(f"no connection within {self._bounds.connect_seconds:g} seconds", Why.SILENCE)
        except httpcore2.TimeoutException:
            failure = Unreachable(f"no answer within {self._bounds.total_seconds:g} seconds", Why.SILENCE)
        except _FAILURES as error:
            failure = in_words(error)
        raise failure  # outside of the handlers: the text of what was caught may hold the address

    async def close(self) -> None:
        """Let go of every connection."""
        while self._pools:
            await self._pools.popitem()[1].aclose()

    def _timeouts(self) -> dict[str, float]:
        total = self._bounds.total_seconds
        return {"connect": self._bounds.connect_seconds, "read": total, "write": total, "pool": total}

    async def _beginning(self, response: httpcore2.Response) -> bytes:
        body = bytearray()
        async for piece in response.aiter_stream():  # not unpacked: a few bytes could become gigabytes
            body += piece
            if len(body) >= self._bounds.max_bytes:
                break
        return bytes(body[: self._bounds.max_bytes])

    def _proxy_for(self, url: httpx2.URL) -> str:
        """Return the proxy for this address. Raises Unreachable when it would be asked for what is inside."""
        host = _host(url)
        proxy = choose_proxy(self._proxies, scheme=url.scheme, host=host, port=url.port or _PORTS[url.scheme])
        if proxy and (written := literal(host)) and not self._inside.may_ask(host, written):
            raise Unreachable(PRIVATE, Why.PRIVATE)
        return proxy

    def _make_pool(self, scheme: str, proxy: str) -> httpcore2.AsyncConnectionPool:
        """Make what asks so; reads the trusted certificates, which takes a moment, if that is HTTPS."""
        if self._context is None and "https" in (scheme, proxy.partition(":")[0]):
            self._context = _trusting()
        return httpcore2.AsyncConnectionPool(
            ssl_context=self._context,
            proxy=_read_proxy(proxy, self._context) if proxy else None,
            max_connections=_MOST_AT_ONCE,
            max_keepalive_connections=0,  # seldom asked: it would mostly be one that the server has closed meanwhile
            network_backend=self._to_proxies if proxy else self._judging,
        )


def read_url(written: str) -> httpx2.URL:
    """Return the address. Raises Unreachable when it is none on the web."""
    try:
        url = httpx2.URL(written)
        if url.scheme in _PORTS and url.raw_host and url.port != 0 and (url.port or 1) < 65_536:
            return url
    except (httpx2.InvalidURL, ValueError):
        pass
    raise Unreachable("this is no web address", Why.ADDRESS)


def _read_proxy(written: str, context: ssl.SSLContext | None) -> httpcore2.Proxy:
    try:
        url = read_url(written)
    except Unreachable:
        raise Unreachable(
            "HTTPS_PROXY or a setting of its kind is no address like http://host:port", Why.PROXY
        ) from None
    login = (url.username, url.password) if url.userinfo else None
    secured = context if url.scheme == "https" else None
    return httpcore2.Proxy(_target(url, bracketed=False), auth=login, ssl_context=secured)


def _trusting() -> ssl.SSLContext:
    try:
        return httpcore2.default_ssl_context()
    except OSError:  # ssl.SSLError is one
        raise Unreachable("SSL_CERT_FILE or SSL_CERT_DIR can't be read", Why.PROXY) from None


def _host(url: httpx2.URL) -> str:
    return url.raw_host.decode("ascii")


def _target(url: httpx2.URL, *, bracketed: bool) -> httpcore2.URL:
    """Return the address as the wire has it; a proxy is told an IPv6 address in brackets (RFC 9110, section 9.3.6)."""
    host = b"[%b]" % url.raw_host if bracketed and b":" in url.raw_host else url.raw_host
    return httpcore2.URL(scheme=url.raw_scheme, host=host, port=url.port, target=url.raw_path)


def _headers(url: httpx2.URL, own: Mapping[str, str]) -> list[tuple[str, str]]:
    headers = {"host": url.netloc.decode("ascii")} | _HEADERS
    if url.userinfo:
        headers["authorization"] = f"Basic {b64encode(f'{url.username}:{url.password}'.encode()).decode()}"
    return list((headers | {name.lower(): value for name, value in own.items()}).items())


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    named = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
    return dict(reversed(list(named)))
