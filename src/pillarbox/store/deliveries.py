"""Letters as people see them: found, counted, called off, sent again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, case, exists, func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from pillarbox.core.confirming import fold
from pillarbox.core.delivery import Delivery, Purpose, State
from pillarbox.core.errors import NotKept
from pillarbox.store import digests
from pillarbox.store.engine import Store, is_passing
from pillarbox.store.keeper import TRIES
from pillarbox.store.statements import claiming, notify
from pillarbox.store.tables import attempts, deliveries

T = TypeVar("T")
R = TypeVar("R")

_WAITING = deliveries.c.state == State.WAITING
_CARRIER = deliveries.alias("carrier")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant: those that fit everything that is given. `since` is the earliest time of waiting."""

    states: tuple[str, ...] = ()
    form: str | None = None
    way: str | None = None
    recipient: str | None = None
    purpose: str | None = None
    outcome: str | None = None
    since: float | None = None
    submission_id: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A letter with all that can be said of it. `unanswered` counts the claims since its last outcome."""

    id: int
    submission_id: str
    form: str
    purpose: Purpose
    recipient: str
    way: str
    state: State
    created_at: float
    due_at: float
    attempts: int
    unanswered: int
    note: str
    settled_at: float | None
    outcome: str | None
    digest_id: int | None

    @property
    def is_in_hand(self) -> bool:
        """Whether a dispatcher has it, or had it when it died."""
        return self.state is State.WAITING and self.unanswered > 0

    @property
    def carrier(self) -> int | None:
        """The letter that this one leaves in; None where it leaves by itself."""
        return None if self.digest_id == self.id else self.digest_id


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: when it began (seconds since the epoch), how long it took, what became of it, and the server's words."""

    way: str
    begun_at: float
    seconds: float
    outcome: str
    note: str


