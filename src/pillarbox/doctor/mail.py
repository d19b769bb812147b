"""Whether mail can leave, from the server's name to a sender that it takes; nothing is sent."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address

from pillarbox.core.advice import advise
from pillarbox.core.delivery import Deferred
from pillarbox.doctor import Finding, skipped
from pillarbox.doctor.addresses import try_addresses
from pillarbox.doctor.clock import date_in
from pillarbox.fetching.addresses import find_addresses
from pillarbox.transports.smtp_probe import Probe
from pillarbox.transports.smtp_replies import Stage
from pillarbox.transports.smtp_session import Halted, SmtpServer, in_words, make_context

_SOON_DAYS = 14
_AFTER_TCP = {
    "starttls": ("greeting", "tls", "login", "sender"),
    "tls": ("tls", "greeting", "login", "sender"),
    "plain": ("greeting", "tls", "login", "sender"),
}
_STEPS = {
    Stage.BANNER: "greeting",
    Stage.EHLO: "greeting",
    Stage.STARTTLS: "tls",
    Stage.USERNAME: "login",
    Stage.AUTH: "login",
    Stage.MAIL: "sender",
    Stage.RCPT: "sender",
}
_IN_GENERAL = {
    "dns": "Check how SMTP_SERVER is written, and whether this machine can ask a name server.",
    "tcp": "Check SMTP_SERVER and SMTP_PORT (587, or 465), and whether a firewall or the hoster closes the port.",
    "greeting": "Check SMTP_SERVER and SMTP_PORT: is this a server that takes mail, and not its website?",
    "tls": "Check SMTP_PORT and SMTP_SECURITY; for a server of your own, set SMTP_CA_FILE.",
    "login": "Check SMTP_USERNAME and EMAIL_PASSWORD.",
    "sender": "Check EMAIL_ADDRESS and RECIPIENT_EMAIL, and what the provider allows this account to send.",
}


@dataclass(frozen=True, slots=True)
class MailWay:
    """A way out by SMTP: whom its letters come from, and an owner whom they go to.

    `name` is shown behind each step where there are several ways. Each wait is at most so many seconds.
    """

    server: SmtpServer
    sender: str
    recipient: str
    name: str = ""
    address_seconds: float = 5.0
    command_seconds: float = 15.0
    talk_seconds: float = 30.0


async def examine_way(
    way: MailWay, *, hear: Callable[[str, float], None] = lambda _whose, _ahead: None
) -> list[Finding]:
    """Go through all that a letter needs on this way, up to the sender; what depends on a failed step is skipped.

    `hear` is told whose clock was heard and by how many seconds it is ahead of ours.
    """
    found = await _reach(way)
    rest = _AFTER_TCP[way.server.security]
    if any(one.verdict == "fail" for one in found):
        because = "the mail server can't be reached"
        left = ("tcp", *rest) if found[-1].step == "dns" else rest
        found += [skipped(step, because) for step in left]
    else:
        found += await _talk(way, hear)
    return [replace(one, step=f"{one.step} {way.name}".strip()) for one in found]


async def _reach(way: MailWay) -> list[Finding]:
    """Find the server's addresses, and who answers there."""
    server = way.server
    try:
        async with asyncio.timeout(way.address_seconds):
            addresses = await find_addresses(server.host, server.port)
    except TimeoutError:
        seen = f"no name server told where {server.host} is within {way.address_seconds:g} s"
        return [Finding("dns", "fail", seen, "Check /etc/resolv.conf, and whether a firewall stops port 53.")]
    except (OSError, RuntimeError) as error:
        return [_failed(way, "dns", f"{server.host}: {in_words(error)}")]
    shown = ", ".join(addresses[:3]) + (f" and {len(addresses) - 3} more" if len(addresses) > 3 else "")
    found = []
    if addresses != [server.host]:
        found.append(Finding("dns", "ok", f"{server.host} is at {shown}"))
    return [*found, judge_addresses(way, await try_addresses(addresses, server.port, within=way.address_seconds))]


def judge_addresses(way: MailWay, tried: dict[str, Exception | None]) -> Finding:
    """Judge what became of connecting to each of the server's addresses."""
    where = f"{way.server.host}:{way.server.port}"
    silent = {address: _why(way, error) for address, error in tried.items() if error}
    if len(silent) == len(tried):
        return _failed(way, "tcp", f"could not connect to {where}: {' and '.join(dict.fromkeys(silent.values()))}")
    # A machine without IPv6 says so at once, and goes on to the next address: that slows nothing.
    slow = {one: why for one, why in silent.items() if ip_address(one).version == 4 or "unreachable" not in why}
    if slow:
        seen = f"{where} answers, but not at {', '.join(f'{address} ({why})' for address, why in slow.items())}"
        advice = "Letters may be slow to leave: addresses are tried one after the other. Ask the provider or hoster."
        return Finding("tcp", "warn", seen, advice)
    return Finding("tcp", "ok", f"{where} answers")


