"""Spam is a sum of small witnesses: each check sees one sign, the verdict keeps its reasons, nothing is dropped."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from pillarbox.core.form import Form
from pillarbox.core.submission import Incoming

HELD_FROM = 100
"""A message whose signs weigh this much or more is held."""


FLOOD = "flood"
"""The reason to hold what comes faster than a form's or the site's rate."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One sign of spam: its name (shown to the owner) and its weight; 100 is enough by itself."""

    name: str
    weight: int


Check = Callable[[Incoming, Form], Signal | None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """All signs that were seen."""

    signals: tuple[Signal, ...]

    def joined_by(self, others: tuple[Signal, ...]) -> "Verdict":
        """Return the verdict with what others saw."""
        return Verdict(self.signals + others) if others else self

    @property
    def held_for(self) -> tuple[str, ...]:
        """The reasons to hold the message; empty when it is clean."""
        if sum(signal.weight for signal in self.signals) < HELD_FROM:
            return ()
        return tuple(signal.name for signal in self.signals)


def honeypot_filled(incoming: Incoming, form: Form) -> Signal | None:
    """A field that no person sees has a value."""
    values = incoming.fields.get(form.honeypot, ())
    return Signal("honeypot", 100) if any(value not in {"", None} for value in map(_hashable, values)) else None


def foreign_origin(origin: str | None, known: Collection[str], *, host: str) -> Signal | None:
    """A browser says that it comes from a site that is none of the `known` ones, and not from the `host` it asks.

    Origins are in lower case (RFC 6454, section 6.2); `null` is nobody's. Programs name none, which is no sign.
    """
    if origin is None or origin in known or (host and origin.partition("://")[2] == host.lower()):
        return None
    return Signal("foreign_origin", 50)


def _hashable(value: object) -> str | None:
    return value if isinstance(value, str) or value is None else "something"


CHECKS: tuple[Check, ...] = (honeypot_filled,)


def screen(incoming: Incoming, form: Form, *, checks: tuple[Check, ...] = CHECKS) -> Verdict:
    """Return what every check saw."""
    return Verdict(tuple(signal for check in checks if (signal := check(incoming, form))))
