"""Submissions and the letters they bring, kept together."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, func, select, text

from pillarbox.core.delivery import Purpose, State
from pillarbox.core.submission import Answer, Submission
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
    """What one visitor's message puts on disk, in one transaction."""

    submission: Submission
    letters: tuple[NewDelivery, ...]


# One statement takes a whole batch as one JSON text: a statement a row would hand Python's lock back and forth with the
# event loop at each row. PostgreSQL's unnest is its sister.
_KEEP = text("""
    INSERT INTO submissions (id, form, received_at, language, answers, held_for, client)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value -> 4, value -> 5, nullif(value ->> 6, '')
    FROM json_each(:rows)
""")
_KEEP_LETTERS = text("""
    INSERT INTO deliveries (submission_id, form, purpose, recipient, mailbox, way, state, note, created_at, due_at,
                            settled_at, attempts, claim, unanswered)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
           value ->> 8, value ->> 8, CASE WHEN value ->> 6 = 'cancelled' THEN value ->> 8 END, 0, 0, 0
    FROM json_each(:rows)
""")


def keep(connection: Connection, items: Sequence[Kept]) -> Sequence[None]:
    """Write submissions and their letters."""
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
    # Written as it is: a lone surrogate is refused here, where as an escape it would be kept and never be read again.
    connection.execute(_KEEP, {"rows": json.dumps(rows, ensure_ascii=False)})
    connection.execute(_KEEP_LETTERS, {"rows": json.dumps(letters, ensure_ascii=False)})
    return [None] * len(items)


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
    day = func.date(submissions.c.received_at, "unixepoch")
    outcome = func.iif(submissions.c.held_for == "[]", "accepted", "held")
    settled = func.date(deliveries.c.settled_at, "unixepoch")
    rows = [
        *connection.execute(
            select(day, outcome, func.count()).where(submissions.c.received_at >= since).group_by(day, outcome)
        ),
        *connection.execute(
            select(settled, deliveries.c.state, func.count())
            .where(deliveries.c.settled_at >= since)
            .group_by(settled, deliveries.c.state)
        ),
    ]
    return [(str(on), str(what), int(number)) for on, what, number in rows]