def _why(way: MailWay, error: Exception) -> str:
    return f"no answer within {way.address_seconds:g} s" if isinstance(error, TimeoutError) else in_words(error)


async def _talk(way: MailWay, hear: Callable[[str, float], None]) -> list[Finding]:
    """Greet, encrypt, log in, and offer a letter."""
    server, steps = way.server, _AFTER_TCP[way.server.security]
    waits = replace(server, command_seconds=min(server.command_seconds, way.command_seconds))
    try:
        context = await make_context(server)
    except Halted as halted:
        seen = halted.outcome.note
        trouble = Finding("tls", "fail", seen, "Set SMTP_CA_FILE to a file of certificates (PEM), or take it out.")
        return [trouble, *(skipped(step, "there is no encryption") for step in steps if step != "tls")]
    probe = Probe(waits)
    stopped: Finding | None = None
    try:
        async with asyncio.timeout(way.talk_seconds):
            await probe.open(context)
            await probe.offer(way.sender, way.recipient)
    except Halted as halted:
        stopped = _halted(way, halted)
    except TimeoutError:
        stopped = _failed(way, _reached(way, probe), f"all of it took longer than {way.talk_seconds:g} s")
    await probe.quit()
    if said := date_in(probe.banner):
        hear(server.host, said - time.time())
    return list(_in_order(way, probe, stopped))


def _in_order(way: MailWay, probe: Probe, stopped: Finding | None) -> Iterator[Finding]:
    """Yield what each step saw, up to the one that stopped us, then that the rest was skipped."""
    over = False
    for step in _AFTER_TCP[way.server.security]:
        if over and stopped:
            yield skipped(step, f"the step before ({stopped.step}) failed")
        elif stopped and stopped.step == step:
            over = stopped.verdict == "fail"
            yield stopped
        else:
            yield _SAW[step](way, probe)


def _halted(way: MailWay, halted: Halted) -> Finding:
    at_start = "tls" if way.server.security == "tls" else "greeting"
    step = _STEPS.get(halted.stage, at_start)
    if isinstance(halted.outcome, Deferred):
        advice = "A first letter is often put off (greylisting); it leaves by itself at the next try."
        return replace(_failed(way, step, halted.outcome.note), verdict="warn", advice=advice)
    return _failed(way, step, halted.outcome.note)


def _reached(way: MailWay, probe: Probe) -> str:
    """Return the step that was under way."""
    if not probe.offered:
        return "tls" if way.server.security == "tls" and not probe.protocol else "greeting"
    if way.server.security == "starttls" and not probe.protocol:
        return "tls"
    return "login" if way.server.password else "sender"


def _failed(way: MailWay, step: str, note: str) -> Finding:
    """Return the failure in the server's words, with what to do about it."""
    return Finding(step, "fail", note, advise(note, way.server.host) or _IN_GENERAL[step])


def _saw_greeting(_way: MailWay, probe: Probe) -> Finding:
    offers = [shown for name, shown in (("starttls", "STARTTLS"), ("auth", "login")) if name in probe.offered]
    size = probe.offered.get("size", "").strip()
    most = f", letters up to {int(size) / 1e6:.0f} MB" if size.isdecimal() and 0 < len(size) < 12 and int(size) else ""
    return Finding(
        "greeting", "ok", f"a mail server that offers {' and '.join(offers) or 'neither STARTTLS nor login'}{most}"
    )


def _saw_tls(way: MailWay, probe: Probe) -> Finding:
    if not probe.protocol:
        near = _is_loopback(way.server.host)
        advice = "" if near else "Whoever sits in between reads along. Use SMTP_SECURITY=starttls, or tls on port 465."
        return Finding("tls", "ok" if near else "warn", "not encrypted (SMTP_SECURITY=plain)", advice)
    if probe.certificate_ends is None:
        return Finding("tls", "ok", probe.protocol)
    days = int((probe.certificate_ends - time.time()) // 86_400)
    left = f"its certificate is good for {days} more day{'' if days == 1 else 's'}"
    if days < _SOON_DAYS:
        advice = "The mail server's administrator has to renew it; without a new one no mail leaves then."
        return Finding("tls", "warn", f"{probe.protocol}, but {left} only", advice)
    return Finding("tls", "ok", f"{probe.protocol}, {left}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _saw_login(way: MailWay, _probe: Probe) -> Finding:
    if way.server.password:
        return Finding("login", "ok", f"logged in as {way.server.username}")
    return Finding("login", "ok", "no login, since EMAIL_PASSWORD is not set")


def _saw_sender(way: MailWay, _probe: Probe) -> Finding:
    return Finding("sender", "ok", f"{way.sender} may send to {way.recipient} (nothing was sent)")


_SAW: dict[str, Callable[[MailWay, Probe], Finding]] = {
    "greeting": _saw_greeting,
    "tls": _saw_tls,
    "login": _saw_login,
    "sender": _saw_sender,
}
