"""The ways out as the store knows them: shut or open, what their budgets leave, and the sign of life of the store."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, text

from pillarbox.store.tables import ways

FOR_OWNERS = 0.2
"""This part of a budget is kept for owners' letters: confirmations leave only while more than it is left."""


@dataclass(frozen=True, slots=True)
class Shut:
    """A way out that is shut: since when, the server's words, how often it was tried since, and when it is again."""

    way: str
    since: float
    note: str
    probes: int
    probe_at: float


@dataclass(frozen=True, slots=True)
class Room:
    """How many letters, and how many confirmations of them, a budget leaves; `opens_at` is when it leaves more."""

    letters: int
    confirmations: int
    opens_at: float


_SHUT = text("""
    INSERT INTO ways (name, shut_since, note, probes, probe_at) VALUES (:way, :since, :note, :probes, :probe_at)
    ON CONFLICT (name) DO UPDATE SET shut_since = coalesce(ways.shut_since, excluded.shut_since),
        note = excluded.note, probes = excluded.probes, probe_at = excluded.probe_at
""")
# Every claim asks this: as a text it costs a third of what a composed query does.
_FETCH_SHUT = text("""
    SELECT name, shut_since, note, probes, coalesce(probe_at, 0) FROM ways
    WHERE name = :name AND shut_since IS NOT NULL
""")
_OPEN = text("UPDATE ways SET shut_since = NULL, note = '', probes = 0, probe_at = NULL WHERE name = :name")
_PROBE = text("UPDATE ways SET probe_at = :until WHERE name = :name")
_TRY_AT_ONCE = text("UPDATE ways SET probe_at = :now, probes = 0 WHERE shut_since IS NOT NULL")
_SPENT = text("""
    SELECT count(*), min(settled_at) FROM deliveries
    WHERE way = :way AND state = 'sent' AND settled_at > :since AND (digest_id IS NULL OR digest_id = id)
""")
_IN_HAND = text("""
    SELECT count(*) FROM deliveries WHERE way = :way AND state = 'waiting' AND unanswered > 0 AND due_at > :now
""")
_PASS_ON = text("""
    UPDATE deliveries SET way = :fallback, due_at = CASE WHEN attempts = 0 THEN created_at ELSE due_at END
    WHERE way = :way AND state = 'waiting' AND unanswered = 0
      AND NOT EXISTS (SELECT 1 FROM ways WHERE name = :fallback AND shut_since IS NOT NULL)
""")
_ADOPT = text("""
    UPDATE deliveries SET way = :heir WHERE state IN ('waiting', 'held', 'digested') AND way NOT IN :known
""").bindparams(bindparam("known", expanding=True))
_BEAT = text("INSERT INTO pulse (id, at) VALUES (1, :now) ON CONFLICT (id) DO UPDATE SET at = excluded.at")


def shut(connection: Connection, items: Sequence[Shut]) -> Sequence[None]:
    """Write down that ways out are shut; the first time of a row of failures stays."""
    for item in items:
        values = {"since": item.since, "note": item.note, "probes": item.probes, "probe_at": item.probe_at}
        connection.execute(_SHUT, values | {"way": item.way})
    return [None] * len(items)


def reopen(connection: Connection, items: Sequence[str]) -> Sequence[None]:
    """Write down that ways out work again."""
    for name in items:
        connection.execute(_OPEN, {"name": name})
    return [None] * len(items)


def fetch_shut(connection: Connection, name: str) -> Shut | None:
    """Return how a way out is shut, None when it is open."""
    row = connection.execute(_FETCH_SHUT, {"name": name}).first()
    return Shut(*row) if row else None


def find_shut(connection: Connection) -> list[Shut]:
    """Return the ways out that are shut."""
    query = select(ways).where(ways.c.shut_since.is_not(None)).order_by(ways.c.name)
    return [
        Shut(row.name, row.shut_since, row.note, row.probes, row.probe_at or 0.0) for row in connection.execute(query)
    ]


def begin_probe(connection: Connection, name: str, *, until: float) -> None:
    """Keep others from trying a shut way until then: one probe at a time, and another if this one's process dies."""
    connection.execute(_PROBE, {"name": name, "until": until})


def try_at_once(connection: Connection, items: Sequence[float]) -> Sequence[None]:
    """Let every shut way be tried from the given time on: a fresh start may have mended settings."""
    for now in items:
        connection.execute(_TRY_AT_ONCE, {"now": now})
    return [None] * len(items)


def room(connection: Connection, way: str, budget: Sequence[tuple[int, float]], *, now: float) -> Room | None:
    """Return what a budget of (letters, in so many seconds) leaves at this time; None: there is none."""
    if not budget:
        return None
    in_hand = connection.execute(_IN_HAND, {"way": way, "now": now}).scalar_one()
    letters, confirmations, opens_at = [], [], [0.0]
    for most, seconds in budget:
        spent, oldest = connection.execute(_SPENT, {"way": way, "since": now - seconds}).one()
        left = most - spent - in_hand
        letters.append(left)
        confirmations.append(left - int(most * FOR_OWNERS))
        if confirmations[-1] <= 0:
            opens_at.append(oldest + seconds if oldest is not None else now + 1.0)  # what is in hand will tell
    return Room(max(min(letters), 0), max(min(confirmations), 0), max(opens_at))


def pass_on(connection: Connection, items: Sequence[tuple[str, str]]) -> Sequence[int]:
    """Give what waits for a way to its fallback, unless that is shut too: (way, fallback) each; return how many."""
    return [connection.execute(_PASS_ON, {"way": way, "fallback": fallback}).rowcount for way, fallback in items]


def adopt(connection: Connection, items: Sequence[tuple[tuple[str, ...], str]]) -> Sequence[int]:
    """Give letters whose way out is none of the known ones to an heir: (known, heir) each; return how many."""
    return [connection.execute(_ADOPT, {"known": list(known), "heir": heir}).rowcount for known, heir in items]


def beat(connection: Connection, items: Sequence[float]) -> Sequence[None]:
    """Prove that the store can be written to at this time."""
    connection.execute(_BEAT, {"now": max(items)})
    return [None] * len(items)
