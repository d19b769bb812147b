"""What the headers and the envelope of a letter say, with the standard library's parser as referee."""

import email
import email.policy
from dataclasses import replace
from email.header import decode_header, make_header
from email.message import EmailMessage

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pillarbox.core import letter
from pillarbox.core.form import CONTACT_FIELDS, Form, Owners
from pillarbox.core.letter import Letter, Words
from pillarbox.core.submission import Answer, Submission

ADAS_FORM = Form(
    slug="contact",
    fields=CONTACT_FIELDS,
    owners=Owners(to=("ada@ada.example", "amy@ada.example"), cc=("cc@ada.example",), bcc=("secret@ada.example",)),
    sender="forms@ada.example",
    site_name="Ada's Bakery",
    timezone="Europe/Berlin",
)
WORDS = Words("Bread", "A text\n", "<p>A text</p>")
NOTIFICATION_FIELDS = [
    *("From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "X-Pillarbox-Id", "Auto-Submitted"),
    *("MIME-Version", "Content-Type"),
]
CONFIRMATION_FIELDS = [
    *("From", "To", "Subject", "Date", "Message-ID", "X-Pillarbox-Id", "Auto-Submitted"),
    *("X-Auto-Response-Suppress", "MIME-Version", "Content-Type"),
]


def bobs(name: str = "Bob", address: str = "bob@example.com") -> Submission:
    answers = (Answer("name", "Name", (name,)), Answer("email", "Email", (address,)))
    return Submission("k7m2p9qx", "contact", 1_790_000_000.7, "de", answers)


def notification(submission: Submission, words: Words = WORDS, form: Form = ADAS_FORM, to: str = "ada@ada.example"):
    return letter.notification(submission, form, delivery_id=7, recipient=to, words=words)


def confirmation(submission: Submission, form: Form = ADAS_FORM, to: str = "bob@example.com") -> Letter:
    return letter.confirmation(submission, form, delivery_id=8, recipient=to, words=WORDS)


def parsed(of: Letter) -> EmailMessage:
    return email.message_from_bytes(of.content, policy=email.policy.default)  # type: ignore[return-value]


def addresses(of: Letter, name: str) -> list[str]:
    return [address.addr_spec for address in parsed(of)[name].addresses]


def test_the_notification_is_from_our_address_in_the_visitors_and_the_sites_name():
    sent = notification(bobs())
    headers = parsed(sent)
    assert headers.keys() == NOTIFICATION_FIELDS
    assert b'From: "Bob via Ada\'s Bakery" <forms@ada.example>\r\n' in sent.content
    assert headers["Subject"] == "[Ada's Bakery] Bread"
    assert headers["Reply-To"] == "bob@example.com"
    assert headers["Date"] == "Mon, 21 Sep 2026 16:13:20 +0200"
    assert headers["Message-ID"] == sent.message_id == "<k7m2p9qx.notification@ada.example>"
    assert headers["Auto-Submitted"] == "auto-generated"
    assert (sent.id, sent.sender, sent.recipient) == ("7", "forms@ada.example", "ada@ada.example")
    assert not sent.smtputf8


def test_the_confirmation_has_a_null_sender_and_says_that_a_machine_wrote_it():
    sent = confirmation(bobs())
    headers = parsed(sent)
    assert headers.keys() == CONFIRMATION_FIELDS
    assert b'From: "Ada\'s Bakery" <forms@ada.example>\r\n' in sent.content
    assert addresses(sent, "To") == ["bob@example.com"]
    assert headers["Subject"] == "Bread"
    assert headers["Message-ID"] == "<k7m2p9qx.confirmation@ada.example>"
    assert headers["Auto-Submitted"] == "auto-replied"
    assert headers["X-Auto-Response-Suppress"] == "All"
    assert (sent.id, sent.sender, sent.fallback_sender) == ("8", "", "forms@ada.example")
    assert sent.recipient == "bob@example.com"


def test_every_recipient_gets_the_same_bytes_and_no_header_names_a_blind_copy():
    sent = [notification(bobs(), to=owner) for owner in ADAS_FORM.owners.everyone]
    assert len({one.content for one in sent}) == 1
    assert [one.recipient for one in sent] == list(ADAS_FORM.owners.everyone)
    assert b"secret@" not in sent[0].content
    assert addresses(sent[0], "To") == ["ada@ada.example", "amy@ada.example"]
    assert addresses(sent[0], "Cc") == ["cc@ada.example"]


@given(st.text(max_size=400), st.text(max_size=400))
@settings(deadline=None)
@example("Jürgen Groß", "Ελληνικά, עברית, 日本語, 👩‍👩‍👧‍👦")
@example('"evil@x, ' + "a" * 10_000, "b" * 10_000)
@example('Eve" <eve@evil.example>, "', "=?utf-8?q?x=0ABcc:_x@example.com?=")
@example("Bob\r\nBcc: eve@evil.example", "x\n\nBcc: eve@evil.example")
@example("=?utf-8?q?evil=40evil.example=2C?=", "\u202egnp.exe\u2066\u2028\x85\x00")
@example("\u202e\u2066\ud800", "")
def test_nothing_that_a_visitor_types_changes_the_set_of_headers(name, subject):
    sent = notification(bobs(name), replace(WORDS, subject=subject))
    headers = parsed(sent)
    assert headers.keys() == NOTIFICATION_FIELDS
    assert addresses(sent, "From") == ["forms@ada.example"]
    assert addresses(sent, "Reply-To") == ["bob@example.com"]
    expected = letter.one_line(f"[Ada's Bakery] {subject}", 250)
    assert headers["Subject"] == expected
    assert str(make_header(decode_header(email.message_from_bytes(sent.content)["Subject"]))) == expected
    assert sent.content.isascii()
    assert sent.content == notification(bobs(name), replace(WORDS, subject=subject)).content


@given(st.text())
@settings(deadline=None)
def test_a_cleaned_line_holds_nothing_that_breaks_or_turns_it_and_cleaning_it_again_changes_nothing(text):
    clean = letter.one_line(text, 60)
    assert len(clean) <= 60
    assert clean == letter.one_line(clean, 60)
    assert not set(clean) & set(
        "\r\n\x00\x1b\x7f\x85\u2028\u2029\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2069"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  Bob \t the\r\nbaker ", "Bob the baker"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("👩‍👩‍👧‍👦 می‌خواهم", "👩‍👩‍👧‍👦 می‌خواهم"),
        ("x" * 21, "x" * 19 + "…"),
        ("x" * 17 + "👩\u200d👩x", "x" * 17 + "👩…"),
    ],
)
def test_a_text_becomes_one_line(text, line):
    assert letter.one_line(text, 20) == line


