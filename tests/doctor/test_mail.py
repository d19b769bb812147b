"""Each step to a mail server is told in its own line, in the server's words; nothing is sent and no secret shown."""

import asyncio
import base64
import errno
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from tests.running import free_port
from tests.servers.certificates import make_certificates
from tests.servers.scripted_smtp import DROP, EXTENSIONS, SILENCE, Answer, ScriptedSmtp

from pillarbox.doctor.addresses import try_addresses
from pillarbox.doctor.mail import MailWay, examine_way, judge_addresses
from pillarbox.transports.smtp_session import SmtpServer

pytestmark = pytest.mark.anyio

ADA, OWNER = "forms@ada.dev", "ada@ada.dev"
PASSWORD = "pässword-7"
STARTTLS = ["tcp", "greeting", "tls", "login", "sender"]
IMPLICIT = ["tcp", "tls", "greeting", "login", "sender"]


def server_of_ada(certificates, **changes):
    usual = {"context": certificates.context, "auth": ("PLAIN", "LOGIN"), "accounts": {ADA: PASSWORD}}
    return ScriptedSmtp(**(usual | changes))


async def examined(server, certificates, *, host="127.0.0.1", name="", hear=None, **changes):
    """Return the findings of a way through this server."""
    usual = {"username": ADA, "password": PASSWORD, "ca_file": certificates.ca_file, "security": "starttls"}
    way = MailWay(
        SmtpServer(host, getattr(server, "port", server), **(usual | changes)),
        ADA,
        OWNER,
        name=name,
        address_seconds=2.0,
        command_seconds=0.5,
        talk_seconds=5.0,
    )
    return await examine_way(way, **({"hear": hear} if hear else {}))


def verdicts(found):
    return [(one.step, one.verdict) for one in found]


def failing(found):
    (one,) = [one for one in found if one.verdict == "fail"]
    return one


@pytest.mark.parametrize(("security", "steps"), [("starttls", STARTTLS), ("tls", IMPLICIT)])
async def test_a_way_that_is_well_says_so_step_by_step_and_sends_nothing(certificates, security, steps):
    async with server_of_ada(certificates, implicit=security == "tls") as server:
        found = await examined(server, certificates, security=security)
        assert verdicts(found) == [(step, "ok") for step in steps]
        by_step = {one.step: one.seen for one in found}
        assert by_step["tls"].startswith("TLSv1.3, its certificate is good for ")
        assert "letters up to 21 MB" in by_step["greeting"]
        assert by_step["login"] == f"logged in as {ADA}"
        assert server.accepted == []
        assert server.verbs()[-4:] == ["MAIL", "RCPT", "RSET", "QUIT"]
        assert "DATA" not in server.verbs()


async def test_the_sender_and_the_owner_are_offered_as_they_are_in_letters(certificates):
    async with server_of_ada(certificates) as server:
        await examined(server, certificates)
        said = [line for _, line in server.lines]
        assert f"MAIL FROM:<{ADA}> SIZE=20000" in said
        assert f"RCPT TO:<{OWNER}>" in said


async def test_a_name_is_told_with_its_addresses(certificates):
    async with server_of_ada(certificates) as server:
        found = await examined(server, certificates, host="localhost")
        assert verdicts(found)[0] == ("dns", "ok")
        assert "127.0.0.1" in found[0].seen


async def test_each_step_carries_the_name_of_its_way_where_there_are_several(certificates):
    async with server_of_ada(certificates) as server:
        found = await examined(server, certificates, name="newsletter")
        assert [one.step for one in found] == [f"{step} newsletter" for step in STARTTLS]


async def test_a_name_that_is_not_there_is_a_failure_and_the_rest_is_skipped(certificates):
    found = await examined(587, certificates, host="mail.ada.invalid")
    assert verdicts(found) == [("dns", "fail"), *((step, "warn") for step in STARTTLS)]
    assert "SMTP_SERVER" in found[0].advice
    assert all(one.seen.startswith("not looked at") for one in found[1:])


async def test_nobody_at_the_port_is_told_as_sending_would_tell_it(certificates):
    port = free_port()
    found = await examined(port, certificates)
    assert verdicts(found)[0] == ("tcp", "fail")
    assert found[0].seen == f"could not connect to 127.0.0.1:{port}: connection refused"
    assert "SMTP_PORT" in found[0].advice
    assert {one.verdict for one in found[1:]} == {"warn"}


