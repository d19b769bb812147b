"""The second half of the road: claim, compose, send, settle. One loop a way out."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Protocol, TypeVar

from pillarbox.core.delivery import (
    MAX_CLAIMS_WITHOUT_OUTCOME,
    Blocked,
    Cancelled,
    Deferred,
    GivenUp,
    Outcome,
    Schedule,
    Sent,
    State,
    after,
)
from pillarbox.core.errors import NotKept
from pillarbox.core.letter import Letter
from pillarbox.store import claims, ways
from pillarbox.store.claims import Claimed, Settlement, Wish
from pillarbox.store.keeper import Batch, Keeper
from pillarbox.telemetry import road

T = TypeVar("T")
R = TypeVar("R")

LEASE = 30.0
RENEWALS_IN_A_LEASE = 3
FINISH_WITHIN = 20.0
STORE_RETRY = 0.5
"""Seconds until the next try when the store can't be written."""
IN_HAND_PER_CONNECTION = 16
"""Letters claimed ahead, so that no connection waits for a claim, and a claim's cost is shared by many."""


class Transport(Protocol):
    """A way out."""

    async def send(self, letter: Letter) -> Outcome:
        """Send one letter and tell what became of it; failures of the outside are outcomes, not exceptions."""

    async def check(self) -> Outcome:
        """Tell whether the way is open, without sending anything."""

    async def close(self) -> None:
        """Let go of every connection."""


Compose = Callable[[Claimed], Letter]


@dataclass(frozen=True, slots=True)
class Way:
    """One way out: its name in the store, its transport, and how many letters that sends at once.

    `poll` (seconds) is how long the loop trusts that it would be woken; None as bound of confirmations is no bound.
    """

    name: str
    transport: Transport
    connections: int
    schedule: Schedule
    poll: float
    confirmations_per_hour: int | None


@dataclass(slots=True)
class _InHand:
    claimed: Claimed
    leased_until: float
    """On the monotonic clock."""
    begun: bool = False


