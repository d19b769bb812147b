"""Letters in hand: claimed under a lease, settled behind a fence."""

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, text, update

from pillarbox.core.alarm import without_addresses
from pillarbox.core.confirming import fold
from pillarbox.core.delivery import Delivery, Purpose, State
from pillarbox.core.submission import Submission
from pillarbox.store import clocks, confirmations, digests, suppressions, ways
from pillarbox.store.statements import CLAIMING, Ids, Statement, claiming, hold, is_postgresql
from pillarbox.store.submissions import revive
from pillarbox.store.suppressions import Reason, Suppression
from pillarbox.store.tables import deliveries
from pillarbox.store.ways import Outage, Room, Shut


@dataclass(frozen=True, slots=True)
class Wish:
    """What a way's loop asks for: at most `limit` letters, leased for `lease` seconds from `now`.

    Of letters that were claimed before without any outcome, at most `suspects`: who handled them may have died of one.
    None where several share the database and the clock `was_set` lately, or `now` is found not to be its server's time
    (`checked`): what looks as if its lease were over may be in somebody's hand.
    `confirmations_per_hour` counts over all forms, `confirmations_per_client` those to visitors of one network; None is
    no bound. `budget` is what the way may send: at most so many letters in so many seconds, each of them. `tells` asks
    for the first owner's letter after an outage of so many seconds to say what happened.
    """

    way: str
    limit: int
    now: float
    lease: float
    confirmations_per_hour: int | None
    suspects: int = 1
    budget: tuple[tuple[int, float], ...] = ()
    tells: float | None = None
    confirmations_per_client: int | None = None
    was_set: bool = False
    checked: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """A letter in hand: the delivery, its submission, the fence, and the claims without outcome (this one included).

    `row` is the submission as it lies in the store. It is read when its letter is composed, not when it is claimed: one
    that can't be read harms its own letter and no other of the claim. `others` are the rows of what a digest carries
    beside it; `preface` is (shut since, the server's words) for the first letter after an outage.
    """

    delivery: Delivery
    row: tuple[object, ...]
    claim: int
    unanswered: int
    preface: tuple[float, str] | None = None
    others: tuple[tuple[object, ...], ...] = ()

    @property
    def submission(self) -> Submission:
        """What the letter is about. Raises ValueError and its like for a row that doesn't hold what we wrote."""
        return revive(self.row)

    @property
    def submissions(self) -> list[Submission]:
        """All that a digest is about, oldest first. Raises as `submission` does."""
        return [self.submission, *map(revive, self.others)]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a wish brought; `next_due_at` is when the next letter of the way comes due, None when none waits.

    `shut` says that the way is shut: then there is at most one letter, the probe, and if nothing is due, `asks` says
    that the time has come to ask the way itself.
    """

    letters: tuple[Claimed, ...]
    next_due_at: float | None
    shut: Shut | None = None
    asks: bool = False


_DUE = Statement("""
    SELECT $gather(id), count(*), coalesce(sum(confirms), 0) FROM (
        SELECT id, CASE WHEN purpose = 'confirmation' THEN 1 ELSE 0 END AS confirms FROM (
            SELECT id, purpose FROM deliveries WHERE way = :way AND state = 'waiting' AND unanswered > 0
            AND due_at <= :now ORDER BY due_at, id LIMIT :suspects $skip_locked) AS suspects
        UNION ALL
        SELECT id, 0 AS confirms FROM (
            SELECT id FROM deliveries WHERE way = :way AND state = 'waiting' AND purpose = 'notification'
            AND due_at <= :now AND unanswered = 0 ORDER BY due_at, id LIMIT :limit $skip_locked) AS owners
        UNION ALL
        SELECT id, 1 AS confirms FROM (
            SELECT id FROM deliveries WHERE way = :way AND state = 'waiting' AND purpose = 'confirmation'
            AND due_at <= :now AND unanswered = 0 ORDER BY due_at, id LIMIT :room $skip_locked) AS visitors
        LIMIT :limit) AS due
""")
_CLAIM = Statement("""
    UPDATE deliveries SET claim = claim + 1, unanswered = unanswered + 1, due_at = :until WHERE id $in_ids
""")
_NEXT_DUE = text("""
    SELECT (SELECT min(due_at) FROM deliveries
            WHERE way = :way AND state = 'waiting' AND purpose = 'notification' AND unanswered = 0),
           (SELECT min(due_at) FROM deliveries
            WHERE way = :way AND state = 'waiting' AND purpose = 'confirmation' AND unanswered = 0),
           (SELECT min(due_at) FROM deliveries WHERE way = :way AND state = 'waiting' AND unanswered > 0)