async def test_an_address_that_does_not_answer_beside_one_that_does_is_warned_of(certificates):
    async with server_of_ada(certificates) as server:
        way = MailWay(SmtpServer("localhost", server.port), ADA, OWNER)
        tried = await try_addresses(["127.0.0.1", "127.0.0.2"], server.port, within=2.0)
        assert (tried["127.0.0.1"], type(tried["127.0.0.2"])) == (None, ConnectionRefusedError)
        found = judge_addresses(way, tried)
        assert (found.verdict, "127.0.0.2 (connection refused)" in found.seen) == ("warn", True)


def test_a_machine_without_ipv6_is_no_reason_to_warn():
    way = MailWay(SmtpServer("mail.ada.dev", 587), ADA, OWNER)
    unreachable = OSError(errno.ENETUNREACH, "Network is unreachable")
    assert judge_addresses(way, {"2001:db8::1": unreachable, "192.0.2.1": None}).verdict == "ok"
    assert judge_addresses(way, {"2001:db8::1": TimeoutError(), "192.0.2.1": None}).verdict == "warn"
    assert judge_addresses(way, {"2001:db8::1": unreachable}).verdict == "fail"


@pytest.mark.parametrize(
    ("stage", "reply", "step", "words"),
    [
        ("CONNECT", "554 5.7.1 go away", "greeting", "go away"),
        ("CONNECT", SILENCE, "greeting", "no answer in time"),
        ("CONNECT", DROP, "greeting", "cut"),
        ("CONNECT", "HTTP/1.1 400 Bad Request", "greeting", "HTTP/1.1"),
        ("EHLO", "421 4.3.2 closing", "greeting", "closing"),
        ("STARTTLS", "454 4.7.0 TLS not available", "tls", "TLS not available"),
        ("AUTH", "535 5.7.8 Username and Password not accepted", "login", "not accepted"),
        ("MAIL", "550 5.7.60 Client does not have permissions to send as this sender", "sender", "5.7.60"),
        ("RCPT", "550 5.1.1 no such user", "sender", "no such user"),
    ],
)
async def test_a_refusal_is_told_in_the_servers_words_with_what_to_do(certificates, stage, reply, step, words):
    async with server_of_ada(certificates) as server:
        server.script(**{stage: reply})
        found = await examined(server, certificates)
        wrong = failing(found)
        assert (wrong.step, words in wrong.seen, bool(wrong.advice)) == (step, True, True)
        after = found[found.index(wrong) + 1 :]
        assert [one.step for one in after] == STARTTLS[STARTTLS.index(step) + 1 :]
        assert all(one.seen == f"not looked at: the step before ({step}) failed" for one in after)
        before = found[: found.index(wrong)]
        assert {one.verdict for one in before} == {"ok"}


async def test_a_providers_refusal_brings_its_own_advice(certificates):
    async with server_of_ada(certificates) as server:
        server.script(AUTH="535 5.7.8 Username and Password not accepted. For more information, go to")
        assert "app password" in failing(await examined(server, certificates)).advice


async def test_an_owner_who_is_put_off_is_no_failure(certificates):
    async with server_of_ada(certificates) as server:
        server.script(RCPT="450 4.2.0 Greylisted")
        found = await examined(server, certificates)
        assert verdicts(found)[-1] == ("sender", "warn")
        assert "by itself" in found[-1].advice
        assert server.verbs()[-2:] == ["RSET", "QUIT"]


async def test_a_server_without_starttls_fails_before_anything_is_said_in_the_clear(certificates):
    async with server_of_ada(certificates, context=None) as server:
        found = await examined(server, certificates)
        assert failing(found).step == "tls"
        assert "does not offer STARTTLS" in failing(found).seen
        assert "AUTH" not in server.verbs()


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_that_nobody_vouches_for_fails_as_in_sending(certificates, security):
    async with server_of_ada(certificates, implicit=security == "tls") as server:
        found = await examined(server, certificates, security=security, ca_file=None)
        assert failing(found).step == "tls"
        assert "SMTP_CA_FILE" in failing(found).advice
        assert server.verbs()[-1:] != ["AUTH"]


