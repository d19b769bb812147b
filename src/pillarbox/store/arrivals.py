"""Limits that machines share: when the next one may come, by the name of whose limit it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from pillarbox.core import quota
from pillarbox.core.quota import Rate
from pillarbox.store.statements import Statement

MOST = 1_000
"""Names that one call forgets."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """`number` more (1), or one that is taken back (-1), at a time in seconds since the epoch."""

    name: str
    rate: Rate
    at: float
    number: int = 1


# One statement both makes the rows that are missing and locks those that are there; in the order of their names, so
# that two writers can't wait for each other in a ring.
_HOLD = Statement(
    """
    INSERT INTO arrivals (name, at) SELECT name, 0 FROM $rows AS v WHERE true
    ON CONFLICT (name) DO UPDATE SET at = arrivals.at
    RETURNING name, at
    """,
    rows="name text",
)
_NOTE = Statement(
    "UPDATE arrivals SET at = v.at FROM $rows AS v WHERE arrivals.name = v.name", rows="name text, at float8"
)
_FORGET = Statement(
    """
    DELETE FROM arrivals
    WHERE name IN (SELECT name FROM arrivals WHERE at < :now LIMIT :most $skip_locked)
    """
)


def count(connection: Connection, items: Sequence[Arrival]) -> Sequence[float]:
    """Count what arrives and return for each how many seconds it has to wait: 0 when it is admitted, and counted."""
    names = sorted({item.name for item in items})
    before = {row.name: row.at for row in _HOLD.run(connection, [[name] for name in names])}
    after = dict(before)
    waits = []
    for item in items:
        after[item.name], wait = _counted(after[item.name], item)
        waits.append(wait)
    if changed := [[name, after[name]] for name in names if after[name] != before[name]]:
        _NOTE.run(connection, changed)
    return waits


def _counted(arrival: float, item: Arrival) -> tuple[float, float]:
    if item.number < 0:
        return quota.give_back(arrival, item.rate), 0.0
    return quota.admit(arrival, item.rate, item.at)


def forget(connection: Connection, items: Sequence[float]) -> Sequence[int]:
    """Forget who may send as much as ever at these times; return how many were forgotten, a thousand at most each."""
    return [_FORGET.run(connection, now=now, most=MOST).rowcount for now in items]
