"""Whether visitors reach us at PUBLIC_URL, and whom we take them for; asked as they would ask."""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

from pillarbox.doctor import Finding
from pillarbox.doctor.clock import date_in
from pillarbox.fetching import Fetcher, Reply, Unreachable, Why
from pillarbox.fetching.addresses import find_addresses

_NAME_SECONDS = 4.0
_PAGE_SECONDS = 8.0
_HEADERS = {"User-Agent": "pillarbox doctor", "Accept": "application/json"}
_WRONG_NAME = frozenset({400, 421})
_BEHIND_A_PROXY = frozenset({502, 503, 504, 521, 522, 523, 530})

Network = IPv4Network | IPv6Network


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
    # Its own host may be inside: many an installation is seen from its own network alone.
    fetcher = Fetcher(connect_seconds=_PAGE_SECONDS, total_seconds=_PAGE_SECONDS, private=(host,), context=context)
    try:
        page = await fetcher.fetch("GET", f"{url}/health", headers=_HEADERS)
        # /health answers under every name; the form's page does not.
        form = await fetcher.fetch("GET", f"{url}/", headers=_HEADERS) if _is_well(page) else page
    except Unreachable as error:
        return [_unreached(url, error)]
    finally:
        await fetcher.close()
    if (there := date_in(page.headers.get("date", ""))) is not None:
        hear(host, there - now)
    if not _is_well(page):
        return [_judge_answer(url, page)]
    if form.status in _WRONG_NAME:
        return [_judge_answer(url, form)]
    return [Finding("public", "ok", f"{url} answers"), *judge_visitor(_health(page) or {}, addresses, trusted)]


def _health(page: Reply) -> Mapping[str, Any] | None:
    """Return what Pillarbox says of its health, None when this is something else."""
    try:
        said = json.loads(page.body)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and "store" in said else None


def _is_well(page: Reply) -> bool:
    """Tell whether this is Pillarbox saying that messages can be kept."""
    return page.status == 200 and _health(page) is not None


def _unreached(url: str, error: Unreachable) -> Finding:
    match error.why:
        case Why.CERTIFICATE:
            seen = f"visitors are warned away from {url}: {error.detail}"
            advice = "Renew the certificate for this very name, with its whole chain."
        case Why.TLS:
            seen = f"{url} does not speak HTTPS"
            advice = "Let the proxy speak HTTPS there, or write http:// in PUBLIC_URL."
        case Why.SILENCE:
            seen = f"{url} did not answer in time"
            advice = "A firewall, or a router without port forwarding, keeps visitors out: open the port."
        case Why.CONNECTION | Why.NAME:
            seen = f"nothing answers at {url}"
            advice = "Start `pillarbox serve` and the proxy before it, and open the port to the outside."
        case Why.PROXY:
            seen = f"{url} can't be asked from here: {error}"
            advice = "Mend HTTPS_PROXY, or list the name in NO_PROXY; visitors may well be answered."
            return Finding("public", "warn", seen, advice)
        case _:
            seen, advice = f"what answers at {url} is no web server", "See what listens there."
    return Finding("public", "fail", seen, advice)


def _judge_answer(url: str, page: Reply) -> Finding:
    status = page.status
    if 300 <= status < 400:
        advice = f"Set PUBLIC_URL to where it leads: {page.headers.get('location', '')[:200]}"
        return Finding("public", "warn", f"{url} redirects, which form posts may not survive", advice)
    if _health(page) is not None or b"NOT_KEPT" in page.body:
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
