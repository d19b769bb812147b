"""The writer of mails, with the standard library's parser as referee."""

import email
import email.policy
import re
from email.header import decode_header, make_header
from email.message import EmailMessage

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pillarbox.core import mime

HEADER_TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=300)
ADDRESS = "forms@example.com"


def written(*fields: mime.HeaderField, text: str = "text", html: str = "<p>html</p>") -> bytes:
    return mime.message(fields, text=text, html=html, message_id="<1@example.com>")


def parsed(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.default)  # type: ignore[return-value]


def as_old_programs_read(content: bytes, name: str) -> str:
    return str(make_header(decode_header(email.message_from_bytes(content)[name])))


def bodies(content: bytes) -> list[str]:
    parts = email.message_from_bytes(content).get_payload()
    return [part.get_payload(decode=True).decode() for part in parts]


def line_lengths(content: bytes) -> list[int]:
    return [len(line) for line in content.split(b"\r\n")]


@given(HEADER_TEXTS)
@settings(deadline=None)
@example("=?utf-8?q?hi?=")
@example("A =?UTF-8?Q?x=0ABcc:_x@example.com?=")
@example("a" * 1_000)
@example("two  blanks, and some at the end  ")
@example("👩‍👩‍👧‍👦" * 60)
@example("é" * 10_000)
def test_a_subject_arrives_as_the_text_it_was(text):
    content = written(mime.text_field("Subject", text), mime.mailbox_field("From", ADDRESS, "Site"))
    assert parsed(content)["Subject"] == text
    assert as_old_programs_read(content, "Subject") == text
    assert parsed(content).keys() == ["Subject", "From", "MIME-Version", "Content-Type"]
    assert content.isascii()
    assert max(line_lengths(content)) <= mime.MAX_LINE


@given(HEADER_TEXTS)
@settings(deadline=None)
@example('"evil@x, ' + "a" * 100)
@example('"evil@x, aaaa"')
@example("evil@example.org")
@example("a (comment <evil@example.org>,")
@example("=?utf-8?q?evil=40evil.example=2C?=")
@example("back\\slash\\")
@example("a name of many plain words, one after the other, longer than a line may be")
def test_no_display_name_becomes_another_address(name):
    content = written(mime.mailbox_field("From", ADDRESS, name))
    (address,) = parsed(content)["From"].addresses
    assert address.addr_spec == ADDRESS
    # The standard library leaves blanks between the encoded words of a name, and folds runs of them.
    assert "".join(address.display_name.split()) == "".join(name.split())
    assert max(line_lengths(content)) <= mime.MAX_LINE


@given(HEADER_TEXTS)
@settings(deadline=None)
def test_encoded_words_hold_whole_characters_and_at_most_75_octets(text):
    field = mime.text_field("Subject", f"ü{text}")
    words = field.removeprefix("Subject: ").split("\r\n ")
    assert all(len(word) <= 75 and len(decode_header(word)) == 1 for word in words)
    assert "".join(data.decode(charset) for word in words for data, charset in decode_header(word)) == f"ü{text}"


@pytest.mark.parametrize("control", [*map(chr, range(32)), "\x7f", "\x85", "\u2028", "\u2029", "\ud800"])
@pytest.mark.parametrize("padding", ["x", "ü"])
def test_no_header_field_takes_a_control_character(control, padding):
    text = f"{padding}{control}Bcc: mallory@example.com"
    for write in (
        lambda: mime.text_field("Subject", text),
        lambda: mime.plain_field("Date", text),
        lambda: mime.mailbox_field("From", ADDRESS, text),
        lambda: mime.mailbox_field("From", f"{text}@example.com", ""),
        lambda: mime.addresses_field(
            "To",
            (
                ADDRESS,
                f"ada@{text}",
            ),
        ),
    ):
        with pytest.raises(ValueError):
            write()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@example.com, bob@example.com",
        "Ada <ada@example.com>",
        "ada@example.com (Ada)",
        "team: ada@example.com;",
        '"ada lovelace"@example.com',
        ".ada@example.com",
        "ada..l@example.com",
        "a b@example.com",
        "=?utf-8?q?a=40b.com=2C?=x@example.com",
        "ada@exa mple.com",
        "ada@example..com",
        "ad\u202ea@example.com",
        "ad\u200ba@example.com",
        f"{'a' * 65}@example.com",
        f"{'é' * 33}@example.com",
        f"ada@{'a.' * 125}com",
        f"{'a' * 60}@{'.'.join(['éñ漢' * 12] * 4)}",
        "ada@" + "ü" * 100_000 + ".example",
    ],
)
def test_what_is_not_one_plain_address_is_refused(address):
    with pytest.raises(ValueError):
        mime.wire_address(address)


