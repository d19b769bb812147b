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
from pillarbox.store.engine import Store, driver_error, gave_way, is_away, is_passing, reason
from pillarbox.store.submissions import keep

T = TypeVar("T")
R = TypeVar("R")
Batch = Callable[[Connection, Sequence[T]], Sequence[R]]
"""A store function: takes the items that share a transaction, returns one result for each, in their order."""

MAX_BATCH = 256
LINGER = 0.005
"""Seconds to gather company at most, while jobs come faster than they are written: more share a transaction's cost."""
TRIES = 4
WRITTEN_WITHIN = 20.0
"""Seconds that a visitor waits for a store that takes the message and says nothing."""
CLOSED_WITHIN = 20.0
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


class _Outage:
    """What writers of one store know together of its being away, so that it is told of once, however many meet it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._met: set[Keeper] = set()
        self._refused = 0

    def meet(self, writer: "Keeper", refused: int) -> bool:
        """Note that a writer met it and refused so many messages; tell whether it begins with that."""
        with self._lock:
            begins = not self._met
            self._met.add(writer)
            self._refused += refused
            return begins

    def end(self, writer: "Keeper") -> int | None:
        """Note that a writer writes; return how many messages were refused where that ends an outage, else None.

        Who never met it ends nothing: one may have a connection while another gets none.
        """
        with self._lock:
            if writer not in self._met:
                return None
            refused = self._refused
            self._met.clear()
            self._refused = 0
            return refused


class Keeper:
    """One thread that writes. Every job is answered exactly once."""

    def __init__(self, store: Store, *, patience: float = WRITTEN_WITHIN) -> None:
        """Write to this store; a visitor waits at most `patience` seconds for one that says nothing."""
        self._store = store
        self._patience = patience
        self._jobs: deque[_Job] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._usual = 0
        self._thread = threading.Thread(target=self._work, name="keeper", daemon=True)
        self._outage = _Outage()

    def another(self) -> "Keeper":
        """Return another writer of the same store, not yet begun; that the store is away is told of once by both."""
        made = Keeper(self._store, patience=self._patience)
        made._outage = self._outage
        return made

    def start(self) -> None:
        """Begin to write. All that run jobs share one event loop."""
        self._thread.start()

    async def close(self) -> None:
        """Write what waits, then end the thread; one that hangs in a store that answers nothing is left behind."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, CLOSED_WITHIN)

    async def run(self, function: Batch[T, R], item: T, *, size: int = 0) -> R:
        """Return the function's result for this item once it is on disk (fsync).

        `size` is in bytes and counts against the bound of what may wait. Raises NotKept when too much waits or when
        the store can't be written (of what has a size, also when it took too long: then it may be kept all the same),
        and whatever the function raises for this item.
        """
        job = _Job(function, item, size, asyncio.get_running_loop().create_future())
        with self._changed:
            full = len(self._jobs) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES
            if self._closing or (size and full):  # a job without size settles what was kept before: it always fits
                raise NotKept
            self._jobs.append(job)
            self._bytes += size
            self._changed.notify()
        try:
            async with asyncio.timeout(self._patience if size else None):
                result: R = await job.future
        except TimeoutError as error:
            raise NotKept from error
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
                    continue
            else:
                self._recover()
            _post(batch)

    def _next_batch(self) -> list[_Job]:
        """Wait for jobs; an empty list means that the keeper closes and nothing waits."""
        if self._jobs:  # they came while the last batch was written
            self._gather()
        with self._changed:
            while not self._jobs and not self._closing:
                self._changed.wait()
            batch = [self._jobs.popleft() for _ in range(min(len(self._jobs), MAX_BATCH))]
            self._bytes -= sum(job.size for job in batch)
            self._usual = len(batch)
            return batch

    def _gather(self) -> None:
        """Wait until as many are there as the last time, since those whom it answered may well ask again."""
        until = time.monotonic() + LINGER
        while len(self._jobs) < self._usual and time.monotonic() < until:
            time.sleep(LINGER / 10)

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
            for function, jobs in sorted(groups.items(), key=_comes_later):
                results = function(connection, [job.item for job in jobs])
                for job, result in zip(jobs, results, strict=True):
                    job.result = result

    def _write_one_by_one(self, batch: Sequence[_Job]) -> None:
        """Answer each job as soon as it is known; whoever locks others out makes two wait for it, and not each."""
        locked_out = 0
        for place, job in enumerate(batch):
            try:
                self._write([job])
            except Exception as error:
                locked_out += gave_way(error)
                if locked_out == 2:
                    self._refuse(batch[place:], error)
                    _post(batch[place:])
                    return
                self._refuse([job], error)
            else:
                self._recover()
            _post([job])

    def _refuse(self, batch: Sequence[_Job], error: Exception) -> None:
        """Give every job of the batch the error; say why, but of a store that is away only when that begins."""
        for job in batch:
            job.error = error if isinstance(error, NotKept) else NotKept()
            job.error.__cause__ = error if error is not job.error else error.__cause__
        if not is_away(error) or self._outage.meet(self, sum(job.function is keep for job in batch)):
            log.error("not_kept", error=type(driver_error(error)).__name__, reason=reason(error))

    def _recover(self) -> None:
        if (refused := self._outage.end(self)) is not None:
            log.warning("kept_again", refused=refused)


def _comes_later(group: tuple[Batch[Any, Any], list[_Job]]) -> bool:
    return not getattr(group[0], "is_claiming", False)


def _post(batch: Sequence[_Job]) -> None:
    """Have the batch answered by the loop that waits for it."""
    batch[0].future.get_loop().call_soon_threadsafe(_answer, batch)


def _answer(batch: Sequence[_Job]) -> None:
    for job in batch:
        if job.future.done():
            continue
        if job.error:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
