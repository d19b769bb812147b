"""Nothing is said in the clear that was not meant to be: STARTTLS, implicit TLS, certificates, login."""

import base64

import pytest
from tests.servers.certificates import make_certificates
from tests.servers.scripted_smtp import DROP, SILENCE, ScriptedSmtp
from tests.transports.letters import PLAIN_LETTER, way_to

from pillarbox.core.delivery import Blocked, Sent

pytestmark = pytest.mark.anyio


ADA = {"username": "ada", "password": "pässword"}
SECRETS = ("cMOkc3N3b3Jk", "pässword")


def server_for_ada(certificates, **changes):
    usual = {"context": certificates.context, "auth": ("PLAIN", "LOGIN"), "accounts": {"ada": "pässword"}}
    return ScriptedSmtp(**(usual | changes))


async def outcome_at(server, **changes):
    way = way_to(server, **changes)
    try:
        return await way.send(PLAIN_LETTER)
    finally:
        await way.close()


def said_in_the_clear(server):
    return [verb for verb in server.verbs() if verb not in {"EHLO", "STARTTLS", "QUIT"}]


async def test_starttls_protects_login_and_letter(certificates):
    async with server_for_ada(certificates) as server:
        outcome = await outcome_at(server, security="starttls", ca_file=certificates.ca_file, **ADA)
        assert isinstance(outcome, Sent)
        [arrived] = server.accepted
        assert (arrived.encrypted, arrived.auth) == (True, ("PLAIN", "ada", "pässword"))
        assert server.verbs()[:4] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]


async def test_tls_from_the_start_protects_login_and_letter(certificates):
    async with server_for_ada(certificates, implicit=True) as server:
        outcome = await outcome_at(server, security="tls", ca_file=certificates.ca_file, **ADA)
        assert isinstance(outcome, Sent)
        [arrived] = server.accepted
        assert (arrived.encrypted, arrived.auth) == (True, ("PLAIN", "ada", "pässword"))


async def test_login_is_used_where_plain_is_not_offered(certificates):
    async with server_for_ada(certificates, auth=("LOGIN", "XOAUTH2")) as server:
        assert isinstance(await outcome_at(server, security="starttls", ca_file=certificates.ca_file, **ADA), Sent)
        assert server.accepted[0].auth == ("LOGIN", "ada", "pässword")


async def test_a_server_without_starttls_gets_nothing(certificates):
    async with server_for_ada(certificates, context=None) as server:
        outcome = await outcome_at(server, security="starttls", ca_file=certificates.ca_file, **ADA)
        assert isinstance(outcome, Blocked)
        assert "does not offer STARTTLS" in outcome.note
        assert said_in_the_clear(server) == []


@pytest.mark.parametrize("reply", ["454 4.7.0 not now", "501 5.5.4 what", DROP, SILENCE, "garbage"])
async def test_a_refused_starttls_ends_the_conversation(certificates, reply):
    async with server_for_ada(certificates) as server:
        server.script(STARTTLS=reply)
        outcome = await outcome_at(
            server, security="starttls", ca_file=certificates.ca_file, command_seconds=0.3, **ADA
        )
        assert isinstance(outcome, Blocked)
        assert said_in_the_clear(server) == []