""")
_FOR_A_PROBE = """
    FROM deliveries WHERE way = :way AND state = 'waiting' AND purpose = :purpose AND due_at <= :now
    AND (unanswered = 0 OR :suspects > 0)
"""
_COUNT_FOR_A_PROBE = text(f"SELECT count(*) {_FOR_A_PROBE}")
_DUE_FOR_A_PROBE = Statement(f"SELECT id {_FOR_A_PROBE} ORDER BY due_at, id LIMIT 1 OFFSET :turn $skip_locked")
_OLDEST_OWNERS = Statement("""
    SELECT id FROM deliveries WHERE id $in_ids AND purpose = 'notification' ORDER BY id LIMIT 1
""")
_PREFACE = text("UPDATE deliveries SET preface = :preface WHERE id = :id")
_TAKEN = Statement("""
    SELECT $all(
        d.id, d.purpose, d.recipient, d.way, d.due_at, d.attempts, d.created_at, d.note, d.claim, d.unanswered,
        d.digest_id, d.preface, s.id, s.form, s.received_at, s.language, s.answers, s.held_for)
    FROM deliveries d JOIN submissions s ON s.id = d.submission_id WHERE d.id $in_ids AND d.state = 'waiting'
""")
_SETTLE = Statement(
    """
    UPDATE deliveries SET state = v.state, due_at = v.due_at, attempts = v.attempts, note = v.note, unanswered = 0,
                          settled_at = v.settled_at,
                          outcome = CASE WHEN deliveries.outcome = 'refused' AND v.outcome IN ('blocked', 'deferred')
                                         THEN 'refused' ELSE v.outcome END,
                          preface = CASE WHEN v.outcome = 'blocked' THEN NULL ELSE preface END
    FROM $rows AS v
    WHERE deliveries.id = v.id AND (v.state = 'sent' OR (deliveries.claim = v.claim AND deliveries.state = 'waiting'))
    RETURNING deliveries.id
    """,
    rows="id bigint, claim bigint, state text, due_at float8, attempts bigint, note text, settled_at float8,"
    "outcome text",
)
_WRITE_ATTEMPTS = Statement(
    """
    INSERT INTO attempts (delivery_id, way, begun_at, seconds, outcome, note)
    SELECT delivery_id, way, begun_at, seconds, outcome, note FROM $rows AS v
    """,
    rows="delivery_id bigint, way text, begun_at float8, seconds float8, outcome text, note text",
)
_RENEW = Statement(
    """
    UPDATE deliveries SET due_at = v.until FROM $rows AS v
    WHERE deliveries.id = v.id AND deliveries.claim = v.claim AND deliveries.state = 'waiting'
      AND deliveries.unanswered > 0
    RETURNING deliveries.id, deliveries.claim
    """,
    rows="id bigint, claim bigint, until float8",
)
_RELEASE = Statement(
    """
    UPDATE deliveries SET due_at = v.due_at, unanswered = unanswered - 1 FROM $rows AS v
    WHERE deliveries.id = v.id AND deliveries.claim = v.claim AND deliveries.state = 'waiting'
    """,
    rows="id bigint, claim bigint, due_at float8",
)


@claiming
def claim(connection: Connection, items: Sequence[Wish]) -> Sequence[Claims]:
    """Return for each wish its due letters, owners' before confirmations, oldest first, now leased to the caller.

    One claims at a time, on however many machines: budgets, probes and confirmations are bounds over all of them.
    """
    return [_claim(connection, _with_care(connection, wish)) for wish in items]


def _with_care(connection: Connection, wish: Wish) -> Wish:
    is_unsure = wish.was_set and is_postgresql(connection)
    if is_unsure or (wish.checked and clocks.is_off(connection, wish.now)):
        return replace(wish, suspects=0)
    return wish


def _claim(connection: Connection, wish: Wish) -> Claims:
    shut, outage = ways.fetch(connection, wish.way, now=wish.now, tells=wish.tells)
    if shut and wish.now < shut.probe_at:
        return Claims((), shut.probe_at, shut)
    budget = ways.room(connection, wish.way, wish.budget, now=wish.now)
    room, room_at = _room_for_confirmations(connection, wish, budget)
    limit = min(wish.limit, budget.letters if budget else wish.limit)
    due: dict[str, Any] = {
        "way": wish.way,
        "now": wish.now,
        "limit": limit,
        "room": min(room, limit),
        "suspects": wish.suspects,
    }
    if shut:
        return _claim_a_probe(connection, wish, due, shut=shut, outage=outage)
    ids, count, confirming = tuple(_DUE.run(connection, **due).one()) if limit else ((), 0, 0)
    letters = _take(connection, wish, ids, confirms=bool(confirming), outage=outage) if count else ()
    if not limit and budget:
        return Claims((), budget.opens_at)
    return Claims(letters, wish.now if count == limit else _next_due(connection, wish, room_at))


def _claim_a_probe(
    connection: Connection, wish: Wish, due: dict[str, Any], *, shut: Shut, outage: Outage | None
) -> Claims:
    """Claim the letter that tries a shut way, an owner's if there is one; keep others from trying meanwhile.

    All take turns: one that shuts the way by itself would keep it shut for the others.
    """
    until = wish.now + wish.lease
    for purpose in Purpose if due["limit"] else ():
        about = due | {"purpose": purpose}
        waiting = connection.execute(_COUNT_FOR_A_PROBE, about).scalar_one()
        if waiting and (due["room"] or purpose is Purpose.NOTIFICATION):
            chosen = _DUE_FOR_A_PROBE.run(connection, **about, turn=shut.probes % waiting).scalar()
            if chosen is None:  # somebody has just what would be the last of them in hand: it is soon known
                return Claims((), wish.now + 1.0, shut)
            ways.begin_probe(connection, wish.way, until=until)
            confirms = purpose is Purpose.CONFIRMATION
            letters = _take(connection, wish, [chosen], confirms=confirms, outage=outage)
            return Claims(letters, until, shut)
    if shut.by_letter:
        return Claims((), None, shut)
    ways.begin_probe(connection, wish.way, until=until)
    return Claims((), until, shut, asks=True)


def _take(
    connection: Connection, wish: Wish, ids: Ids, *, confirms: bool, outage: Outage | None
) -> tuple[Claimed, ...]:
    _CLAIM.run(connection, ids=ids, until=wish.now + wish.lease)
    if confirms:
        confirmations.choose(connection, ids, now=wish.now, per_client=wish.confirmations_per_client)
    if outage:
        _let_one_tell(connection, wish.way, ids, outage=outage)
    rows = _TAKEN.find(connection, ids=ids)
    others = digests.carried(connection, [row[0] for row in rows if row[0] == row[10]])
    return tuple(sorted((_claimed(row, others.get(row[0], ())) for row in rows), key=_order))


def _let_one_tell(connection: Connection, way: str, ids: Ids, *, outage: Outage) -> None:
    teller = _OLDEST_OWNERS.run(connection, ids=ids).scalar()
    if teller is not None:
        connection.execute(_PREFACE, {"id": teller, "preface": json.dumps([outage.since, outage.note])})
        ways.let_tell(connection, way, teller)


def _order(letter: Claimed) -> tuple[bool, int]:
    return letter.delivery.purpose is Purpose.CONFIRMATION, letter.delivery.id


def _room_for_confirmations(connection: Connection, wish: Wish, budget: Room | None) -> tuple[int, float]:
    """Return how many confirmations may go now, and from when on the next one may."""
    if budget and not budget.confirmations:
        return 0, budget.opens_at
    most = min(wish.limit, budget.confirmations) if budget else wish.limit
    return confirmations.room(connection, per_hour=wish.confirmations_per_hour, most=most, now=wish.now)


def _next_due(connection: Connection, wish: Wish, room_at: float) -> float | None:
    suspects_at = 0.0 if wish.suspects else wish.now + 1.0  # the end of the one in hand wakes its loop before
    found = connection.execute(_NEXT_DUE, {"way": wish.way}).one()
    not_before = (0.0, room_at, suspects_at)
    return min((max(pair) for pair in zip(found, not_before, strict=True) if pair[0] is not None), default=None)


def _claimed(row: Sequence[Any], others: tuple[tuple[object, ...], ...]) -> Claimed:
    identifier, purpose, recipient, way, due_at, attempts, created_at, note, fence, unanswered = row[:10]
    digest_id, preface, submission_id = row[10:13]
    delivery = Delivery(
        identifier,
        submission_id,
        Purpose(purpose),
        recipient,
        way,
        State.WAITING,
        due_at,
        attempts,
        created_at,
        note,
        digest_id,
    )
    told = None if preface is None else tuple(json.loads(preface))
    return Claimed(delivery, tuple(row[12:]), fence, unanswered, told, others)


@dataclass(frozen=True, slots=True)
class Attempt:
    """When a letter was tried (seconds since the epoch), and for how many seconds."""

    begun_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a letter in hand. `settled_at` is None while the letter goes on waiting.

    `outcome` is its kind in lower case; `attempt` is None when nothing was tried; `dissolves` sets free what a digest
    carries; `tells` says that the letter was to tell of an outage; `no_mailbox`, that a mail server knows no such
    mailbox as this confirmation's.
    """

    delivery: Delivery
    claim: int
    settled_at: float | None
    outcome: str | None = None
    attempt: Attempt | None = None
    dissolves: bool = False
    tells: bool = False
    no_mailbox: bool = False


