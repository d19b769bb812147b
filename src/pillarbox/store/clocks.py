"""What is written down in times, kept in step with a clock that was set."""

import time
from collections.abc import Sequence

from sqlalchemy import Connection, text

from pillarbox.store.statements import claiming, is_postgresql

LEASE = 30.0
"""Seconds that a claimed letter belongs to who claimed it, unless that one renews it."""
A_JUMP = 5.0
"""Seconds by which the clock has to be set at once, forward or back, to be no drift."""
GOES_ON = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The system's number for the clock that nobody sets; Linux has one that goes on while the machine sleeps."""

_NEWEST = text("""
    SELECT coalesce(max(at), 0.0) FROM (
        SELECT max(settled_at) AS at FROM deliveries WHERE settled_at IS NOT NULL
        UNION ALL SELECT max(confirmed_at) FROM confirmations
        UNION ALL SELECT max(created_at) FROM deliveries WHERE state = 'waiting'
        UNION ALL SELECT max(begun_at) FROM attempts
        WHERE delivery_id IN (SELECT id FROM deliveries WHERE state = 'waiting')) AS moments
""")
_NOW = text("SELECT extract(epoch FROM clock_timestamp())")
# A lease may have been written by either clock: it is to end soon, and not before whoever has it can renew it.
_FOLLOW_CLOCK = (
    text("""
        UPDATE deliveries SET due_at = CASE WHEN unanswered = 0 THEN due_at + :shift
                                            WHEN due_at < :now + :lease THEN due_at ELSE :now + :lease END,
            created_at = CASE WHEN created_at < :now THEN created_at ELSE :now END
        WHERE state IN ('waiting', 'digested') AND due_at > :now
    """),
    text("""
        UPDATE attempts SET begun_at = :now
        WHERE begun_at > :now AND delivery_id IN (SELECT id FROM deliveries WHERE state = 'waiting')
    """),
    text("UPDATE ways SET probe_at = probe_at + :shift WHERE probe_at > :now"),
    text("UPDATE ways SET shut_since = :now WHERE shut_since > :now"),
    text("UPDATE confirmations SET confirmed_at = :now WHERE confirmed_at > :now"),
    text("UPDATE deliveries SET settled_at = :now WHERE settled_at > :now"),
    text("UPDATE alarms SET tell_at = tell_at + :shift WHERE tell_at > :now"),
)


@claiming
def catch_up(connection: Connection, items: Sequence[tuple[float, float]]) -> Sequence[None]:
    """Bring back what was written under a clock that has been set back since: (now, seconds of no concern) each.

    However many ask at once, what is in the future is brought back once.
    """
    for now, slack in items:
        ahead = float(connection.execute(_NEWEST).scalar_one()) - now
        if ahead > slack:
            follow_clock(connection, [(now, -ahead)])
    return [None] * len(items)


def follow_clock(connection: Connection, items: Sequence[tuple[float, float]]) -> Sequence[None]:
    """Keep what waits in step with a clock that was set: (now, seconds it was set forward, negative for back) each.

    What was due in so many seconds still is; nothing is left in a future that is no more.
    """
    for now, shift in items:
        for statement in _FOLLOW_CLOCK:
            connection.execute(statement, {"now": now, "shift": shift, "lease": LEASE})
    return [None] * len(items)


def is_off(connection: Connection, now: float) -> bool:
    """Tell whether a time is farther from the database server's than drift; SQLite has no other clock than ours."""
    return is_postgresql(connection) and abs(float(connection.execute(_NOW).scalar_one()) - now) > A_JUMP


def elapsed() -> float:
    """Return the seconds by that clock."""
    return time.clock_gettime(GOES_ON)
