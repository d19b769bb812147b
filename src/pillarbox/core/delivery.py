"""What may become of a letter, and the only rule for what comes next."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import assert_never


class State(StrEnum):
    """Where a delivery stands.

    HELD waits for a person's release, DIGESTED leaves in another letter and shares its fate; the last three are final
    until somebody sends the letter again.
    """

    WAITING = "waiting"
    HELD = "held"
    DIGESTED = "digested"
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
    """The server said "never" about this letter (5xx).

    `no_mailbox` says that it is about the recipient's mailbox: it takes no mail from anybody.
    """

    note: str
    no_mailbox: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Blocked:
    """The way out itself is shut (connection, TLS, login, our sender, quota): uses up no attempt.

    `login` says that the login or the account was refused: asking again soon may lock it. `at_recipient` says that it
    was the answer to a recipient's address, `by_letter` that the server had taken us in, and refused us at a letter.
    """

    note: str
    login: bool = False
    at_recipient: bool = False
    by_letter: bool = field(default=False, compare=False)


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
    """One letter to one recipient on its way. Times are seconds since the epoch, on the store's clock.

    `digest_id` is the delivery that this one leaves in: its own id where it carries others.
    """

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
    digest_id: int | None = None


LONGEST_PROBE = 900.0
"""Seconds between two tries of a way that stays shut: four an hour, which locks no account."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to wait. `delays` (seconds) follow each "later" in turn; `probe` (seconds) is for a shut way out."""

    delays: tuple[float, ...]
    probe: float

    def probe_after(self, probes: int, *, login: bool = False) -> float:
        """Return the seconds until a shut way is tried again that was tried so often already.

        They double from `probe` to 15 minutes; where the login was refused they begin there.
        """
        longest = max(self.probe, LONGEST_PROBE)
        return longest if login else min(self.probe * 2.0 ** min(probes, 30), longest)


def after(delivery: Delivery, outcome: Outcome, schedule: Schedule, *, now: float, jitter: float = 1.0) -> Delivery:
    """Return the delivery as the outcome leaves it; `jitter` is a factor near 1 that spreads the repeats.

    An owner's letter goes on through the schedule even when refused, since its address is a setting that can be
    mended; a confirmation is final at its first refusal, since its address was a visitor's choice. What a shut way
    holds up is due by its age: the way itself says when it is tried again.
    """
    match outcome:
        case Sent(note) | Cancelled(note) | GivenUp(note):
            return replace(delivery, state=_FINAL[type(outcome)], note=note)
        case Blocked(note):
            return replace(delivery, due_at=delivery.created_at, note=note)
        case Refused(note) if delivery.purpose is Purpose.CONFIRMATION:
            return replace(delivery, state=State.FAILED, attempts=delivery.attempts + 1, note=note)
        case Deferred(note) | Refused(note):
            attempts = delivery.attempts + 1
            if attempts > len(schedule.delays):
                return replace(delivery, state=State.FAILED, attempts=attempts, note=note)
            due_at = now + schedule.delays[attempts - 1] * jitter
            return replace(delivery, attempts=attempts, due_at=due_at, note=note)
        case _:
            assert_never(outcome)
