"""What happens because time has passed, not because somebody wrote."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from pillarbox.core.errors import NotKept
from pillarbox.store import arrivals, confirmations, idempotency, purging
from pillarbox.store.engine import Store
from pillarbox.store.keeper import Batch, Keeper
from pillarbox.store.purging import Sweep, Swept
from pillarbox.telemetry import road

TIDY_EVERY = 60.0
PURGE_EVERY = 3_600.0
_TRIES_TO_EMPTY_THE_WAL = 20


class Looking(Protocol):
    """Who looks for trouble every so many seconds."""

    @property
    def every(self) -> float:
        """Seconds between two looks."""

    async def look(self) -> None:
        """Look once."""


class Pinging(Protocol):
    """Who tells a server elsewhere that all is well, every so many seconds."""

    @property
    def every(self) -> float:
        """Seconds between two pings."""

    async def ping(self) -> None:
        """Ping once."""


class Purging(Protocol):
    """Who erases what is old, every so many seconds."""

    @property
    def every(self) -> float:
        """Seconds between two times."""

    async def purge(self) -> None:
        """Erase once."""


@dataclass(frozen=True, slots=True)
class Chore:
    """One thing to do `every` so many seconds, first after `waits` seconds."""

    name: str
    every: float
    do: Callable[[], Awaitable[None]]
    waits: float = 0.0


class Chores:
    """The chores of the process that dispatches, each at its own pace: a slow one delays no other."""

    def __init__(
        self,
        keeper: Keeper,
        alarms: Looking | None = None,
        ping: Pinging | None = None,
        purge: Purging | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keeper = keeper
        self._clock = clock
        self._chores = [Chore("tidy", TIDY_EVERY, self.tidy)]
        if alarms:
            # Not at once: what was late while nobody dispatched is to leave first, not to be alarmed about.
            self._chores.append(Chore("look", alarms.every, alarms.look, waits=alarms.every))
        if ping:
            self._chores.append(Chore("ping", ping.every, ping.ping))
        if purge:
            self._chores.append(Chore("purge", purge.every, purge.purge))

    async def run(self) -> None:
        """Do every chore at its times until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for chore in self._chores:
                tasks.create_task(_repeat(chore))

    async def tidy(self) -> None:
        """Cancel confirmations that could not leave for 48 hours; forget who was confirmed more than a day ago.

        And forget the keys whose time is over, and whom no limit holds any more: each message may bring one of both.
        """
        now = self._clock()
        if cancelled := await self._keeper.run(confirmations.cancel_stale, now):
            road.warning("confirmations_cancelled", count=cancelled)
        await self._keeper.run(confirmations.forget, now - confirmations.DAY)
        for forget in (idempotency.forget, arrivals.forget):
            while await self._keeper.run(forget, now):
                pass


class Purge:
    """Erases messages older than `retention` (seconds; None keeps them), and what is kept for 30 days alone.

    Those are messages that were dropped, and from which network a message came.
    """

    every = PURGE_EVERY

    def __init__(
        self,
        keeper: Keeper,
        store: Store,
        *,
        retention: float | None,
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeper = keeper
        self._store = store
        self._retention = retention
        self._clock = clock or store.clock
        self._lingers = retention is not None
        """Whether something erased may still be read in the WAL, as after a purge that was killed."""
        self._monotonic = monotonic
        self._ahead = self._clock() - monotonic()
        self._not_before = monotonic()

    async def purge(self) -> None:
        """Erase what is too old, and see that it is overwritten in the store's files. Raises NotKept."""
        now = self._clock()
        if self._was_set(now):
            return
        if self._store.drop_copy(before=now - min(self._retention or purging.A_MONTH, purging.A_MONTH)):
            road.info("copy_dropped", meaning="what the last upgrade had copied aside")
        lingered, self._lingers = self._lingers, True
        messages, letters = await self._erase(purging.erase_dropped, Sweep(now, now - purging.A_MONTH))
        if self._retention is not None:
            of_age = await self._erase(purging.erase_old, Sweep(now, now - self._retention))
            messages, letters = messages + of_age[0], letters + of_age[1]
        networks = await self._forget(now - purging.A_MONTH)
        if messages or networks:
            road.info("purged", messages=messages, letters=letters, networks=networks)
        self._lingers = bool(lingered or messages or networks)
        if self._lingers:
            await self._empty_the_wal()

    def _was_set(self, now: float) -> bool:
        """Whether the clock was set by more than an hour within the last day: an age by it may be none."""
        ahead = now - self._monotonic()
        if abs(ahead - self._ahead) > 3_600:
            road.warning("purge_put_off", meaning="the clock was set: nothing is erased for a day")
            self._ahead, self._not_before = ahead, self._monotonic() + confirmations.DAY
        return self._monotonic() < self._not_before

    async def _erase(self, function: Batch[Sweep, Swept], sweep: Sweep) -> tuple[int, int]:
        """Erase batch by batch; return how many messages and letters."""
        messages = letters = 0
        while True:
            swept = await self._keeper.run(function, sweep)
            messages, letters = messages + swept.messages, letters + swept.letters
            if swept.goes_on is None:
                return messages, letters
            sweep = replace(sweep, after=swept.goes_on)

    async def _forget(self, before: float) -> int:
        forgotten = 0
        while number := await self._keeper.run(purging.forget_clients, before):
            forgotten += number
        return forgotten

    async def _empty_the_wal(self) -> None:
        """Try until nobody reads or writes at that moment; what is left then is tried again the next time."""
        for _ in range(_TRIES_TO_EMPTY_THE_WAL):
            if await asyncio.to_thread(self._store.erase_traces):
                self._lingers = False
                return
            await asyncio.sleep(0.5)


async def _repeat(chore: Chore) -> None:
    await asyncio.sleep(chore.waits)
    while True:
        try:
            await chore.do()
        except NotKept:
            road.debug("chores_put_off", chore=chore.name)
        except Exception as error:  # border: one chore
            road.error("chore_failed", chore=chore.name, exc_info=error)
        await asyncio.sleep(chore.every)