def settle(connection: Connection, items: Sequence[Settlement]) -> Sequence[None]:
    """Write what became of each letter: SENT always counts, anything else only while the claim is still ours.

    So does what follows for others, which a digest carries or which wait for an outage to be told. A mailbox that its
    mail server does not know gets no further confirmation, from the same moment on.
    """
    rows = [_row(item) for item in items]
    if any(item.tells for item in items):
        hold(connection, CLAIMING)
    with closing(_SETTLE.run(connection, sorted(rows, key=_number))) as done:  # row by row: only for whom it matters
        with_others = [item for item in items if item.tells or item.delivery.digest_id == item.delivery.id]
        written = set(done.scalars()) if with_others else set()
    _write_attempts(connection, items)
    suppressions.note_refused(connection, [_suppression(item) for item in items if item.no_mailbox])
    for item in with_others:
        if item.delivery.id not in written:
            continue
        if item.delivery.digest_id == item.delivery.id:
            _settle_the_carried(connection, item)
        if item.tells and item.delivery.state is State.SENT:
            ways.told(connection, item.delivery.way)
        elif item.tells:
            ways.let_tell(connection, item.delivery.way, None)
    return [None] * len(items)


def _row(item: Settlement) -> list[Any]:
    after = item.delivery
    told = [after.state, after.due_at, after.attempts, after.note, item.settled_at, item.outcome]
    return [after.id, item.claim, *told]


