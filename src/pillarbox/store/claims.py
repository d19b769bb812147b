"""Letters in hand: claimed under a lease, settled behind a fence."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text, update

from pillarbox.core.delivery import Delivery, Purpose, State
from pillarbox.core.submission import Submission
from pillarbox.store.submissions import revive
from pillarbox.store.tables import deliveries

HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a way's loop asks for: at most `limit` letters, leased for `lease` seconds from `now`.

    Of letters that were claimed before without any outcome, at most `suspects`: who handled them may have died of one.
    `confirmations_per_hour` counts over all forms; None is no bound.
    """

    way: str
    limit: int
    now: float
    lease: float
    confirmations_per_hour: int | None
    suspects: int = 1


@dataclass(frozen=True, slots=True)
class Claimed:
    """A letter in hand: the delivery, its submission, the fence, and the claims without outcome (this one included).

    `row` is the submission as it lies in the store. It is read when its letter is composed, not when it is claimed: one
    that can't be read harms its own letter and no other of the claim.
    """

    delivery: Delivery
    row: tuple[object, ...]
    claim: int
    unanswered: int

    @property
    def submission(self) -> Submission:
        """What the letter is about. Raises ValueError and its like for a row that doesn't hold what we wrote."""
        return revive(self.row)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a wish brought; `next_due_at` is when the next letter of the way comes due, None when none waits."""

    letters: tuple[Claimed, ...]
    next_due_at: float | None


_DUE = text("""
    SELECT json_group_array(id), count(*), total(confirms) FROM (
        SELECT id, purpose = 'confirmation' AS confirms FROM (
            SELECT id, purpose FROM deliveries WHERE way = :way AND state = 'waiting' AND unanswered > 0
            AND due_at <= :now ORDER BY due_at, id LIMIT :suspects)
        UNION ALL
        SELECT id, 0 AS confirms FROM (
            SELECT id FROM deliveries WHERE way = :way AND state = 'waiting' AND purpose = 'notification'
            AND due_at <= :now AND unanswered = 0 ORDER BY due_at, id LIMIT :limit)
        UNION ALL
        SELECT id, 1 AS confirms FROM (
            SELECT id FROM deliveries WHERE way = :way AND state = 'waiting' AND purpose = 'confirmation'
            AND due_at <= :now AND unanswered = 0 ORDER BY due_at, id LIMIT :room)
        LIMIT :limit)
""")
_CLAIM = text("""
    UPDATE deliveries SET claim = claim + 1, unanswered = unanswered + 1, due_at = :until
    WHERE id IN (SELECT value FROM json_each(:ids))
""")
_CANCEL_STALE = text("""
    UPDATE deliveries SET state = 'cancelled', note = 'could not leave for 48 hours', settled_at = :now, unanswered = 0
    WHERE id IN (SELECT value FROM json_each(:ids)) AND purpose = 'confirmation' AND created_at < :now - 172800
""")
# "Once a day" is decided here, by one upsert: whoever does not get its row back was not the first.
_CONFIRM = text("""
    INSERT INTO confirmations (form, mailbox, delivery_id, confirmed_at)
    SELECT form, mailbox, id, :now FROM deliveries
    WHERE id IN (SELECT value FROM json_each(:ids)) AND purpose = 'confirmation' AND state = 'waiting' ORDER BY id
    ON CONFLICT (form, mailbox) DO UPDATE SET delivery_id = excluded.delivery_id, confirmed_at = excluded.confirmed_at
    WHERE confirmations.delivery_id = excluded.delivery_id
       OR confirmations.confirmed_at <= excluded.confirmed_at - 86400
""")
_CANCEL_REPEATS = text("""
    UPDATE deliveries SET state = 'cancelled', note = 'this address had a confirmation within the last day',
                          settled_at = :now, unanswered = 0
    WHERE id IN (SELECT value FROM json_each(:ids)) AND purpose = 'confirmation' AND state = 'waiting'
      AND NOT EXISTS (SELECT 1 FROM confirmations
                      WHERE form = deliveries.form AND mailbox = deliveries.mailbox AND delivery_id = deliveries.id)
""")
_NEXT_DUE = text("""
    SELECT (SELECT min(due_at) FROM deliveries
            WHERE way = :way AND state = 'waiting' AND purpose = 'notification' AND unanswered = 0),
           (SELECT max(min(due_at), :room_at) FROM deliveries
            WHERE way = :way AND state = 'waiting' AND purpose = 'confirmation' AND unanswered = 0),
           (SELECT max(min(due_at), :suspects_at) FROM deliveries
            WHERE way = :way AND state = 'waiting' AND unanswered > 0)
""")
_IN_HAND = text("""
    SELECT json_group_array(json_array(
        d.id, d.purpose, d.recipient, d.way, d.due_at, d.attempts, d.created_at, d.note, d.claim, d.unanswered,
        s.id, s.form, s.received_at, s.language, s.answers, s.held_for))
    FROM deliveries d JOIN submissions s ON s.id = d.submission_id
    WHERE d.id IN (SELECT value FROM json_each(:ids)) AND d.state = 'waiting'
""")
_SETTLE = text("""
    UPDATE deliveries SET state = v.state, due_at = v.due_at, attempts = v.attempts, note = v.note, unanswered = 0,
                          settled_at = v.settled_at
    FROM (SELECT value ->> 0 AS id, value ->> 1 AS claim, value ->> 2 AS state, value ->> 3 AS due_at,
                 value ->> 4 AS attempts, value ->> 5 AS note, value ->> 6 AS settled_at FROM json_each(:rows)) AS v
    WHERE deliveries.id = v.id AND (v.state = 'sent' OR (deliveries.claim = v.claim AND deliveries.state = 'waiting'))
