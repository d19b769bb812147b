"""What was counted, and how things stand: what health checks and metrics are read from.

Counts are for curves, never for messages: those are counted where they lie. A process writes its own down every ten
seconds and when it stops, so kill -9 takes the last ten seconds of counts with it, and a store that is away at the end
takes what was counted since.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from pillarbox.core.errors import NotKept
from pillarbox.store.engine import Store
from pillarbox.store.keeper import Keeper
from pillarbox.store.statements import Statement
from pillarbox.store.tables import alarms, counts, ways
from pillarbox.telemetry import Counts, Labels, Tallies, tallies

FLUSH_EVERY = 10.0

# One row a key and in their order, so that two writers can neither meet a row twice nor wait for each other in a ring.
_ADD = Statement(
    """
    INSERT INTO counts (name, labels, value) SELECT name, labels, value FROM $rows AS v WHERE true
    ON CONFLICT (name, labels) DO UPDATE SET value = counts.value + excluded.value
    """,
    rows="name text, labels text, value float8",
)
# A letter that is sent again by hand is as young as that, whatever its number.
_LETTERS = text("""
    SELECT 'waiting', way, purpose, count(*), min(created_at) FROM deliveries WHERE state = 'waiting'
    GROUP BY way, purpose
    UNION ALL
    SELECT 'held', way, purpose, count(*), min(created_at) FROM deliveries WHERE state = 'held' GROUP BY way, purpose
    UNION ALL
    SELECT 'failed', way, purpose, count(*), min(created_at) FROM deliveries WHERE state = 'failed'
    GROUP BY way, purpose
""")


@dataclass(frozen=True, slots=True)
class Pile:
    """So many letters of one purpose stand in one state, at one way out; the oldest was made at `oldest_at`."""

    state: str
    way: str
    purpose: str
    number: int
    oldest_at: float


@dataclass(frozen=True, slots=True)
class ShutWay:
    """A way out that is shut, since when, and the server's words; they may hold addresses."""

    name: str
    since: float
    note: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand at one moment: letters that wait, are held or failed, shut ways out, open alarms by kind."""

    letters: tuple[Pile, ...]
    shut: tuple[ShutWay, ...]
    alarms: dict[str, int]


def add(connection: Connection, items: Sequence[Counts]) -> Sequence[None]:
    """Add what processes counted to what was counted before."""
    sums: dict[tuple[str, Labels], float] = {}
    for item in items:
        for key, number in item.items():
            sums[key] = sums.get(key, 0) + number
    rows = sorted([name, json.dumps(labels), number] for (name, labels), number in sums.items())
    _ADD.run(connection, rows)
    return [None] * len(items)


def find(connection: Connection) -> Counts:
    """Return all that was ever counted and written down."""
    rows = connection.execute(select(counts.c.name, counts.c.labels, counts.c.value))
    return {(name, tuple(map(tuple, json.loads(labels)))): value for name, labels, value in rows}


def survey(connection: Connection) -> Standing:
    """Return how things stand."""
    open_alarms = select(alarms.c.kind, func.count()).where(alarms.c.closed_at.is_(None)).group_by(alarms.c.kind)
    shut = select(ways.c.name, ways.c.shut_since, ways.c.note).where(ways.c.shut_since.is_not(None))
    return Standing(
        letters=tuple(Pile(*row) for row in connection.execute(_LETTERS)),
        shut=tuple(ShutWay(*row) for row in connection.execute(shut.order_by(ways.c.name))),
        alarms={str(kind): int(number) for kind, number in connection.execute(open_alarms)},
    )


class Bookkeeper:
    """Writes down what this process counts, while there is anything; it belongs to one event loop once started."""

    def __init__(self, store: Store, keeper: Keeper, *, own: Tallies = tallies, every: float = FLUSH_EVERY) -> None:
        self._store = store
        self._keeper = keeper
        self._own = own
        self._every = every
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write down."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write down what is left, while the keeper still takes it."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self.flush()

    async def flush(self) -> None:
        """Write down what was counted until now; while the store is away it stays in memory, bounded by its labels."""
        if not (taken := self._own.take()):
            return
        try:
            await self._keeper.run(add, taken)
        except NotKept:
            self._own.give_back(taken)

    def read(self) -> tuple[Counts, Standing]:
        """Return what was counted and how things stand, at one moment. Raises NotKept when the store can't be read."""
        with self._store.reading() as connection:
            return find(connection), survey(connection)

    def survey(self) -> Standing:
        """Return how things stand. Raises NotKept when the store can't be read."""
        with self._store.reading() as connection:
            return survey(connection)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.flush()
