"""Text as people write it, made safe to keep and to mail: one form of Unicode, no hidden controls."""

import re
import unicodedata

_LINE_BREAK = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f]")
_BIDI_CONTROL = re.compile("[\u202a-\u202e\u2066-\u2069]")
_UNKEEPABLE = re.compile("[\x00\ud800-\udfff]")
_SEEN_AS_BLANK = "\u115f\u1160\u2800\u3164"
_MOST_MARKS = 30
_MAY_BE_MARKS = re.compile(f"[^\x00-\u02ff]{{{_MOST_MARKS + 1}}}")  # every combining mark is U+0300 or higher


def is_keepable(value: str) -> bool:
    """Tell whether a database and a mail can hold the text: no NUL, no lone surrogate."""
    return _UNKEEPABLE.search(value) is None


def has_line_break(value: str) -> bool:
    """Tell whether the text has a line break of any kind (Unicode standard, section 5.8)."""
    return _LINE_BREAK.search(value) is not None


def line(value: str) -> str:
    """Return the text as one clean line: NFC, stripped, without control and bidi-embedding characters."""
    if value.isascii() and value.isprintable():
        return value.strip()
    return _BIDI_CONTROL.sub("", _clean(value).replace("\t", " ")).strip()


def paragraphs(value: str) -> str:
    r"""Return the text as clean lines: NFC, every kind of line break as `\n`, blank ends cut, no control characters."""
    return _clean(_LINE_BREAK.sub("\n", value)).strip()


def is_blank(value: str) -> bool:
    """Tell whether nothing of the text can be seen: only white space, zero-width and other format characters."""
    if value.isascii():
        return not value or value.isspace()
    return all(char.isspace() or char in _SEEN_AS_BLANK or unicodedata.category(char) in {"Cf", "Cc"} for char in value)


def _clean(value: str) -> str:
    if value.isascii():
        return _CONTROL.sub("", value)
    return _CONTROL.sub("", unicodedata.normalize("NFC", _stream_safe(value)))


def _stream_safe(value: str) -> str:
    """Cut runs of combining marks to 30 (UAX #15, section 13): sorting longer ones into NFC takes quadratic time."""
    if not _MAY_BE_MARKS.search(value):
        return value
    kept: list[str] = []
    run = 0
    for char in value:
        run = run + 1 if unicodedata.combining(char) else 0
        if run <= _MOST_MARKS:
            kept.append(char)
    return "".join(kept)
