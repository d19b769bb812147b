"""What every store can do, whatever keeps it: SQLite for one machine, PostgreSQL for any number."""

import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolIsEmpty

from pillarbox.core.database_words import what_to_do
from pillarbox.core.errors import NotKept

READ_ONLY = "25006"
"""PostgreSQL's word for a server that takes nothing: a standby, or one that became one (its manual, appendix A)."""
LOCKED_OUT = "55P03"
"""What was to be changed, another transaction had in hand for longer than we wait."""
_GIVEN_UP = ("40001", "40P01", "25P03")
"""A transaction that would have succeeded alone, or in time: serialization failure, deadlock, idle for too long."""


class Watch(Protocol):
    """Notices what other processes keep."""

    def changed(self) -> bool:
        """Tell whether there may be something new since the last call; cheap enough to ask ten times a second."""

    def close(self) -> None:
        """Let go of the connection."""


class Right(Protocol):
    """The right to dispatch from a store."""

    def acquire(self) -> bool:
        """Take the right if it can be had; tell whether it is ours. Raises OSError."""

    def release(self) -> None:
        """Give the right back."""


class Store(ABC):
    """One database, opened for a few writer threads and any number of readers."""

    is_shared: bool
    """Whether processes of other machines may work with it; then each may dispatch."""
    place: str
    """Where it is, for people: without a password."""

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The engine, for migrations."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[Connection]:
        """Give a connection in a transaction that may write; on leaving, it is on disk (fsync).

        Raises NotKept when nothing can be written, and what the database raises.
        """

    @abstractmethod
    def _looking(self) -> AbstractContextManager[Connection]:
        """Give a connection in a transaction that sees one moment of the database and writes nothing."""

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one moment of the database. Raises NotKept when it can't be read."""
        try:
            with self._looking() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise NotKept from error

    @abstractmethod
    def clock(self) -> float:
        """Return the time that rows are compared with, in seconds since the epoch; cheap."""

    @abstractmethod
    def watch(self) -> Watch:
        """Return what notices what others keep."""

    @abstractmethod
    def right_to_dispatch(self) -> Right:
        """Return the right to dispatch, not yet acquired."""

    @abstractmethod
    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes that would migrate out, as far as that can be done before a transaction begins."""

    @abstractmethod
    def copy_aside(self) -> None:
        """Copy what there is aside before a migration, where that is our part."""

    @abstractmethod
    def drop_copy(self, *, before: float) -> bool:
        """Take away what a migration before the given time copied aside; tell if there was any."""

    @abstractmethod
    def erase_traces(self) -> bool:
        """See to it that what was erased lies in no file any more; False while that has to wait. Raises NotKept."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection."""


def is_postgresql(url: str) -> bool:
    """Tell whether a DATABASE_URL names a PostgreSQL."""
    return url.startswith(("postgresql://", "postgres://", "postgresql+psycopg://"))


def place(url: str) -> str:
    """Return where a DATABASE_URL leads, as the store says it: without a password. Raises NotKept and ValueError."""
    if is_postgresql(url):
        from pillarbox.store import postgresql  # noqa: PLC0415 - as below

        return postgresql.place(url)
    from pillarbox.store.sqlite_file import sqlite_path  # noqa: PLC0415

    return str(sqlite_path(url))


def open_store(url: str) -> Store:
    """Return the store of a DATABASE_URL. Raises OSError, NotKept, and ValueError for a URL that names none."""
    if is_postgresql(url):
        from pillarbox.store.postgresql import PostgresqlStore  # noqa: PLC0415 - its driver takes a tenth of a second

        return PostgresqlStore(url)
    from pillarbox.store.sqlite_file import SqliteStore  # noqa: PLC0415

    return SqliteStore.open(url)


def driver_error(error: BaseException) -> BaseException:
    """Return the database driver's own error.

    SQLAlchemy's text carries the parameters, which are what visitors wrote; the driver's words do not.
    """
    if isinstance(error, NotKept) and error.__cause__:
        error = error.__cause__
    return getattr(error, "orig", None) or error


def reason(error: BaseException) -> str:
    """Say why the store can't be used, in a few words without a visitor's."""
    found = driver_error(error)
    # PostgreSQL's DETAIL and CONTEXT may hold a row.
    words = getattr(getattr(found, "diag", None), "message_primary", None) or str(found)
    first, *_ = words.strip().splitlines() or [""]
    return re.sub(r"^connection (?:failed|is bad): |FATAL: +", "", first)[:200] or "the file is gone"


def advice(error: BaseException) -> str:
    """Return what to do about a server that can't be used, in whole sentences; an empty text where nothing is known."""
    is_about_a_file = isinstance(driver_error(error), OSError | sqlite3.Error)
    return "" if is_about_a_file else what_to_do(reason(error))


def complaint(error: BaseException) -> str:
    """Return the end of a sentence: why the store can't be used, and, where that is known, what to do about it."""
    return f"{reason(error).rstrip('.')}. {advice(error)}".rstrip()


def is_away(error: BaseException) -> bool:
    """Tell whether nothing could be written just now, whatever it was; not so where another was in its way alone."""
    away = OperationalError | InterfaceError | PoolIsEmpty | NotKept | OSError
    state = getattr(driver_error(error), "sqlstate", None)
    return (isinstance(error, away) and state not in (LOCKED_OUT, *_GIVEN_UP)) or state == READ_ONLY


def gave_way(error: BaseException) -> bool:
    """Tell whether a transaction gave up because others were before it, and may succeed once they are done."""
    return is_passing(error) or getattr(driver_error(error), "sqlstate", None) == LOCKED_OUT


def is_passing(error: BaseException) -> bool:
    """Tell whether the same transaction may well succeed at once: it was in another's way, or stopped in the midst."""
    return getattr(driver_error(error), "sqlstate", None) in _GIVEN_UP
