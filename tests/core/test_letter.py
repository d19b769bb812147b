"""What the headers and the envelope of a letter say, with the standard library's parser as referee."""

import email
import email.policy
from dataclasses import replace
from email.header import decode_header, make_header
from email.message import EmailMessage
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pillarbox.core import letter, mime
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
DIGEST_FIELDS = [name for name in NOTIFICATION_FIELDS if name != "Reply-To"]
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


def digest(
    *submissions: Submission, form: Form = ADAS_FORM, delivery_id: int = 9, to: str = "ada@ada.example"
) -> Letter:
    return letter.digest(submissions, form, delivery_id=delivery_id, recipient=to, words=WORDS)


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


def test_a_digest_names_every_message_and_none_of_their_writers_in_its_headers():
    first = bobs("Mallory", "mallory@evil.example")
    others = [replace(first, id=f"id-{n}", received_at=first.received_at + n) for n in (3_600, 60)]
    sent = digest(first, *others)
    headers = parsed(sent)
    assert headers.keys() == DIGEST_FIELDS
    assert b'From: "Ada\'s Bakery" <forms@ada.example>\r\n' in sent.content
    assert b"allory" not in sent.content
    assert addresses(sent, "To") == ["ada@ada.example", "amy@ada.example"]
    assert addresses(sent, "Cc") == ["cc@ada.example"]
    assert headers["Subject"] == "[Ada's Bakery] Bread"
    assert headers["Date"] == "Mon, 21 Sep 2026 17:13:20 +0200"
    assert headers["Message-ID"] == sent.message_id == "<k7m2p9qx.digest-9@ada.example>"
    assert headers["X-Pillarbox-Id"].split() == ["k7m2p9qx", "id-3600", "id-60"]
    assert headers["Auto-Submitted"] == "auto-generated"
    assert (sent.id, sent.sender, sent.recipient) == ("9", "forms@ada.example", "ada@ada.example")


def test_two_digests_that_begin_with_the_same_message_are_two_letters():
    assert digest(bobs(), bobs()).message_id != digest(bobs(), bobs(), delivery_id=10).message_id
    assert digest(bobs(), bobs()) == digest(bobs(), bobs())


def test_a_digest_of_a_hundred_has_headers_that_every_server_takes():
    many = [replace(bobs(), id=f"K7QM-4T2X-{n:04}") for n in range(100)]
    sent = digest(*many)
    assert parsed(sent)["X-Pillarbox-Id"].split() == [one.id for one in many]
    assert max(map(len, sent.content.split(b"\r\n"))) <= 78


def test_another_way_out_sends_from_its_own_address_under_the_same_message_id():
    moved = replace(ADAS_FORM, sender="ada@elsewhere.example", message_domain="ada.example")
    for before, after in (
        (notification(bobs()), notification(bobs(), form=moved)),
        (confirmation(bobs()), confirmation(bobs(), form=moved)),
        (digest(bobs(), bobs()), digest(bobs(), bobs(), form=moved)),
    ):
        assert after.message_id == before.message_id == parsed(after)["Message-ID"]
        assert addresses(after, "From") == ["ada@elsewhere.example"]
        assert "ada@elsewhere.example" in (after.sender, after.fallback_sender)


def test_the_message_ids_domain_is_punycode_and_one_that_no_mail_can_carry_raises():
    named = replace(ADAS_FORM, message_domain="bücher.example")
    assert notification(bobs(), form=named).message_id == "<k7m2p9qx.notification@xn--bcher-kva.example>"
    for wrong in ("a b", "ada.example>", "ada.example\r\nBcc: eve@evil.example"):
        with pytest.raises(ValueError):
            notification(bobs(), form=replace(ADAS_FORM, message_domain=wrong))


@given(st.one_of(st.text(max_size=40), st.emails()), st.text(st.characters(exclude_categories=("Cs",)), max_size=80))
@settings(deadline=None)
@example("bob@example.com", "Re: Bread & butter? 100% #1")
@example("o'neil+x@example.com", "x&bcc=eve@evil.example")
@example("a%b?cc=eve/#;=&x@example.com", "\r\nBcc: eve@evil.example")
@example("jürgen@bücher.example", "Grüße")
@example("a,b@example.com", "x")
@example('x@example.com" onmouseover="x', "x")
def test_a_link_to_write_to_somebody_names_one_address_and_a_subject_and_nothing_else(address, subject):
    link = letter.mailto(address, subject)
    try:
        wired = mime.wire_address(address)
    except ValueError:
        assert link is None
        return
    parts = urlsplit(link)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("mailto", "", "")
    assert parts.path.count("@") == 1
    assert unquote(parts.path) == wired
    assert parse_qs(parts.query, keep_blank_values=True, strict_parsing=True) == {"subject": [subject]}
    assert not set(link) & set("<>\"',;&+ \r\n")
    assert link.isascii()
