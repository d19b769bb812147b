"""Whether visitors reach us at PUBLIC_URL, and whom we take them for; asked as they would ask."""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx2

from pillarbox.doctor import Finding
from pillarbox.doctor.addresses import find_addresses
from pillarbox.doctor.clock import date_in

_MOST_BYTES = 64 * 1_024
_NAME_SECONDS = 4.0
_HEADERS = {"User-Agent": "pillarbox doctor", "Accept": "application/json"}
_WRONG_NAME = frozenset({400, 421})
_BEHIND_A_PROXY = frozenset({502, 503, 504, 521, 522, 523, 530})

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Page:
    """What came back: a status, where a redirect leads, the server's time as written, the beginning of the body."""

    status: int
    location: str
    date: str
    body: bytes

    def health(self) -> Mapping[str, Any] | None:
        """Return what Pillarbox says of its health, None when this is something else."""
        try:
            said = json.loads(self.body)
        except ValueError:
            return None
        return said if isinstance(said, dict) and "store" in said else None

    def is_well(self) -> bool:
        """Tell whether this is Pillarbox saying that messages can be kept."""
        return self.status == 200 and self.health() is not None


async def examine_public(
    url: str,
    *,
    trusted: Sequence[Network] = (),
    now: float,
    hear: Callable[[str, float], None] = lambda _whose, _ahead: None,
    context: ssl.SSLContext | None = None,
) -> list[Finding]:
    """Ask `<url>/health` as a visitor would; `trusted` are the proxies whose word counts.

    `hear` is told by how many seconds the clock there is ahead of `now` (seconds since the epoch). `context` is for
    HTTPS; None trusts whom the system does.
    """
    if not url:
        advice = "Set PUBLIC_URL to the address that visitors see: letters then link to it, and it is tried here."
        return [Finding("public", "warn", "PUBLIC_URL is not set, so nothing is tried from outside", advice)]
    host = urlsplit(url).hostname or ""
    try:
        async with asyncio.timeout(_NAME_SECONDS):
            addresses = await find_addresses(host, urlsplit(url).port or 0)
    except OSError:
        advice = "Let an A or AAAA record of the domain point to this server, or mend PUBLIC_URL."
        return [Finding("public", "fail", f"the name {host} was not found", advice)]
    try:
        page = await _fetch(f"{url}/health", context)
        # /health answers under every name; the form's page does not.
        form = await _fetch(f"{url}/", context) if page.is_well() else page
    except httpx2.HTTPError as error:
        return [_unreached(url, error)]
    if (there := date_in(page.date)) is not None:
        hear(host, there - now)
    if not page.is_well():
        return [_judge_answer(url, page)]
    if form.status in _WRONG_NAME:
        return [_judge_answer(url, form)]
    return [Finding("public", "ok", f"{url} answers"), *judge_visitor(page.health() or {}, addresses, trusted)]


async def _fetch(url: str, context: ssl.SSLContext | None) -> Page:
    """Return what is at an address, at most 64 KiB of it. Raises httpx2.HTTPError."""
    # Without HTTPS nobody has to be trusted, and reading the system's store takes a while.
    verify = context or (url.startswith("https:") or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    async with (
        httpx2.AsyncClient(follow_redirects=False, timeout=10.0, trust_env=False, verify=verify) as client,
        client.stream("GET", url, headers=_HEADERS) as response,
    ):
        body = bytearray()
        async for chunk in response.aiter_raw(4_096):
            body += chunk
            if len(body) > _MOST_BYTES:
                break
        location, date = response.headers.get("location", ""), response.headers.get("date", "")
        return Page(response.status_code, location[:200], date, bytes(body[:_MOST_BYTES]))


def _unreached(url: str, error: httpx2.HTTPError) -> Finding:
    words = _root(error)
    if isinstance(words, ssl.SSLCertVerificationError):
        seen = f"visitors are warned away from {url}: {words.verify_message}"
        return Finding("public", "fail", seen, "Renew the certificate for this very name, with its whole chain.")
    if isinstance(words, ssl.SSLError):
        advice = "Let the proxy speak HTTPS there, or write http:// in PUBLIC_URL."
        return Finding("public", "fail", f"{url} does not speak HTTPS", advice)
    if isinstance(error, httpx2.TimeoutException):
        advice = "A firewall, or a router without port forwarding, keeps visitors out: open the port."
        return Finding("public", "fail", f"{url} did not answer in time", advice)
    if isinstance(error, httpx2.ConnectError):
        advice = "Start `pillarbox serve` and the proxy before it, and open the port to the outside."
        return Finding("public", "fail", f"nothing answers at {url}", advice)
    return Finding("public", "fail", f"what answers at {url} is no web server", "See what listens there.")


def _root(error: BaseException) -> BaseException:
    """Return what an error comes from, the TLS library's own where it has a part in it."""
    while (deeper := error.__cause__ or error.__context__) and not isinstance(error, ssl.SSLError):
        error = deeper
    return error


def _judge_answer(url: str, page: Page) -> Finding:
    status = page.status
    if 300 <= status < 400:
        advice = f"Set PUBLIC_URL to where it leads: {page.location}"
        return Finding("public", "warn", f"{url} redirects, which form posts may not survive", advice)
    if page.health() is not None or b"NOT_KEPT" in page.body:
        advice = "See the line about the store, and the log of `pillarbox serve`."
        return Finding("public", "fail", f"{url} answers, but can't keep messages ({status})", advice)
    if b"UNKNOWN_HOST" in page.body or status in _WRONG_NAME:
        advice = "Add the name to ALLOWED_HOSTS, and let the proxy hand on the Host header."
        return Finding("public", "fail", f"{url} is served under another name ({status})", advice)
    if status in _BEHIND_A_PROXY:
        advice = "Start `pillarbox serve`, and let the proxy point to its HOST and PORT."
        return Finding("public", "fail", f"a proxy answers at {url}, but reaches nothing behind it ({status})", advice)
    advice = "Let the proxy hand this address on to Pillarbox, with its whole path, or mend PUBLIC_URL."
    return Finding("public", "fail", f"something else than Pillarbox answers at {url} ({status})", advice)


def judge_visitor(health: Mapping[str, Any], addresses: Sequence[str], trusted: Sequence[Network]) -> list[Finding]:
    """Judge which address we are seen under: all visitors under one share one limit."""
    you = _address(health.get("you"))
    if you is None:
        return []
    if any(you.version == network.version and you in network for network in trusted):
        advice = "Let the proxy set X-Forwarded-For to the visitor's address, and name only proxies in TRUSTED_PROXIES."
        return [Finding("visitor", "warn", f"visitors are all taken for the proxy {you}", advice)]
    outside = any((there := _address(one)) is not None and there.is_global for one in addresses)
    if outside and not you.is_global:
        seen = f"you came from outside, but are taken for {you}"
        advice = (
            f"Most likely a proxy stands before Pillarbox: set TRUSTED_PROXIES={you}, so that X-Forwarded-For counts "
            "and visitors do not share one limit."
        )
        return [Finding("visitor", "warn", seen, advice)]
    return [Finding("visitor", "ok", f"you are seen as {you}")]


def _address(said: object) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(said.partition("/")[0]) if isinstance(said, str) else None
    except ValueError:
        return None
