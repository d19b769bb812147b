"""Which confirmations may leave: decided when they are claimed, so that nobody can use them as a weapon.

None to who is on the suppression list, one a mailbox, form and day, so many an hour in all, and so many an hour to
visitors of one network. What may not leave is cancelled, and its note says why.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, text

from pillarbox.store.statements import Ids, Statement, claiming
from pillarbox.store.tables import confirmations

HOUR = 3_600.0
DAY = 86_400.0

_CANCEL = "UPDATE deliveries SET state = 'cancelled', settled_at = :now, unanswered = 0, note ="
_CLAIMED = """
    deliveries.id $in_ids AND deliveries.purpose = 'confirmation'
    AND deliveries.state = 'waiting'
"""
_TOO_OLD = "created_at < :now - 172800"
_CANCEL_STALE = Statement(f"{_CANCEL} 'could not leave for 48 hours' WHERE {_CLAIMED} AND {_TOO_OLD}")
_CANCEL_SUPPRESSED = Statement(f"""
    {_CANCEL} CASE listed.reason
        WHEN 'asked' THEN 'this address asked never to be written to again'
        WHEN 'refused' THEN 'its mail server says that there is no such mailbox'
        ELSE 'this address is on the suppression list' END
    FROM suppressions AS listed WHERE listed.mailbox = deliveries.mailbox AND {_CLAIMED}
""")
# A network's places go to mailboxes, in the order in which they were named: what repeats one of them, or would be a
# mailbox's second one within a day, takes no place from another. What is claimed again within
# the hour has its place already; later it asks for one like the others.
_CANCEL_CROWDED = Statement(f"""
    WITH asked AS (
        SELECT deliveries.id, s.client,
               min(deliveries.id) OVER (PARTITION BY s.client, deliveries.form, deliveries.mailbox) AS first
        FROM deliveries JOIN submissions AS s ON s.id = deliveries.submission_id
        WHERE {_CLAIMED} AND s.client IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM confirmations AS c WHERE c.form = deliveries.form AND c.mailbox = deliveries.mailbox
            AND c.delivery_id <> deliveries.id AND c.confirmed_at > :now - 86400)),
    placed AS (SELECT id, client, dense_rank() OVER (PARTITION BY client ORDER BY first) AS place FROM asked),
    gone AS (
        SELECT client, count(*) AS number FROM confirmations
        WHERE client IN (SELECT client FROM asked) AND confirmed_at > :now - 3600
        AND NOT (delivery_id $in_ids) GROUP BY client)
    {_CANCEL} :note WHERE id IN (
        SELECT placed.id FROM placed LEFT JOIN gone ON gone.client = placed.client
        WHERE placed.place + coalesce(gone.number, 0) > :most)
""")  # noqa: S608 - our own words
# "Once a day" is decided here, by one upsert: whoever does not get its row back was not the first.
_CONFIRM = Statement(f"""
    INSERT INTO confirmations (form, mailbox, delivery_id, confirmed_at, client)
    SELECT deliveries.form, deliveries.mailbox, deliveries.id, :now, s.client
    FROM deliveries JOIN submissions AS s ON s.id = deliveries.submission_id WHERE {_CLAIMED} AND NOT EXISTS (
        SELECT 1 FROM deliveries AS d WHERE d.id $in_ids AND d.purpose = 'confirmation' AND d.state = 'waiting'
        AND d.form = deliveries.form AND d.mailbox = deliveries.mailbox AND d.id < deliveries.id)
    ORDER BY deliveries.form, deliveries.mailbox
    ON CONFLICT (form, mailbox) DO UPDATE SET
        delivery_id = excluded.delivery_id, confirmed_at = excluded.confirmed_at, client = excluded.client
    WHERE confirmations.delivery_id = excluded.delivery_id
       OR confirmations.confirmed_at <= excluded.confirmed_at - 86400
""")  # noqa: S608
_CANCEL_REPEATS = Statement(f"""
    {_CANCEL} 'this address had a confirmation within the last day' WHERE {_CLAIMED}
    AND NOT EXISTS (SELECT 1 FROM confirmations AS c WHERE c.form = deliveries.form
                    AND c.mailbox = deliveries.mailbox AND c.delivery_id = deliveries.id)
""")  # noqa: S608
_CANCEL_ALL_STALE = text(f"""
    {_CANCEL} 'could not leave for 48 hours'
    WHERE state = 'waiting' AND purpose = 'confirmation' AND unanswered = 0 AND {_TOO_OLD}
""")
_GONE = text("SELECT count(*), min(confirmed_at) FROM confirmations WHERE confirmed_at > :now - 3600")


def room(connection: Connection, *, per_hour: int | None, most: int, now: float) -> tuple[int, float]:
    """Return how many (at most `most`) may be claimed now, and from when on the next one may; None is no bound."""
    if per_hour is None:
        return most, 0.0
    gone, oldest = connection.execute(_GONE, {"now": now}).one()
    left = per_hour - gone
    return (min(left, most), 0.0) if left > 0 else (0, oldest + HOUR)


def choose(connection: Connection, ids: Ids, *, now: float, per_client: int | None) -> None:
    """Cancel those confirmations among the claimed letters that may not leave; count the others.

    `per_client` bounds what leaves within an hour to visitors of one network, as far as it is known; None is no bound.
    """
    claimed: dict[str, Any] = {"ids": ids, "now": now}
    _CANCEL_STALE.run(connection, **claimed)
    _CANCEL_SUPPRESSED.run(connection, **claimed)
    if per_client is not None:
        plural = "" if per_client == 1 else "s"
        note = f"its visitor's network had {per_client} confirmation{plural} within the hour"
        _CANCEL_CROWDED.run(connection, **claimed, most=per_client, note=note)
    _CONFIRM.run(connection, **claimed)
    _CANCEL_REPEATS.run(connection, **claimed)


@claiming
def cancel_stale(connection: Connection, items: Sequence[float]) -> Sequence[int]:
    """Cancel what could not leave for 48 hours before the given time; return how many."""
    return [connection.execute(_CANCEL_ALL_STALE, {"now": now}).rowcount for now in items]


@claiming
def forget(connection: Connection, items: Sequence[float]) -> Sequence[None]:
    """Forget which addresses had a confirmation before the given time."""
    for before in items:
        connection.execute(delete(confirmations).where(confirmations.c.confirmed_at < before))
    return [None] * len(items)
