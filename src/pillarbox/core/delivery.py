"""What may become of a letter, and the only rule for what comes next."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never


class State(StrEnum):
    """Where a delivery stands. HELD waits for a person's release; the last three are final."""

    WAITING = "waiting"
    HELD = "held"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Purpose(StrEnum):
    """Whom a letter is for: the form's owner, or the visitor who wrote."""

    NOTIFICATION = "notification"
    CONFIRMATION = "confirmation"


@dataclass(frozen=True, slots=True)
class Sent:
    """The way out took the letter over; `note` is its receipt (the server's words, or the file's name)."""

    note: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """The server said "later" about this letter: uses up an attempt."""

    note: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The server said "never" about this letter (5xx)."""

    note: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """The way out itself is shut (connection, TLS, login, our sender, quota): uses up no attempt."""

    note: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """We decided not to send it; `note` says why."""

    note: str


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It can't be tried again without a person; `note` says why."""

    note: str


Outcome = Sent | Deferred | Refused | Blocked | Cancelled | GivenUp

_FINAL = {Sent: State.SENT, Cancelled: State.CANCELLED, GivenUp: State.FAILED}

MAX_CLAIMS_WITHOUT_OUTCOME = 5
"""A letter claimed this often without any outcome kills its workers: it is settled FAILED, unsent."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One letter to one recipient on its way. Times are seconds since the epoch, on the store's clock."""

    id: int
    submission_id: str
    purpose: Purpose
    recipient: str
    way: str
    state: State
    due_at: float
    attempts: int
    created_at: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to wait. `delays` (seconds) follow each "later" in turn; `probe` (seconds) is for a shut way out."""

    delays: tuple[float, ...]
    probe: float


def after(delivery: Delivery, outcome: Outcome, schedule: Schedule, now: float) -> Delivery:
    """Return the delivery as the outcome leaves it.

    An owner's letter goes on through the schedule even when refused, since its address is a setting that can be
    mended; a confirmation is final at its first refusal, since its address was a visitor's choice.
    """
    match outcome:
        case Sent(note) | Cancelled(note) | GivenUp(note):
            return replace(delivery, state=_FINAL[type(outcome)], note=note)
        case Blocked(note):
            return replace(delivery, due_at=now + schedule.probe, note=note)
        case Refused(note) if delivery.purpose is Purpose.CONFIRMATION:
            return replace(delivery, state=State.FAILED, attempts=delivery.attempts + 1, note=note)
        case Deferred(note) | Refused(note):
            attempts = delivery.attempts + 1
            if attempts > len(schedule.delays):
                return replace(delivery, state=State.FAILED, attempts=attempts, note=note)
            return replace(delivery, attempts=attempts, due_at=now + schedule.delays[attempts - 1], note=note)
        case _:
            assert_never(outcome)