@pytest.mark.parametrize(
    ("name", "display"),
    [
        ("Bob", "Bob via Ada's Bakery"),
        ("", "Ada's Bakery"),
        ("\u202e \x00", "Ada's Bakery"),
        ('"paypal@x.example" <a@b>', "paypal x.example a b via Ada's Bakery"),
        ("Smith, Jane; (CEO)", "Smith, Jane; (CEO) via Ada's Bakery"),
        ("山田　太郎", "山田 太郎 via Ada's Bakery"),
        ("x" * 10_000, "x" * 59 + "… via Ada's Bakery"),
    ],
)
def test_the_visitors_name_stands_cleaned_before_the_sites(name, display):
    (sender,) = parsed(notification(bobs(name)))["From"].addresses
    assert "".join(sender.display_name.split()) == "".join(display.split())


@pytest.mark.parametrize(
    ("address", "reply_to"),
    [
        ("bob@bücher.example", ["bob@xn--bcher-kva.example"]),
        ("o'neil+x@example.com", ["o'neil+x@example.com"]),
        ("jürgen@example.com", None),
        ("a@b.example, c@d.example", None),
        ("a@b.example\nc@d.example", None),
        ("=?utf-8?q?evil=40evil.example=2C?=x@example.com", None),
        ("", None),
    ],
)
def test_reply_to_is_one_plain_address_or_absent(address, reply_to):
    sent = notification(bobs(address=address))
    assert (addresses(sent, "Reply-To") if "Reply-To" in parsed(sent) else None) == reply_to
    assert not sent.smtputf8


def test_only_a_local_part_beyond_ascii_needs_smtputf8():
    assert not confirmation(bobs(), to="bob@bücher.example").smtputf8
    assert confirmation(bobs(), to="bob@bücher.example").recipient == "bob@xn--bcher-kva.example"
    unicode_letter = confirmation(bobs(), to="jürgen@bücher.example")
    assert unicode_letter.smtputf8
    assert unicode_letter.recipient == "jürgen@xn--bcher-kva.example"
    assert "To: jürgen@xn--bcher-kva.example\r\n".encode() in unicode_letter.content
    blind = replace(ADAS_FORM, owners=Owners(to=("ada@ada.example",), bcc=("jürgen@ada.example",)))
    assert notification(bobs(), form=blind, to="jürgen@ada.example").smtputf8
    assert not notification(bobs(), form=blind).smtputf8
    named = replace(ADAS_FORM, owners=Owners(to=("ada@ada.example", "jürgen@ada.example")))
    assert notification(bobs(), form=named).smtputf8


def test_our_own_domain_beyond_ascii_is_punycode_everywhere():
    sent = notification(bobs(), form=replace(ADAS_FORM, sender="forms@bücher.example", site_name="Bücher"))
    assert sent.sender == "forms@xn--bcher-kva.example"
    assert sent.message_id == "<k7m2p9qx.notification@xn--bcher-kva.example>"
    assert addresses(sent, "From") == ["forms@xn--bcher-kva.example"]


@pytest.mark.parametrize("recipient", ["", "a@b.example, c@d.example", "a@b.example\r\nRCPT TO:<c@d.example>"])
def test_a_recipient_that_is_not_one_address_raises(recipient):
    with pytest.raises(ValueError):
        notification(bobs(), to=recipient)
    with pytest.raises(ValueError):
        confirmation(bobs(), to=recipient)
