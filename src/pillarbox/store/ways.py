"""The ways out as the store knows them: shut or open, what their budgets leave, and the sign of life of the store."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, bindparam, select, text

from pillarbox.store.statements import claiming
from pillarbox.store.tables import ways

FOR_OWNERS = 0.2
"""This part of a budget is kept for owners' letters: confirmations leave only while more than it is left."""


@dataclass(frozen=True, slots=True)
class Shut:
    """A way out that is shut: since when, the server's words, how often it was tried since, and when it is again.

    `by_letter` says that only a letter can tell whether it is open again: the server took us in and refused us later.
    """

    way: str
    since: float
    note: str
    probes: int
    probe_at: float
    by_letter: bool = False


@dataclass(frozen=True, slots=True)
class Outage:
    """What a letter is to tell: since when no mail could leave, and the server's words."""

    since: float
    note: str


@dataclass(frozen=True, slots=True)
class Reopened:
    """That a way works again. An outage of at least `tells` seconds is to be told by a letter; None: none is."""

    way: str
    now: float
    tells: float | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """How many letters, and how many confirmations of them, a budget leaves; `opens_at` is when it leaves more."""

    letters: int
    confirmations: int
    opens_at: float


_SHUT = text("""
    INSERT INTO ways (name, shut_since, note, probes, probe_at, by_letter)
    VALUES (:way, :since, :note, :probes, :probe_at, :by_letter)
    ON CONFLICT (name) DO UPDATE SET shut_since = coalesce(ways.shut_since, excluded.shut_since),
        note = excluded.note, probes = excluded.probes, probe_at = excluded.probe_at, by_letter = excluded.by_letter
""")
# Every claim asks this: as a text it costs a third of what a composed query does.
_FETCH = text("""
    SELECT name, shut_since, note, probes, coalesce(probe_at, 0) AS probe_at, by_letter,
        outage_since, outage_note, outage_id
    FROM ways WHERE name = :name AND (shut_since IS NOT NULL OR outage_since IS NOT NULL)
""")
_OPEN = text("""
    UPDATE ways SET shut_since = NULL, note = '', probes = 0, probe_at = NULL, by_letter = 0,
        outage_since = CASE WHEN :now - shut_since >= :tells THEN shut_since ELSE outage_since END,
        outage_note = CASE WHEN :now - shut_since >= :tells THEN note ELSE outage_note END
    WHERE name = :way
""")
_LET_TELL = text("UPDATE ways SET outage_id = :id WHERE name = :way")
_TOLD = text("UPDATE ways SET outage_since = NULL, outage_note = NULL, outage_id = NULL WHERE name = :way")
_FORGET = text("""
    UPDATE ways SET shut_since = NULL, note = '', probe_at = NULL, outage_since = NULL WHERE name NOT IN :known
""").bindparams(bindparam("known", expanding=True))
_PROBE = text("UPDATE ways SET probe_at = :until WHERE name = :name")
_TRY_AT_ONCE = text("UPDATE ways SET probe_at = :now, probes = 0, outage_id = NULL")
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


@claiming
def shut(connection: Connection, items: Sequence[Shut]) -> Sequence[None]:
    """Write down that ways out are shut; the first time of a row of failures stays."""
    for item in items:
        connection.execute(_SHUT, asdict(item) | {"by_letter": int(item.by_letter)})
    return [None] * len(items)


@claiming
def reopen(connection: Connection, items: Sequence[Reopened]) -> Sequence[None]:
    """Write down that ways out work again."""
    for item in items:
        connection.execute(_OPEN, asdict(item))
    return [None] * len(items)


def fetch(connection: Connection, name: str, *, now: float, tells: float | None) -> tuple[Shut | None, Outage | None]:
    """Return how a way out is shut, and the outage that the next letter is to tell of.

    It is told by one letter at a time, and, like the end of it, only if it lasted for `tells` seconds.
    """
    row = connection.execute(_FETCH, {"name": name}).first()
    if row is None:
        return None, None
    shut = None
    if row.shut_since is not None:
        shut = Shut(row.name, row.shut_since, row.note, row.probes, row.probe_at, bool(row.by_letter))
    if tells is None or row.outage_id is not None:
        return shut, None
    if row.outage_since is not None:
        return shut, Outage(row.outage_since, row.outage_note)
    return shut, Outage(shut.since, shut.note) if shut and now - shut.since >= tells else None


def let_tell(connection: Connection, way: str, delivery_id: int | None) -> None:
    """Write down which letter is to tell of the way's outage; None: it is still to be told."""
    connection.execute(_LET_TELL, {"way": way, "id": delivery_id})


def told(connection: Connection, way: str) -> None:
    """Write down that a letter told of the way's outage."""
    connection.execute(_TOLD, {"way": way})


def find_shut(connection: Connection) -> list[Shut]:
    """Return the ways out that are shut."""
    query = select(ways).where(ways.c.shut_since.is_not(None)).order_by(ways.c.name)
    return [
        Shut(row.name, row.shut_since, row.note, row.probes, row.probe_at or 0.0, bool(row.by_letter))
        for row in connection.execute(query)
    ]


def fetch_shut(connection: Connection, name: str) -> Shut | None:
    """Return how a way out is shut, None when it is open."""
    return next((one for one in find_shut(connection) if one.way == name), None)


def begin_probe(connection: Connection, name: str, *, until: float) -> None:
    """Keep others from trying a shut way until then: one probe at a time, and another if this one's process dies."""
    connection.execute(_PROBE, {"name": name, "until": until})


@claiming
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


@claiming
def pass_on(connection: Connection, items: Sequence[tuple[str, str]]) -> Sequence[int]:
    """Give what waits for a way to its fallback, unless that is shut too: (way, fallback) each; return how many."""
    return [connection.execute(_PASS_ON, {"way": way, "fallback": fallback}).rowcount for way, fallback in items]


@claiming
def adopt(connection: Connection, items: Sequence[tuple[tuple[str, ...], str]]) -> Sequence[int]:
    """Give letters whose way out is none of the known ones to an heir: (known, heir) each; return how many.

    Such a way is shut no more: nobody would ever find it open.
    """
    for known, _heir in items:
        connection.execute(_FORGET, {"known": list(known)})
    return [connection.execute(_ADOPT, {"known": list(known), "heir": heir}).rowcount for known, heir in items]


def beat(connection: Connection, items: Sequence[float]) -> Sequence[None]:
    """Prove that the store can be written to at this time."""
    connection.execute(_BEAT, {"now": max(items)})
    return [None] * len(items)
