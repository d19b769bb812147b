"""Troubles as the store shows them, and one row a trouble, which makes one alarm of what many processes see."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, select, text

from pillarbox.core.alarm import (
    UNTRIED,
    Alarm,
    Bounds,
    Event,
    Kind,
    News,
    Step,
    Trouble,
    heard,
    steps,
    without_addresses,
)
from pillarbox.core.letter import one_line
from pillarbox.store.tables import alarms

MAX_NOTE = 300

# The conditions stand as the partial indexes have them, or neither database would use them.
_SHUT = text("SELECT name, shut_since, note FROM ways WHERE shut_since IS NOT NULL")
_FAILED = text("""
    SELECT form, sum(CASE WHEN state = 'failed' THEN 1 ELSE 0 END), count(*), max(id),
           min(coalesce(settled_at, created_at))
    FROM deliveries
    WHERE (state = 'failed' OR state = 'held' OR outcome = 'refused') AND state IN ('failed', 'waiting')
      AND (state = 'failed' OR outcome = 'refused') AND purpose = 'notification'
    GROUP BY form
""")
_FAILED_ONE = text("SELECT recipient, note FROM deliveries WHERE id = :id")
_LATE = text("""
    SELECT way, count(*), min(created_at) FROM deliveries
    WHERE state = 'waiting' AND purpose = 'notification' AND created_at < :bound
      AND (outcome IS NULL OR outcome <> 'refused')
    GROUP BY way
""")
_LATE_ONES_LEAVE = text("""
    SELECT id FROM deliveries
    WHERE settled_at IS NOT NULL AND settled_at > :bound AND way = :way AND state = 'sent' AND purpose = 'notification'
      AND created_at < settled_at - :after
    LIMIT 1
""")
_LAST_MESSAGE = text("""
    SELECT received_at FROM submissions WHERE form = :form AND held_for = '[]' ORDER BY received_at DESC LIMIT 1
""")
_LOGGED = text("UPDATE alarms SET logged = :logged WHERE key = :key")
_TELL_WHAT_WAS_LOGGED = text("""
    UPDATE alarms SET tell_at = :untried, told = 0, logged = 0 WHERE logged = 1 AND closed_at IS NULL
""")
_OPEN = text("""
    INSERT INTO alarms (key, kind, subject, note, opened_at, closed_at, told, tell_at)
    VALUES (:key, :kind, :subject, :note, :opened_at, :closed_at, :told, :tell_at)
    ON CONFLICT (key) DO NOTHING RETURNING key
