"""The loops around dispatch and chores: wait for the right to dispatch, wake, drain, sleep, stop."""

import asyncio
import time
from collections.abc import Callable

from pillarbox.chores import Chores
from pillarbox.core.errors import NotKept
from pillarbox.dispatch import Dispatcher
from pillarbox.store import claims
from pillarbox.store.engine import DispatchLock, Store, Watch
from pillarbox.store.keeper import Keeper
from pillarbox.telemetry import road

ASK_FOR_THE_RIGHT_EVERY = 0.25
LOOK_FOR_COMMITS_EVERY = 0.1
AFTER_A_FAULT = 1.0


class Worker:
    """Dispatches from one SQLite file whenever no other process does."""

    def __init__(self, store: Store, *, keeper: Keeper, dispatcher: Dispatcher, chores: Chores) -> None:
        self._told_of_no_lock = False
        self._lock = DispatchLock(store.lock_path)
        self._watch = Watch(store)
        self._keeper = keeper
        self._dispatcher = dispatcher
        self._chores = chores
        self._clock: Callable[[], float] = time.time
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Say that something was kept."""
        self._dispatcher.wake()

    def start(self) -> None:
        """Begin to wait for the right to dispatch."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(_tell_of_the_end)

    async def stop(self) -> None:
        """Finish what is on the wire, give the leases and the right back."""
        await self._dispatcher.stop()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._watch.close()
        self._lock.release()

    async def _run(self) -> None:
        await self._take_over()
        while True:
            try:
                async with asyncio.TaskGroup() as loops:
                    loops.create_task(self._dispatcher.run())
                    loops.create_task(self._look_for_commits())
                    loops.create_task(self._chores.run())
            except* Exception as errors:  # border: one batch; a fault in one loop must not end dispatching
                road.error("dispatching_failed", exc_info=errors.exceptions[0])
            await asyncio.sleep(AFTER_A_FAULT)

    async def _take_over(self) -> None:
        """Return once this process alone dispatches and the dead one's letters are due again."""
        while True:
            if self._may_dispatch():
                try:
                    await self._keeper.run(claims.void_leases, self._clock())
                except NotKept:
                    self._lock.release()
                else:
                    road.debug("dispatching")
                    return
            await asyncio.sleep(ASK_FOR_THE_RIGHT_EVERY)

    def _may_dispatch(self) -> bool:
        try:
            return self._lock.acquire()
        except OSError as error:  # a folder that can't be written to just now
            if not self._told_of_no_lock:
                road.error("no_lock", reason=error.strerror, path=str(self._lock.path))
            self._told_of_no_lock = True
            return False

    async def _look_for_commits(self) -> None:
        """Wake the dispatcher for what other processes keep."""
        while True:
            if await asyncio.to_thread(self._watch.changed):
                self._dispatcher.wake()
            await asyncio.sleep(LOOK_FOR_COMMITS_EVERY)


def _tell_of_the_end(task: asyncio.Task[None]) -> None:
    """Say that nothing is sent any more; without this a fault of ours would be as quiet as a quiet day."""
    if not task.cancelled() and (error := task.exception()):
        road.error("dispatching_ended", exc_info=error)
