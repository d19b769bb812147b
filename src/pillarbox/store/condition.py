"""How the store itself is doing: how safely it writes, its newest message, and the letters that do not get away."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from pillarbox.core.delivery import State
from pillarbox.store import held
from pillarbox.store.tables import deliveries, submissions


@dataclass(frozen=True, slots=True)
class Condition:
    """What the store says of itself. Times are seconds since the epoch, None where there is nothing."""

    journal: str
    synchronous: int
    newest_at: float | None
    waiting: int
    waiting_since: float | None
    failed: int
    held: int = 0
    """Messages with signs of spam that nobody has judged yet."""

    @property
    def survives_a_power_cut(self) -> bool:
        """Whether what was kept is on the disk when keeping returns (SQLite: WAL, and synchronous FULL or EXTRA)."""
        return self.journal == "wal" and self.synchronous >= 2


def look(connection: Connection) -> Condition:
    """Return how the store is doing at this moment."""
    letters = select(func.count(), func.min(deliveries.c.created_at))
    waiting, since = connection.execute(letters.where(deliveries.c.state == State.WAITING)).one()
    failed, _ = connection.execute(letters.where(deliveries.c.state == State.FAILED)).one()
    return Condition(
        journal=str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()).lower(),
        synchronous=int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one()),
        newest_at=connection.execute(select(func.max(submissions.c.received_at))).scalar_one(),
        waiting=waiting,
        waiting_since=since,
        failed=failed,
        held=held.count(connection),
    )