async def test_plain_text_behind_the_answer_to_starttls_ends_the_conversation(certificates):
    async with server_for_ada(certificates) as server:
        server.script(STARTTLS=b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n")
        outcome = await outcome_at(server, security="starttls", ca_file=certificates.ca_file, **ADA)
        assert isinstance(outcome, Blocked)
        assert "without being asked" in outcome.note
        assert server.verbs() == ["EHLO", "STARTTLS"]


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_of_an_unknown_authority_ends_the_conversation(certificates, security):
    async with server_for_ada(certificates, implicit=security == "tls") as server:
        outcome = await outcome_at(server, security=security, **ADA)
        assert isinstance(outcome, Blocked)
        assert "TLS failed: " in outcome.note
        assert "issuer certificate" in outcome.note
        assert said_in_the_clear(server) == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_for_another_name_ends_the_conversation(tmp_path, security):
    other = make_certificates(tmp_path, "mail.elsewhere.example")
    async with server_for_ada(other, implicit=security == "tls") as server:
        outcome = await outcome_at(server, security=security, ca_file=other.ca_file, **ADA)
        assert isinstance(outcome, Blocked)
        assert "127.0.0.1" in outcome.note.removeprefix(f"could not connect to 127.0.0.1:{server.port}")
        assert said_in_the_clear(server) == []


async def test_an_unreadable_authority_file_is_said_in_plain_words(certificates, tmp_path):
    async with server_for_ada(certificates) as server:
        outcome = await outcome_at(server, security="starttls", ca_file=tmp_path / "none.pem")
        assert isinstance(outcome, Blocked)
        assert outcome.note.endswith("none.pem could not be read: no such file or directory")
        assert server.connections == 0


@pytest.mark.parametrize(
    ("reply", "for_good"),
    [
        ("421 4.7.0 later", False),
        ("454 4.7.0 temporary", False),
        ("530 5.7.0 no", True),
        ("534 5.7.9 weak", True),
        ("535 5.7.8 wrong", True),
        ("550 5.7.30 no basic authentication", True),
        (DROP, False),
        (SILENCE, False),
        ("334 go on", False),
    ],
    ids=str,
)
async def test_a_failed_login_blocks_the_way_and_keeps_the_secret(certificates, reply, for_good):
    async with server_for_ada(certificates, auth=("PLAIN",)) as server:
        server.script(AUTH=reply)
        way = way_to(server, security="starttls", ca_file=certificates.ca_file, command_seconds=0.5, **ADA)
        for outcome in (await way.send(PLAIN_LETTER), await way.check()):
            assert isinstance(outcome, Blocked)
            assert outcome.login is for_good
            assert not any(secret in outcome.note for secret in SECRETS)
        await way.close()
        assert server.transactions == []


PLAIN_TOKEN = base64.b64encode("\0ada\0pässword".encode()).decode()
NAME_TOKEN, WORD_TOKEN = (base64.b64encode(word.encode()).decode() for word in ("ada", "pässword"))
REPEATED = {
    "a blob": (f'500 5.5.1 what: "AUTH PLAIN {PLAIN_TOKEN}"', '500 5.5.1 what: "AUTH PLAIN …"'),
    "a blob cut short": (f"500 5.5.1 what: {PLAIN_TOKEN[:13]}", "500 5.5.1 what: …"),
    "pieces": (f'500 5.5.1 what: "{NAME_TOKEN}", "{WORD_TOKEN}"', '500 5.5.1 what: "…", "…"'),
    "the password": ("500 5.5.1 what: pässword".encode(), "500 5.5.1 what: …"),
    "in capitals": (f"500 5.5.1 WHAT: {WORD_TOKEN.upper()}", "500 5.5.1 WHAT: …"),
    "at the end of a note": (f"500 {'x' * 290} {WORD_TOKEN}", f"500 {'x' * 290} …"),
    "no reply at all": (f"700 {WORD_TOKEN}", "not an SMTP reply"),
}


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("repeated", REPEATED)
async def test_what_a_server_repeats_of_our_login_is_in_no_note(certificates, stage, repeated):
    said, noted = REPEATED[repeated]
    async with server_for_ada(certificates) as server:
        server.script(**{stage: said if isinstance(said, str) else said + b"\r\n"})
        outcome = await outcome_at(server, security="plain", **ADA)
        assert not isinstance(outcome, Sent)
        assert noted in outcome.note
        assert not any(secret.lower() in outcome.note.lower() for secret in (*SECRETS, PLAIN_TOKEN[:12], NAME_TOKEN))


async def test_a_receipt_that_repeats_the_password_is_kept_without_it(certificates):
    async with server_for_ada(certificates) as server:
        server.script(DOT="250 queued for cMOkc3N3b3Jk")
        assert await outcome_at(server, security="plain", **ADA) == Sent("250 queued for …")


async def test_offers_that_repeat_the_password_are_told_without_it(certificates):
    async with server_for_ada(certificates, auth=("GSSAPI", "pässword")) as server:
        outcome = await outcome_at(server, security="plain", **ADA)
        assert outcome == Blocked("the server offers no login we know: GSSAPI …", login=True)


@pytest.mark.parametrize("password", ["", "no", "the"])
async def test_a_password_that_is_hardly_one_blanks_out_no_words(certificates, password):
    async with server_for_ada(certificates, accounts={"ada": password}) as server:
        server.script(RCPT="550 5.1.1 no, not the one")
        outcome = await outcome_at(server, security="plain", username="ada", password=password)
        assert outcome.note == "550 5.1.1 no, not the one (to RCPT)"


async def test_a_secret_is_hidden_only_after_the_reply_was_understood(certificates):
    async with server_for_ada(certificates, accounts={"ada": "5.4.5 Daily"}) as server:
        server.script(RCPT="550 5.4.5 Daily sending limit")
        outcome = await outcome_at(server, security="plain", username="ada", password="5.4.5 Daily")
        assert outcome == Blocked("550 … sending limit (to RCPT)", at_recipient=True)


async def test_a_wrong_password_blocks_the_way(certificates):
    async with server_for_ada(certificates) as server:
        wrong = {"username": "ada", "password": "wrong"}
        outcome = await outcome_at(server, security="starttls", ca_file=certificates.ca_file, **wrong)
        assert outcome == Blocked("535 5.7.8 Wrong user or password (to AUTH)", login=True)


@pytest.mark.parametrize("auth", [(), ("XOAUTH2",)])
async def test_a_server_without_a_login_we_know_blocks_the_way(certificates, auth):
    async with server_for_ada(certificates, auth=auth) as server:
        outcome = await outcome_at(server, security="starttls", ca_file=certificates.ca_file, **ADA)
        assert outcome == Blocked(f"the server offers no login we know: {' '.join(auth) or 'none'}", login=True)
        assert server.transactions == []


async def test_without_a_password_there_is_no_login(certificates):
    async with server_for_ada(certificates) as server:
        outcome = await outcome_at(server, security="starttls", ca_file=certificates.ca_file, username="ada")
        assert isinstance(outcome, Sent)
        assert "AUTH" not in server.verbs()


async def test_plain_by_name_logs_in_without_tls(certificates):
    async with server_for_ada(certificates) as server:
        assert isinstance(await outcome_at(server, security="plain", **ADA), Sent)
        assert server.accepted[0].encrypted is False
        assert "STARTTLS" not in server.verbs()


async def test_a_check_logs_in_and_sends_nothing(certificates):
    async with server_for_ada(certificates) as server:
        way = way_to(server, security="starttls", ca_file=certificates.ca_file, **ADA)
        outcome = await way.check()
        assert outcome == Sent(f"connected to 127.0.0.1:{server.port}, TLSv1.3, logged in as ada")
        await way.close()
        assert server.verbs() == ["EHLO", "STARTTLS", "EHLO", "AUTH", "QUIT"]


async def test_the_password_is_in_no_description_of_the_server(mail_server):
    way = way_to(mail_server, **ADA)
    assert "pässword" not in f"{way._server!r}"
