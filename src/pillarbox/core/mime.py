"""A letter becomes bytes: our own writer of header fields and bodies (RFC 5322, 2045, 2047, 6532).

Every header field passes through one function that accepts no control character. Texts that hold anything beyond
plain ASCII, or that look like an encoded word, are encoded, so that no reader can find more in them than a text.
"""

import re
from base64 import b64encode
from binascii import b2a_base64, b2a_qp
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import NewType

import idna

HeaderField = NewType("HeaderField", str)
"""A whole header field: folded with CRLF, without the last one. Only this module makes them."""

MAX_LINE = 76
"""Characters on a line that we wrote ourselves: RFC 2047 section 2 (headers), RFC 2045 section 6.7 (bodies)."""

_HARD_MAX_LINE = 998  # octets, RFC 5322 section 2.1.1
_LONGEST_AS_IT_IS = 900  # below the hard limit by what a mailing list may add
_MAX_ENCODED_WORD = 75  # octets, RFC 2047 section 2
_ENCODED_WORD_FRAME = len("=?utf-8?q??=")
_LONGEST_QUOTED = 60

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN_PHRASE = re.compile(r"[ !#-\[\]-~]+")  # printable ASCII that needs no backslash between quotes
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_ASCII_LOCAL_PART = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
_UNICODE_LOCAL_PART = re.compile(rf"(?:{_ATEXT}|[^\x00-\x7f])+(?:\.(?:{_ATEXT}|[^\x00-\x7f])+)*")
_ASCII_DOMAIN = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Za-z.:]+\]")

# RFC 2047 section 5 (3): the only characters that may stand as themselves in the Q encoding of a phrase.
_Q = [
    chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "!*+-/") else f"={byte:02X}"
    for byte in range(256)
]
_Q[ord(" ")] = "_"


@lru_cache(maxsize=4_096)
def wire_address(address: str) -> str:
    """Return the address as it goes on the wire: the domain in ASCII (punycode), the local part as it is.

    The result is ASCII unless the local part is not; then it needs SMTPUTF8 (RFC 6531). Raises ValueError for what
    is not one plain address: a quoted local part, a comment, a list, blanks, control characters, an encoded word,
    or more than 64 octets before and 254 in all (RFC 5321 section 4.5.3.1).
    """
    local_part, at, domain = address.rpartition("@")
    if not at or len(address) > 254:
        raise ValueError("not an address")
    if not _ASCII_DOMAIN.fullmatch(domain):
        domain = idna.encode(domain, uts46=True).decode()
    if not _is_local_part(local_part) or len(local_part.encode()) + len(domain) > 253:
        raise ValueError("not an address")
    return f"{local_part}@{domain}"


def _is_local_part(text: str) -> bool:
    if "=?" in text or len(text.encode()) > 64:  # readers have decoded encoded words even where none may stand
        return False
    if _ASCII_LOCAL_PART.fullmatch(text):
        return True
    return text.isprintable() and _UNICODE_LOCAL_PART.fullmatch(text) is not None


def text_field(name: str, text: str) -> HeaderField:
    """Return an unstructured field (Subject and its kind) that every reader decodes to this very text."""
    room = MAX_LINE - len(name) - 2
    words = text.split(" ")
    plain = text.isascii() and "=?" not in text and all(0 < len(word) <= room for word in words)
    return _field(name, words if plain else _encoded_words(text, room))


@lru_cache(maxsize=1_024)
def mailbox_field(name: str, address: str, display: str) -> HeaderField:
    """Return a field with one address and a display name, which no reader can take for another address."""
    return _field(name, (*_phrase(display, MAX_LINE - len(name) - 2), f"<{wire_address(address)}>"))


@lru_cache(maxsize=1_024)
def addresses_field(name: str, addresses: tuple[str, ...]) -> HeaderField:
    """Return a field with bare addresses, at least one."""
    *others, last = map(wire_address, addresses)
    return _field(name, (*(f"{address}," for address in others), last))


@lru_cache(maxsize=1_024)
def plain_field(name: str, value: str) -> HeaderField:
    """Return a field whose value we made ourselves: one short line of ASCII."""
    if not value.isascii():
        raise ValueError(f"{name} must be ASCII")
    return _field(name, (value,))


