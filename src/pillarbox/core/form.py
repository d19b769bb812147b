"""What a form accepts and where its letters go."""

from dataclasses import dataclass
from enum import StrEnum

HONEYPOT = "_gotcha"
"""Name of the field that people never see and robots fill in."""


class Kind(StrEnum):
    """What a field holds, which decides how it is checked and shown."""

    TEXT = "text"
    EMAIL = "email"
    LONG_TEXT = "long_text"


@dataclass(frozen=True, slots=True)
class Field:
    """One question of a form. `max_length` counts characters; `label` is English and translated when shown."""

    name: str
    label: str
    kind: Kind = Kind.TEXT
    required: bool = False
    max_length: int = 1_000


@dataclass(frozen=True, slots=True)
class Owners:
    """Who gets a form's notifications: addresses, at least one in `to`."""

    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()

    @property
    def everyone(self) -> tuple[str, ...]:
        """Every address once, in the order To, CC, BCC."""
        return tuple(dict.fromkeys(self.to + self.cc + self.bcc))


@dataclass(frozen=True, slots=True)
class Form:
    """A form: its fields, its owners, and the look and language of its page and letters.

    `sender` is our own address, the From of every letter. `message_domain` stands in every Message-ID, whatever way
    out a letter takes; empty is the domain of `sender`. `accent` is `#rrggbb`. `logo_url` is empty when there
    is none. `language` is the owner's and the default for visitors. `timezone` is an IANA name.
    """

    slug: str
    fields: tuple[Field, ...]
    owners: Owners
    sender: str
    site_name: str
    accent: str = "#0b5cad"
    logo_url: str = ""
    language: str = "en"
    timezone: str = "UTC"
    confirms: bool = True
    way: str = "default"
    origins: tuple[str, ...] = ()
    honeypot: str = HONEYPOT
    message_domain: str = ""


CONTACT_FIELDS = (
    Field("name", "Name", required=True, max_length=200),
    Field("email", "Email", Kind.EMAIL, required=True, max_length=254),
    Field("company", "Company"),
    Field("subject", "Subject", max_length=300),
    Field("message", "Message", Kind.LONG_TEXT, required=True, max_length=20_000),
)
"""The fields of the default contact form, in the order of the page and the letters."""
