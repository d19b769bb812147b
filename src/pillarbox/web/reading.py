"""A request becomes an Incoming, whatever it came as: JSON, urlencoded or multipart."""

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from pillarbox.core.errors import (
    NoFileUploads,
    TooLarge,
    TooManyFields,
    Unreadable,
    UnsupportedMediaType,
)

MAX_BODY_BYTES = 256 * 1024
MAX_PARTS = 200
JSON, URLENCODED, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"

Fields = dict[str, tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Body:
    """What was sent: its media type in lower case without parameters, and its bytes (cut at the limit)."""

    media_type: str
    content: bytes
    is_whole: bool


async def read_body(request: Request) -> Body:
    """Return the body, read at most once a request and to at most MAX_BODY_BYTES; counted before anything parses it."""
    known: Body | None = getattr(request.state, "body", None)
    if known is None:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        content, is_whole = await _read(request)
        known = request.state.body = Body(media_type, content, is_whole)
    return known


async def _read(request: Request) -> tuple[bytes, bool]:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > 12 or int(declared) > MAX_BODY_BYTES) and not wants_form_back(request):
        return b"", False
    content = bytearray()
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > MAX_BODY_BYTES:
                return bytes(content[:MAX_BODY_BYTES]), False
    except ClientDisconnect as gone:
        raise Unreadable from gone
    return bytes(content), True


def wants_form_back(request: Request) -> bool:
    """Tell whether a plain form was sent, whose text an error page can show again even when it is too long."""
    return request.headers.get("content-type", "").lower().startswith(URLENCODED)


async def read_fields(request: Request) -> Fields:
    """Return each field's values in the order sent.

    Raises Unreadable, UnsupportedMediaType, TooLarge, TooManyFields, NoFileUploads.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType
    body = await read_body(request)
    if not body.is_whole:
        raise TooLarge
    if body.media_type == JSON:
        return _json_fields(body.content)
    if body.media_type == URLENCODED:
        return _urlencoded_fields(body.content)
    if body.media_type == MULTIPART:
        return await _multipart_fields(request, body.content)
    raise UnsupportedMediaType


def read_leniently(body: Body) -> list[tuple[str, str]]:
    """Return what can still be shown of a plain form that was not accepted, cut or broken as it may be."""
    if body.media_type != URLENCODED:
        return []
    try:
        pairs = parse_qsl(body.content.decode("ascii", "replace"), errors="replace", max_num_fields=MAX_PARTS)
    except ValueError:
        return []
    return [(name, value) for name, value in pairs if not name.startswith("_")]


def _json_fields(content: bytes) -> Fields:
    try:
        found = json.loads(
            content.decode("utf-8-sig"), object_pairs_hook=_no_twins, parse_constant=_not_json, parse_int=_Number
        )
    except (ValueError, RecursionError) as error:
        raise Unreadable from error
    if not isinstance(found, dict):
        raise Unreadable
    return {name: (value,) for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class _Number:
    """A JSON integer, unread: Python refuses long ones and is slow to make them, and no field takes a number."""

    digits: str


def _no_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return made


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON (RFC 8259, section 6)")


def _urlencoded_fields(content: bytes) -> Fields:
    try:
        pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARTS)
    except UnicodeError as error:
        raise Unreadable from error
    except ValueError as error:
        raise TooManyFields from error
    return _gathered(pairs)


async def _multipart_fields(request: Request, content: bytes) -> Fields:
    async def once() -> AsyncGenerator[bytes, None]:
        yield content

    parser = MultiPartParser(
        request.headers, once(), max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=MAX_BODY_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise (TooManyFields if "Too many" in error.message else Unreadable) from error
    except (ValueError, LookupError, KeyError) as error:  # no or foreign boundary, unknown charset
        raise Unreadable from error
    pairs: list[tuple[str, str]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if value.filename or value.size:  # an empty file input is no file
                raise NoFileUploads
        else:
            pairs.append((name, value))
    return _gathered(pairs)


def _gathered(pairs: Sequence[tuple[str, str]]) -> Fields:
    gathered: dict[str, list[object]] = {}
    for name, value in pairs:
        gathered.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in gathered.items()}
