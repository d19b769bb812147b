"""A visitor's message: Incoming is what was sent and is not yet believed, Submission is what we promise to keep."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from email_validator import EmailNotValidError, validate_email

from pillarbox.core import captcha, text
from pillarbox.core.errors import (
    REQUIRED_FIELD_EMPTY,
    REQUIRED_FIELD_MISSING,
    TOO_LONG,
    TYPE_EMAIL,
    TYPE_TEXT,
    FieldError,
    InvalidFields,
    TooManyFields,
)
from pillarbox.core.form import Field, Form, Kind


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a visitor sent, unchecked.

    `fields` maps a name to its values in the order sent; a value is text, or whatever else a JSON body held.
    `language` is the visitor's (a code that we have), `client` the fingerprint of the network it came from, `key` what
    the client calls this message, `page` what is signed in the page that it was written on; both may be empty.
    """

    fields: Mapping[str, tuple[object, ...]]
    client: str
    language: str
    key: str = ""
    page: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered question as the letters show it: the field's name, its label, its values (at least one)."""

    name: str
    label: str
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        """All values as one text, a line each."""
        return "\n".join(self.values)


@dataclass(frozen=True, slots=True)
class Submission:
    """A message as it is kept: everything that its letters need, whatever becomes of the form.

    `received_at` is in seconds since the epoch. `answers` stand in the form's order. `held_for` names the signs
    of spam; a submission without any is clean. `client` is the fingerprint of the visitor's network, or empty.
    """

    id: str
    form: str
    received_at: float
    language: str
    answers: tuple[Answer, ...]
    held_for: tuple[str, ...] = ()
    client: str = ""

    def value(self, name: str) -> str:
        """Return the text of the answer with this field name, or an empty text."""
        return next((answer.text for answer in self.answers if answer.name == name), "")

    @property
    def email(self) -> str:
        """The visitor's address, or an empty text."""
        return self.value("email")


MAX_EXTRA_FIELDS = 50
MAX_EXTRA_VALUES = 50
MAX_EXTRA_FAULTS = 5
"""An answer is no place to repeat what was sent: only so many faults of fields that the form does not name."""
_EXTRA = Field("", "", max_length=1_000)


def validate(incoming: Incoming, form: Form) -> tuple[Answer, ...]:
    """Return the answers in the form's order, then the fields that the form does not name, in the order sent.

    What is no answer (see `is_answer`) and empty optional answers are left out.
    Raises InvalidFields with every fault at once, TooManyFields before looking at any value.
    """
    own = {field.name for field in form.fields}
    extra = [name for name in incoming.fields if name not in own and is_answer(name)]
    if len(extra) > MAX_EXTRA_FIELDS:
        raise TooManyFields
    faults: list[FieldError] = []
    answers: list[Answer] = []
    for field in form.fields:
        _collect(_own_answer, field, incoming.fields.get(field.name, ()), answers, faults)
    check_extra = partial(_extra_answer, own)
    for name in extra:
        _collect(check_extra, replace(_EXTRA, name=name), incoming.fields[name], answers, faults)
    if faults:
        raise InvalidFields(tuple(faults[: len(form.fields) + MAX_EXTRA_FAULTS]))
    return tuple(answers)


def is_answer(name: str) -> bool:
    """Tell whether a field holds an answer: names with an underscore first steer the form, others are a captcha's."""
    return not name.startswith("_") and name not in captcha.FIELDS


class _Fault(Exception):
    def __init__(self, code: str, **values: object) -> None:
        self.code = code
        self.values = values


def _collect(
    check: Callable[[Field, tuple[object, ...]], Answer | None],
    field: Field,
    values: tuple[object, ...],
    answers: list[Answer],
    faults: list[FieldError],
) -> None:
    try:
        answer = check(field, values)
    except _Fault as fault:
        name = field.name if len(field.name) <= 50 and field.name.isprintable() else ""
        faults.append(FieldError(name, fault.code, fault.values))
    else:
        if answer:
            answers.append(answer)


def _own_answer(field: Field, values: tuple[object, ...]) -> Answer | None:
    if not values:
        if field.required:
            raise _Fault(REQUIRED_FIELD_MISSING)
        return None
    if len(values) > 1:
        raise _Fault(TYPE_TEXT)
    text = _checked(field, values[0])
    if not text:
        if field.required:
            raise _Fault(REQUIRED_FIELD_EMPTY)
        return None
    return Answer(field.name, field.label, (text,))


def _extra_answer(taken: set[str], field: Field, values: tuple[object, ...]) -> Answer | None:
    """Return the answer under its cleaned name, which may be no other answer's, and add that to `taken`."""
    listed = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if len(listed) > MAX_EXTRA_VALUES:
        raise _Fault(TYPE_TEXT)
    name = _checked(field, field.name)
    multiline = replace(field, kind=Kind.LONG_TEXT)
    texts = tuple(text for text in (_checked(multiline, value) for value in listed) if text)
    if not texts:
        return None
    if not name or name in taken:
        raise _Fault(TYPE_TEXT)
    taken.add(name)
    return Answer(name, name, texts)


def _checked(field: Field, value: object) -> str:
    """Return the value as clean text of this field's kind, or an empty text when it is blank. Lengths come first."""
    if not isinstance(value, str):
        raise _Fault(TYPE_TEXT)
    if len(value) > field.max_length + 100:  # blank ends may still be cut
        raise _Fault(TOO_LONG, max_length=field.max_length)
    if not text.is_keepable(value):
        raise _Fault(TYPE_TEXT)
    cleaned = text.paragraphs(value) if field.kind is Kind.LONG_TEXT else text.line(value)
    if len(cleaned) > field.max_length:
        raise _Fault(TOO_LONG, max_length=field.max_length)
    if text.is_blank(cleaned):
        return ""
    if field.kind is not Kind.LONG_TEXT and text.has_line_break(cleaned):
        raise _Fault(TYPE_TEXT)
    if field.kind is Kind.EMAIL:
        return checked_address(cleaned)
    return cleaned


def checked_address(value: str) -> str:
    """Return the one address (RFC 5321, 4.1.2; RFC 6531) in its normal form; the domain is not asked about.

    Raises a TYPE_EMAIL fault for anything else: quoted local parts, comments, lists, literals, encoded words.
    """
    if "=?" in value or len(value) > 254:
        raise _Fault(TYPE_EMAIL)
    try:
        return validate_email(value, check_deliverability=False, strict=True).normalized
    except EmailNotValidError as reason:
        raise _Fault(TYPE_EMAIL) from reason
