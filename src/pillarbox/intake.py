"""The first half of the road: read, screen, keep. When accept() returns, the message is on disk."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pillarbox.core.confirming import fold, why_not_confirm
from pillarbox.core.delivery import Purpose, State
from pillarbox.core.errors import KeyReused
from pillarbox.core.form import Form
from pillarbox.core.once import Key, key_of
from pillarbox.core.screening import FLOOD, Signal, screen
from pillarbox.core.submission import Incoming, Submission, validate
from pillarbox.store.submissions import Kept, NewDelivery

_LETTERS_READ_ALOUD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

Keep = Callable[[Kept], Awaitable[str | None]]
"""Puts a message on disk before it returns, unless its key stands for one already.

Returns the id of the one that is kept; None where the key stands for other fields. Raises NotKept.
"""

Find = Callable[[str, Key], Awaitable[str | None]]
"""Returns the id of a form's message with the same fields that a key stands for, None if there is none."""

Witness = Callable[[Incoming], Awaitable[Signal | None]]
"""Asks somebody outside, within its own time: a sign of spam, or None. Raises a PillarboxError for the visitor."""


def _never(_form: Form) -> bool:
    return False


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
    """Where messages come in. `is_flooded` counts one that looks clean and says if the form had too many of them."""

    keep: Keep
    find: Find
    is_flooded: Callable[[Form], bool] = _never
    witnesses: tuple[Witness, ...] = ()

    async def accept(self, incoming: Incoming, form: Form, *, now: float, noticed: tuple[Signal, ...] = ()) -> Receipt:
        """Check, screen and keep a message with the letters it brings; `now` is in seconds since the epoch.

        `noticed` are signs of spam in how it came. Raises InvalidFields and TooManyFields for what the form does not
        take, KeyReused, what a witness raises, and NotKept when it is not on disk.
        """
        answers = validate(incoming, form)
        key = key_of(incoming, answers, now=now)
        # A repeat has used up its captcha's token the first time: nobody is asked about it again.
        if self.witnesses and (known := await self.find(form.slug, key)):
            return Receipt(known, is_repeat=True)
        submission = Submission(
            id=new_id(),
            form=form.slug,
            received_at=now,
            language=incoming.language,
            answers=answers,
            held_for=await self._reasons_to_hold(incoming, form, noticed),
            client=incoming.client,
        )
        kept = await self.keep(Kept(submission, letters(submission, form), key))
        if kept is None:
            raise KeyReused
        return Receipt(kept, submission.held_for, is_repeat=kept != submission.id)

    async def _reasons_to_hold(self, incoming: Incoming, form: Form, noticed: tuple[Signal, ...]) -> tuple[str, ...]:
        """Add up the signs; a message that is held for them counts for no flood.

        Witnesses are asked in any case: who is refused by one must not learn from it that another sign was seen.
        """
        verdict = screen(incoming, form).joined_by(noticed)
        for witness in self.witnesses:
            if seen := await witness(incoming):
                verdict = verdict.joined_by((seen,))
        if verdict.held_for:
            return verdict.held_for
        return (FLOOD,) if self.is_flooded(form) else ()


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