""")
_RENEW = text("""
    UPDATE deliveries SET due_at = v.until
    FROM (SELECT value ->> 0 AS id, value ->> 1 AS claim, value ->> 2 AS until FROM json_each(:rows)) AS v
    WHERE deliveries.id = v.id AND deliveries.claim = v.claim AND deliveries.state = 'waiting'
      AND deliveries.unanswered > 0
""")
_RELEASE = text("""
    UPDATE deliveries SET due_at = v.due_at, unanswered = unanswered - 1
    FROM (SELECT value ->> 0 AS id, value ->> 1 AS claim, value ->> 2 AS due_at FROM json_each(:rows)) AS v
    WHERE deliveries.id = v.id AND deliveries.claim = v.claim AND deliveries.state = 'waiting'
""")


def claim(connection: Connection, items: Sequence[Wish]) -> Sequence[Claims]:
    """Return for each wish its due letters, owners' before confirmations, oldest first, now leased to the caller."""
    return [_claim(connection, wish) for wish in items]


def _claim(connection: Connection, wish: Wish) -> Claims:
    room, room_at = _room_for_confirmations(connection, wish)
    due = {"way": wish.way, "now": wish.now, "limit": wish.limit, "room": room, "suspects": wish.suspects}
    ids, count, confirming = connection.execute(_DUE, due).one()
    letters: tuple[Claimed, ...] = ()
    if count:
        connection.execute(_CLAIM, {"ids": ids, "until": wish.now + wish.lease})
        if confirming:
            connection.execute(_CANCEL_STALE, {"ids": ids, "now": wish.now})
            connection.execute(_CONFIRM, {"ids": ids, "now": wish.now})
            connection.execute(_CANCEL_REPEATS, {"ids": ids, "now": wish.now})
        rows = json.loads(connection.execute(_IN_HAND, {"ids": ids}).scalar_one())
        letters = tuple(sorted(map(_claimed, rows), key=_order))
    next_due_at = wish.now if count == wish.limit else _next_due(connection, wish, room_at)
    return Claims(letters, next_due_at)


def _order(letter: Claimed) -> tuple[bool, int]:
    return letter.delivery.purpose is Purpose.CONFIRMATION, letter.delivery.id


def _room_for_confirmations(connection: Connection, wish: Wish) -> tuple[int, float]:
    """Return how many confirmations may go now, and from when on the next one may."""
    if wish.confirmations_per_hour is None:
        return wish.limit, 0.0
    gone, oldest = connection.execute(
        text("SELECT count(*), min(confirmed_at) FROM confirmations WHERE confirmed_at > :since"),
        {"since": wish.now - HOUR},
    ).one()
    room = wish.confirmations_per_hour - gone
    return (min(room, wish.limit), 0.0) if room > 0 else (0, oldest + HOUR)


def _next_due(connection: Connection, wish: Wish, room_at: float) -> float | None:
    suspects_at = 0.0 if wish.suspects else wish.now + 1.0  # the end of the one in hand wakes its loop before
    moments = {"way": wish.way, "room_at": room_at, "suspects_at": suspects_at}
    row = connection.execute(_NEXT_DUE, moments).one()
    return min((due_at for due_at in row if due_at is not None), default=None)


def _claimed(row: list[object]) -> Claimed:
    identifier, purpose, recipient, way, due_at, attempts, created_at, note, fence, unanswered = row[:10]
    delivery = Delivery(
        id=int(str(identifier)),
        submission_id=str(row[10]),
        purpose=Purpose(str(purpose)),
        recipient=str(recipient),
        way=str(way),
        state=State.WAITING,
        due_at=float(str(due_at)),
        attempts=int(str(attempts)),
        created_at=float(str(created_at)),
        note=str(note),
    )
    return Claimed(delivery, tuple(row[10:]), int(str(fence)), int(str(unanswered)))


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a letter in hand. `settled_at` is None while the letter goes on waiting."""

    delivery: Delivery
    claim: int
    settled_at: float | None


def settle(connection: Connection, items: Sequence[Settlement]) -> Sequence[None]:
    """Write what became of each letter: SENT always counts, anything else only while the claim is still ours."""
    rows = [
        [
            item.delivery.id,
            item.claim,
            item.delivery.state,
            item.delivery.due_at,
            item.delivery.attempts,
            item.delivery.note,
            item.settled_at,
        ]
        for item in items
    ]
    connection.execute(_SETTLE, {"rows": json.dumps(rows)})
    return [None] * len(items)


def renew(connection: Connection, items: Sequence[tuple[int, int, float]]) -> Sequence[None]:
    """Extend leases: (delivery id, claim, until) each; a claim that is no longer the newest is left alone."""
    connection.execute(_RENEW, {"rows": json.dumps(list(items))})
    return [None] * len(items)


def release(connection: Connection, items: Sequence[tuple[int, int, float]]) -> Sequence[None]:
    """Give letters back unbegun: (delivery id, claim, due at) each; the claim counts as if it had not been."""
    connection.execute(_RELEASE, {"rows": json.dumps(list(items))})
    return [None] * len(items)


def void_leases(connection: Connection, items: Sequence[float]) -> Sequence[None]:
    """Make every letter in a dead dispatcher's hands due at the given time. Only for the one that may dispatch."""
    for now in items:
        in_hand = (deliveries.c.state == State.WAITING) & (deliveries.c.unanswered > 0) & (deliveries.c.due_at > now)
        connection.execute(update(deliveries).where(in_hand).values(due_at=now))
    return [None] * len(items)
