"""Many letters that leave as one: gathered when they have waited long, settled and set free together.

The oldest of them carries the others: its `digest_id` is its own id, theirs is its id and their state is `digested`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, bindparam, text

from pillarbox.store import ways
from pillarbox.store.statements import claiming

WAITED = 300.0
"""Seconds that a letter has waited before it may be gathered: a crowd of visitors is no outage."""
MOST = 100
MOST_CHARACTERS = 400_000
"""What one digest holds at most, so that every mail server takes it."""


@dataclass(frozen=True, slots=True)
class Gathering:
    """Asks to gather what waits for a way, where more than `above` letters of one form go to one address."""

    way: str
    above: int
    now: float


_WAITING_LONG = """
    way = :way AND state = 'waiting' AND purpose = 'notification' AND unanswered = 0 AND attempts = 0
    AND digest_id IS NULL AND d.created_at <= :before
"""
_CROWDS = text(f"""
    SELECT d.form, d.recipient FROM deliveries d WHERE {_WAITING_LONG}
    GROUP BY d.form, d.recipient HAVING count(*) > :above
""")  # noqa: S608 - our own words
_CROWD = text(f"""
    SELECT d.id, length(s.answers) FROM deliveries d JOIN submissions s ON s.id = d.submission_id
    WHERE {_WAITING_LONG} AND d.form = :form AND d.recipient = :recipient ORDER BY d.created_at, d.id
""")  # noqa: S608
_CARRY = text("UPDATE deliveries SET digest_id = :carrier WHERE id = :carrier")
_JOIN = text("""
    UPDATE deliveries SET digest_id = :carrier, state = 'digested', note = :note WHERE id IN :others
""").bindparams(bindparam("others", expanding=True))
_CARRIED = text("""
    SELECT d.digest_id, s.id, s.form, s.received_at, s.language, s.answers, s.held_for
    FROM deliveries d JOIN submissions s ON s.id = d.submission_id
    WHERE d.digest_id IN :carriers AND d.id <> d.digest_id AND d.state = 'digested' ORDER BY d.created_at, d.id
""").bindparams(bindparam("carriers", expanding=True))
_FOLLOW = text("""
    UPDATE deliveries SET state = :state, outcome = :outcome, note = :note, settled_at = :settled_at
    WHERE digest_id = :carrier AND id <> :carrier AND state = 'digested'
""")
_DISSOLVE = text("""
    UPDATE deliveries SET digest_id = NULL, state = CASE WHEN state = 'digested' THEN 'waiting' ELSE state END,
        attempts = CASE WHEN attempts = 0 THEN 1 ELSE attempts END WHERE digest_id = :carrier
""")


@claiming
def gather(connection: Connection, items: Sequence[Gathering]) -> Sequence[int]:
    """Make digests of what has waited for five minutes and was never tried about itself; return how many each made."""
    return [_gather(connection, item) for item in items]


def _gather(connection: Connection, item: Gathering) -> int:
    made = 0
    if ways.fetch_shut(connection, item.way):  # what comes while it is shut shall leave in the same letter
        return 0
    which = {"way": item.way, "before": item.now - WAITED}
    for form, recipient in connection.execute(_CROWDS, which | {"above": item.above}).all():
        crowd = connection.execute(_CROWD, which | {"form": form, "recipient": recipient}).all()
        for carrier, *others in _portions(crowd):
            if others:
                connection.execute(_CARRY, {"carrier": carrier})
                note = f"leaves in one letter with others, delivery {carrier}"
                connection.execute(_JOIN, {"carrier": carrier, "others": others, "note": note})
                made += 1
    return made


def _portions(crowd: Iterable[Sequence[int]]) -> list[list[int]]:
    portions: list[list[int]] = []
    characters = 0
    for identifier, length in crowd:
        characters += length
        if not portions or len(portions[-1]) == MOST or characters > MOST_CHARACTERS:
            portions.append([])
            characters = length
        portions[-1].append(identifier)
    return portions


def carried(connection: Connection, carriers: Sequence[int]) -> dict[int, tuple[tuple[object, ...], ...]]:
    """Return the submissions' rows that each carrier carries beside its own, oldest first."""
    if not carriers:
        return {}
    rows = connection.execute(_CARRIED, {"carriers": list(carriers)}).all()
    ordered = sorted(rows, key=lambda row: row[0])
    return {carrier: tuple(tuple(row[1:]) for row in group) for carrier, group in groupby(ordered, lambda row: row[0])}


def follow(connection: Connection, carrier: int, *, state: str, outcome: str, note: str, settled_at: float) -> None:
    """Let what a carrier carries end as it ended."""
    values = {"carrier": carrier, "state": state, "outcome": outcome, "note": note, "settled_at": settled_at}
    connection.execute(_FOLLOW, values)


def dissolve(connection: Connection, carrier: int) -> None:
    """Set free what a carrier carries: each goes its own way from now on."""
    connection.execute(_DISSOLVE, {"carrier": carrier})
