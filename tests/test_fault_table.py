"""Every fault of a mail server, stage by stage: how the letter ends, and that it arrives once when all is well."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillarbox.core.delivery import Purpose
from tests.fault_house import ACCOUNT, HASTE, Authorities, Fault, Standing, a_full_house, nobody, troubled
from tests.house import open_store, to_ada, to_bob, until
from tests.servers.scripted_smtp import DROP, SILENCE, Answer

pytestmark = pytest.mark.anyio

TLS = {"security": "starttls", **ACCOUNT}
BLOCKED, DEFERRED, REFUSED, SENT = "blocked", "deferred", "refused", "sent"
OUR_SIDE = [
    "550 5.4.5 Daily user sending limit exceeded",
    "550 5.7.30 Basic authentication is not supported",
    "550 5.7.57 Client was not authenticated to send mail",
    "554 5.7.60 Client does not have permissions to send as this sender",
    "535 5.7.139 Authentication unsuccessful",
    "452 4.5.3 Your daily sending limit is reached",
]
GOING_ON = {"EHLO": 250, "STARTTLS": 220, "AUTH": 235, "MAIL": 250, "RCPT": 250, "DATA": 354, "DOT": 250}
CUT = ("cut", DROP, "the connection was cut")
SILENT = ("silence", SILENCE, "no answer in time")


def at(stage: str, ends: str, *answers: str | tuple[str, Any, str], **about: Any) -> list[Fault]:
    """Return a fault for each answer, a reply or (name, answer, words of the note), at this stage.

    What shuts the way is said to all letters, anything else to the first alone. What had to be named leaves a
    connection that is of no more use.
    """
    where = {"CONNECT": "banner", "DOT": "dot"}.get(stage, stage)
    named = [(answer, answer, answer) if isinstance(answer, str) else answer for answer in answers]
    return [
        Fault(
            f"{where}: {name}",
            ends,
            {stage: answer if ends == BLOCKED else [answer]},
            words=words,
            discards=name != answer,
            **about,
        )
        for name, answer, words in named
    ]


def no_replies(stage: str, **about: Any) -> list[Fault]:
    """Return the faults of what is no reply; the long one would be right but for its length."""
    code = GOING_ON.get(stage, 220)
    megabyte = (f"{code}-more\r\n" * 100_000 + f"{code} end\r\n").encode()
    oddities = {"1 MB": megabyte, "NULs": b"\0" * 1_000 + b"\r\n", "garbage": "garbage"}
    oddities |= {"199": "199 foreign", "700": "700 foreign"}
    named = [(name, answer, "not an SMTP reply") for name, answer in oddities.items()]
    return at(stage, BLOCKED, *named, **about)


def tls(name: str, words: str, **about: Any) -> Fault:
    """Return a fault of encryption, at a server that we would log in to."""
    return Fault(
        **{"name": f"TLS: {name}", "ends": BLOCKED, "settings": TLS, "words": words, "discards": True, **about}
    )


def cut_off(name: str, words: str, answer: Answer) -> Fault:
    """Return a fault that leaves open whether the server took the letter."""
    return Fault(f"dot: {name}", DEFERRED, {"DOT": [answer]}, wrong=HASTE, words=words, discards=True, copies=2)


ENDLESS = ("an endless line", Answer(b"220-", endless=b"x" * 65_536), "not an SMTP reply")
INJECTED = b"220 go ahead\r\n250-evil.example\r\n250 AUTH PLAIN\r\n"

CONNECT = [
    Fault("connect: refused", BLOCKED, door=nobody, words="connection refused"),
    Fault("connect: unreachable", BLOCKED, wrong={"host": "255.255.255.255"}, words="network is unreachable"),
    Fault("connect: no such name", BLOCKED, wrong={"host": "no-such-host.invalid"}, words="the name was not found"),
    Fault("connect: time-out", BLOCKED, door=a_full_house, wrong={"connect_seconds": 0.1}, words="no answer within"),
]
TLS_FAULTS = [
    tls("handshake fails", "(at STARTTLS)", certificate="none"),
    tls("handshake cut", "(at STARTTLS)", script={"TLS": DROP}),
    tls("handshake without an end", "(at STARTTLS)", script={"TLS": SILENCE}, wrong=HASTE),
    tls("certificate expired", "certificate has expired", certificate="expired", trusts="expired"),
    tls("wrong name", "IP address mismatch", certificate="another name", trusts="another name"),
    tls("unknown authority", "unable to get local issuer certificate", trusts="another name"),
    tls("STARTTLS not offered", "does not offer STARTTLS", server={"context": None}),
    tls("plain text at the door of TLS from the start", "TLS failed", wrong={"security": "tls"}),
    tls("plain text behind the answer to STARTTLS", "spoke without being asked", script={"STARTTLS": INJECTED}),
    *at("STARTTLS", BLOCKED, "421 4.3.2 closing", "454 4.7.0 TLS not available", "501 5.5.4 Syntax", CUT, settings=TLS),
    *at("STARTTLS", BLOCKED, SILENT, settings=TLS, wrong=HASTE),
    *no_replies("STARTTLS", settings=TLS),
]
GREETING = [
    *at("CONNECT", BLOCKED, "421 4.3.2 busy", "450 4.3.2 later", "554 5.3.2 no", CUT, ENDLESS),
    *at("CONNECT", BLOCKED, SILENT, wrong={"connect_seconds": 0.1}),
    *no_replies("CONNECT"),
    *at("EHLO", BLOCKED, "421 4.3.2 closing", "550 5.7.1 not you", CUT),
    *at("EHLO", BLOCKED, SILENT, wrong=HASTE),
    Fault("EHLO: 502, and HELO is enough", SENT, {"EHLO": ["502 5.5.1 what"]}),
    *at("EHLO", BLOCKED, ("502, and HELO too", "502 5.5.1 what", "502 5.5.1 what")),
    *at("EHLO", BLOCKED, ("502 where a login is needed", "502 5.5.1 what", "502 5.5.1 what"), settings=ACCOUNT),
    *no_replies("EHLO"),
]
LOGIN = [
    *at("AUTH", BLOCKED, "421 4.7.0 closing", "454 4.7.0 temporary failure", CUT, settings=ACCOUNT),
    *at("AUTH", BLOCKED, "535 5.7.8 wrong", "534 5.7.9 web login required", "530 5.7.0 no", settings=ACCOUNT),
    *at("AUTH", BLOCKED, "535 5.7.139 disabled for the tenant", "550 5.7.30 no basic authentication", settings=ACCOUNT),
    *at("AUTH", BLOCKED, SILENT, settings=ACCOUNT, wrong=HASTE),
    Fault("AUTH: wrong password", BLOCKED, settings=ACCOUNT, wrong={"password": "another"}, words="535 5.7.8"),
    Fault("AUTH: mechanism missing", BLOCKED, settings=ACCOUNT, server={"auth": ("GSSAPI",)}, words="know: GSSAPI"),
    Fault("AUTH: not offered", BLOCKED, settings=ACCOUNT, server={"auth": ()}, words="no login we know: none"),
    *no_replies("AUTH", settings=ACCOUNT),
]
MAIL = [
    *at("MAIL", DEFERRED, "451 4.3.0 later", "452 4.3.1 full", CUT),
    *at("MAIL", DEFERRED, SILENT, wrong=HASTE),
    *at("MAIL", BLOCKED, "421 4.7.0 closing", "550 5.1.8 Bad sender", "553 not yours", "554 5.7.1 denied", "530 login"),
    *at("MAIL", REFUSED, "552 5.3.4 too big", "552 Message size exceeds maximum permitted"),
    *no_replies("MAIL"),
]
RCPT = [
    *at("RCPT", DEFERRED, "450 4.2.0 Greylisted", "451 4.7.1 later", "452 4.2.2 mailbox full", CUT),
    *at("RCPT", DEFERRED, SILENT, wrong=HASTE),
    *at("RCPT", REFUSED, "550 5.1.1 no such user", "551 5.1.6 moved", "553 5.1.3 bad address", "554 5.1.2 bad domain"),
    *at("RCPT", REFUSED, "550 no enhanced code", "552 5.2.2 over quota", "554 5.7.1 relay access denied"),
    *at("RCPT", BLOCKED, "421 4.4.2 closing", "503 5.5.1 MAIL first", *OUR_SIDE),
    *no_replies("RCPT"),
]
DATA = [
    *at("DATA", DEFERRED, "451 4.3.0 later", "452 4.3.1 full", CUT),
    *at("DATA", DEFERRED, SILENT, wrong=HASTE),
    *at("DATA", REFUSED, "552 5.3.4 too big", "554 5.5.1 no valid recipients"),
    *at("DATA", BLOCKED, "421 4.3.0 closing", *OUR_SIDE),
    *no_replies("DATA"),
]
DOT = [
    *at("DOT", DEFERRED, "451 4.7.1 later", "452 4.3.1 full"),
    *at("DOT", REFUSED, "550 5.7.1 spam", "552 5.3.4 too big", "554 5.6.0 content"),
    *at("DOT", BLOCKED, "421 4.3.0 closing", *OUR_SIDE),
    Fault("dot: cut before it", DEFERRED, {"BODY": [DROP]}, octets=5_000_000, words="cut (at the letter)"),
    cut_off("cut after it", "the connection was cut", DROP),
    cut_off("cut within its answer", "the connection was cut", Answer(b"250 2.0.0 O", drop=True)),
    cut_off("no answer in time", "no answer in time", SILENCE),
    cut_off("an answer too late", "no answer in time", Answer(after=0.8)),
    *no_replies("DOT", copies=2),
]
KEPT = [
    Fault("kept connection: closed while idle", SENT, before={"IDLE": [DROP]}),
    Fault("kept connection: 421 while idle", SENT, before={"IDLE": ["421 4.4.2 idle too long"]}),
    Fault("kept connection: 421 at the next MAIL", SENT, {"MAIL": ["421 4.4.2 closing"]}, before={}),
    Fault("kept connection: closed at the next MAIL", SENT, {"MAIL": [DROP]}, before={}),
    Fault("kept connection: cut after the dot", DEFERRED, {"DOT": [DROP]}, before={}, copies=2),
    Fault("kept connection: silence at the next MAIL", SENT, {"MAIL": [SILENCE]}, wrong=HASTE, before={}),
]
SLOW = [
    Fault("QUIT: never answered", SENT, {"QUIT": SILENCE}, settings={"letters_per_connection": 1}),
    Fault(
        "any: each command takes long",
        SENT,
        {stage: [Answer(after=0.2)] for stage in ("CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "DOT")},
        settings=ACCOUNT,
        lease=1.0,
    ),
]

NO_MAILBOX = {
    "RCPT: 550 5.1.1 no such user",
    "RCPT: 551 5.1.6 moved",
    "RCPT: 553 5.1.3 bad address",
    "RCPT: 554 5.1.2 bad domain",
    "RCPT: 550 no enhanced code",
}
"""The faults after which a visitor's mailbox gets no further confirmation."""

