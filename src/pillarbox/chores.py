"""What happens because time has passed, not because somebody wrote."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from pillarbox.core.errors import NotKept
from pillarbox.store import deliveries
from pillarbox.store.keeper import Keeper
from pillarbox.telemetry import road

TIDY_EVERY = 60.0


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

    async def run(self) -> None:
        """Do every chore at its times until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for chore in self._chores:
                tasks.create_task(_repeat(chore))

    async def tidy(self) -> None:
        """Cancel confirmations that could not leave for 48 hours; forget who was confirmed more than a day ago."""
        now = self._clock()
        if cancelled := await self._keeper.run(deliveries.cancel_stale_confirmations, now):
            road.warning("confirmations_cancelled", count=cancelled)
        await self._keeper.run(deliveries.forget_confirmations, now - deliveries.DAY)


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
