"""The loop of one way out: claim what is due, compose it, send it, settle it."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import TypeVar

from pillarbox.core.alarm import without_addresses
from pillarbox.core.confirming import has_tag
from pillarbox.core.delivery import (
    MAX_CLAIMS_WITHOUT_OUTCOME,
    Blocked,
    Cancelled,
    Deferred,
    GivenUp,
    Outcome,
    Purpose,
    Refused,
    Sent,
    State,
    after,
)
from pillarbox.core.errors import NotKept
from pillarbox.dispatch.gate import Gate
from pillarbox.dispatch.way import Compose, Way
from pillarbox.store import claims, clocks, digests, ways
from pillarbox.store.claims import Attempt, Claimed, Claims, Settlement, Wish
from pillarbox.store.digests import Gathering
from pillarbox.store.keeper import Batch, Keeper
from pillarbox.store.ways import Reopened, Shut
from pillarbox.telemetry import DELIVERING, road, tallies, tell

T = TypeVar("T")
R = TypeVar("R")

RENEWALS_IN_A_LEASE = 3
CAREFUL_FOR = 1.5
"""Leases after the clock was set: in this time who holds letters has seen it and renewed them."""
FINISH_WITHIN = 20.0
STORE_RETRY = 0.5
"""Seconds until the next try when the store can't be written."""
IN_HAND_PER_CONNECTION = 16
"""Letters claimed ahead, so that no connection waits for a claim, and a claim's cost is shared by many."""
WRITTEN_WITHIN = 0.2
"""Seconds in which a store that is well has written an outcome, even in a crowd; longer, and no letter is begun."""
GATHER_EVERY = 60.0
"""Seconds between two looks for letters that have waited long enough to leave as one."""


@dataclass(slots=True)
class _InHand:
    claimed: Claimed
    leased_until: float
    """By elapsed(): a lease ends while the machine sleeps, too. 0: it may be somebody else's."""
    probing: bool
    begun_at: float | None = None
    """On the monotonic clock; None until it is on the wire."""


def _spread() -> float:
    return 0.9 + random.random() / 5  # noqa: S311 - it spreads repeats and guards nothing


