"""A request becomes an Incoming, whatever it came as: JSON, urlencoded or multipart."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote_to_bytes

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from pillarbox.core.errors import (
    NoFileUploads,
    PillarboxError,
    TooLarge,
    TooManyFields,
    TooSlow,
    Unreadable,
    UnsupportedMediaType,
    UnusableKey,
)
from pillarbox.core.once import is_good_key
from pillarbox.web import bodies

MAX_BODY_BYTES = 256 * 1024
MAX_DISCARDED_BYTES = 16 * 1024 * 1024
"""So much of a body that is too long is read and thrown away: a browser reads no answer before it has sent all."""
MAX_SECONDS = 30.0
"""A body that takes longer is given up (RFC 9110, section 15.5.9)."""
MAX_PARTS = 200
JSON, URLENCODED, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"

_CHARSET = re.compile(r'charset\s*=\s*"?(utf-?8|us-ascii)"?\s*(;|$)')

_BODY = "pillarbox.body"

Fields = dict[str, tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Body:
    """What was sent: its media type as media_type() says it, and its bytes, cut at the limit unless `is_whole`."""

    media_type: str
    content: bytes
    is_whole: bool


def media_type(headers: Headers) -> str:
    """Return the body's media type in lower case; empty without exactly one, or in another charset than UTF-8."""
    given = headers.getlist("content-type")
    if len(given) != 1:
        return ""
    name, _, parameters = given[0].lower().partition(";")
    if "charset" in parameters and (parameters.count("charset") > 1 or not _CHARSET.search(parameters)):
        return ""
    return name.strip()


async def read_body(request: Request) -> Body:
    """Return the body, read at most once a request and to at most MAX_BODY_BYTES; counted before anything parses it.

    Raises TooSlow, TooMany or NotKept where too much is in hand already, and Unreadable when the client is gone; after
    that, a second call returns what had arrived.
    """
    if not has_read_body(request):
        content = bytearray()
        is_whole = False
        try:
            is_whole = await _read(request, content)
        finally:
            request.scope[_BODY] = Body(media_type(request.headers), bytes(content), is_whole)
    body: Body = request.scope[_BODY]
    return body


def has_read_body(request: Request) -> bool:
    """Tell whether read_body() was called for this request."""
    return _BODY in request.scope


def read_key(request: Request) -> str:
    """Return what the client calls its message (Idempotency-Key), empty where it does not. Raises UnusableKey."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return ""
    if len(keys) > 1 or not is_good_key(keys[0]):
        raise UnusableKey
    return keys[0]


async def _read(request: Request, content: bytearray) -> bool:
    """Put the body's first MAX_BODY_BYTES into `content` and tell whether that is all of it."""
    declared = request.headers.get("content-length", "")
    size = int(declared.lstrip("0")[:20] or "0") if declared.isdecimal() else 0
    if size > MAX_DISCARDED_BYTES or (size > MAX_BODY_BYTES and "expect" in request.headers):
        return False  # the client waits for our word before it sends (RFC 9110, section 10.1.1), or would take too long
    arriving = _Arriving(request, content)
    try:
        async with asyncio.timeout(MAX_SECONDS):
            # No piece has a name here: while we wait for the next one, it would be in hand as well, and not counted.
            while arriving.take(await request.receive()):
                pass
    except TimeoutError as late:
        if arriving.size <= MAX_BODY_BYTES and not arriving.refusal:
            raise TooSlow from late
    if arriving.refusal:
        raise arriving.refusal
    return arriving.size <= MAX_BODY_BYTES


class _Arriving:
    """A body on its way into `content`: how much of it has come, and why no more of it is kept, if so."""

    def __init__(self, request: Request, content: bytearray) -> None:
        self._request = request
        self._content = content
        self.size = 0
        self.refusal: PillarboxError | None = None

    def take(self, message: Message) -> bool:
        """Keep what fits of a piece and tell whether to wait for another; raises Unreadable when the client is gone."""
        if message["type"] == "http.disconnect":
            raise Unreadable from ClientDisconnect()
        arrived: bytes = message.get("body", b"")
        self.size += len(arrived)
        piece = arrived[: MAX_BODY_BYTES - len(self._content)]
        if piece and not self.refusal:
            self.refusal = bodies.admit(self._request, len(piece))
        if not self.refusal:
            self._content += piece
        return bool(message.get("more_body")) and self.size <= MAX_DISCARDED_BYTES


