"""What is erased because it is old: messages with all that came of them, and from which network they came.

Each call looks at a few hundred messages, so that visitors' messages get their turn in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, true, tuple_, update

from pillarbox.core.delivery import State
from pillarbox.store.confirmations import DAY
from pillarbox.store.held import IS_SUSPECT, Judgement
from pillarbox.store.statements import claiming
from pillarbox.store.tables import attempts, confirmations, deliveries, submissions

MOST = 200
"""Messages that one call looks at."""
A_MONTH = 30 * DAY
"""Seconds in which a person can look after what is held, dropped or failed; and for which networks are known."""


@dataclass(frozen=True, slots=True)
class Place:
    """A message's place in the order in which they came."""

    received_at: float = 0.0
    id: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Asks to erase what came before a time, of the next few hundred messages after a place.

    `now` and `before` are in seconds since the epoch.
    """

    now: float
    before: float
    after: Place = Place()


@dataclass(frozen=True, slots=True)
class Swept:
    """How many messages were erased and how many letters with them; where to go on, None at the end."""

    messages: int
    letters: int
    goes_on: Place | None


_WAS_DROPPED = and_(IS_SUSPECT, submissions.c.judgement == Judgement.DROPPED)


@claiming  # what is not spared must not be sent again or released before it is erased
def erase_old(connection: Connection, items: Sequence[Sweep]) -> Sequence[Swept]:
    """Erase messages that came before a time, with their letters, attempts and confirmations.

    Left for later: what has a letter that waits, leaves in a digest or carries others; that failed less than 30 days
    ago; that was settled within a day; and, unless it was released,
    a message with signs of spam until 30 days after it came.
    """
    return [_sweep(connection, item, among=true(), spared=_spared(item.now)) for item in items]


@claiming
def erase_dropped(connection: Connection, items: Sequence[Sweep]) -> Sequence[Swept]:
    """Erase messages that were dropped before a time; not those of which a letter was sent all the same."""
    return [
        _sweep(
            connection,
            item,
            among=and_(_WAS_DROPPED, submissions.c.judged_at < item.before),
            spared=exists().where(
                deliveries.c.submission_id == submissions.c.id,
                or_(deliveries.c.state.not_in([State.CANCELLED, State.HELD]), _settled_within_a_day(item.now)),
            ),
        )
        for item in items
    ]


def _settled_within_a_day(now: float) -> ColumnElement[bool]:
    """A letter that budgets and "one confirmation a day" still count, or that somebody may still have in hand.

    Its number must not become another's before its late outcome has come.
    """
    return func.coalesce(deliveries.c.settled_at, 0.0) > now - DAY


def forget_clients(connection: Connection, items: Sequence[float]) -> Sequence[int]:
    """Forget from which networks messages came before the given time; return of how many, a few hundred at most."""
    known = submissions.c.client.is_not(None)
    return [
        connection.execute(
            update(submissions)
            .where(
                submissions.c.id.in_(select(submissions.c.id).where(known, submissions.c.received_at < at).limit(MOST))
            )
            .values(client=None)
        ).rowcount
        for at in items
    ]


def _spared(now: float) -> ColumnElement[bool]:
    """What is not erased however old it is."""
    column = deliveries.c
    other = deliveries.alias("other")
    carries = and_(
        column.digest_id == column.id,
        exists().where(
            other.c.digest_id == column.id,
            other.c.id != column.id,
            other.c.state.in_([State.DIGESTED, State.WAITING]),
        ),
    )
    needed = or_(
        column.state.in_([State.WAITING, State.DIGESTED]),
        and_(column.state == State.FAILED, func.coalesce(column.settled_at, column.created_at) > now - A_MONTH),
        _settled_within_a_day(now),
        carries,
    )
    may_be_released = and_(
        IS_SUSPECT,
        or_(submissions.c.judgement.is_(None), submissions.c.judgement != Judgement.RELEASED),
        submissions.c.received_at > now - A_MONTH,
    )
    return or_(may_be_released, exists().where(column.submission_id == submissions.c.id, needed))


def _sweep(connection: Connection, item: Sweep, *, among: ColumnElement[bool], spared: ColumnElement[bool]) -> Swept:
    came = (submissions.c.received_at, submissions.c.id)
    looked_at = connection.execute(
        select(*came)
        .where(among, submissions.c.received_at < item.before)
        .where(tuple_(*came) > (item.after.received_at, item.after.id))
        .order_by(*came)
        .limit(MOST)
    ).all()
    ids = [identifier for _at, identifier in looked_at]
    may_go = select(submissions.c.id).where(submissions.c.id.in_(ids), ~spared)
    messages, letters = _erase(connection, list(connection.execute(may_go).scalars())) if ids else (0, 0)
    return Swept(messages, letters, Place(*looked_at[-1]) if len(looked_at) == MOST else None)


def _erase(connection: Connection, ids: list[str]) -> tuple[int, int]:
    """Erase these messages with all that came of them; return how many messages and letters."""
    of_them = deliveries.c.submission_id.in_(ids)
    numbers = select(deliveries.c.id).where(of_them)
    mailboxes = select(deliveries.c.form, deliveries.c.mailbox).where(of_them)
    their_own = and_(
        tuple_(confirmations.c.form, confirmations.c.mailbox).in_(mailboxes), confirmations.c.delivery_id.in_(numbers)
    )
    connection.execute(delete(confirmations).where(their_own))
    connection.execute(delete(attempts).where(attempts.c.delivery_id.in_(numbers)))
    letters = connection.execute(delete(deliveries).where(of_them)).rowcount
    return connection.execute(delete(submissions).where(submissions.c.id.in_(ids))).rowcount, letters
