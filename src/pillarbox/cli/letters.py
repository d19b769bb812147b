"""How letters look in a terminal, and to programs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pillarbox.cli.kept import moment
from pillarbox.core.delivery import Purpose, State
from pillarbox.terminal import shortened, when

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pillarbox.settings import Settings
    from pillarbox.store.deliveries import Attempt, Seen
    from pillarbox.store.ways import Shut

_WIDEST = 36
"""Characters of an address in a list."""


@dataclass(frozen=True, slots=True)
class Told:
    """A letter with everything that is told of it: its tries, how many others it carries, and how its way is shut."""

    letter: "Seen"
    attempts: "Sequence[Attempt]"
    carried: int
    shut: "Shut | None"


def as_dict(letter: "Seen") -> dict[str, Any]:
    """Return a letter as JSON can hold it."""
    return {
        "id": letter.id,
        "message": letter.submission_id,
        "form": letter.form,
        "purpose": letter.purpose,
        "recipient": letter.recipient,
        "way": letter.way,
        "state": letter.state,
        "attempts": letter.attempts,
        "created_at": moment(letter.created_at),
        "due_at": moment(letter.due_at) if letter.state is State.WAITING else None,
        "settled_at": moment(letter.settled_at),
        "outcome": letter.outcome,
        "digest_id": letter.digest_id,
        "note": letter.note,
    }


def told_as_dict(told: Told, *, advice: str) -> dict[str, Any]:
    """Return all that is told of a letter as JSON can hold it."""
    tries = [
        {
            "begun_at": moment(one.begun_at),
            "seconds": round(one.seconds, 3),
            "way": one.way,
            "outcome": one.outcome,
            "note": one.note,
        }
        for one in told.attempts
    ]
    return as_dict(told.letter) | {"carries": told.carried, "tries": tries, "advice": advice}


def table(letters: "Sequence[Seen]", shut: "Mapping[str, Shut]", *, now: float, width: int | None) -> "Iterator[str]":
    """Yield a heading and a line a letter; what does not fit `width` is cut off, None is no bound."""
    longest = _widest("id", (str(one.id) for one in letters))
    address = min(_widest("to", (one.recipient for one in letters)), _WIDEST)
    way = _widest("way", (one.way for one in letters))
    heads = f"{'when':<16}  {'what':<12}  {'to':<{address}}  {'way':<{way}}  note"
    yield shortened(f"{'id':>{longest}}  {'state':<9}  tries  {heads}", width or 1_000)
    for one in letters:
        begins = f"{one.id:>{longest}}  {one.state:<9}  {one.attempts:>5}  {_when(one, shut.get(one.way), now=now):<16}"
        to = f"{shortened(one.recipient, address):<{address}}"
        line = f"{begins}  {one.purpose:<12}  {to}  {one.way:<{way}}  {one.note}"
        yield shortened(line, width or len(line))


def _widest(heading: str, cells: "Iterable[str]") -> int:
    return max(map(len, (heading, *cells)))


def _when(letter: "Seen", shut: "Shut | None", *, now: float) -> str:
    if letter.state is not State.WAITING:
        return when(letter.settled_at) if letter.settled_at else ""
    if letter.is_in_hand:
        return "just now"
    due_at = max(letter.due_at, shut.probe_at) if shut else letter.due_at
    return when(due_at) if due_at > now else "now"


def story(told: Told, settings: "Settings", *, now: float) -> "Iterator[str]":
    """Yield the lines that tell all about a letter."""
    letter = told.letter
    kind = "notification" if letter.purpose is Purpose.NOTIFICATION else "confirmation"
    yield f"Letter {letter.id}: the {kind} to {letter.recipient}"
    yield f"  state    {_standing(told, now=now)}"
    yield f"  message  {letter.submission_id} (`pillarbox messages show {letter.submission_id}`), form {letter.form}"
    yield f"  way out  {letter.way}" + (f": {told.shut.note}" if told.shut else "")
    if told.carried:
        others = "another letter" if told.carried == 1 else f"{told.carried} other letters"
        yield f"  digest   it carries {others} of the same form, all in one mail"
    if letter.note:
        yield f"  note     {letter.note}"
    if is_to_a_stranger(letter, settings):
        yield f"  owner    {stranger(letter)}"
    yield from _tries(told.attempts, letter)


def _standing(told: Told, *, now: float) -> str:
    from pillarbox.store.held import DROPPED_BY_HAND

    letter, on = told.letter, when(told.letter.settled_at or 0.0)
    if letter.state is State.WAITING:
        return _waiting(told, now=now)
    if letter.state is State.CANCELLED and letter.note == DROPPED_BY_HAND:
        return f"dropped; `pillarbox held release {letter.submission_id}` sends it all the same"
    return {
        State.HELD: f"held as spam: `pillarbox held show {letter.submission_id}` says why",
        State.DIGESTED: f"leaves in one mail with others: letter {letter.carrier} carries it",
        State.SENT: f"sent on {on}" + (f", in the mail of letter {letter.carrier}" if letter.carrier else ""),
        State.FAILED: f"failed for good on {on}; to try again: `pillarbox deliveries retry {letter.id}`",
        State.CANCELLED: f"cancelled on {on}; to send it all the same: `pillarbox deliveries retry {letter.id}`",
    }[letter.state]


def _waiting(told: Told, *, now: float) -> str:
    letter = told.letter
    at = _when(letter, told.shut, now=now)
    soon = "as soon as Pillarbox runs" if at == "now" else f"on {at}"
    if letter.is_in_hand:
        until = f"by {when(letter.due_at)}" if letter.due_at > now else "as soon as Pillarbox runs"
        return f"waiting: a process has it in hand; if that ends without a word, it is tried again {until}"
    if told.shut:
        return f"waiting: its way out is shut since {when(told.shut.since)} and is tried again {soon}"
    tries = "once" if letter.attempts == 1 else f"{letter.attempts} times"
    return f"waiting: it was put off {tries} and is tried again {soon}" if letter.attempts else f"waiting; sent {soon}"


def _tries(attempts: "Sequence[Attempt]", letter: "Seen") -> "Iterator[str]":
    if not attempts:
        yield "\n  No try is written down." if letter.attempts or letter.outcome else "\n  It was not tried yet."
        return
    yield "\n  when              took     way       outcome    what the server said"
    for one in attempts:
        yield f"  {when(one.begun_at)}  {one.seconds:>6.2f}s  {one.way:<8}  {one.outcome:<9}  {one.note}"


def is_to_a_stranger(letter: "Seen", settings: "Settings") -> bool:
    """Tell whether an owner's letter goes to somebody who is no owner any more."""
    owners = {one.lower() for one in (*settings.recipients, *settings.cc_email, *settings.bcc_email)}
    return letter.purpose is Purpose.NOTIFICATION and letter.recipient.lower() not in owners


def stranger(letter: "Seen") -> str:
    """Say that a letter's address is no owner's any more, and what to do."""
    return (
        f"{letter.recipient} is no longer one of the form's owners; to send it elsewhere: "
        f"`pillarbox deliveries retry {letter.id} --to NEW@ADDRESS`"
    )
