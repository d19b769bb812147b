"""The SQLite file: how it is opened, and how we know that it is still the one that we write to."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from errno import ENOTDIR
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

from pillarbox.core.errors import NotKept
from pillarbox.store.engine import Right, Store, Watch

BUSY_TIMEOUT_MS = 5_000


class SqliteStore(Store):
    """A database in one file, for the processes of one machine."""

    is_shared = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = str(path)
        self.lock_path = path.with_name(path.name + ".lock")
        self.generation = 0
        """Counts up when every connection has to be made anew."""
        self._engine = create_engine(
            URL.create("sqlite", database=str(path)), creator=self._connect, hide_parameters=True
        )
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)
        self._writing = self._engine.execution_options(begins="IMMEDIATE")
        self._inodes: tuple[int, ...] = ()

    @classmethod
    def open(cls, url: str) -> "SqliteStore":
        """Return the store of a `sqlite:///` URL, with its folder made (0700) and its file 0600. Raises OSError."""
        path = sqlite_path(url)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError as taken:
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(path.parent)) from taken
        path.touch(mode=0o600)
        return cls(path)

    @property
    def engine(self) -> Engine:
        """The engine, for migrations."""
        return self._engine

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction that holds the write lock; on leaving, it is on disk (fsync).

        Raises NotKept when nothing can be written, or when the file we wrote to is no longer the file at our path.
        """
        if not self.path.exists():
            self._forget()
            raise NotKept
        try:
            with self._writing.connect() as connection:
                with connection.begin():
                    yield connection
                self._be_sure(connection)
        except SQLAlchemyError:
            self._forget()  # a connection that met a full disk or a lost file may be in any state
            raise

    @contextmanager
    def _looking(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            yield connection

    def clock(self) -> float:
        """Return this machine's time."""
        return time.time()

    def watch(self) -> Watch:
        """Return what notices other connections' commits."""
        return DataVersion(self)

    def right_to_dispatch(self) -> Right:
        """Return the lock of the one process that may dispatch."""
        return DispatchLock(self.lock_path)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes that would migrate out.

        From the first look on: SQLite waits for nobody while another connection turns a fresh file's WAL mode on.
        """
        path = self.lock_path.with_suffix(".migrating")
        with path.open("a") as handle:
            path.chmod(0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def copy_aside(self) -> None:
        """Copy a database that holds anything to `<name>.before-upgrade`, consistent even while others write."""
        with closing(sqlite3.connect(self.path)) as source:
            if not source.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return
            self._aside.touch(mode=0o600)
            with closing(sqlite3.connect(self._aside)) as target:
                source.backup(target)

    def drop_copy(self, *, before: float) -> bool:
        """Take away what a migration before the given time copied aside, since messages lie in it."""
        try:
            if self._aside.stat().st_mtime >= before:
                return False
            self._aside.unlink()
        except OSError:  # it is not there, or not ours to take away
            return False
        return True

    def erase_traces(self) -> bool:
        """Move the WAL into the database file: what was erased lies in neither (fsync).

        Waits for nobody: False while somebody reads or writes. Raises NotKept when it can't be done at all.
        """
        try:
            with self._engine.connect() as connection:
                raw = connection.connection.driver_connection
                assert raw is not None  # noqa: S101 - the connection is open
                raw.execute("PRAGMA busy_timeout=0")
                try:
                    return _checkpoint(connection)
                finally:
                    raw.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        except SQLAlchemyError as error:
            raise NotKept from error

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @property
    def _aside(self) -> Path:
        return self.path.with_name(self.path.name + ".before-upgrade")

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: where the file is missing, SQLite would make an empty one, and throw the lost one's WAL away for it.
        uri = f"file:{quote(str(self.path))}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        connection.text_factory = _readable
        return connection

    def _forget(self) -> None:
        self._engine.dispose()
        self._inodes = ()
        self.generation += 1

    def _be_sure(self, connection: Connection) -> None:
        """Raise NotKept when database or WAL were removed or replaced: SQLite would go on writing to the lost file.

        Of a lost WAL we still hold what it held: it goes into the database, and nothing was lost.
        """
        seen = tuple(_inode(Path(f"{self.path}{suffix}")) for suffix in ("", "-wal"))
        if self._inodes and seen != self._inodes:
            rescued = seen[0] == self._inodes[0] and _checkpoint(connection)
            self._forget()
            if not rescued:
                raise NotKept
            return
        self._inodes = seen


def sqlite_path(url: str) -> Path:
    """Return the file of a `sqlite:///` URL; raises ValueError when it names none."""
    database = make_url(url).database
    if not database or database == ":memory:":
        raise ValueError("name a file, like sqlite:///./data/pillarbox.db")
    return Path(database).absolute()


def _readable(raw: bytes) -> str:
    """Return the text of a cell; one that was damaged must not stop the others."""
    return raw.decode("utf-8", "replace")


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _checkpoint(connection: Connection) -> bool:
    """Move the whole WAL into the database file; tell whether all of it is there now (fsync)."""
    raw = connection.connection.driver_connection
    assert raw is not None  # noqa: S101 - the connection is open
    try:
        busy, _, _ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:
        return False
    return not busy


def _prepare(connection: DBAPIConnection, _record: object) -> None:
    # pysqlite would begin transactions by itself, too late and without the lock; the "begin" event does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=4000",
        "foreign_keys=ON",
        "secure_delete=ON",  # what is erased or rewritten lies about in the file no longer
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begins', 'DEFERRED')}")


class DataVersion:
    """Notices what other connections commit, in this process or another (SQLite's data_version)."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._connection: Connection | None = None
        self._version = 0
        self._generation = 0

    def changed(self) -> bool:
        """Tell whether anything was committed since the last call; cheap enough to ask ten times a second."""
        if self._generation != self._store.generation:
            self._generation = self._store.generation
            self.close()
        try:
            if self._connection is None:
                self._connection = self._store.engine.connect()
            version = int(self._connection.exec_driver_sql("PRAGMA data_version").scalar_one())
            self._connection.rollback()
        except SQLAlchemyError:
            self.close()
            return False
        before, self._version = self._version, version
        return version != before

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.invalidate()
            self._connection.close()
        self._connection = None
        self._version = 0  # the next connection can't know what was committed before it: it says "changed" once


class DispatchLock:
    """The right to dispatch from one SQLite file: held by one process, freed by the kernel when that process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Take the right if nobody has it; tell whether it is ours."""
        if self._handle is None:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(handle)
                if isinstance(error, BlockingIOError):
                    return False
                raise
            if os.fstat(handle).st_ino != _inode(self.path):  # removed meanwhile: others will ask for another file
                os.close(handle)
                return False
            self._handle = handle
        return True

    def release(self) -> None:
        """Give the right back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
