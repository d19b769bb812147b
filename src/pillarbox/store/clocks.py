"""What is written down in times, kept in step with a clock that was set."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from pillarbox.store.statements import CLAIMING, hold

_NEWEST = text("""
    SELECT coalesce(max(at), 0.0) FROM (
        SELECT max(settled_at) AS at FROM deliveries WHERE settled_at IS NOT NULL
        UNION ALL SELECT max(confirmed_at) FROM confirmations
        UNION ALL SELECT max(created_at) FROM deliveries WHERE state = 'waiting'
        UNION ALL SELECT max(begun_at) FROM attempts
        WHERE delivery_id IN (SELECT id FROM deliveries WHERE state = 'waiting')) AS moments
""")
_FOLLOW_CLOCK = (
    text("""
        UPDATE deliveries SET due_at = due_at + :shift,
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


def catch_up(connection: Connection, items: Sequence[tuple[float, float]]) -> Sequence[None]:
    """Bring back what was written under a clock that has been set back since: (now, seconds of no concern) each.

    However many ask at once, what is in the future is brought back once.
    """
    for now, slack in items:
        hold(connection, CLAIMING)
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
            connection.execute(statement, {"now": now, "shift": shift})
    return [None] * len(items)
