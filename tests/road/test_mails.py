"""Whole roads: what a visitor posts, and the bytes that a real mail server then received."""

import email.policy
import shlex
import subprocess
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesHeaderParser, BytesParser
from mailbox import Maildir

import pytest
from tests.running import BOB, Pillarbox, until
from tests.servers import require
from tests.servers.certificates import make_certificates
from tests.servers.postfix import running_postfix
from tests.servers.scripted_smtp import ScriptedSmtp
from tests.servers.smtp_script import Transaction

PASSWORD = "correct horse"
NOTIFICATION_HEADERS = {
    *("From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Pillarbox-Id"),
    *("MIME-Version", "Content-Type"),
}
CONFIRMATION_HEADERS = NOTIFICATION_HEADERS - {"Cc", "Reply-To"} | {"X-Auto-Response-Suppress"}

HOSTILE = {
    "an encoded word with a header in it": "=?utf-8?q?x=0ABcc:_evil@evil.example?=",
    "a list of addresses": '"evil@evil.example, ' + "a" * 60 + '" <x@evil.example>',
    "bidi overrides": "\u202egro.live\u202c \u2066x\u2069",
    "two hundred letters": "ü" * 200,
    "emoji with joiners": "👩‍👩‍👧‍👦 Zoë",
    "Japanese": "山田太郎",
    "Arabic": "مرحبا بالعالم",
    "quotes and brackets": 'Bob "the <b>" \\ (Tailor); Ltd, @home:',
    "fifty marks on a letter": "Z" + "\u0301" * 50,
}
REFUSED = {
    "CR LF": "Bob\r\nBcc: evil@evil.example",
    "LF": "Bob\nBcc: evil@evil.example",
    "line separator": "Bob\u2028Bcc: evil@evil.example",
    "next line": "Bob\x85Bcc: evil@evil.example",
    "vertical tab": "Bob\vBcc: evil@evil.example",
    "NUL": "Bob\0",
    "lone surrogate": "Bob\ud800",
    "ten thousand characters": "x" * 10_000,
}


@pytest.fixture(scope="module")
def mail_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedSmtp]:
    """A server that wants STARTTLS and a login."""
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    made = ScriptedSmtp(
        context=certificates.context, auth=("PLAIN", "LOGIN"), accounts={"forms@shop.example": PASSWORD}
    )
    made.ca_file = certificates.ca_file  # type: ignore[attr-defined]
    with made.in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def shop(mail_server: ScriptedSmtp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pillarbox]:
    """Ada's shop, which mails through it."""
    made = Pillarbox(
        tmp_path_factory.mktemp("shop"),
        SMTP_SERVER="127.0.0.1",
        SMTP_PORT=str(mail_server.port),
        SMTP_CA_FILE=str(mail_server.ca_file),  # type: ignore[attr-defined]
        EMAIL_ADDRESS="forms@shop.example",
        EMAIL_PASSWORD=PASSWORD,
        RECIPIENT_EMAIL="ada@shop.example",
        CC_EMAIL="amy@shop.example",
        BCC_EMAIL="archive@elsewhere.example",
        SITE_NAME="Ada's Bookshop",
        TIMEZONE="Europe/Berlin",
    )
    made.serve()
    yield made
    made.stop()


def letters(server: ScriptedSmtp, submission_id: str, count: int) -> list[Transaction]:
    """Return what came about a message, once so many letters have come."""

    def come() -> list[Transaction]:
        mine = [one for one in list(server.transactions) if submission_id in one.message_id and one.accepted]
        return mine if len(mine) >= count else []

    return sorted(until(come), key=lambda one: (one.mail_from == "", one.recipients))


def parsed(letter: Transaction) -> EmailMessage:
    """Return the mail as a mail program reads it."""
    return BytesParser(EmailMessage, policy=email.policy.default).parsebytes(letter.content)


def test_every_header_is_ours_and_stands_once(shop, mail_server):
    _, answer = shop.post(BOB | {"subject": "Blue one?"})
    by_recipient = {one.recipients[0]: one for one in letters(mail_server, answer["id"], 4)}
    owners = [by_recipient[f"{name}.example"] for name in ("ada@shop", "amy@shop", "archive@elsewhere")]
    ada, amy, archive = owners
    assert ada.content == amy.content == archive.content
    mail = parsed(ada)
    assert sorted(mail.keys()) == sorted(NOTIFICATION_HEADERS)
    assert b'From: "Bob via Ada\'s Bookshop" <forms@shop.example>\r\n' in ada.content
    assert (mail["To"], mail["Cc"]) == ("ada@shop.example", "amy@shop.example")
    assert b"archive@" not in ada.content
    assert mail["Reply-To"] == "bob@example.org"
    assert mail["Subject"] == "[Ada's Bookshop] Blue one?"
    assert mail["Message-ID"] == f"<{answer['id']}.notification@shop.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert str(mail["Date"].datetime.tzinfo) in {"UTC+01:00", "UTC+02:00"}
    assert ada.mail_from == "forms@shop.example"
    assert ada.encrypted
    assert ada.auth