class Dispatcher:
    """The loop of one way out."""

    def __init__(
        self,
        way: Way,
        *,
        keeper: Keeper,
        compose: Compose,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = _spread,
        lease: float = clocks.LEASE,
    ) -> None:
        self._way = way
        self._lease = lease
        self._keeper = keeper
        self._compose = compose
        self._clock = clock
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._stopping = False
        self._claiming = asyncio.Lock()
        self._in_hand: dict[int, _InHand] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._hands = asyncio.Semaphore(way.connections)
        self._most = way.connections * IN_HAND_PER_CONNECTION
        self._gate = Gate(way.name, way.schedule, clock=clock, write=self._write_gate)
        self._asking = False
        self._store_is_there = asyncio.Event()
        self._unwritten: dict[int, float] = {}  # since when, on the monotonic clock; the oldest first
        self._gather_at = 0.0
        self._ahead = clock() - clocks.elapsed()
        self._careful_until = 0.0

    def wake(self) -> None:
        """Say that a letter may be due."""
        self._wake.set()

    async def run(self) -> None:
        """Send what is due, as it comes due, until stopped."""
        renewing = asyncio.create_task(self._keep_leases())
        try:
            while not self._stopping:
                self._wake.clear()
                async with self._claiming:
                    idle_for = await self._claim_and_begin()
                await self._sleep(idle_for)
        finally:
            renewing.cancel()

    async def stop(self) -> None:
        """Claim nothing more, finish what is on the wire (20 s), give the rest back."""
        self._stopping = True
        self._wake.set()
        async with self._claiming:  # what is being claimed is to be given back, too
            pass
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FINISH_WITHIN)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        now = self._clock()
        # What was begun may have arrived: its lease ends by itself.
        unbegun = [held.claimed for held in self._in_hand.values() if held.begun_at is None]
        await asyncio.gather(*(self._write(claims.release, (one.delivery.id, one.claim, now)) for one in unbegun))
        await self._way.transport.close()

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self._wake.wait(), seconds)
            except TimeoutError:
                return

    async def _claim_and_begin(self) -> float:
        """Claim what is due and begin to send it; return the seconds until there is more to do."""
        try:
            await self._pass_on_or_gather()
            room, verdicts = self._room(), self._gate.verdicts
            if room <= 0:
                return self._way.poll  # a finished letter wakes us
            leased_until = clocks.elapsed() + self._lease
            found = await self._keeper.run(claims.claim, self._wish(room))
        except NotKept:  # the keeper said why
            return min(self._way.poll, STORE_RETRY)
        if verdicts == self._gate.verdicts:
            self._gate.learn(found.shut)
        for claimed in found.letters:
            self._begin(claimed, leased_until, probing=found.shut is not None)
        if found.asks:
            self._spawn(self._ask_the_way())
        return self._idle_for(found, room)

    def _wish(self, room: int) -> Wish:
        has_suspect = any(held.claimed.unanswered > 1 for held in self._in_hand.values())
        return Wish(
            way=self._way.name,
            limit=room,
            now=self._clock(),
            lease=self._lease,
            confirmations_per_hour=self._way.confirmations_per_hour,
            suspects=0 if has_suspect else 1,
            budget=self._way.budget,
            tells=self._way.tells,
            confirmations_per_client=self._way.confirmations_per_client,
            was_set=self._was_set(),
            checked=True,
        )

    def _was_set(self) -> bool:
        """Whether the clock was set not long ago: what looks as if its lease were over may be in somebody's hand."""
        elapsed = clocks.elapsed()
        before, self._ahead = self._ahead, self._clock() - elapsed
        if abs(self._ahead - before) > clocks.A_JUMP:
            self._careful_until = elapsed + self._lease * CAREFUL_FOR
        return elapsed < self._careful_until

    def _idle_for(self, found: Claims, room: int) -> float:
        if len(found.letters) == room or found.next_due_at is None:
            return self._way.poll
        return min(max(found.next_due_at - self._clock(), 0.01), self._way.poll)

    async def _pass_on_or_gather(self) -> None:
        """Before a claim: give what a shut way holds up to its fallback, make digests of what waited for long."""
        shut, fallback = self._gate.shut, self._way.fallback
        if shut:
            # When its time has come, the next letter tries the way itself.
            if fallback and self._clock() < shut.probe_at:
                moved = await self._keeper.run(ways.pass_on, (self._way.name, fallback))
                if moved:
                    road.warning("passed_on", way=self._way.name, to=fallback, letters=moved)
        elif self._way.digest_above is not None and time.monotonic() >= self._gather_at:
            gathering = Gathering(self._way.name, self._way.digest_above, self._clock())
            if made := await self._keeper.run(digests.gather, gathering):
                road.info("gathered", way=self._way.name, digests=made)
            self._gather_at = time.monotonic() + GATHER_EVERY

    def _begin(self, claimed: Claimed, leased_until: float, *, probing: bool) -> None:
        if held := self._in_hand.get(claimed.delivery.id):
            # Its lease ended in our own hands, as after a long sleep or with the store away: it is still on its way.
            held.claimed, held.leased_until = claimed, leased_until
            return
        held = self._in_hand[claimed.delivery.id] = _InHand(claimed, leased_until, probing)
        self._spawn(self._deliver(held))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _room(self) -> int:
        """How many more letters to claim: a shut way is tried by one, and only the store says when."""
        if self._gate.shut is None:
            free = self._most - len(self._in_hand)
            return free if free >= self._most // 2 else 0
        return 0 if self._in_hand or self._asking else 1

    async def _deliver(self, held: _InHand) -> None:
        async with self._hands:
            await self._until_outcomes_are_written()
            if self._stopping:
                return
            outcome = await self._send(held) if clocks.elapsed() < held.leased_until else None
        try:
            if outcome:
                self._unwritten[held.claimed.delivery.id] = time.monotonic()
                await self._settle(held, outcome)
        finally:
            self._unwritten.pop(held.claimed.delivery.id, None)
            self._store_is_there.set()
            del self._in_hand[held.claimed.delivery.id]
            if self._room() > 0:
                self._wake.set()

    async def _until_outcomes_are_written(self) -> None:
        """Hold a letter back while the store takes no outcome: what was sent and is unwritten, a crash sends again."""
        if self._unwritten and time.monotonic() - next(iter(self._unwritten.values())) > WRITTEN_WITHIN:
            self._store_is_there.clear()
            await self._store_is_there.wait()

    async def _ask_the_way(self) -> None:
        """Find out without a letter whether a shut way is open again."""
        self._asking = True
        try:
            await self._judge(await self._way.transport.check(), probing=True)
        finally:
            self._asking = False
            self._wake.set()

    async def _send(self, held: _InHand) -> Outcome:
        if held.claimed.unanswered > MAX_CLAIMS_WITHOUT_OUTCOME:
            return GivenUp(f"claimed {MAX_CLAIMS_WITHOUT_OUTCOME} times without any outcome; it was not sent again")
        if self._gate.shut and not held.probing:
            return Blocked(self._gate.shut.note)
        try:
            letter = self._compose(held.claimed)
        except Exception as error:
            fault = token_hex(4)
            road.error("not_composed", delivery=held.claimed.delivery.id, fault=fault, exc_info=error)
            return Deferred(f"could not be composed; the log says why under {fault}")
        held.begun_at = time.monotonic()
        try:
            return await self._way.transport.send(letter, lambda: clocks.elapsed() < held.leased_until)
        except Exception as error:
            road.error("transport_failed", delivery=held.claimed.delivery.id, exc_info=error)
            return Deferred(f"the way out failed in an unforeseen manner ({type(error).__name__})")

    async def _settle(self, held: _InHand, outcome: Outcome) -> None:
        """Write down what became of the letter, however long the store is away: forgetting it would send it again."""
        is_about_a_visitor = _is_about_a_visitor(held, outcome)
        if held.begun_at is None:
            if held.probing:
                await self._gate.try_again()
        elif held.probing or not is_about_a_visitor:
            await self._judge(outcome, probing=held.probing)
        if is_about_a_visitor:
            outcome = Deferred(outcome.note)
        settlement = self._settlement(held, outcome)
        await self._write_down(settlement)
        async with self._claiming:  # one that began before may bring this letter once more: it is to find it in hand
            pass
        if settlement.claim != (newer := held.claimed.claim) and not isinstance(outcome, Sent):
            # We claimed it once more meanwhile, as when the clock is set forward: the fence kept the outcome out.
            await self._write_down(replace(settlement, claim=newer, attempt=None))
        _tell(held, outcome, settlement.delivery.state, self._clock())

    async def _write_down(self, settlement: Settlement) -> None:
        while not await self._write(claims.settle, settlement):  # noqa: ASYNC110 - nothing tells when a disk is free
            await asyncio.sleep(STORE_RETRY)

    def _settlement(self, held: _InHand, outcome: Outcome) -> Settlement:
        now, before = self._clock(), held.claimed.delivery
        settled = after(before, outcome, self._way.schedule, now=now, jitter=self._jitter())
        attempt = None
        if held.begun_at is not None:
            seconds = time.monotonic() - held.begun_at
            attempt = Attempt(now - seconds, seconds)
            if isinstance(outcome, Blocked) and not held.probing:
                # Others try the way first: a letter that shuts it by itself must not keep it shut for them.
                settled = replace(settled, due_at=now + self._way.schedule.probe)
        waits = settled.state is State.WAITING
        return Settlement(
            settled,
            held.claimed.claim,
            None if waits else now,
            outcome=_kind(outcome),
            attempt=attempt,
            # One letter of a digest may be what is refused, or what can't be composed: each goes its own way then.
            dissolves=isinstance(outcome, Refused | GivenUp) or (isinstance(outcome, Deferred) and attempt is None),
            tells=held.claimed.preface is not None,
            no_mailbox=_has_no_mailbox(held, outcome),
        )

    async def _judge(self, outcome: Outcome, *, probing: bool) -> None:
        was_shut = self._gate.shut is not None
        await self._gate.judge(outcome, probing=probing)
        if was_shut and not self._gate.shut:
            road.warning("way_opened", way=self._way.name)
            self._gather_at = 0.0

    async def _write_gate(self, shut: Shut | None) -> bool:
        if shut:
            return await self._write(ways.shut, shut)
        return await self._write(ways.reopen, Reopened(self._way.name, self._clock(), self._way.tells))

    async def _write(self, function: Batch[T, R], item: T) -> bool:
        try:
            await self._keeper.run(function, item)
        except NotKept:
            return False
        return True

    async def _keep_leases(self) -> None:
        """Renew the leases of all letters in hand by one statement."""
        while True:
            await asyncio.sleep(self._lease / RENEWALS_IN_A_LEASE)
            await asyncio.gather(*(self._renew(held) for held in self._in_hand.values()))

    async def _renew(self, held: _InHand) -> None:
        fence, leased_until = held.claimed.claim, clocks.elapsed() + self._lease
        try:
            lease = held.claimed.delivery.id, fence, self._clock() + self._lease
            renewed = await self._keeper.run(claims.renew, lease)
        except NotKept:
            return
        if held.claimed.claim == fence:  # a newer claim of ours has a lease of its own
            held.leased_until = leased_until if renewed else 0.0