async def test_a_certificate_that_ends_soon_is_warned_of(tmp_path):
    soon = make_certificates(tmp_path, not_after=datetime.now(UTC) + timedelta(days=5, hours=1))
    async with server_of_ada(soon) as server:
        found = await examined(server, soon)
        (tls,) = [one for one in found if one.step == "tls"]
        assert (tls.verdict, "good for 5 more days" in tls.seen) == ("warn", True)


async def test_tls_from_the_start_to_a_port_that_wants_starttls_names_the_mix_up(certificates):
    async with server_of_ada(certificates) as server:
        found = await examined(server, certificates, security="tls")
        assert failing(found).step == "tls"
        assert "SMTP_SECURITY=starttls" in failing(found).advice


async def test_starttls_to_a_port_that_speaks_tls_names_the_mix_up(certificates):
    async with server_of_ada(certificates, implicit=True) as server:
        found = await examined(server, certificates)
        assert failing(found).step == "greeting"
        assert "SMTP_SECURITY=tls" in failing(found).advice


async def test_a_file_of_certificates_that_is_none_is_told(certificates, tmp_path):
    (tmp_path / "ca.pem").write_text("not a certificate")
    async with server_of_ada(certificates) as server:
        found = await examined(server, certificates, ca_file=tmp_path / "ca.pem")
        assert failing(found).step == "tls"
        assert "SMTP_CA_FILE" in failing(found).advice


async def test_no_encryption_is_warned_of_except_on_this_machine(certificates):
    async with ScriptedSmtp() as server:
        found = await examined(server, certificates, security="plain", password="")
        assert verdicts(found) == [(step, "ok") for step in STARTTLS]
        assert {one.step: one.seen for one in found}["tls"] == "not encrypted (SMTP_SECURITY=plain)"


async def test_a_server_that_repeats_the_password_does_not_get_it_shown(certificates):
    token = base64.b64encode(f"\0{ADA}\0{PASSWORD}".encode()).decode()
    alone = base64.b64encode(PASSWORD.encode()).decode()
    async with server_of_ada(certificates) as server:
        server.script(AUTH=f"535 no: {token} {alone} pässword-7".encode() + b"\r\n")
        found = await examined(server, certificates)
        shown = str(found)
        assert failing(found).seen.startswith("535 no: … …")
        assert not any(secret in shown for secret in (token, alone, PASSWORD))


async def test_a_server_that_keeps_us_waiting_is_left_after_a_bound(certificates):
    """Each reply comes just in time, so only the bound over all of them ends it."""
    async with server_of_ada(certificates, extensions=EXTENSIONS) as server:
        server.script(EHLO=Answer(after=0.3), AUTH=Answer(after=0.3), MAIL=Answer(after=0.3))
        way = MailWay(
            SmtpServer("127.0.0.1", server.port, "starttls", ADA, PASSWORD, certificates.ca_file),
            ADA,
            OWNER,
            talk_seconds=0.5,
        )
        assert "longer than 0.5 s" in failing(await examine_way(way)).seen


async def test_the_servers_clock_is_heard_in_its_greeting(certificates):
    heard = {}
    later = datetime.now(UTC) + timedelta(hours=2)
    async with server_of_ada(certificates) as server:
        server.script(CONNECT=f"220 mail.ada.dev Microsoft ESMTP MAIL Service ready at {format_datetime(later)}")
        await examined(server, certificates, hear=lambda whose, ahead: heard.update({whose: ahead}))
    assert list(heard) == ["127.0.0.1"]
    assert 7_100 < heard["127.0.0.1"] < 7_300


async def test_hostile_words_reach_nobodys_terminal(certificates):
    async with server_of_ada(certificates) as server:
        server.script(AUTH=b"535 \x1b[2J\x07 no\r\n")
        assert failing(await examined(server, certificates)).seen.isprintable()


async def test_certificates_that_no_thread_can_read_are_told(certificates):
    spent = ThreadPoolExecutor()
    spent.shutdown()
    asyncio.get_running_loop().set_default_executor(spent)
    async with server_of_ada(certificates) as server:
        found = await examined(server, certificates)
        assert failing(found).step == "tls"
        assert f"the certificates in {certificates.ca_file} could not be read" in failing(found).seen
