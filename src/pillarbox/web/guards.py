"""What stands before every route, as plain ASGI: hosts, headers, CORS, the last catch; and who a client is."""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from secrets import token_hex

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pillarbox.core.errors import Unexpected, UnknownHost
from pillarbox.telemetry import road

Refuse = Callable[[Request, Exception], Awaitable[Response]]
Networks = tuple[IPv4Network | IPv6Network, ...]


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


class SecurityHeaders:
    """Puts the headers on every answer that keep a browser strict, unless the answer has its own."""

    def __init__(
        self, app: ASGIApp, *, image_origins: tuple[str, ...] = (), form_targets: tuple[str, ...] = ()
    ) -> None:
        self._app = app
        images = " ".join(("'self'", "data:", *image_origins))
        # A form's target counts through its redirects too, so the origins that `_next` may name are among them.
        targets = " ".join(("'self'", *form_targets))
        self._headers: Mapping[str, str] = {
            "Content-Security-Policy": (
                f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; connect-src 'self'; "
                f"form-action {targets}; base-uri 'none'; frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "strict-origin-when-cross-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "Cross-Origin-Opener-Policy": "same-origin",
        }
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

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer what a browser asks before a script's request; never with a refusal."""
        found = super().preflight_response(request_headers).headers
        told = ("vary", "access-control-") if "access-control-allow-origin" in found else ("vary",)
        return Response(status_code=204, headers={name: found[name] for name in found if name.startswith(told)})


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
    """Return the name of a Host header (RFC 9110, section 7.2) in lower case, without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).strip("[]").lower()


class ClientAddress:
    """Tells who a client is: the peer, or what the trusted proxies in front of us say, read from the right."""

    def __init__(self, trusted: Networks) -> None:
        self._trusted = trusted

    def __call__(self, request: Request) -> str:
        """Return the network that the rate limit counts by: an IPv4 address, or the /64 of an IPv6 one."""
        peer = request.client.host if request.client else ""
        address = _address(peer)
        if address is None:
            return peer
        # A proxy may add its own line instead of adding to the one that the client sent: together they are one list.
        forwarded = request.headers.getlist("x-forwarded-for") if self._trusted else []
        for hop in reversed(",".join(forwarded)[-2_000:].split(",")):
            if not any(address in network for network in self._trusted):
                break
            if (nearer := _address(hop.strip())) is None:
                break
            address = nearer
        return _counted(address)


@lru_cache(maxsize=4_096)
def _counted(address: IPv4Address | IPv6Address) -> str:
    return str(IPv6Network((int(address) >> 64 << 64, 64)) if address.version == 6 else address)


@lru_cache(maxsize=4_096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address of a text that may also name a port, as some proxies write it; None for anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if found.version == 6 else found