def _is_about_a_visitor(held: _InHand, outcome: Outcome) -> bool:
    """Whether the way was shut in answer to an address that a visitor chose: nobody shall shut it for others so."""
    is_confirmation = held.claimed.delivery.purpose is Purpose.CONFIRMATION
    return is_confirmation and isinstance(outcome, Blocked) and outcome.at_recipient


def _has_no_mailbox(held: _InHand, outcome: Outcome) -> bool:
    """Whether a visitor's mailbox is none; a refused +tag says nothing of the mailbox that others share with it."""
    if not isinstance(outcome, Refused) or not outcome.no_mailbox:
        return False
    return held.claimed.delivery.purpose is Purpose.CONFIRMATION and not has_tag(held.claimed.delivery.recipient)


def _kind(outcome: Outcome) -> str:
    return type(outcome).__name__.lower()


def _tell(held: _InHand, outcome: Outcome, state: State, now: float) -> None:
    level = "info" if isinstance(outcome, Sent | Cancelled) else "warning"
    if isinstance(outcome, Blocked) and held.begun_at is None:
        level = "debug"  # the one that shut the way has told
    delivery = held.claimed.delivery
    if isinstance(outcome, Sent) and delivery.purpose is Purpose.NOTIFICATION:
        tallies.observe(DELIVERING, now - delivery.created_at, delivery.way)
    tell(
        _kind(outcome),
        level=level,
        way=delivery.way,
        id=delivery.submission_id,
        delivery=delivery.id,
        purpose=delivery.purpose.value,
        state=state.value,
        note=without_addresses(outcome.note) if "@" in outcome.note else outcome.note,
    )
