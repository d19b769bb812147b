"""What DNS says of the sender's domain: whether receivers have a reason to believe that its mail is its own."""

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from pillarbox.core.confirming import PUBLIC_PROVIDERS
from pillarbox.doctor import Finding
from pillarbox.doctor.provider import Provider, provider_of

_INTERNAL = (".local", ".localhost", ".localdomain", ".internal", ".lan", ".home", ".corp", ".home.arpa")
_TESTS = (".test", ".example", ".invalid")
_MOST_LOOKUPS = 10
_LOOKS_UP = re.compile(r"[+?~-]?(?:(include|exists):|(a|mx|ptr)(?:[:/]|$))|(redirect)=", re.IGNORECASE)
_FOLLOWED = re.compile(r"[+?~-]?(?:include:|redirect=)([A-Za-z0-9._-]{1,253})$", re.IGNORECASE)


class Unanswered(Exception):
    """The name server did not say whether there is such a record; the text says how it failed."""


class Unknown(Exception):
    """There is no such name at all (NXDOMAIN)."""


class NameServer:
    """Asks for TXT records: a name server at an IP number and a port, or with None the system's.

    Each question takes at most so many seconds.
    """

    def __init__(self, server: tuple[str, int] | None = None, *, seconds: float = 4.0) -> None:
        self._seconds = seconds
        self._resolver: dns.asyncresolver.Resolver | None = None
        if server:
            self._resolver = dns.asyncresolver.Resolver(configure=False)
            self._resolver.nameservers, self._resolver.port = [server[0]], server[1]

    async def find_texts(self, name: str) -> list[str]:
        """Return the TXT records of a name, each put together from its parts. Raises Unknown, Unanswered."""
        try:
            resolver = self._resolver = self._resolver or dns.asyncresolver.Resolver()
            resolver.timeout = self._seconds / 2
            answer = await resolver.resolve(f"{name}.", "TXT", lifetime=self._seconds, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            raise Unknown from None
        except dns.exception.Timeout:
            raise Unanswered(f"no answer within {self._seconds:g} s") from None
        except dns.resolver.NoNameservers as refused:
            raise Unanswered(_refusal(refused)) from None
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise Unanswered(type(error).__name__) from None
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer.rrset or ()]


@dataclass(frozen=True, slots=True)
class Sender:
    """Whom letters come from, as what we log in ("": not at all), and through which mail server."""

    address: str
    login: str
    server: str

    @property
    def domain(self) -> str:
        """The domain of the address, in lower case and ASCII."""
        domain = self.address.rpartition("@")[2].rstrip(".").lower()
        try:
            return dns.name.from_unicode(domain).to_text(omit_final_dot=True)
        except dns.exception.DNSException:
            return domain


async def examine_names(sender: Sender, names: NameServer) -> list[Finding]:
    """Look at SPF, DMARC and the From address of one sender."""
    if is_internal(sender.domain):
        return [Finding("from", "ok", f"{sender.domain} is an internal name, for which SPF and DMARC say nothing")]
    alignment = examine_from(sender)
    if sender.domain in PUBLIC_PROVIDERS:
        # Its owner wrote the records: there is nothing that we could advise.
        return [alignment]
    spf = examine_spf(sender.domain, provider_of(sender.server), names=names)
    return [*await asyncio.gather(spf, examine_dmarc(sender, names=names)), alignment]


def is_internal(domain: str) -> bool:
    """Tell whether a domain is one that no public DNS knows (RFC 6761, RFC 6762, RFC 8375, and custom)."""
    return "." not in domain or f".{domain}".endswith((*_INTERNAL, *_TESTS)) or domain.startswith("[")


def examine_from(sender: Sender) -> Finding:
    """Find out whether the From address, its provider and the login belong together."""
    domain, provider = sender.domain, provider_of(sender.server)
    at_home = provider is not None and domain in provider.domains
    server = sender.server.lower()
    if domain in PUBLIC_PROVIDERS and not at_home and not f".{server}".endswith(f".{domain}"):
        seen = f"{sender.address} is a mailbox at {domain}, but leaves through {sender.server}"
        advice = (
            f"Receivers refuse or hide such mail (DMARC): only {domain} may send as {domain}. Send through its own "
            "mail server, or set EMAIL_ADDRESS to an address of a domain of yours."
        )
        return Finding("from", "warn", seen, advice)
    login = sender.login.rpartition("@")[2].rstrip(".").lower() if "@" in sender.login else domain
    if login != domain and not login.endswith(f".{domain}") and not domain.endswith(f".{login}"):
        seen = f"letters come from {sender.address}, but the login is {sender.login}"
        advice = (
            "Many providers put the login's address in its place, or refuse. If letters show the wrong sender, set "
            "EMAIL_ADDRESS to the login's address, or allow the other as an alias there."
        )
        return Finding("from", "warn", seen, advice)
    return Finding("from", "ok", f"{sender.address} fits the login and the mail server")