""")


def find_troubles(connection: Connection, bounds: Bounds, *, now: float) -> list[Trouble]:
    """Return what is wrong at this time (seconds since the epoch).

    Quiet are a way that shut not yet long ago, late letters that were not late when their way shut, and late letters
    where such are leaving.
    """
    shut = [_shut_way(name, float(since), note, bounds, now) for name, since, note in connection.execute(_SHUT)]
    return [
        *shut,
        *_failed_letters(connection),
        *_late_letters(connection, bounds, now, shut={trouble.subject: trouble for trouble in shut}),
        *_silent_forms(connection, bounds, now),
    ]


def _shut_way(name: str, since: float, note: str, bounds: Bounds, now: float) -> Trouble:
    return Trouble(Kind.WAY_SHUT, name, _words(note), since, quiet=now - since < bounds.after)


def _failed_letters(connection: Connection) -> Iterator[Trouble]:
    for form, failed, number, newest, since in connection.execute(_FAILED).all():
        recipient, words = connection.execute(_FAILED_ONE, {"id": newest}).one()
        tried = number - failed
        parts = [f"{_letters(failed)} failed for good"] if failed else []
        if tried:
            parts.append(f"{_letters(tried)} refused and still tried")
        note = f"{', '.join(parts)}; the newest is delivery {newest} to {recipient}: {_words(words)}"
        yield Trouble(Kind.LETTERS_FAILED, form, note, float(since))


def _late_letters(
    connection: Connection, bounds: Bounds, now: float, *, shut: Mapping[str, Trouble]
) -> Iterator[Trouble]:
    """Judge the letters of a shut way as they stood when it shut: one outage is one alarm, that of the way.

    A way that opens and shuts by turns is never shut for long; what no turn takes was late before it shut last.
    """
    for way, number, since in connection.execute(_LATE, {"bound": now - bounds.after}).all():
        outage = shut.get(way)
        bound = (min(outage.since, now) if outage else now) - bounds.after
        leaving = {"way": way, "bound": bound, "after": bounds.after}
        quiet = since >= bound or connection.execute(_LATE_ONES_LEAVE, leaving).first() is not None
        yield Trouble(Kind.LETTERS_LATE, way, f"{_letters(number)} waiting", float(since), quiet=quiet)


def _silent_forms(connection: Connection, bounds: Bounds, now: float) -> Iterator[Trouble]:
    """A form that never had a message is no trouble: it may be new."""
    if bounds.quiet_after is None:
        return
    for form in bounds.forms:
        last = connection.execute(_LAST_MESSAGE, {"form": form}).scalar_one_or_none()
        if last is not None and last < now - bounds.quiet_after:
            yield Trouble(Kind.FORM_SILENT, form, "no message was accepted since then", float(last))


def _letters(number: int) -> str:
    return f"{number} letter{'s' if number != 1 else ''}"


def _words(note: str) -> str:
    return one_line(without_addresses(note), MAX_NOTE)


_ALL = select(alarms).order_by(alarms.c.opened_at, alarms.c.key)


def find_alarms(connection: Connection) -> list[Alarm]:
    """Return every alarm, the oldest first; those with a `closed_at` are over and only wait to be told so."""
    return _find(connection, _ALL)


def _find(connection: Connection, query: Select[Any]) -> list[Alarm]:
    rows = connection.execute(query).mappings()
    return [
        Alarm(
            kind=Kind(row["kind"]),
            subject=row["subject"],
            note=row["note"],
            opened_at=row["opened_at"],
            tell_at=row["tell_at"],
            closed_at=row["closed_at"],
            told=row["told"],
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Look:
    """What one process found at one time (seconds since the epoch)."""

    troubles: tuple[Trouble, ...]
    now: float


def claim_news(connection: Connection, items: Sequence[Look]) -> Sequence[list[News]]:
    """Bring the rows in step with each look; return what the caller, and nobody else, has five minutes to tell."""
    return [
        [
            News(step.event, step.after)
            for step in steps(look.troubles, find_alarms(connection), now=look.now)
            if _take(connection, step) and step.event and step.after
        ]
        for look in items
    ]


def _take(connection: Connection, step: Step) -> bool:
    """Write the step unless the row is no longer what it was; tell whether it was written."""
    if step.before is None:
        return step.after is not None and connection.execute(_OPEN, _row(step.after)).first() is not None
    as_it_was = [alarms.c[name].is_not_distinct_from(value) for name, value in _row(step.before).items()]
    if step.after is None:
        return connection.execute(alarms.delete().where(*as_it_was)).rowcount == 1
    return connection.execute(alarms.update().where(*as_it_was).values(_row(step.after))).rowcount == 1


def _row(alarm: Alarm) -> dict[str, object]:
    return {
        "key": alarm.key,
        "kind": alarm.kind.value,
        "subject": alarm.subject,
        "note": alarm.note,
        "opened_at": alarm.opened_at,
        "closed_at": alarm.closed_at,
        "told": alarm.told,
        "tell_at": alarm.tell_at,
    }


@dataclass(frozen=True, slots=True)
class Told:
    """That somebody heard of an alarm's event at this time (seconds since the epoch); `logged`: only the log did."""

    key: str
    event: Event
    now: float
    logged: bool = False


def told(connection: Connection, items: Sequence[Told]) -> Sequence[None]:
    """Write down that news was told: what is still so waits for the next day, what is over goes."""
    # Locked, that what was told is written down whoever else looks just now (SQLite needs and knows no such words).
    rows = {alarm.key: alarm for alarm in _find(connection, _ALL.with_for_update())}
    for item in items:
        if alarm := rows.get(item.key):
            _take(connection, Step(alarm, heard(alarm, item.event, now=item.now)))
            connection.execute(_LOGGED, {"key": item.key, "logged": int(item.logged)})
    return [None] * len(items)


def tell_what_was_logged(connection: Connection, items: Sequence[None]) -> Sequence[None]:
    """Let be told, at once, what so far only the log was told, since there was no channel."""
    connection.execute(_TELL_WHAT_WAS_LOGGED, {"untried": UNTRIED})
    return [None] * len(items)