ABOUT_THE_WAY = [*CONNECT, *TLS_FAULTS, *GREETING, *LOGIN, *MAIL, *KEPT, *SLOW]
ABOUT_A_LETTER = [*RCPT, *DATA, *DOT]


def at_a_visitors(fault: Fault) -> Fault:
    """Return the fault as it is for a confirmation: no answer about an address that a visitor chose shuts the way."""
    if fault in RCPT and fault.ends == BLOCKED and fault.words != "not an SMTP reply":
        return replace(fault, ends=DEFERRED, script={"RCPT": [fault.script["RCPT"]]})
    return fault


CASES = [(fault, Purpose.NOTIFICATION) for fault in [*ABOUT_THE_WAY, *ABOUT_A_LETTER]] + [
    (at_a_visitors(fault), Purpose.CONFIRMATION) for fault in ABOUT_A_LETTER
]


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    """Certificates of every kind."""
    return Authorities(tmp_path_factory.mktemp("authorities"))


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without any letter, for each test to copy."""
    folder = tmp_path_factory.mktemp("new-store")
    open_store(folder).close()
    return folder / "pillarbox.db"


def expected(fault: Fault, purpose: Purpose) -> Standing:
    """Return how the first attempt leaves the letter and its way out."""
    if fault.ends == BLOCKED:
        return Standing("waiting", BLOCKED, attempts=0, shut=True)
    if fault.ends == SENT:
        return Standing("sent", SENT, attempts=0, shut=False)
    for_good = fault.ends == REFUSED and purpose is Purpose.CONFIRMATION
    return Standing("failed" if for_good else "waiting", fault.ends, attempts=1, shut=False)


@pytest.mark.parametrize(("fault", "purpose"), CASES, ids=[f"{fault.name} ({purpose})" for fault, purpose in CASES])
async def test_a_fault_ends_as_the_table_says_and_every_letter_arrives_once(
    fault: Fault, purpose: Purpose, authorities: Authorities, new_store: Path, tmp_path: Path
) -> None:
    shutil.copy(new_store, tmp_path)
    ends = expected(fault, purpose)
    async with troubled(fault, authorities, folder=tmp_path) as house:
        letter = await house.keep(to_ada() if purpose is Purpose.NOTIFICATION else to_bob(), octets=fault.octets)
        await until(lambda: house.was_tried(letter))
        assert await house.standing(letter) == ends
        assert fault.words in await house.note(letter)
        assert await house.claims(letter) == 1
        at_no_mailbox = fault.name in NO_MAILBOX and purpose is Purpose.CONFIRMATION
        assert await house.suppressed() == (["bob@example.net"] if at_no_mailbox else [])
        if fault.discards:
            await until(lambda: not house.mail.open_connections)
        if fault.before is not None and fault.ends == SENT:
            assert house.mail.connections == 2
        if fault.name.startswith(("TLS", "STARTTLS")):
            assert {"AUTH", "MAIL", "RCPT", "DATA"}.isdisjoint(house.mail.verbs())
        other = await house.keep(to_ada())
        if not ends.shut:
            await until(lambda: house.is_in("sent", other))
        await house.mend()
        await until(lambda: house.is_in("sent", other))
        await until(lambda: house.is_in("failed" if ends.state == "failed" else "sent", letter))
        assert await house.history(other) == [SENT]
        assert await house.history(letter) == ([fault.ends, SENT] if ends.state == "waiting" else [fault.ends])
        assert house.copies(other) == 1
        assert house.copies(letter) in ([0] if ends.state == "failed" else range(1, fault.copies + 1))
