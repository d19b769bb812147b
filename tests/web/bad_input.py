"""What comes through the door that should not, or that looks so and is honest: each case as it stands on the wire."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, urlencode

from tests.asking import FORM, JSON, multipart
from tests.running import BOB

MULTIPART = "multipart/form-data; boundary=cut"
LIMIT = 256 * 1024
UNREADABLE, TYPE_TEXT, TYPE_EMAIL = (400, "UNREADABLE"), (400, "TYPE_TEXT"), (400, "TYPE_EMAIL")
MISSING, EMPTY, TOO_LONG = (400, "REQUIRED_FIELD_MISSING"), (400, "REQUIRED_FIELD_EMPTY"), (400, "TOO_LONG")
TOO_MANY, NO_FILES, KEPT = (400, "TOO_MANY_FIELDS"), (400, "NO_FILE_UPLOADS"), (200, "")
TOO_LARGE, MEDIA_TYPE = (413, "TOO_LARGE"), (415, "UNSUPPORTED_MEDIA_TYPE")

Answered = tuple[int, str]
"""The status, and the code of a refusal."""


@dataclass(frozen=True)
class Body:
    """Bytes under these Content-Type lines, and what is answered. `gone`: not even Bob's message can be made out."""

    types: tuple[str, ...]
    content: bytes
    answered: Answered
    gone: bool = False
    headers: Mapping[str, str] | None = None


def json_(content: bytes | str, answered: Answered = UNREADABLE) -> Body:
    return Body((JSON,), content if isinstance(content, bytes) else content.encode(), answered)


def form(content: bytes, answered: Answered = UNREADABLE) -> Body:
    return Body((FORM,), content, answered)


def parts(
    content: bytes, answered: Answered = UNREADABLE, parameters: str = "boundary=cut", gone: bool = False
) -> Body:
    return Body((f"multipart/form-data; {parameters}",), content, answered, gone)


OBJECT = json.dumps(BOB).encode()
PAIRS = urlencode(BOB).encode()
PARTS = multipart(*((f'name="{name}"', text) for name, text in BOB.items()))
HEAD = b'--cut\r\nContent-Disposition: form-data; name="%s"\r\n'


def with_(**fields: object) -> str:
    return json.dumps(BOB | fields)


def raw_json(field: str, value: bytes) -> bytes:
    """Return Bob's JSON with these very bytes as one more field's value."""
    return OBJECT[:-1] + b', "' + field.encode() + b'": ' + value + b"}"


def part(head: str, text: str | bytes = "") -> bytes:
    """Return Bob's parts behind one more."""
    text = text if isinstance(text, bytes) else text.encode()
    return b"--cut\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + text + b"\r\n" + PARTS


def in_every(bad: bytes, escaped: str, *, of_json: Answered, of_text: Answered) -> tuple[Body, ...]:
    """Return Bob's message with these bytes in his company, raw and escaped; `escaped` is JSON's way."""
    return (
        json_(raw_json("company", b'"' + escaped.encode() + b'"'), of_json),
        form(PAIRS + b"&company=a" + bad, of_text),
        form(PAIRS + b"&company=a" + quote_from_bytes(bad).encode(), of_text),
        parts(part('name="company"', b"a" + bad), of_text),
    )


def padded(size: int, answered: Answered) -> tuple[Body, ...]:
    """Return Bob's message in a body of this size in each encoding."""
    hidden = PAIRS + b"&_x="
    return (
        json_(OBJECT.ljust(size), answered),
        form(hidden.ljust(size, b"a"), answered),
        parts(PARTS.ljust(size), answered),
    )


BOMB = gzip.compress(b" " * 100_000_000, 1)[: LIMIT - 1]
KEYS = {f"k{number}": "x" for number in range(10_000)}
HONEST: tuple[tuple[str, bytes], ...] = ((JSON, OBJECT), (FORM, PAIRS), (MULTIPART, PARTS))