def _number(row: Sequence[Any]) -> int:
    return int(row[0])


def _write_attempts(connection: Connection, items: Iterable[Settlement]) -> None:
    tried = [
        [item.delivery.id, item.delivery.way, attempt.begun_at, attempt.seconds, item.outcome or "", item.delivery.note]
        for item in items
        if (attempt := item.attempt)
    ]
    if tried:
        _WRITE_ATTEMPTS.run(connection, tried)


def _suppression(item: Settlement) -> Suppression:
    delivery, since = item.delivery, item.settled_at or item.delivery.due_at
    return Suppression(fold(delivery.recipient), Reason.REFUSED, since, without_addresses(delivery.note))


def _settle_the_carried(connection: Connection, item: Settlement) -> None:
    carrier, state, note = item.delivery.id, item.delivery.state, item.delivery.note
    if item.dissolves:
        digests.dissolve(connection, carrier)
    elif item.settled_at is not None:
        digests.follow(
            connection, carrier, state=state, outcome=item.outcome or "", note=note, settled_at=item.settled_at
        )


def renew(connection: Connection, items: Sequence[tuple[int, int, float]]) -> Sequence[bool]:
    """Extend leases: (delivery id, claim, until) each; tell of each if it is, since only the newest claim's is."""
    renewed = {tuple(row) for row in _RENEW.run(connection, sorted(items))}
    return [(identifier, fence) in renewed for identifier, fence, _until in items]


def release(connection: Connection, items: Sequence[tuple[int, int, float]]) -> Sequence[None]:
    """Give letters back unbegun: (delivery id, claim, due at) each; the claim counts as if it had not been."""
    _RELEASE.run(connection, sorted(items))
    return [None] * len(items)


def void_leases(connection: Connection, items: Sequence[float]) -> Sequence[None]:
    """Make every letter in a dead dispatcher's hands due at the given time. Only for the one that may dispatch."""
    for now in items:
        in_hand = (deliveries.c.state == State.WAITING) & (deliveries.c.unanswered > 0) & (deliveries.c.due_at > now)
        connection.execute(update(deliveries).where(in_hand).values(due_at=now))
    return [None] * len(items)
