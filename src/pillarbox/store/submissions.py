"""Submissions and the letters they bring, kept together."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, case, func, select

from pillarbox.core.delivery import Purpose, State
from pillarbox.core.once import Key
from pillarbox.core.submission import Answer, Submission
from pillarbox.store import idempotency
from pillarbox.store.statements import Statement, notify, utc_day
from pillarbox.store.tables import deliveries, submissions


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A letter to be, as it is first written down. `mailbox` is the recipient's folded address."""

    purpose: Purpose
    recipient: str
    mailbox: str
    way: str
    state: State = State.WAITING
    note: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """What one visitor's message puts on disk, in one transaction; without a `key` it is never a repeat."""

    submission: Submission
    letters: tuple[NewDelivery, ...]
    key: Key | None = None


_KEEP = Statement(
    """
    INSERT INTO submissions (id, form, received_at, language, answers, held_for, client)
    SELECT id, form, received_at, language, answers, held_for, nullif(client, '') FROM $rows AS v
    """,
    rows="id text, form text, received_at float8, language text, answers json, held_for json, client text",
)
_KEEP_LETTERS = Statement(
    """
    INSERT INTO deliveries (submission_id, form, purpose, recipient, mailbox, way, state, note, created_at, due_at,
                            settled_at, attempts, claim, unanswered)
    SELECT submission_id, form, purpose, recipient, mailbox, way, state, note, created_at, created_at,
           CASE WHEN state = 'cancelled' THEN created_at END, 0, 0, 0
    FROM $rows AS v
    """,
    rows="submission_id text, form text, purpose text, recipient text, mailbox text, way text, state text, note text,"
    "created_at float8",
)


def keep(connection: Connection, items: Sequence[Kept]) -> Sequence[str | None]:
    """Write submissions and their letters, unless their keys stand for a message already.

    Returns the id of each message: its own, or that of the one that its key stands for; None where the key stands for
    other fields.
    """
    stands = idempotency.take(connection, [(item.submission, item.key) for item in items if item.key])
    found = [stands.get(item.submission.id, item.submission.id) for item in items]
    new = [item for item, identifier in zip(items, found, strict=True) if identifier == item.submission.id]
    if new:
        _write(connection, new)
        notify(connection)
    return found


def _write(connection: Connection, items: Sequence[Kept]) -> None:
    kept = [item.submission for item in items]
    rows = [
        [
            submission.id,
            submission.form,
            submission.received_at,
            submission.language,
            [[answer.name, answer.label, answer.values] for answer in submission.answers],
            submission.held_for,
            submission.client,
        ]
        for submission in kept
    ]
    letters = [
        [
            item.submission.id,
            item.submission.form,
            letter.purpose,
            letter.recipient,
            letter.mailbox,
            letter.way,
            letter.state,
            letter.note,
            item.submission.received_at,
        ]
        for item in items
        for letter in item.letters
    ]
    _KEEP.run(connection, rows)
    _KEEP_LETTERS.run(connection, letters)


WRITTEN = [submissions.c[name] for name in ("id", "form", "received_at", "language", "answers", "held_for")]
"""The columns of which revive() makes a submission."""


def revive(row: Sequence[object]) -> Submission:
    """Return the submission of a row of the columns WRITTEN; whose it was stays in the store."""
    identifier, form, received_at, language, answers, held_for = row
    return Submission(
        id=str(identifier),
        form=str(form),
        received_at=float(str(received_at)),
        language=str(language),
        answers=tuple(Answer(name, label, tuple(values)) for name, label, values in json.loads(str(answers))),
        held_for=tuple(json.loads(str(held_for))),
    )


def show(row: Sequence[object]) -> Submission:
    """Return the submission of a row for somebody to look at: of a damaged one, what can still be made out."""
    try:
        return revive(row)
    except (ValueError, TypeError):
        identifier, form, received_at, language, answers, held_for = row
        readable = (identifier, form, received_at, language, "[]", "[]")
        damaged = Answer("damaged", "Damaged", (f"{answers} {held_for}",))
        return replace(revive(readable), answers=(damaged,))


def fetch(connection: Connection, submission_id: str) -> Submission | None:
    """Return the submission, or None when there is none of this id."""
    row = connection.execute(select(*WRITTEN).where(submissions.c.id == submission_id)).one_or_none()
    return show(row) if row else None


def find_newest(connection: Connection, *, limit: int) -> list[Submission]:
    """Return the newest submissions, newest first."""
    newest = select(*WRITTEN).order_by(submissions.c.received_at.desc(), submissions.c.id).limit(limit)
    return [show(row) for row in connection.execute(newest)]


def each(connection: Connection) -> Iterator[Submission]:
    """Yield every submission, oldest first, without holding them all."""
    rows = connection.execution_options(yield_per=500).execute(
        select(*WRITTEN).order_by(submissions.c.received_at, submissions.c.id)
    )
    for row in rows:
        yield show(row)


def count_by_day(connection: Connection, *, since: float) -> list[tuple[str, str, int]]:
    """Return (UTC day as YYYY-MM-DD, `accepted` | `held` | a delivery state, count), for what happened since then."""
    day = utc_day(connection, submissions.c.received_at).label("day")
    outcome = case((submissions.c.held_for == "[]", "accepted"), else_="held").label("outcome")
    settled = utc_day(connection, deliveries.c.settled_at).label("day")
    came = select(day, outcome, func.count()).where(submissions.c.received_at >= since).group_by("day", "outcome")
    went = select(settled, deliveries.c.state, func.count()).where(deliveries.c.settled_at >= since)
    rows = [*connection.execute(came), *connection.execute(went.group_by("day", deliveries.c.state))]
    return [(str(on), str(what), int(number)) for on, what, number in rows]