def message(fields: Iterable[HeaderField], *, text: str, html: str, message_id: str) -> bytes:
    """Return the whole message: the fields in their order, then text and HTML as multipart/alternative.

    The bytes depend on the arguments alone. They hold CRLF line ends only and are ASCII but for addresses in the
    fields. Line ends in the bodies become CRLF; all else in them arrives as it was.
    """
    # "=_" stands neither in quoted-printable nor in base64, so no body can hold the boundary (RFC 2045 section 6.7).
    boundary = f"=_{sha256(message_id.encode()).hexdigest()[:32]}"
    content_type = _field("Content-Type", ("multipart/alternative;", f'boundary="{boundary}"'))
    head = "\r\n".join((*fields, "MIME-Version: 1.0", content_type))
    return b"".join(
        (
            f"{head}\r\n\r\n--{boundary}\r\n".encode(),
            _part("plain", text.encode(errors="replace")),
            f"\r\n--{boundary}\r\n".encode(),
            _part("html", html.encode(errors="replace")),
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )


def _field(name: str, atoms: Iterable[str]) -> HeaderField:
    """Join the atoms by blanks, folding before an atom that would pass the line's end: the only way into a header."""
    lines = [f"{name}:"]
    for atom in atoms:
        if not atom or _CONTROL.search(atom):
            raise ValueError(f"nothing, or a control character, in the header field {name}")
        if len(lines[-1]) + 1 + len(atom) > MAX_LINE and not lines[-1].endswith(":"):
            lines.append("")
        lines[-1] += f" {atom}"
    if any(len(line.encode()) > _HARD_MAX_LINE for line in lines):
        raise ValueError(f"a line too long in the header field {name}")
    return HeaderField("\r\n".join(lines))


def _phrase(text: str, room: int) -> Sequence[str]:
    if len(text) <= _LONGEST_QUOTED and "=?" not in text and _PLAIN_PHRASE.fullmatch(text):
        return (f'"{text}"',)
    return _encoded_words(text, room) if text else ()


def _encoded_words(text: str, room: int) -> list[str]:
    """Return RFC 2047 encoded words of whole characters in the shorter encoding, the first in `room` octets."""
    if _CONTROL.search(text):
        raise ValueError("a control character in a header text")
    data = text.encode()
    way = _Q_WORDS if sum(map(_Q_WORDS.weight, data)) * 3 <= len(data) * 4 else _B_WORDS
    words: list[str] = []
    held, cost = b"", 0
    for piece in map(str.encode, text):
        weight = sum(map(way.weight, piece))
        if cost + weight > way.capacity(min(room, _MAX_ENCODED_WORD) - _ENCODED_WORD_FRAME):
            words.append(way.word(held))
            held, cost, room = b"", 0, _MAX_ENCODED_WORD
        held, cost = held + piece, cost + weight
    return [*words, way.word(held)] if held else words


@dataclass(frozen=True, slots=True)
class _WordEncoding:
    """One of the two encodings of RFC 2047 section 4: a byte's weight, the weight that fits into so many octets."""

    weight: Callable[[int], int]
    capacity: Callable[[int], int]
    word: Callable[[bytes], str]


_Q_WORDS = _WordEncoding(
    weight=[len(text) for text in _Q].__getitem__,
    capacity=lambda octets: octets,
    word=lambda data: f"=?utf-8?q?{''.join([_Q[byte] for byte in data])}?=",
)
_B_WORDS = _WordEncoding(
    weight=lambda _: 1,
    capacity=lambda octets: octets // 4 * 3,
    word=lambda data: f"=?utf-8?b?{b64encode(data).decode()}?=",
)


def _part(subtype: str, content: bytes) -> bytes:
    data = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in content else content
    encoding, body = ("7bit", data.replace(b"\n", b"\r\n")) if _travels_as_it_is(data) else _encoded(data)
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + body


def _travels_as_it_is(data: bytes) -> bool:
    """Say whether no server on the way has a reason to touch the text (RFC 5322 2.1.1; RFC 2045 2.7, 6.7).

    Lines are short, none begins with a dot or with "From ", none ends in a blank, and all of it is printable ASCII.
    """
    return (
        data.isascii()
        and max(map(len, data.split(b"\n"))) <= _LONGEST_AS_IT_IS
        and not any(mark in data for mark in (b"\n.", b"\nFrom ", b" \n", b"\t\n", b"\0"))
        and not data.startswith((b".", b"From "))
        and not data.endswith((b" ", b"\t"))
    )


def _encoded(data: bytes) -> tuple[str, bytes]:
    """Return the encoding's name and the body in it, whichever of the two is shorter.

    Lines that begin with a dot or with "From " are written so that no mail server or mailbox file can touch them.
    """
    quoted = b2a_qp(data)
    if b"\nFrom " in b"\n" + quoted or b"\n." in b"\n" + quoted:
        quoted = re.sub(rb"^(?:From |\.)", lambda found: b"=%02X" % found[0][0] + found[0][1:], quoted, flags=re.M)
    # Base64 also where b2a_qp, or the lines just above, passed 76: escapes at a line's end are not counted by it.
    if len(quoted) * 3 <= len(data) * 4 + 8 and max(map(len, quoted.split(b"\n"))) <= MAX_LINE:
        return "quoted-printable", quoted.replace(b"\n", b"\r\n")
    crlf = data.replace(b"\n", b"\r\n")
    written = b2a_base64(crlf, newline=False)
    return "base64", b"\r\n".join([written[start : start + MAX_LINE] for start in range(0, len(written), MAX_LINE)])