def test_a_confirmation_answers_from_nobody_and_repeats_nothing_of_the_visitor(shop, mail_server):
    typed = BOB | {
        "name": "Robert Tailor",
        "subject": "Blue one?",
        "company": "Tailors & Sons",
        "email": "rob@example.org",
    }
    _, answer = shop.post(typed)
    confirmation = letters(mail_server, answer["id"], 4)[-1]
    mail = parsed(confirmation)
    assert sorted(mail.keys()) == sorted(CONFIRMATION_HEADERS)
    assert (confirmation.mail_from, confirmation.recipients) == ("", ["rob@example.org"])
    assert b'From: "Ada\'s Bookshop" <forms@shop.example>\r\n' in confirmation.content
    assert mail["Auto-Submitted"] == "auto-replied"
    assert mail["X-Auto-Response-Suppress"] == "All"
    for part in mail.iter_parts():
        shown = part.get_content()
        assert answer["id"] in shown
        assert not any(words in shown for words in ("Robert", "Tailor", "Blue one", typed["message"]))


@pytest.mark.parametrize("field", ["name", "subject", "company"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_becomes_a_header_or_an_address(shop, mail_server, field, text):
    status, answer = shop.post(BOB | {"email": "mallory@example.org", field: text})
    assert status == 200
    raw = letters(mail_server, answer["id"], 3)[0].content
    head = raw.partition(b"\r\n\r\n")[0]
    mail = BytesHeaderParser(policy=email.policy.default).parsebytes(raw)
    assert sorted(mail.keys()) == sorted(NOTIFICATION_HEADERS)
    assert [address.addr_spec for address in mail["From"].addresses] == ["forms@shop.example"]
    assert [address.addr_spec for address in mail["Reply-To"].addresses] == ["mallory@example.org"]
    assert head.isascii()
    assert all(len(line) <= 76 for line in head.split(b"\r\n") if b"DKIM" not in line)
    assert not raw.replace(b"\r\n", b"").count(b"\n")
    assert not raw.replace(b"\r\n", b"").count(b"\r")


@pytest.mark.parametrize("field", ["name", "subject", "company"])
@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_no_header_can_hold_is_refused(shop, field, text):
    status, answer = shop.post(BOB | {field: text})
    assert (status, [error["field"] for error in answer["errors"]]) == (400, [field])


@pytest.mark.parametrize(
    "text", ["\n.\n", "a\r.\rb", "..\n.", "\r\n.\r\nMAIL FROM:<evil@evil.example>\r\n", "x" * 19_000]
)
def test_no_message_ends_its_own_letter(shop, mail_server, text):
    _, answer = shop.post(BOB | {"email": "mallory@example.org", "message": f"before{text}after"})
    letter = letters(mail_server, answer["id"], 3)[0]
    shown = parsed(letter).get_body(("plain",)).get_content().replace("\r\n", "\n")
    assert f"before{text}after".replace("\r\n", "\n").replace("\r", "\n").strip() in shown


def test_the_same_mail_leaves_through_a_real_postfix_with_starttls(pillarbox: Pillarbox):
    with running_postfix() as postfix:
        pillarbox.settings |= {
            "SMTP_SERVER": postfix.host,
            "SMTP_PORT": str(postfix.port),
            "SMTP_CA_FILE": str(postfix.ca_file),
            "EMAIL_ADDRESS": "forms@shop.example",
            "RECIPIENT_EMAIL": "ada@shop.example",
        }
        pillarbox.serve()
        _, answer = pillarbox.post(BOB)
        mails = until(lambda: found if len(found := postfix.letters()) == 2 else None)
    by_owner = {mail["Delivered-To"]: mail for mail in mails}
    assert by_owner["ada@shop.example"]["Message-ID"] == f"<{answer['id']}.notification@shop.example>"
    assert "with ESMTPS" in by_owner["ada@shop.example"]["Received"]
    assert by_owner["bob@example.org"]["Return-Path"] == "<>"


def test_a_mail_program_reads_the_maildir(pillarbox: Pillarbox):
    pillarbox.serve()
    _, answer = pillarbox.post(BOB | {"subject": "Blue one?"})
    until(lambda: len(pillarbox.mails()) == 2)
    found = {mail["Message-ID"] for mail in Maildir(pillarbox.folder / "mail", create=False)}
    assert found == {f"<{answer['id']}.{purpose}@localhost>" for purpose in ("notification", "confirmation")}
    # mutt wants a terminal, which `script` gives it, and no question to answer.
    mail = pillarbox.folder / "mail"
    commands = (f"set folder={pillarbox.folder}", "set move=no", "push <exit>")
    options = [part for command in commands for part in ("-e", command)]
    look = shlex.join([require("mutt"), "-n", "-F", "/dev/null", "-R", "-f", str(mail), *options])
    shown = subprocess.run(
        [require("script"), "-qec", f"stty cols 120 rows 30; {look}", "/dev/null"],
        env={"TERM": "xterm", "HOME": str(pillarbox.folder), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        timeout=30,
        check=True,
        stdin=subprocess.DEVNULL,
    ).stdout.decode()
    assert "[Contact] Blue one?" in shown