@dataclass(frozen=True, slots=True)
class Revival:
    """Letters to be sent (again) from `now` on.

    A way out that is none of `ways` is replaced by the first of them. `recipient` is a mended address, None for the old
    one. `sent_too` sends a second copy of what was sent.
    """

    ids: tuple[int, ...]
    now: float
    ways: tuple[str, ...]
    recipient: str | None = None
    sent_too: bool = False


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Letters that shall not be sent, from `now` on."""

    ids: tuple[int, ...]
    now: float


def find_of_submission(connection: Connection, submission_id: str) -> list[Delivery]:
    """Return the letters of a submission in the order they were written down."""
    query = select(deliveries).where(deliveries.c.submission_id == submission_id).order_by(deliveries.c.id)
    return [_delivery(row) for row in connection.execute(query).mappings()]


def _delivery(row: object) -> Delivery:
    names = Delivery.__dataclass_fields__
    made = Delivery(**{name: row[name] for name in names})  # type: ignore[index]
    return replace(made, purpose=Purpose(made.purpose), state=State(made.state))


def count_by_state(connection: Connection) -> dict[State, int]:
    """Return how many letters stand in each state."""
    rows = connection.execute(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))
    return {State(state): number for state, number in rows}


_SHOWN = [deliveries.c[field.name] for field in fields(Seen)]


def find(connection: Connection, wanted: Filter, *, limit: int | None = None) -> list[Seen]:
    """Return the letters that fit, the newest first; None as limit is no limit."""
    query = select(*_SHOWN).where(*_conditions(wanted)).order_by(deliveries.c.id.desc()).limit(limit)
    return [_seen(row) for row in connection.execute(query)]


def fetch(connection: Connection, delivery_id: int) -> Seen | None:
    """Return the letter, or None when there is none of this number."""
    row = connection.execute(select(*_SHOWN).where(deliveries.c.id == delivery_id)).one_or_none()
    return _seen(row) if row else None


def find_attempts(connection: Connection, delivery_id: int) -> list[Attempt]:
    """Return every try of a letter, the first one first; what a digest carried was tried as its carrier."""
    query = select(*(attempts.c[field.name] for field in fields(Attempt)))
    rows = connection.execute(query.where(attempts.c.delivery_id == delivery_id).order_by(attempts.c.id))
    return [Attempt(*row) for row in rows]


def count_carried(connection: Connection, delivery_id: int) -> int:
    """Return how many other letters this one carries, or carried."""
    others = (deliveries.c.digest_id == delivery_id) & (deliveries.c.id != delivery_id)
    return connection.execute(select(func.count()).select_from(deliveries).where(others)).scalar_one()


def _seen(row: Sequence[Any]) -> Seen:
    made = Seen(*row)
    return replace(made, purpose=Purpose(made.purpose), state=State(made.state))


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    column = deliveries.c
    found = [
        column[name] == value
        for name in ("form", "way", "purpose", "outcome", "submission_id")
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.states:
        found.append(column.state.in_(wanted.states))
    if wanted.recipient is not None:
        same = func.lower(column.recipient) == wanted.recipient.lower()
        found.append(or_(column.recipient == wanted.recipient, same))
    if wanted.since is not None:
        found.append(column.created_at >= wanted.since)
    return found


def _in_hand(now: float) -> ColumnElement[bool]:
    """A letter that a dispatcher holds; what a dead one held is free when its lease has ended."""
    return _WAITING & (deliveries.c.unanswered > 0) & (deliveries.c.due_at > now)


@claiming
def revive(connection: Connection, items: Sequence[Revival]) -> Sequence[int]:
    """Let letters be sent from now on; return of how many that is true.

    What failed or was cancelled begins anew: its attempts and its time of waiting count from here. What waits is due
    at once. What is in hand, held, or leaves in another letter stays as it is.
    """
    notify(connection)
    return [_revive(connection, item) for item in items]


def _revive(connection: Connection, item: Revival) -> int:
    chosen = deliveries.c.id.in_(item.ids)
    over = [State.FAILED, State.CANCELLED, *([State.SENT] if item.sent_too else [])]
    in_hand = _in_hand(item.now)
    if item.recipient:  # what others would have left in a letter to somebody else
        for carrier in _carriers(connection, chosen & _WAITING & ~in_hand):
            digests.dissolve(connection, carrier)
    leaves = {
        "due_at": item.now,
        "way": case((deliveries.c.way.in_(item.ways), deliveries.c.way), else_=item.ways[0]),
        **({"recipient": item.recipient, "mailbox": fold(item.recipient)} if item.recipient else {}),
    }
    anew = {
        "state": State.WAITING,
        "attempts": 0,
        "created_at": item.now,
        "outcome": None,
        "digest_id": None,
        "settled_at": None,
        "note": "to be sent again, as asked for by hand",
    }
    taken_back = {"claim": deliveries.c.claim + 1, "unanswered": 0}  # from whoever held it until its lease ended
    free = update(deliveries).where(chosen, _WAITING, ~in_hand)
    waiting = connection.execute(free.values(leaves | taken_back)).rowcount
    revived = connection.execute(update(deliveries).where(chosen, deliveries.c.state.in_(over)).values(leaves | anew))
    return waiting + revived.rowcount


@claiming
def cancel(connection: Connection, items: Sequence[Cancellation]) -> Sequence[int]:
    """Call letters off that wait, leave in a digest or failed; return how many.

    What is in hand stays, and what its digest has in hand. What a called-off letter would have carried is set free.
    """
    return [_cancel(connection, item) for item in items]


def _cancel(connection: Connection, item: Cancellation) -> int:
    chosen = deliveries.c.id.in_(item.ids)
    in_hand = _in_hand(item.now)
    leaving = exists().where(
        _CARRIER.c.id == deliveries.c.digest_id, _CARRIER.c.unanswered > 0, _CARRIER.c.due_at > item.now
    )
    may_end = or_(
        _WAITING & ~in_hand,
        deliveries.c.state == State.FAILED,
        (deliveries.c.state == State.DIGESTED) & ~leaving,
    )
    called_off = {
        "state": State.CANCELLED,
        "note": "cancelled by hand",
        "settled_at": item.now,
        "digest_id": None,
        "claim": deliveries.c.claim + 1,
    }
    carriers = _carriers(connection, chosen & _WAITING & ~in_hand)
    changed = connection.execute(update(deliveries).where(chosen, may_end).values(called_off)).rowcount
    for carrier in carriers:
        digests.dissolve(connection, carrier)
    return changed


def _carriers(connection: Connection, among: ColumnElement[bool]) -> list[int]:
    # Locked, that none of them is settled before it is changed (SQLite needs and knows no such words).
    found = select(deliveries.c.id).where(among, deliveries.c.digest_id == deliveries.c.id).with_for_update()
    return [int(identifier) for (identifier,) in connection.execute(found)]


def change(store: Store, function: Callable[[Connection, Sequence[T]], Sequence[R]], item: T) -> R:
    """Return the function's result for this item once it is on disk, for those who have no keeper. Raises NotKept."""
    for _ in range(TRIES - 1):
        try:
            return _change(store, function, item)
        except NotKept as error:
            if not is_passing(error):
                raise
    return _change(store, function, item)


def _change(store: Store, function: Callable[[Connection, Sequence[T]], Sequence[R]], item: T) -> R:
    try:
        with store.writing() as connection:
            return function(connection, [item])[0]
    except SQLAlchemyError as error:
        raise NotKept from error
