"""How the store itself is doing: how safely it writes, its newest message, and the letters that do not get away."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from pillarbox.core.delivery import State
from pillarbox.store import held
from pillarbox.store.statements import is_postgresql
from pillarbox.store.tables import deliveries, submissions


@dataclass(frozen=True, slots=True)
class Condition:
    """What the store says of itself. Times are seconds since the epoch, None where there is nothing."""

    weaknesses: tuple[str, ...]
    """What a power cut could take that was thanked for, in the database's own words; empty: nothing."""
    newest_at: float | None
    waiting: int
    waiting_since: float | None
    failed: int
    held: int = 0
    """Messages with signs of spam that nobody has judged yet."""


def look(connection: Connection) -> Condition:
    """Return how the store is doing at this moment."""
    letters = select(func.count(), func.min(deliveries.c.created_at))
    waiting, since = connection.execute(letters.where(deliveries.c.state == State.WAITING)).one()
    failed, _ = connection.execute(letters.where(deliveries.c.state == State.FAILED)).one()
    return Condition(
        weaknesses=weaknesses(connection),
        newest_at=connection.execute(select(func.max(submissions.c.received_at))).scalar_one(),
        waiting=waiting,
        waiting_since=since,
        failed=failed,
        held=held.count(connection),
    )


def weaknesses(connection: Connection) -> tuple[str, ...]:
    """Return what a power cut could take that was thanked for, in the database's own words.

    PostgreSQL's synchronous_commit is no danger to us, whose transactions ask for it: it tells how a server is meant.
    """
    return _weaknesses_of_postgresql(connection) if is_postgresql(connection) else _weaknesses_of_sqlite(connection)


def _weaknesses_of_sqlite(connection: Connection) -> tuple[str, ...]:
    journal = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()).lower()
    synchronous = int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())
    return () if journal == "wal" and synchronous >= 2 else (f"journal {journal}", f"synchronous {synchronous}")


def _weaknesses_of_postgresql(connection: Connection) -> tuple[str, ...]:
    found = connection.execute(_WEAK_SETTINGS).all()
    return tuple(f"{name} = {value}" for name, value in found)


_WEAK_SETTINGS = text("""
    SELECT name, setting FROM pg_settings
    WHERE (name IN ('fsync', 'full_page_writes') AND setting = 'off')
       OR (name = 'synchronous_commit' AND setting IN ('off', 'local')) ORDER BY name
""")
