"""The loops around dispatch and chores: wait for the right to dispatch, wake, drain, sleep, stop."""

import asyncio
from collections.abc import Callable, Sequence

from pillarbox.chores import Chores
from pillarbox.core.errors import NotKept
from pillarbox.dispatch import Dispatcher
from pillarbox.store import claims, clocks, ways
from pillarbox.store.engine import Store
from pillarbox.store.keeper import Keeper
from pillarbox.telemetry import road

ASK_FOR_THE_RIGHT_EVERY = 0.25
LOOK_FOR_COMMITS_EVERY = 0.1
AFTER_A_FAULT = 1.0
LATE_WRITERS = 15.0
"""Seconds in which every process that writes looks at the server's clock."""


class Worker:
    """Dispatches: from one SQLite file whenever no other process does, from PostgreSQL side by side with others."""

    def __init__(
        self,
        store: Store,
        *,
        keeper: Keeper,
        dispatchers: Sequence[Dispatcher],
        chores: Chores,
        heirs: tuple[tuple[str, ...], str] | None = None,
    ) -> None:
        """Make ready; `heirs` is (every way out there is, the one that takes the letters of any other)."""
        self._told_of_no_lock = False
        self._heirs = heirs
        self._store = store
        self._right = store.right_to_dispatch()
        self._watch = store.watch()
        self._keeper = keeper
        self._dispatchers = dispatchers
        self._chores = chores
        self._clock: Callable[[], float] = store.clock
        self._ahead = self._clock() - clocks.elapsed()
        self._catch_up_at: float | None = None
        """By elapsed(); None while nothing written by a clock that was ahead is expected."""
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Say that something was kept."""
        for dispatcher in self._dispatchers:
            dispatcher.wake()

    def start(self) -> None:
        """Begin to wait for the right to dispatch."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(_tell_of_the_end)

    async def stop(self) -> None:
        """Finish what is on the wire, give the leases and the right back."""
        await asyncio.gather(*(dispatcher.stop() for dispatcher in self._dispatchers))
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._watch.close()
        self._right.release()

    async def _run(self) -> None:
        await self._take_over()
        while True:
            try:
                async with asyncio.TaskGroup() as loops:
                    for dispatcher in self._dispatchers:
                        loops.create_task(dispatcher.run())
                    loops.create_task(self._look_for_commits())
                    loops.create_task(self._chores.run())
            except* Exception as errors:  # border: one batch; a fault in one loop must not end dispatching
                road.error("dispatching_failed", exc_info=errors.exceptions[0])
            await asyncio.sleep(AFTER_A_FAULT)

    async def _take_over(self) -> None:
        """Return once this process may dispatch; shut ways are tried again at once.

        Where it is the only one, so are the letters of the dead one before it.
        """
        while True:
            if self._may_dispatch():
                try:
                    if not self._store.is_shared:
                        await self._keeper.run(claims.void_leases, self._clock())
                    await self._keeper.run(ways.try_at_once, self._clock())
                    self._ahead = self._clock() - clocks.elapsed()  # what was set before, the last one has followed
                    await self._keeper.run(clocks.catch_up, (self._clock(), clocks.A_JUMP))  # nobody saw it set
                    if self._heirs and (adopted := await self._keeper.run(ways.adopt, self._heirs)):
                        road.warning("adopted", to=self._heirs[1], letters=adopted)
                except NotKept:
                    self._right.release()
                else:
                    road.debug("dispatching")
                    return
            await asyncio.sleep(ASK_FOR_THE_RIGHT_EVERY)

    def _may_dispatch(self) -> bool:
        try:
            return self._right.acquire()
        except OSError as error:  # a folder that can't be written to just now
            if not self._told_of_no_lock:
                road.error("no_lock", reason=error.strerror, path=str(error.filename))
            self._told_of_no_lock = True
            return False

    async def _look_for_commits(self) -> None:
        """Wake the dispatcher for what other processes keep, and when the machine slept: timers stood still then."""
        while True:
            looked_at = clocks.elapsed()
            if await asyncio.to_thread(self._watch.changed):
                self.wake()
            await self._look_at_the_clock()
            await asyncio.sleep(LOOK_FOR_COMMITS_EVERY)
            if clocks.elapsed() - looked_at > clocks.A_JUMP:
                self.wake()

    async def _look_at_the_clock(self) -> None:
        """Follow a clock that was set: what waits would wait as much longer as it was set back."""
        ahead = self._clock() - clocks.elapsed()
        if abs(shift := ahead - self._ahead) < clocks.A_JUMP:
            if self._catch_up_at is not None and clocks.elapsed() >= self._catch_up_at and await self._catch_up():
                self._catch_up_at = None
            return
        if shift < 0 and not await self._follow_the_clock(shift):
            return
        self._ahead = ahead
        road.warning("clock_set", seconds=round(shift))
        self.wake()

    async def _follow_the_clock(self, shift: float) -> bool:
        if self._store.is_shared:  # every worker sees it, and the first alone moves rows
            self._catch_up_at = clocks.elapsed() + LATE_WRITERS
            return await self._catch_up()
        try:
            await self._keeper.run(clocks.follow_clock, (self._clock(), shift))
        except NotKept:
            return False
        return True

    async def _catch_up(self) -> bool:
        try:
            await self._keeper.run(clocks.catch_up, (self._clock(), clocks.A_JUMP))
        except NotKept:
            return False
        self.wake()
        return True


def _tell_of_the_end(task: asyncio.Task[None]) -> None:
    """Say that nothing is sent any more; without this a fault of ours would be as quiet as a quiet day."""
    if not task.cancelled() and (error := task.exception()):
        road.error("dispatching_ended", exc_info=error)
