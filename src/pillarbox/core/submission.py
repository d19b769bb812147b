"""A visitor's message: Incoming is what was sent and is not yet believed, Submission is what we promise to keep."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a visitor sent, unchecked.

    `fields` maps a name to its values in the order sent; a value is text, or whatever else a JSON body held.
    `language` is the visitor's (a code that we have), `client` the network address the rate limit counts by.
    """

    fields: Mapping[str, tuple[object, ...]]
    client: str
    language: str
    has_files: bool = False


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
    of spam; a submission without any is clean.
    """

    id: str
    form: str
    received_at: float
    language: str
    answers: tuple[Answer, ...]
    held_for: tuple[str, ...] = field(default=())

    def value(self, name: str) -> str:
        """Return the text of the answer with this field name, or an empty text."""
        return next((answer.text for answer in self.answers if answer.name == name), "")

    @property
    def email(self) -> str:
        """The visitor's address, or an empty text."""
        return self.value("email")
