"""Messages with signs of spam: found, released, dropped. Their letters are held until a person has judged them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal_column, or_, select, update

from pillarbox.core.delivery import Delivery, State
from pillarbox.core.submission import Submission
from pillarbox.store.statements import claiming, notify
from pillarbox.store.submissions import WRITTEN, show
from pillarbox.store.tables import deliveries, submissions

DROPPED_BY_HAND = "dropped by hand"
"""The note of a letter that was called off with its message."""
RELEASED_BY_HAND = "released by hand"

IS_SUSPECT: ColumnElement[bool] = literal_column("held_for <> '[]'")
"""Messages with signs of spam, in the words of their index."""
_IS_UNJUDGED = submissions.c.judgement.is_(None)


class Judgement(StrEnum):
    """What a person said of a held message."""

    RELEASED = "released"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which held messages are meant: those that fit everything that is given.

    `reason` is one of the signs that they are held for, `since` the earliest time of arrival, `client` the fingerprint
    of a network. `judged_too` takes in what was released or dropped.
    """

    form: str | None = None
    reason: str | None = None
    since: float | None = None
    client: str | None = None
    judged_too: bool = False


@dataclass(frozen=True, slots=True)
class Suspect:
    """A message with its sender's fingerprint (None: not known any more) and what was said of it."""

    submission: Submission
    client: str | None
    judgement: Judgement | None
    judged_at: float | None


@dataclass(frozen=True, slots=True)
class Release:
    """Messages whose held letters shall leave from `now` on.

    A way out that is none of `ways` is replaced by the first of them.
    """

    ids: tuple[str, ...]
    now: float
    ways: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """Messages of which nothing shall be sent, from `now` on."""

    ids: tuple[str, ...]
    now: float


@dataclass(frozen=True, slots=True)
class Judged:
    """The messages that were judged, and how many letters changed by it.

    `still_cancelled` counts those that do not leave all the same, by their notes.
    """

    ids: tuple[str, ...]
    letters: int
    still_cancelled: Mapping[str, int] = field(default_factory=dict)


_SHOWN = (*WRITTEN, submissions.c.client, submissions.c.judgement, submissions.c.judged_at)


def find(connection: Connection, wanted: Filter, *, limit: int) -> list[Suspect]:
    """Return the messages that fit, the newest first."""
    newest = select(*_SHOWN).where(*_conditions(wanted)).order_by(submissions.c.received_at.desc(), submissions.c.id)
    return [_suspect(row) for row in connection.execute(newest.limit(limit))]


def find_ids(connection: Connection, wanted: Filter) -> list[str]:
    """Return the ids of all messages that fit, the newest first."""
    newest = select(submissions.c.id).where(*_conditions(wanted)).order_by(submissions.c.received_at.desc())
    return list(connection.execute(newest).scalars())


def fetch(connection: Connection, submission_id: str) -> Suspect | None:
    """Return the message, held or not, or None when there is none of this id."""
    row = connection.execute(select(*_SHOWN).where(submissions.c.id == submission_id)).one_or_none()
    return _suspect(row) if row else None


def count(connection: Connection) -> int:
    """Return how many messages nobody has judged yet."""
    unjudged = select(func.count()).select_from(submissions).where(IS_SUSPECT, _IS_UNJUDGED)
    return connection.execute(unjudged).scalar_one()


def count_of_client(connection: Connection, client: str) -> int:
    """Return how many messages came from the network of this fingerprint, as far as that is still known."""
    of_it = select(func.count()).select_from(submissions).where(submissions.c.client == client)
    return connection.execute(of_it).scalar_one()


def leaves_on_release(letter: Delivery) -> bool:
    """Tell whether the letter is sent when its message is released."""
    return letter.state is State.HELD or (letter.state is State.CANCELLED and letter.note == DROPPED_BY_HAND)


@claiming
def release(connection: Connection, items: Sequence[Release]) -> Sequence[Judged]:
    """Let every letter leave that is held, or was dropped with its message; its time of waiting counts from now.

    Each message is released once, whoever asks. What was cancelled for another reason stays cancelled.
    """
    notify(connection)
    return [_release(connection, item) for item in items]


def _release(connection: Connection, item: Release) -> Judged:
    may_be = or_(_IS_UNJUDGED, submissions.c.judgement == Judgement.DROPPED)
    judged = _judge(connection, item, Judgement.RELEASED, may_be)
    of_them, column = deliveries.c.submission_id.in_(judged), deliveries.c
    dropped = and_(column.state == State.CANCELLED, column.note == DROPPED_BY_HAND)
    leaving = {
        "state": State.WAITING,
        "due_at": item.now,
        "created_at": item.now,
        "way": case((column.way.in_(item.ways), column.way), else_=item.ways[0]),
        "attempts": 0,
        "outcome": None,
        "settled_at": None,
        "note": RELEASED_BY_HAND,
    }
    held_back = or_(func.coalesce(column.state, "") == State.HELD, dropped)
    letters = connection.execute(update(deliveries).where(of_them, held_back).values(leaving)).rowcount
    others = select(column.note, func.count()).where(of_them, column.state == State.CANCELLED).group_by(column.note)
    return Judged(judged, letters, dict(connection.execute(others).tuples().all()))


@claiming
def drop(connection: Connection, items: Sequence[Drop]) -> Sequence[Judged]:
    """Call off every held letter; the messages can be released until they are erased."""
    return [_drop(connection, item) for item in items]


def _drop(connection: Connection, item: Drop) -> Judged:
    judged = _judge(connection, item, Judgement.DROPPED, _IS_UNJUDGED)
    held = and_(deliveries.c.submission_id.in_(judged), func.coalesce(deliveries.c.state, "") == State.HELD)
    called_off = {"state": State.CANCELLED, "note": DROPPED_BY_HAND, "settled_at": item.now}
    return Judged(judged, connection.execute(update(deliveries).where(held).values(called_off)).rowcount)


def _judge(
    connection: Connection, item: Release | Drop, judgement: Judgement, may_be: ColumnElement[bool]
) -> tuple[str, ...]:
    """Write the judgement down and return of which messages: of those that this is true of still."""
    # Not in the index's words: by it, each few hundred would be looked for among all that is held.
    is_suspect = func.coalesce(submissions.c.held_for, "[]") != "[]"
    chosen = update(submissions).where(submissions.c.id.in_(item.ids), is_suspect, may_be)
    judged = chosen.values(judgement=judgement, judged_at=item.now).returning(submissions.c.id)
    return tuple(connection.execute(judged).scalars())


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    column = submissions.c
    found = [IS_SUSPECT, *([] if wanted.judged_too else [_IS_UNJUDGED])]
    if wanted.form is not None:
        found.append(column.form == wanted.form)
    if wanted.client is not None:
        found.append(column.client == wanted.client)
    if wanted.since is not None:
        found.append(column.received_at >= wanted.since)
    if wanted.reason is not None:
        found.append(column.held_for.contains(json.dumps(wanted.reason), autoescape=True))
    return found


def _suspect(row: Sequence[object]) -> Suspect:
    *written, client, judgement, judged_at = row
    return Suspect(
        show(written),
        None if client is None else str(client),
        Judgement(str(judgement)) if judgement else None,
        None if judged_at is None else float(str(judged_at)),
    )
