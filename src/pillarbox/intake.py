"""The first half of the road: read, screen, keep. When accept() returns, the message is on disk."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol
from weakref import WeakValueDictionary

from pillarbox.core.confirming import fold, why_not_confirm
from pillarbox.core.delivery import Purpose, State
from pillarbox.core.errors import KeyReused, PillarboxError
from pillarbox.core.form import Form
from pillarbox.core.once import Key, key_of
from pillarbox.core.screening import FLOOD, Signal, Verdict, screen
from pillarbox.core.submission import Incoming, Submission, validate
from pillarbox.store.submissions import Kept, NewDelivery

_LETTERS_READ_ALOUD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

Keep = Callable[[Kept], Awaitable[str | None]]
"""Puts a message on disk before it returns, unless its key stands for one already.

Returns the id of the one that is kept; None where the key stands for other fields. Raises NotKept.
"""

Find = Callable[[str, Key], Awaitable[str | None]]
"""Returns the id of a form's message that a key stands for, None if there is none. Raises KeyReused and NotKept."""

Witness = Callable[[Incoming], Awaitable[Signal | None]]
"""Asks somebody outside, within its own time: a sign of spam, or None. Raises a PillarboxError for the visitor."""


class Counting(Protocol):
    """Who counts the messages of forms that look clean."""

    async def count(self, form: Form) -> bool:
        """Count one and tell whether the form had too many of them; never raises."""

    async def give_back(self, form: Form) -> None:
        """Take back one that was not too many, and made no new message; never raises."""


async def _finds_none(_form: str, _key: Key) -> str | None:
    return None


class NoLimit:
    """Counts nothing."""

    async def count(self, form: Form) -> bool:  # noqa: ARG002
        """Tell that it is never too many."""
        return False

    async def give_back(self, form: Form) -> None:
        """There is nothing to take back."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What we may thank for: the message's id, and the signs of spam it is held for (empty: none).

    `is_repeat` says that it was kept before, and what came now is the same message once more.
    """

    id: str
    held_for: tuple[str, ...] = ()
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Intake:
    """Where messages come in."""

    keep: Keep
    find: Find = _finds_none
    flood: Counting = field(default_factory=NoLimit)
    witnesses: tuple[Witness, ...] = ()
    _turns: "WeakValueDictionary[tuple[str, str], asyncio.Lock]" = field(default_factory=WeakValueDictionary)
    """One for each key of a message that witnesses are asked about at this moment."""

    async def accept(self, incoming: Incoming, form: Form, *, now: float, noticed: tuple[Signal, ...] = ()) -> Receipt:
        """Check, screen and keep a message with the letters it brings; `now` is in seconds since the epoch.

        `noticed` are signs of spam in how it came. Raises InvalidFields and TooManyFields for what the form does not
        take, KeyReused, what a witness raises, and NotKept when it is not on disk.
        """
        answers = validate(incoming, form)
        key = key_of(incoming, answers, now=now)
        submission = Submission(new_id(), form.slug, now, incoming.language, answers, client=incoming.client)
        verdict = screen(incoming, form).joined_by(noticed)
        if not self.witnesses:
            return await self._keep(submission, form, key=key, verdict=verdict)
        # Copies wait for each other: the first uses up the captcha's token, and nobody is asked about a repeat.
        async with self._turns.setdefault((form.slug, key.name), asyncio.Lock()):
            known, seen = await self._look_outside(incoming, form, key=key)
            if known:
                return Receipt(known, is_repeat=True)
            return await self._keep(submission, form, key=key, verdict=verdict.joined_by(seen))

    async def _look_outside(self, incoming: Incoming, form: Form, *, key: Key) -> tuple[str | None, tuple[Signal, ...]]:
        """Return the id of the message that this one repeats, or else what the witnesses saw.

        They are asked in any case: who is refused by one must not learn from it that another sign was seen.
        """
        if known := await self.find(form.slug, key):
            return known, ()
        try:
            seen = [await witness(incoming) for witness in self.witnesses]
        except PillarboxError:
            # Another process may have asked about a copy of it at the same moment.
            if known := await self.find(form.slug, key):
                return known, ()
            raise
        return None, tuple(sign for sign in seen if sign)

    async def _keep(self, submission: Submission, form: Form, *, key: Key, verdict: Verdict) -> Receipt:
        """Keep the message, held if the signs are too many or the form has too many; what is held counts for no flood.

        Nor does what makes no new message.
        """
        held_for = verdict.held_for or ((FLOOD,) if await self.flood.count(form) else ())
        if held_for:
            submission = replace(submission, held_for=held_for)
        kept = None
        try:
            kept = await self.keep(Kept(submission, letters(submission, form), key))
        finally:
            if kept != submission.id and not held_for:
                await self.flood.give_back(form)
        if kept is None:
            raise KeyReused
        return Receipt(kept, held_for) if kept == submission.id else Receipt(kept, is_repeat=True)


def new_id() -> str:
    """Return a new message id: 60 random bits in letters that cannot be mistaken for each other (`7K3M-9QXP-2AFD`)."""
    bits = random.getrandbits(60)  # it names a message and guards nothing
    text = "".join(_LETTERS_READ_ALOUD[bits >> shift & 31] for shift in range(0, 60, 5))
    return f"{text[:4]}-{text[4:8]}-{text[8:]}"


def letters(submission: Submission, form: Form) -> tuple[NewDelivery, ...]:
    """Return one letter for each owner and one for the visitor; one that will not go says why."""
    state = State.HELD if submission.held_for else State.WAITING
    owners = [NewDelivery(Purpose.NOTIFICATION, owner, fold(owner), form.way, state) for owner in form.owners.everyone]
    visitor = submission.email
    if not visitor:
        return tuple(owners)
    # Even when it is released: in a flood the addresses are as likely victims as visitors.
    why_not = "it came in a flood" if FLOOD in submission.held_for else why_not_confirm(visitor, form)
    confirmation = NewDelivery(
        Purpose.CONFIRMATION, visitor, fold(visitor), form.way, State.CANCELLED if why_not else state, why_not or ""
    )
    return (*owners, confirmation)
