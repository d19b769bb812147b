"""What happens because time has passed, not because somebody wrote."""

import asyncio
import time
from collections.abc import Callable

from pillarbox.core.errors import NotKept
from pillarbox.store import deliveries
from pillarbox.store.keeper import Keeper
from pillarbox.telemetry import road

EVERY = 60.0


class Chores:
    """The chores of the process that dispatches, once a minute and at its start."""

    def __init__(self, keeper: Keeper, *, clock: Callable[[], float] = time.time) -> None:
        self._keeper = keeper
        self._clock = clock

    async def run(self) -> None:
        """Do every chore each minute until cancelled."""
        while True:
            try:
                await self.tidy()
            except NotKept:
                road.debug("chores_put_off")
            except Exception as error:
                road.error("chore_failed", exc_info=error)
            await asyncio.sleep(EVERY)

    async def tidy(self) -> None:
        """Cancel confirmations that could not leave for 48 hours; forget who was confirmed more than a day ago."""
        now = self._clock()
        if cancelled := await self._keeper.run(deliveries.cancel_stale_confirmations, now):
            road.warning("confirmations_cancelled", count=cancelled)
        await self._keeper.run(deliveries.forget_confirmations, now - deliveries.DAY)
