"""What stands before every route, as plain ASGI: hosts, headers, CORS, the last catch; and who a client is."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from secrets import token_hex
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.utils import get_remote_addr

from pillarbox.core.errors import Unexpected, UnknownHost
from pillarbox.telemetry import road

Refuse = Callable[[Request, Exception], Awaitable[Response]]
Networks = tuple[IPv4Network | IPv6Network, ...]
Address = IPv4Address | IPv6Address


class LastCatch:
    """The border of one request: what nobody foresaw is logged under an id and answered as a fault of ours."""

    def __init__(self, app: ASGIApp, refuse: Refuse) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception as error:
            road.error("request_failed", fault=token_hex(4), path=scope["path"][:200], exc_info=error)
            if not begun:
                response = await self._refuse(Request(scope, receive), Unexpected())
                await response(scope, receive, send)
        return None


def content_policy(
    image_origins: tuple[str, ...], form_targets: tuple[str, ...], sources: Mapping[str, tuple[str, ...]] | None = None
) -> str:
    """Return a Content-Security-Policy (CSP Level 3) that lets in what is ours, pictures, and more `sources` if given.

    `sources` go by directive: script-src, style-src, connect-src, frame-src.
    """
    more = {name: "".join(f" {source}" for source in found) for name, found in (sources or {}).items()}
    images = " ".join(("'self'", "data:", *image_origins))
    # A form's target counts through its redirects too, so the origins that `_next` may name are among them.
    targets = " ".join(("'self'", *form_targets))
    frames = f"frame-src{more['frame-src']}; " if "frame-src" in more else ""
    return (
        f"default-src 'none'; script-src 'self'{more.get('script-src', '')}; style-src 'self'"
        f"{more.get('style-src', '')}; img-src {images}; connect-src 'self'{more.get('connect-src', '')}; {frames}"
        f"form-action {targets}; base-uri 'none'; frame-ancestors 'none'"
    )


class SecurityHeaders:
    """Puts the headers on every answer that keep a browser strict, unless the answer has its own."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        image_origins: tuple[str, ...] = (),
        form_targets: tuple[str, ...] = (),
        https: bool = False,
    ) -> None:
        """Let pictures come from us and `image_origins`, forms go to us and `form_targets`.

        With `https`, browsers are told to ask for this host by nothing else from now on.
        """
        self._app = app
        self._headers: dict[str, str] = {
            "Content-Security-Policy": content_policy(image_origins, form_targets),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "strict-origin-when-cross-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "Cross-Origin-Opener-Policy": "same-origin",
        }
        if https:
            # Of this host alone: what else is below its name is not ours to speak for (RFC 6797, section 6.1).
            self._headers |= {"Strict-Transport-Security": "max-age=31536000"}
        self._raw = [(name.lower().encode(), value.encode()) for name, value in self._headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if "content-security-policy" in headers:
                    for name, value in self._headers.items():
                        headers.setdefault(name, value)
                else:
                    message["headers"] = [*message["headers"], *self._raw]
            await send(message)

        await self._app(scope, receive, strict)


class Cors(CORSMiddleware):
    """Says whose scripts may read our answers. Who may not is told nothing, which is for the browser to act on."""

    def __init__(self, app: ASGIApp, /, **settings: Any) -> None:
        """Take the framework's settings; a script may also read how long it has to wait."""
        super().__init__(app, expose_headers=LIMIT_HEADERS, **settings)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer what a browser asks before a script's request; never with a refusal."""
        found = super().preflight_response(request_headers).headers
        told = ("vary", "access-control-") if "access-control-allow-origin" in found else ("vary",)
        return Response(status_code=204, headers={name: found[name] for name in found if name.startswith(told)})


LIMIT_HEADERS = ("Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy")

_ASKED_BY_NUMBER = frozenset({"/health", "/health/mail", "/metrics"})
"""What probes ask for by the number of a machine, not by its name."""


class KnownHosts:
    """Refuses requests for hosts that are not ours; health checks come by number and always pass."""

    def __init__(self, app: ASGIApp, *, hosts: tuple[str, ...], refuse: Refuse) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope["path"] not in _ASKED_BY_NUMBER and not self._knows(Headers(scope=scope)):
            response = await self._refuse(Request(scope, receive), UnknownHost())
            return await response(scope, receive, send)
        return await self._app(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        return all(host_name(host) in self._hosts for host in headers.getlist("host") or [""])


def host_name(host: str) -> str:
    """Return the name of a Host header (RFC 9110, section 7.2) in lower case, without its port.

    Nor with the dot that an absolute name ends with (RFC 3986, section 3.2.2).
    """
    name, colon, port = host.rpartition(":")
    has_port = colon and not host.endswith("]") and (port.isdecimal() or not port)
    return (name if has_port else host).removesuffix(".").strip("[]").lower()


class Peer:
    """Names the real other end of a connection where uvicorn, started as `uvicorn app:app`, has named another.

    It takes X-Forwarded-For from this machine at its word, whatever TRUSTED_PROXIES says, and only its transport then
    still knows who is there. One case is out of reach: with `--log-level trace` it hides the transport too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
            cycle = getattr(receive, "__self__", None)
            if type(cycle).__module__.startswith("uvicorn.") and (transport := getattr(cycle, "transport", None)):
                scope["client"] = get_remote_addr(transport)
        await self._app(scope, receive, send)


class ClientAddress:
    """Tells who a client is: the peer, or what the trusted proxies in front of us say, read from the right.

    They say it in X-Forwarded-For, in Forwarded (RFC 7239), or in both. Where the two lead to different clients, one of
    them is the visitor's own invention, and nobody knows which: then the peer counts. It also counts where a trusted
    proxy hides the address (RFC 7239, section 6.3): such a name may be another one for each request.

    Whoever comes through a unix socket is on this machine, and counts as 127.0.0.1. A proxy that nobody told us of is
    told of in the log, once: all who come through it count as one.
    """

    def __init__(self, trusted: Networks) -> None:
        self._trusted = trusted
        self._has_told = False

    def __call__(self, request: Request) -> str:
        """Return the network that the rate limit counts by: an IPv4 address, or the /64 of an IPv6 one."""
        peer = request.client.host if request.client else ""
        address = address_of(peer or "127.0.0.1")
        if address is None:
            return peer
        if not self._trusts(address):
            names_another = "x-forwarded-for" in request.headers or "forwarded" in request.headers
            if names_another and address.is_private and not self._has_told:
                self._has_told = True
                road.warning("proxy_not_trusted", peer=str(address), meaning=_ONE_CLIENT)
            return counted_as(address)
        found = {
            counted_as(self._followed(address, hops))
            for hops in (_forwarded_for(request.headers), _forwarded(request.headers))
            if hops is not None
        }
        return found.pop() if len(found) == 1 else counted_as(address)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def _followed(self, address: Address, hops: Iterator[Address | None]) -> Address:
        """Return the first address that is no trusted proxy's, or the last proxy that anything is known of."""
        for hop in hops:
            if hop is None or not self._trusts(address):
                break
            address = hop
        return address


_ONE_CLIENT = "all visitors who come through it count as one client: if it is your proxy, name it in TRUSTED_PROXIES"
_READ = 2_000
"""So many characters of a header's end are read: what stands further left was not written by a proxy next to us."""


def _forwarded_for(headers: Headers) -> Iterator[Address | None] | None:
    """Return the hops of X-Forwarded-For, the nearest first, None for one that is no address; None without it."""
    # A proxy may add its own line instead of adding to the one that the client sent: together they are one list.
    lines = headers.getlist("x-forwarded-for")
    return (address_of(hop.strip()) for hop in reversed(",".join(lines)[-_READ:].split(","))) if lines else None


def _forwarded(headers: Headers) -> Iterator[Address | None] | None:
    """Return the hops of Forwarded, the nearest first, None for one that is hidden; None when it names no client."""
    lines = headers.getlist("forwarded")
    if not any("for=" in line.lower() for line in lines):
        return None
    # Split from the right: whatever quotes a visitor leaves open, what the proxy wrote stands behind the last comma.
    return map(_hop, reversed(",".join(lines)[-_READ:].split(",")))


def _hop(element: str) -> Address | None:
    """Return the address of a forwarded-element (RFC 7239, section 4), which names one client at most."""
    pairs = [pair.partition("=") for pair in element.split(";")]
    clients = [value.strip() for name, _, value in pairs if name.strip().lower() == "for"]
    if len(clients) != 1:
        return None
    quoted = _QUOTED.fullmatch(clients[0])
    return address_of(_ESCAPED.sub(r"\1", quoted[1]) if quoted else clients[0])


_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@lru_cache(maxsize=4_096)
def counted_as(address: Address) -> str:
    """Return whom an address counts as: an IPv4 one itself, an IPv6 one its /64."""
    return str(IPv6Network((int(address) >> 64 << 64, 64)) if address.version == 6 else address)


def address_of(text: str) -> Address | None:
    """Return the address of a text that may also name a port, as some proxies write it; None for anything else."""
    return _read_address(text) if len(text) < 100 else None


@lru_cache(maxsize=4_096)
def _read_address(text: str) -> Address | None:
    if text.startswith("["):
        text, bracket, _port = text[1:].partition("]")
        if not bracket:
            return None
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if found.version == 6 else found