async def examine_spf(domain: str, provider: Provider | None, *, names: NameServer) -> Finding:
    """Find out whether the domain has one SPF record (RFC 7208), and whether it knows the provider."""
    try:
        records = [text for text in await names.find_texts(domain) if _is_spf(text)]
    except Unknown:
        advice = "Check how EMAIL_ADDRESS is written: receivers refuse mail from a domain that is not there."
        return Finding("spf", "fail", f"there is no domain {domain}", advice)
    except Unanswered as error:
        return _unanswered("spf", domain, error)
    include = provider.include if provider else ""
    if not records:
        record = f'"v=spf1 include:{include} ~all"' if include else '"v=spf1 mx ~all"'
        if provider and provider.own_path:
            advice = f"{provider.name} sends under its own path, so DKIM counts: publish the records that it shows."
        else:
            advice = f"Without it mail ends in spam. Publish a TXT record for {domain}, like {record}."
        return Finding("spf", "warn", f"{domain} has no SPF record", advice)
    if len(records) > 1:
        advice = "Receivers take more than one as an error: put them together into one."
        return Finding("spf", "fail", f"{domain} has {len(records)} SPF records", advice)
    return await _judge_spf(domain, records[0], provider, names)


async def _judge_spf(domain: str, record: str, provider: Provider | None, names: NameServer) -> Finding:
    terms = record.lower().split()[1:]
    if "+all" in terms or "all" in terms:
        advice = "With +all anybody may send as you. Let it end with ~all or -all."
        return Finding("spf", "warn", f"{domain} lets the whole world send: {_short(record)}", advice)
    try:
        lookups, included = await _follow(record, names)
    except Unanswered as error:
        return _unanswered("spf", domain, error)
    if lookups > _MOST_LOOKUPS:
        advice = "Receivers stop after ten look-ups and take it as an error (RFC 7208, 4.6.4): take some out."
        return Finding("spf", "warn", f"{domain} needs more than ten look-ups: {_short(record)}", advice)
    if provider and provider.include and not provider.own_path and provider.include not in included:
        seen = f"{domain} does not name {provider.name}: {_short(record)}"
        return Finding("spf", "warn", seen, f"Put include:{provider.include} in front of its last word.")
    if provider and provider.own_path:
        seen = f"{domain} has one SPF record; {provider.name} sends under its own path, so its DKIM records count"
        return Finding("spf", "ok", seen)
    named = f" and names {provider.name}" if provider and provider.include else ""
    advice = "" if named else "Whether it allows your mail server can't be told from here: see that it does."
    return Finding("spf", "ok", f"{domain} has one SPF record{named}: {_short(record)}", advice)


async def _follow(record: str, names: NameServer) -> tuple[int, set[str]]:
    """Return how many look-ups a record needs (more than the limit: at least so many), and all that it includes."""
    lookups, included = 0, set[str]()
    left = deque([record])
    while left:
        for term in left.popleft().lower().split()[1:]:
            lookups += bool(_LOOKS_UP.match(term))
            found = _FOLLOWED.match(term)
            if not found or found[1] in included or lookups > _MOST_LOOKUPS:
                continue
            included.add(found[1])
            try:
                left += [text for text in await names.find_texts(found[1]) if _is_spf(text)]
            except Unknown:
                continue
    return lookups, included


async def examine_dmarc(sender: Sender, *, names: NameServer) -> Finding:
    """Find out whether the domain, or one above it, says what receivers do with mail that is not its own (RFC 7489)."""
    try:
        where, records = await _find_dmarc(sender.domain, names)
    except Unanswered as error:
        return _unanswered("dmarc", f"_dmarc.{sender.domain}", error)
    if not records:
        advice = (
            f'Large providers want one. Publish a TXT record for _dmarc.{sender.domain}: "v=DMARC1; p=none; '
            f'rua=mailto:{sender.address}", once SPF or DKIM are well.'
        )
        return Finding("dmarc", "warn", f"{sender.domain} has no DMARC record", advice)
    if len(records) > 1:
        advice = "Receivers then use none of them: leave one."
        return Finding("dmarc", "warn", f"_dmarc.{where} has {len(records)} records", advice)
    policy = re.search(r";\s*p\s*=\s*(none|quarantine|reject)\s*(?:;|$)", records[0], re.IGNORECASE)
    if not policy:
        advice = "It needs p=none, p=quarantine or p=reject behind v=DMARC1."
        return Finding("dmarc", "warn", f"_dmarc.{where} names no policy: {_short(records[0])}", advice)
    return Finding("dmarc", "ok", f"{where} has one DMARC record (p={policy[1].lower()})")


async def _find_dmarc(domain: str, names: NameServer) -> tuple[str, Sequence[str]]:
    """Return the DMARC records of the domain, or of the nearest one above it, and whose they are."""
    labels = domain.split(".")
    for count in range(len(labels), 1, -1):
        where = ".".join(labels[-count:])
        try:
            texts = await names.find_texts(f"_dmarc.{where}")
        except Unknown:
            continue
        if records := [text for text in texts if re.match(r"\s*v\s*=\s*DMARC1\s*(?:;|$)", text)]:
            return where, records
        if len(labels) - count >= 4:
            break
    return domain, ()


def _is_spf(text: str) -> bool:
    return text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")


def _unanswered(step: str, name: str, error: Unanswered) -> Finding:
    advice = "Try again; if it stays so, set NAMESERVER to another, or ask whoever runs the domain's DNS."
    return Finding(step, "warn", f"the name server did not tell about {name} ({error})", advice)


def _refusal(refused: dns.resolver.NoNameservers) -> str:
    """Return the last answer's code, like SERVFAIL: what the library says is long, and names our servers."""
    answers = refused.kwargs.get("errors") or [("",)]
    return str(answers[-1][3]) if len(answers[-1]) > 3 else "no name server answers"


def _short(record: str) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in record)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"