async def read_fields(request: Request) -> Fields:
    """Return each field's values in the order sent.

    Raises Unreadable, UnsupportedMediaType, TooLarge, TooManyFields, TooSlow, NoFileUploads.
    """
    body = await read_body(request)
    if _is_encoded(request.headers):
        raise UnsupportedMediaType
    if not body.is_whole:
        raise TooLarge
    if body.media_type == JSON:
        return _json_fields(body.content)
    if body.media_type == URLENCODED:
        return _urlencoded_fields(body.content)
    if body.media_type == MULTIPART:
        return await _multipart_fields(request.headers, body.content)
    raise UnsupportedMediaType


def _is_encoded(headers: Headers) -> bool:
    """Tell whether the body is compressed (RFC 9110, section 8.4): no form is, and unpacking could fill the memory."""
    return any(coding.lower() != "identity" for coding in headers.getlist("content-encoding"))


async def read_leniently(request: Request) -> Fields:
    """Return what can still be made out of a body that was not accepted, cut or broken as it may be; never raises."""
    try:
        body = await read_body(request)
    except PillarboxError:
        body = await read_body(request)
    if _is_encoded(request.headers):
        return {}
    if body.media_type == URLENCODED:
        pairs = (pair.partition(b"=") for pair in body.content.split(b"&", MAX_PARTS)[:MAX_PARTS])
        return _gathered((_leniently(name), _leniently(value)) for name, _, value in pairs if name)
    try:
        if body.media_type == JSON:
            return _json_fields(body.content)
        if body.media_type == MULTIPART:
            # What is no UTF-8, or was cut within a character, would make the parser take all of it for Latin-1.
            content = body.content.decode("utf-8", "replace").encode()
            return _gathered(await _multipart_pairs(request.headers, content, leniently=True))
    except PillarboxError:
        pass
    return {}


def _leniently(quoted: bytes) -> str:
    """Return the text of a name or value; in bytes first, since the library is slow at what is no UTF-8."""
    return unquote_to_bytes(quoted.replace(b"+", b" ")).decode("utf-8", "replace")


def _json_fields(content: bytes) -> Fields:
    try:
        found = json.loads(
            content.decode("utf-8-sig"),
            object_pairs_hook=_no_twins,
            parse_constant=_not_json,
            parse_int=_Number,
            parse_float=_Number,
        )
    except (ValueError, RecursionError) as error:
        raise Unreadable from error
    if not isinstance(found, dict):
        raise Unreadable
    return {name: (value,) for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class _Number:
    """A JSON number, unread: Python refuses long ones and is slow to make them, and no field takes a number."""

    digits: str


def _no_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return made


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON (RFC 8259, section 6)")


def _urlencoded_fields(content: bytes) -> Fields:
    if content.count(b"&") >= MAX_PARTS:
        raise TooManyFields
    try:  # UTF-8, not ASCII: `curl -d` and many a script escape nothing
        return _gathered(parse_qsl(content.decode(), keep_blank_values=True, errors="strict"))
    except UnicodeError as error:
        raise Unreadable from error


async def _multipart_fields(headers: Headers, content: bytes) -> Fields:
    pairs = await _multipart_pairs(headers, content)
    if any(isinstance(value, UploadFile) and (value.filename or value.size) for _, value in pairs):
        raise NoFileUploads
    try:
        content.decode("ascii" if "us-ascii" in headers["content-type"].lower() else "utf-8")
    except UnicodeDecodeError as error:  # the parser took it for Latin-1
        raise Unreadable from error
    return _gathered(pairs)


async def _multipart_pairs(
    headers: Headers, content: bytes, *, leniently: bool = False
) -> Sequence[tuple[str, str | UploadFile]]:
    """Return names and values (RFC 7578). Raises Unreadable, which a cut body is too, and TooManyFields.

    Leniently, every part that can be read is returned instead.
    """
    boundary = parse_options_header(headers["content-type"])[1].get(b"boundary", b"")
    end = b"--" + boundary + b"--"
    is_cut = end not in content
    if not boundary or (is_cut and not leniently):
        raise Unreadable

    async def once() -> AsyncGenerator[bytes, None]:
        yield content + b"\r\n" + end + b"\r\n" if is_cut else content

    parser = MultiPartParser(headers, once(), max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=MAX_BODY_BYTES)
    try:
        await parser.parse()
    except MultiPartException as error:
        if not leniently:
            raise (TooManyFields if "Too many" in error.message else Unreadable) from error
    return parser.items


def _gathered(pairs: Iterable[tuple[str, object]]) -> Fields:
    """Return the texts by name; what is no text is a file input without a file."""
    gathered: dict[str, list[object]] = {}
    for name, value in pairs:
        if isinstance(value, str):
            gathered.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in gathered.items()}
