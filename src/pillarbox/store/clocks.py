"""What is written down in times, kept in step with a clock that was set."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

_NEWEST = text("""
    SELECT max(
        (SELECT coalesce(max(settled_at), 0.0) FROM deliveries WHERE settled_at IS NOT NULL),
        (SELECT coalesce(max(confirmed_at), 0.0) FROM confirmations),
        (SELECT coalesce(max(created_at), 0.0) FROM deliveries WHERE state = 'waiting'),
        (SELECT coalesce(max(begun_at), 0.0) FROM attempts
         WHERE delivery_id IN (SELECT id FROM deliveries WHERE state = 'waiting')))
""")
_FOLLOW_CLOCK = (
    text("""
        UPDATE deliveries SET due_at = due_at + :shift, created_at = min(created_at, :now)
        WHERE state IN ('waiting', 'digested') AND due_at > :now
    """),
    text("""
        UPDATE attempts SET begun_at = :now
        WHERE begun_at > :now AND delivery_id IN (SELECT id FROM deliveries WHERE state = 'waiting')
    """),
    text("UPDATE ways SET probe_at = probe_at + :shift WHERE probe_at > :now"),
    text("UPDATE ways SET shut_since = min(shut_since, :now) WHERE shut_since IS NOT NULL"),
    text("UPDATE confirmations SET confirmed_at = :now WHERE confirmed_at > :now"),
    text("UPDATE deliveries SET settled_at = :now WHERE settled_at > :now"),
    text("UPDATE alarms SET tell_at = tell_at + :shift WHERE tell_at > :now"),
)


def find_newest(connection: Connection, items: Sequence[None]) -> Sequence[float]:
    """Return the latest moment (seconds since the epoch) that letters and confirmations tell of; 0: there is none."""
    newest = connection.execute(_NEWEST).scalar_one()
    return [newest] * len(items)


def follow_clock(connection: Connection, items: Sequence[tuple[float, float]]) -> Sequence[None]:
    """Keep what waits in step with a clock that was set: (now, seconds it was set forward, negative for back) each.

    What was due in so many seconds still is; nothing is left in a future that is no more.
    """
    for now, shift in items:
        for statement in _FOLLOW_CLOCK:
            connection.execute(statement, {"now": now, "shift": shift})
    return [None] * len(items)
