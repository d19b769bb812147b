"""Group commit: whatever waits to be written shares one transaction and one fsync, never another's failure."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection

from pillarbox.core.errors import NotKept
from pillarbox.store.engine import Store, driver_error, is_away, is_passing, reason
from pillarbox.store.submissions import keep

T = TypeVar("T")
R = TypeVar("R")
Batch = Callable[[Connection, Sequence[T]], Sequence[R]]
"""A store function: takes the items that share a transaction, returns one result for each, in their order."""

MAX_BATCH = 256
LINGER = 0.005
"""Seconds to gather company while jobs come faster than they are written: a transaction's cost is shared by more."""
TRIES = 4
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024

log = structlog.get_logger("pillarbox.store")


@dataclass(slots=True)
class _Job:
    function: Batch[Any, Any]
    item: Any
    size: int
    future: "asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None


class Keeper:
    """The one thread of a process that writes. Every job is answered exactly once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jobs: deque[_Job] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="keeper", daemon=True)
        self._refused: int | None = None
        """While the store is away: how many messages were refused."""

    def start(self) -> None:
        """Begin to write. All that run jobs share one event loop."""
        self._thread.start()

    async def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    async def run(self, function: Batch[T, R], item: T, *, size: int = 0) -> R:
        """Return the function's result for this item once it is on disk (fsync).

        `size` is in bytes and counts against the bound of what may wait. Raises NotKept when too much waits or when
        the store can't be written, and whatever the function raises for this item.
        """
        job = _Job(function, item, size, asyncio.get_running_loop().create_future())
        with self._changed:
            full = len(self._jobs) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES
            if self._closing or (size and full):  # a job without size settles what was kept before: it always fits
                raise NotKept
            self._jobs.append(job)
            self._bytes += size
            self._changed.notify()
        result: R = await job.future
        return result

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                self._write_at_last(batch)
            except Exception as error:
                if is_away(error) or len(batch) == 1:
                    self._refuse(batch, error)
                else:
                    self._write_one_by_one(batch)
            else:
                self._recover()
            batch[0].future.get_loop().call_soon_threadsafe(_answer, batch)

    def _next_batch(self) -> list[_Job]:
        """Wait for jobs; an empty list means that the keeper closes and nothing waits."""
        if self._jobs:  # they came while the last batch was written
            time.sleep(LINGER)
        with self._changed:
            while not self._jobs and not self._closing:
                self._changed.wait()
            batch = [self._jobs.popleft() for _ in range(min(len(self._jobs), MAX_BATCH))]
            self._bytes -= sum(job.size for job in batch)
            return batch

    def _write_at_last(self, batch: Sequence[_Job]) -> None:
        """Write; again, where two transactions were in each other's way and the database gave one of them up."""
        for _ in range(TRIES - 1):
            try:
                return self._write(batch)
            except Exception as error:
                if not is_passing(error):
                    raise
        return self._write(batch)

    def _write(self, batch: Sequence[_Job]) -> None:
        groups: dict[Batch[Any, Any], list[_Job]] = {}
        for job in batch:
            groups.setdefault(job.function, []).append(job)
        with self._store.writing() as connection:
            for function, jobs in groups.items():
                results = function(connection, [job.item for job in jobs])
                for job, result in zip(jobs, results, strict=True):
                    job.result = result

    def _write_one_by_one(self, batch: Sequence[_Job]) -> None:
        for job in batch:
            try:
                self._write([job])
            except Exception as error:
                self._refuse([job], error)
            else:
                self._recover()

    def _refuse(self, batch: Sequence[_Job], error: Exception) -> None:
        """Give every job of the batch the error; say why, but of a store that is away only when that begins."""
        for job in batch:
            job.error = error if isinstance(error, NotKept) else NotKept()
            job.error.__cause__ = error if error is not job.error else error.__cause__
        if self._refused is None or not is_away(error):
            log.error("not_kept", error=type(driver_error(error)).__name__, reason=reason(error))
        if is_away(error):
            self._refused = (self._refused or 0) + sum(job.function is keep for job in batch)

    def _recover(self) -> None:
        if self._refused is not None:
            log.warning("kept_again", refused=self._refused)
            self._refused = None


def _answer(batch: Sequence[_Job]) -> None:
    for job in batch:
        if job.future.done():
            continue
        if job.error:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
