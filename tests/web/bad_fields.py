"""What people and attackers type into fields, each case in every encoding, and what the letter or the answer says."""

from collections.abc import Mapping
from dataclasses import dataclass

LINE_BREAKS = {
    "CR": "\r",
    "LF": "\n",
    "CRLF": "\r\n",
    "NEL": "\x85",
    "U+2028": "\u2028",
    "U+2029": "\u2029",
    "VT": "\x0b",
    "FF": "\x0c",
}
LONG_LOCAL = "x" * 64


@dataclass(frozen=True)
class Typed:
    """Some of Bob's fields as he, or Mallory, filled them in.

    Either `fault` is the code at the first of these fields, or the letter shows `shown`, by default what was typed.
    """

    fields: Mapping[str, str]
    fault: str = ""
    shown: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        return self.shown or tuple(self.fields.values())


def refused(code: str, **fields: str) -> Typed:
    return Typed(fields, code)


def kept(*shown: str, **fields: str) -> Typed:
    return Typed(fields, "", shown)


def address(text: str, shown: str = "") -> Typed:
    return kept(f"Email: {shown or text}\n", email=text)


def no_address(text: str) -> Typed:
    return refused("TYPE_EMAIL", email=text)


_BROKEN = {
    f"{name} in the {field}": refused("TYPE_TEXT", **{field: f"bob@example.org{end}Bcc: mallory@example.net"})
    for field in ("name", "email", "company", "subject")
    for name, end in LINE_BREAKS.items()
}
_FOLDED = {
    f"{name} in the message": kept("\none\nBcc: mallory@example.net\n", message=f"one{end}Bcc: mallory@example.net")
    for name, end in LINE_BREAKS.items()
}
_MARKED = {f"{mark} in a name": kept(name=f"a{mark}b {mark} c@d.example{mark}e") for mark in '"\\<>,;:@'}

FIELDS: dict[str, Typed] = {
    "only blanks": refused("REQUIRED_FIELD_EMPTY", name=" \t ", message=" \r\n\u3000 "),
    "only zero-width characters": refused("REQUIRED_FIELD_EMPTY", message="\u200b\u200d\ufeff\u2060\u00ad"),
    "name of 200": kept(name="ä" * 200),
    "name of 201": refused("TOO_LONG", name="ä" * 201),
    "message of 20,000": kept(message="ö" * 20_000),
    "message of 20,001": refused("TOO_LONG", message="ö" * 20_001),
    "50 kB in the message": refused("TOO_LONG", message="<b>" * 17_000),
    "right-to-left overrides": kept("Name: gnp.exe\n", "\ntext\n", name="\u202egnp.exe\u202c", message="\u202etext"),
    "50 combining marks on a letter": kept("\u00e1" + "\u0301" * 29, name="Bob", message="a" + "\u0301" * 50),
    "emoji with joiners": kept(name="👩‍👩‍👧‍👦 Bob", message="🏳️‍🌈 👍🏽"),
    "control characters": kept("Name: B[31mob\n", "\na[2Jb\n", name="B\x1b[31mo\x07b", message="a\x9b\x1b[2Jb"),
    **_BROKEN,
    **_FOLDED,
    "=?utf-8?q?…?= in the name": kept(name="=?utf-8?q?a=0D=0ABcc:_mallory=40example.net?="),
    "=?utf-8?q?…?= in the subject": kept(subject="A =?UTF-8?Q?x=0ABcc:_mallory@example.net?="),
    **_MARKED,
    "quoted local part": no_address('"bob"@example.org'),
    "quoted local part with an address": no_address('"bob@evil.example"@example.org'),
    "encoded word as local part": no_address("=?utf-8?q?a=40b.example=2C?=x@example.org"),
    "IDN": address("bob@xn--bcher-kva.example", "bob@bücher.example"),
    "IDN in Unicode": address("bob@bücher.example"),
    "Unicode local part (SMTPUTF8)": address("ödön@example.org"),
    "64-character local part": address(f"{LONG_LOCAL}@example.org"),
    "65-character local part": no_address(f"x{LONG_LOCAL}@example.org"),
    "an address of 255": refused("TOO_LONG", email="bob@" + "a." * 122 + "example"),
    "100 kB in the address": refused("TOO_LONG", email="a." * 50_000),
    "two addresses": no_address("a@b.example, c@d.example"),
    "two addresses without a blank": no_address("a@b.example;c@d.example"),
    "group syntax": no_address("friends: a@b.example;"),
    "comments": no_address("bob(comment)@example.org"),
    "display name": no_address("Bob <bob@example.org>"),
    "user%host@relay": address("user%host@relay.example"),
    "IP literal": no_address("bob@[192.0.2.1]"),
    "IPv6 literal": no_address("bob@[IPv6:2001:db8::1]"),
    "trailing dot": no_address("bob@example.org."),
    "mixed script": address("bоb@example.org"),
    "mixed script in the domain": address("bob@exаmple.org"),
    "full-width address": no_address("bob@ｅｘａｍｐｌｅ．ｏｒｇ，eve"),
    "lines with dots": kept(message=".\n..\n.\nQUIT"),
    "a line of 20,000 characters": kept(message="a b" * 6_000),
    "markup": kept(name="<script>alert(1)</script>", message="</textarea><img src=x onerror=alert(1)>&lt;"),
}