@pytest.mark.parametrize(
    ("address", "wired"),
    [
        ("Ada.Lovelace+forms@Example.com", "Ada.Lovelace+forms@Example.com"),
        ("forms@corp.local", "forms@corp.local"),
        ("root@localhost", "root@localhost"),
        ("ada@[127.0.0.1]", "ada@[127.0.0.1]"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("jürgen@bücher.example", "jürgen@xn--bcher-kva.example"),
        (f"{'a' * 64}@example.com", f"{'a' * 64}@example.com"),
    ],
)
def test_an_address_goes_on_the_wire_with_its_domain_in_ascii(address, wired):
    assert mime.wire_address(address) == wired


def test_many_addresses_are_folded_between_them():
    addresses = [f"owner{number}@example.com" for number in range(40)]
    content = written(mime.addresses_field("To", tuple(addresses)))
    assert [address.addr_spec for address in parsed(content)["To"].addresses] == addresses
    assert max(line_lengths(content)) <= mime.MAX_LINE


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=400), st.text("=. \t\n\rFromé漢", max_size=300))
@settings(deadline=None)
@example("a" * 100_000, "漢" * 5_000)
@example(".\n..\n.\r\n.\r.", "From here\n>From there\nFrom " + "x" * 71 + "\n" + "é" * 90)
@example("blanks at the end \t \n \nand last ", "x" * 75 + " \n" + "x" * 74 + "  \n")
@example("\n\n", "From Ada, with an answer\nFrom Bob\n.\n.dots and plain words around them\n")
@example("--=_boundary\r\n\r\n--", "\x00\x0b\x0c\x1b[31m\x85\u2028")
def test_bodies_arrive_as_they_were_with_crlf_line_ends(text, html):
    content = written(text=text, html=html)
    expected = [re.sub("\r\n|\r|\n", "\r\n", body) for body in (text, html)]
    assert bodies(content) == expected
    assert [part.get_content_type() for part in parsed(content).iter_parts()] == ["text/plain", "text/html"]
    assert content.isascii()
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", content)
    assert not re.search(rb"^(\.|From )", content, flags=re.M)
    assert not re.search(rb"[ \t]\r\n", content)
    assert max(line_lengths(content)) <= mime.MAX_LINE


def test_a_lone_surrogate_in_a_body_becomes_a_question_mark():
    assert bodies(written(text="a\ud800b"))[0] == "a?b"


def test_english_stays_readable_and_japanese_is_not_blown_up():
    content = written(text="Good morning, café and all", html="お早うございます" * 50)
    assert [part["Content-Transfer-Encoding"] for part in parsed(content).iter_parts()] == [
        "quoted-printable",
        "base64",
    ]
    assert b"Good morning, caf=C3=A9 and all" in content


@pytest.mark.parametrize("text", ["x" * 901, "a\n.b", ".a", "a\nFrom b", "From a", "a \nb", "a\t", "é", "a\x00"])
def test_only_a_text_that_no_server_touches_travels_as_it_is(text):
    plain, html = parsed(written(text="Good morning,\nand goodbye", html=text)).iter_parts()
    assert plain["Content-Transfer-Encoding"] == "7bit"
    assert html["Content-Transfer-Encoding"] != "7bit"


def test_the_same_letter_is_the_same_bytes_and_another_id_another_boundary():
    first, again = (mime.message([], text="a", html="b", message_id="<1@x>") for _ in range(2))
    assert first == again
    assert first != mime.message([], text="a", html="b", message_id="<2@x>")


def test_only_an_address_brings_anything_beyond_ascii():
    content = written(
        mime.mailbox_field("From", ADDRESS, "Jürgen"), mime.addresses_field("To", ("jürgen@example.com",))
    )
    assert [line for line in content.split(b"\r\n") if not line.isascii()] == ["To: jürgen@example.com".encode()]