def under(*types: str, answered: Answered = MEDIA_TYPE, **headers: str) -> tuple[Body, ...]:
    """Return Bob's honest bodies under other Content-Type lines than their own; `{}` stands for their own."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return tuple(
        Body(tuple(one.replace("{}", own) for one in types), content, answered, gone=True, headers=named)
        for own, content in HONEST
    )


BODIES: dict[str, tuple[Body, ...]] = {
    "honest": (json_(OBJECT, KEPT), form(PAIRS, KEPT), parts(PARTS, KEPT)),
    "empty": (json_(b""), form(b"", MISSING), parts(b"")),
    "null": (json_(b"null"), form(b"null", MISSING), parts(b"null")),
    "[]": (json_(b"[]"), form(b"[]", MISSING), parts(b"[]")),
    '"x"': (json_(b'"x"'), form(b'"x"', MISSING), parts(b'"x"')),
    "1e999": (json_(b"1e999"), json_(raw_json("company", b"1e999"), TYPE_TEXT)),
    "NaN": tuple(json_(raw_json("_x", bad)) for bad in (b"NaN", b"Infinity", b"-Infinity", b"nan")),
    "nested 10,000 deep": (json_(b"[" * 10_000), json_(raw_json("company", b"[" * 10_000 + b"]" * 10_000))),
    "nested 100,000 deep": (
        json_(b"[" * 100_000),
        json_(b'{"a":' * 50_000),
        json_(raw_json("company", b"[" * 100_000 + b"]" * 100_000)),
        json_(raw_json("_x", b'{"a":' * 40_000 + b"0" + b"}" * 40_000)),
    ),
    "nested as deep as Python goes": (json_(raw_json("company", b"[" * 500 + b"]" * 500), TYPE_TEXT),),
    "cut JSON": tuple(json_(OBJECT[:end]) for end in (1, len(OBJECT) // 2, len(OBJECT) - 1)),
    "two JSON values": (json_(OBJECT + OBJECT), json_(OBJECT + b"\n" + OBJECT), json_(OBJECT + b" x")),
    "BOM": (
        json_(b"\xef\xbb\xbf" + OBJECT, KEPT),
        json_(b"\xef\xbb\xbf\xef\xbb\xbf" + OBJECT),
        form(b"\xef\xbb\xbf" + PAIRS, MISSING),
        parts(b"\xef\xbb\xbf" + PARTS, gone=True),
    ),
    "UTF-16": (
        json_(OBJECT.decode().encode("utf-16")),
        json_(OBJECT.decode().encode("utf-16-be")),
        form(PAIRS.decode().encode("utf-16"), (400, "")),
        parts(PARTS.decode().encode("utf-16"), gone=True),
    ),
    "invalid UTF-8": (
        json_(raw_json("company", b'"\xff\xfe"')),
        *in_every(b"\xff\xfe", "\\u00ff", of_json=KEPT, of_text=UNREADABLE),
        *in_every(b"\xc3", "\\u00c3", of_json=KEPT, of_text=UNREADABLE),
        parts(PARTS.replace(b'"name"', b'"n\xc3me"')),
        parts(part('name="company"', "Grüße"), parameters="boundary=cut; charset=us-ascii"),
    ),
    "overlong UTF-8": (
        json_(raw_json("company", b'"\xc0\xaf"')),
        json_(raw_json("company", b'"\xe0\x80\x8a"')),
        *in_every(b"\xc0\xaf", "/", of_json=KEPT, of_text=UNREADABLE),
        *in_every(b"\xc0\x80", "0", of_json=KEPT, of_text=UNREADABLE),
    ),
    "lone surrogates": (
        json_(raw_json("company", b'"\xed\xa0\x80"')),
        json_(raw_json("company", b'"\\udfff\\ud800"'), TYPE_TEXT),
        json_(raw_json("\\udfff", b'"x"'), TYPE_TEXT),
        json_(raw_json("company", b'"\\ud83d\\ude00"'), KEPT),
        *in_every(b"\xed\xa0\x80", "\\ud800", of_json=TYPE_TEXT, of_text=UNREADABLE),
        *in_every(b"\xed\xa0\xbd\xed\xb8\x80", "\\udc00x", of_json=TYPE_TEXT, of_text=UNREADABLE),
    ),
    "NUL": (
        json_(raw_json("company", b'"a\0"')),
        *in_every(b"\0", "\\u0000", of_json=TYPE_TEXT, of_text=TYPE_TEXT),
        json_(with_(**{"\0": "x"}), TYPE_TEXT),
        form(PAIRS + b"&%00=x", TYPE_TEXT),
    ),
    "duplicate keys": (
        json_(raw_json("name", b'"Eve"')),
        json_(raw_json("n\\u0061me", b'"Eve"')),
        json_(raw_json("company", b'{"a": [{"b": 1, "b": 2}]}')),
        form(PAIRS + b"&name=Eve", TYPE_TEXT),
        form(PAIRS + b"&n%61me=Eve", TYPE_TEXT),
    ),
    "10,000 keys": (json_(with_(**KEYS), TOO_MANY), form(PAIRS + b"&" + urlencode(KEYS).encode(), TOO_MANY)),
    "10,000 separators": (form(PAIRS + b"&" * 10_000, TOO_MANY), form(b"&" * LIMIT, TOO_MANY)),
    "10,000 hidden keys": (json_(with_(**{f"_{key}": "x" for key in KEYS}), KEPT),),
    "a key of 100 kB": (
        json_(with_(**{"k" * 100_000: "x"}), TOO_LONG),
        form(PAIRS + b"&" + b"k" * 100_000 + b"=x", TOO_LONG),
        parts(part(f'name="{"k" * 100_000}"', "x"), gone=True),
    ),
    "a key without letters": (json_(with_(**{"": "x"}), TYPE_TEXT), form(PAIRS + b"&=x", TYPE_TEXT)),
    "a key that cleans up to another": (json_(with_(**{" subject": "a\nb"}), TYPE_TEXT),),
    "numbers where text belongs": tuple(
        json_(raw_json("company", number), TYPE_TEXT)
        for number in (b"5", b"-0", b"0.1", b"1E400", b"-1e-999", b"9" * 4_000, b"1" + b"0" * 100_000)
    ),
    "booleans where text belongs": tuple(json_(with_(name=value), TYPE_TEXT) for value in (True, False)),
    "objects where text belongs": tuple(
        json_(with_(email=value), TYPE_TEXT) for value in ({}, {"a": "b"}, {"email": BOB["email"]})
    ),
    "null where text belongs": (json_(with_(message=None), TYPE_TEXT), json_(with_(company=None), TYPE_TEXT)),
    "lists where text belongs": tuple(json_(with_(name=value), TYPE_TEXT) for value in ([], ["a"], [["a"]])),
    "a list that holds an object": (json_(with_(extra=["a", {}]), TYPE_TEXT),),
    "a body as long as the limit": padded(LIMIT, KEPT),
    "a body one byte over the limit": padded(LIMIT + 1, TOO_LARGE),
    "Content-Encoding: gzip (a bomb)": (
        *(Body((own,), BOMB, MEDIA_TYPE, gone=True, headers={"Content-Encoding": "gzip"}) for own, _ in HONEST),
        *under("{}", Content_Encoding="identity, gzip"),
        *under("{}", Content_Encoding="br"),
        *under("{}", Content_Encoding=""),
        *under("{}", Content_Encoding="x" * 500),
    ),
    "multipart without boundary": tuple(
        parts(PARTS, parameters=bad, gone=True) for bad in ("", "boundary", "boundary=", 'boundary=""', "boundary*=cut")
    ),
    "another boundary": (parts(PARTS, parameters="boundary=other", gone=True),),
    "a strange boundary": (
        parts(PARTS, parameters='boundary="\\"; a=b;"', gone=True),
        parts(PARTS, KEPT, 'boundary="cut"'),
        parts(PARTS.replace(b"cut", b"*****"), KEPT, "boundary=*****"),
    ),
    "a boundary of 1,000 characters": (
        parts(PARTS.replace(b"cut", b"b" * 1_000), parameters=f"boundary={'b' * 1_000}", gone=True),
    ),
    "multipart cut": (*(parts(PARTS[:end]) for end in range(5, len(PARTS) - 4, 23)), parts(b"--cut--\r\n", MISSING)),
    "multipart nested": (
        parts(
            HEAD % b"n" + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n" + PARTS, KEPT
        ),
        parts(HEAD % b"n" + b"Content-Type: multipart/form-data; boundary=cut\r\n\r\n\r\n" + PARTS, KEPT),
    ),
    "10,000 parts": (
        parts(b"".join([HEAD % b"x" + b"\r\ny\r\n"] * 10_000) + PARTS, TOO_LARGE, gone=True),
        parts(b"".join([HEAD % b"x" + b"\r\ny\r\n"] * 4_500) + PARTS, TOO_MANY, gone=True),
        parts(b"".join([HEAD % b'x"; filename="' + b"\r\n\r\n"] * 3_500) + PARTS, TOO_MANY, gone=True),
    ),
    "parts without names": (
        parts(b"--cut\r\n\r\nx\r\n" + PARTS, gone=True),
        parts(b"--cut\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + PARTS, gone=True),
        parts(part('name=""', "x"), TYPE_TEXT),
    ),
    "the same name twice": (
        parts(part('name="name"', "Eve"), TYPE_TEXT),
        json_(with_(wish=["a", "b"]), KEPT),
        form(PAIRS + b"&wish=a&wish=b", KEPT),
        parts(part('name="wish"', "a")[: -len(PARTS)] + part('name="wish"', "b"), KEPT),
    ),
    "part headers of 100 kB": (
        parts(b"--cut\r\nX: " + b"y" * 100_000 + b"\r\n" + PARTS[5:], gone=True),
        parts(b"--cut\r\n" + b"X: y\r\n" * 17_000 + PARTS[5:], gone=True),
        parts(b"--cut\r\n" + b"y" * 100_000 + PARTS, gone=True),
        parts(b"--cut\r\n\0\xff: y\r\n" + PARTS[5:], gone=True),
    ),
    "line breaks without end": (parts(b"\r\n" * 100_000, gone=True), parts(PARTS + b"\r\n" * 100_000, KEPT)),
    "a file": (
        parts(part('name="f"; filename=""'), KEPT),
        *(parts(part(f'name="f"; filename="{name}"', "<svg>"), NO_FILES) for name in ("x.svg", "../../etc/passwd", "")),
        parts(part('name="f"; filename="a.txt"'), NO_FILES),
        parts(part('name="message"; filename="a.txt"', b"\xff\xd8"), NO_FILES),
        parts(part("name=\"f\"; filename*=utf-8''%2e%2e%2fx.svg", "<svg>"), KEPT),
    ),
    "a part with Content-Transfer-Encoding": (
        parts(HEAD % b"wish" + b"Content-Transfer-Encoding: base64\r\n\r\nYmx1ZQ==\r\n" + PARTS, KEPT),
        parts(HEAD % b"wish" + b"Content-Transfer-Encoding: x-bomb\r\n\r\nblue\r\n" + PARTS, KEPT),
    ),
    "Content-Type missing": under(),
    "Content-Type doubled": under("{}", "{}") + under("{}", "text/plain"),
    "Content-Type text/plain": under("text/plain") + under("text/plain; charset=utf-8"),
    "a Content-Type that is none": under("")
    + under(";")
    + under("json")
    + under(f"{JSON}, {FORM}")
    + under("\xff/\xfe"),
    "charset=utf-7": under("{}; charset=utf-7")
    + under("{}; charset=utf-8; charset=utf-7")
    + under("{};charset=latin1"),
}