class Dispatcher:
    """The loop of one way out."""

    def __init__(
        self,
        way: Way,
        *,
        keeper: Keeper,
        compose: Compose,
        clock: Callable[[], float] = time.time,
        lease: float = LEASE,
    ) -> None:
        self._way = way
        self._lease = lease
        self._keeper = keeper
        self._compose = compose
        self._clock = clock
        self._wake = asyncio.Event()
        self._stopping = False
        self._claiming = asyncio.Lock()
        self._in_hand: dict[int, _InHand] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._hands = asyncio.Semaphore(way.connections)
        self._most = way.connections * IN_HAND_PER_CONNECTION
        self._shut_note: str | None = None
        self._shut_until = 0.0
        self._writing_the_way = asyncio.Lock()
        self._written_note: str | None = ""  # unknown: another process may have written that the way is shut

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
        for held in list(self._in_hand.values()):
            if not held.begun:  # what was begun may have arrived: its lease ends by itself
                await self._write(claims.release, (held.claimed.delivery.id, held.claimed.claim, now))
        await self._way.transport.close()

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self._wake.wait(), seconds)
            except TimeoutError:
                return

    async def _claim_and_begin(self) -> float:
        """Claim what is due and begin to send it; return the seconds until there is more to do."""
        room = self._room()
        if room <= 0:
            return max(self._shut_until - time.monotonic(), 0.05) if self._shut_note else self._way.poll
        has_suspect = any(held.claimed.unanswered > 1 for held in self._in_hand.values())
        wish = Wish(
            way=self._way.name,
            limit=room,
            now=self._clock(),
            lease=self._lease,
            confirmations_per_hour=self._way.confirmations_per_hour,
            suspects=0 if has_suspect else 1,
        )
        leased_until = time.monotonic() + self._lease
        try:
            found = await self._keeper.run(claims.claim, wish)
        except NotKept:  # the keeper said why
            return min(self._way.poll, STORE_RETRY)
        for claimed in found.letters:
            self._begin(claimed, leased_until)
        if len(found.letters) == room:
            return self._way.poll  # a finished letter wakes us
        if found.next_due_at is None:
            return self._way.poll
        return min(max(found.next_due_at - self._clock(), 0.01), self._way.poll)

    def _begin(self, claimed: Claimed, leased_until: float) -> None:
        if held := self._in_hand.get(claimed.delivery.id):
            # Its lease ended in our own hands, as after a long sleep or with the store away: it is still on its way.
            held.claimed, held.leased_until = claimed, leased_until
            return
        held = self._in_hand[claimed.delivery.id] = _InHand(claimed, leased_until)
        task = asyncio.create_task(self._deliver(held))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _room(self) -> int:
        """How many more letters to claim: a shut way out is tried by one letter, and only when its time has come."""
        if self._shut_note is None:
            free = self._most - len(self._in_hand)
            return free if free >= self._most // 2 else 0
        return 1 if not self._in_hand and time.monotonic() >= self._shut_until else 0

    async def _deliver(self, held: _InHand) -> None:
        async with self._hands:
            if self._stopping:
                return
            outcome = await self._send(held) if time.monotonic() < held.leased_until else None
        try:
            if outcome:
                await self._settle(held, outcome)
        finally:
            del self._in_hand[held.claimed.delivery.id]
            if self._room() > 0 or not self._in_hand:  # with empty hands the loop looks when a shut way is tried next
                self._wake.set()

    async def _send(self, held: _InHand) -> Outcome:
        if held.claimed.unanswered > MAX_CLAIMS_WITHOUT_OUTCOME:
            return GivenUp(f"claimed {MAX_CLAIMS_WITHOUT_OUTCOME} times without any outcome; it was not sent again")
        if self._shut_note is not None and time.monotonic() < self._shut_until:
            return Blocked(self._shut_note)
        try:
            letter = self._compose(held.claimed)
        except Exception as error:
            fault = token_hex(4)
            road.error("not_composed", delivery=held.claimed.delivery.id, fault=fault, exc_info=error)
            return Deferred(f"could not be composed; the log says why under {fault}")
        held.begun = True
        try:
            return await self._way.transport.send(letter)
        except Exception as error:
            road.error("transport_failed", delivery=held.claimed.delivery.id, exc_info=error)
            return Deferred(f"the way out failed in an unforeseen manner ({type(error).__name__})")

    async def _settle(self, held: _InHand, outcome: Outcome) -> None:
        """Write down what became of the letter, however long the store is away: forgetting it would send it again."""
        now = self._clock()
        settled = after(held.claimed.delivery, outcome, self._way.schedule, now)
        settled_at = None if settled.state is State.WAITING else now
        settlement = Settlement(settled, held.claimed.claim, settled_at)
        while not await self._write(claims.settle, settlement):  # noqa: ASYNC110 - nothing tells when a disk is free
            await asyncio.sleep(STORE_RETRY)
        _tell(held.claimed, outcome, settled.state)
        if held.begun:
            await self._judge_the_way(outcome)

    async def _write(self, function: Batch[T, R], item: T) -> bool:
        try:
            await self._keeper.run(function, item)
        except NotKept:
            return False
        return True

    async def _judge_the_way(self, outcome: Outcome) -> None:
        """Shut the way at a Blocked and open it at anything else, and keep the store's word on it in step."""
        if not isinstance(outcome, Blocked):
            self._shut_note = None
        elif self._shut_note is None or time.monotonic() >= self._shut_until:
            self._shut_note = outcome.note
            self._shut_until = time.monotonic() + self._way.schedule.probe
        if self._written_note == self._shut_note and not self._writing_the_way.locked():
            return
        async with self._writing_the_way:
            while self._written_note != (note := self._shut_note):  # it may turn while it is written
                written = (
                    await self._write(ways.reopen, self._way.name)
                    if note is None
                    else await self._write(ways.shut, (self._way.name, note, self._clock()))
                )
                if not written:
                    return
                self._written_note = note

    async def _keep_leases(self) -> None:
        """Renew the leases of all letters in hand by one statement."""
        while True:
            await asyncio.sleep(self._lease / RENEWALS_IN_A_LEASE)
            renewed_until = time.monotonic() + self._lease
            until = self._clock() + self._lease
            held = list(self._in_hand.values())
            leases = [(one.claimed.delivery.id, one.claimed.claim, until) for one in held]
            if all(await asyncio.gather(*(self._write(claims.renew, lease) for lease in leases))):
                for one in held:
                    one.leased_until = renewed_until


def _tell(claimed: Claimed, outcome: Outcome, state: State) -> None:
    event = type(outcome).__name__.lower()
    tell = road.info if isinstance(outcome, Sent | Cancelled) else road.warning
    delivery = claimed.delivery
    tell(
        event,
        id=delivery.submission_id,
        delivery=delivery.id,
        purpose=delivery.purpose.value,
        state=state.value,
        note=outcome.note,
    )
