"""Fixtures that every room's tests share, and the room that a test marked `alone` has to itself."""

import fcntl
import gc
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import psycopg
import pytest
import structlog

from pillarbox import telemetry
from pillarbox.store import keeper, migrating
from pillarbox.store.engine import open_store
from pillarbox.store.tables import metadata
from tests.house import ELSEWHERE
from tests.running import Pillarbox
from tests.servers.postgresql import UNSAFE, Postgresql, running_postgresql

gc.set_threshold(50_000, 50, 100)  # five thousand tests stay: looking through them took a tenth of the time

HOUSE = pytest.StashKey[tuple[FileIO, FileIO]]()
"""A run's door and room, opened by each of the processes that test side by side."""


def _paths() -> tuple[Path, Path]:
    run = f"{tempfile.gettempdir()}/pillarbox-tests-{os.environ['PYTEST_XDIST_TESTRUNUID']}"
    return Path(f"{run}.door"), Path(f"{run}.room")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Open the house where tests run side by side. Every process has done so before the first test begins."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        door, room = (FileIO(path, "a") for path in _paths())
        session.config.stash[HOUSE] = (door, room)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove its files; who still has them open goes on."""
    if HOUSE in session.config.stash:
        for path in _paths():
            path.unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run each test in the room: with others, or by itself when it is marked `alone`."""
    if HOUSE not in item.config.stash:
        return (yield)
    door, room = item.config.stash[HOUSE]
    alone = item.get_closest_marker("alone")
    with _locked(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, door):
        return (yield)


@contextmanager
def _locked(room: FileIO, how: int, door: FileIO) -> Iterator[None]:
    fcntl.flock(door, fcntl.LOCK_EX)  # who waits for an empty room stands in the door, so that it does get empty
    try:
        fcntl.flock(room, how)
    finally:
        fcntl.flock(door, fcntl.LOCK_UN)
    try:
        yield
    finally:
        fcntl.flock(room, fcntl.LOCK_UN)


@pytest.fixture
def anyio_backend() -> str:
    """Everything here runs on asyncio."""
    return "asyncio"


@pytest.fixture
def pillarbox(tmp_path: Path) -> Iterator[Pillarbox]:
    """An installation that is not started yet; whatever it starts is stopped."""
    made = Pillarbox(tmp_path)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A PostgreSQL of this test process, started when a test first asks for it."""
    with running_postgresql(**UNSAFE) as server:
        yield server


@pytest.fixture(scope="session")
def _migrated(postgresql: Postgresql) -> str:
    url = postgresql.create()
    store = open_store(url)
    migrating.upgrade(store)
    store.close()
    return url


_NOBODY = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_NOTHING = ";".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables))
_FROM_ONE = ";".join(f"SELECT setval('{name}_id_seq', 1, false)" for name in ("deliveries", "attempts"))


@pytest.fixture
def empty_postgresql(_migrated: str) -> str:
    """The DATABASE_URL of a database with our tables, in which nothing is: new ones cost ten times as much."""
    with psycopg.connect(_migrated, autocommit=True) as connection:
        connection.execute(f"{_NOBODY};{_NOTHING};{_FROM_ONE}")
    return _migrated


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for the `database` on both, except where its premise is a file."""
    if "database" in metafunc.fixturenames:
        only_a_file = metafunc.definition.get_closest_marker("only_sqlite")
        metafunc.parametrize("database", ["sqlite"] if only_a_file else ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Let the store of `tmp_path` lie in a file there, or in a PostgreSQL."""
    if request.param == "postgresql":
        ELSEWHERE[tmp_path] = request.getfixturevalue("empty_postgresql")
    yield
    ELSEWHERE.pop(tmp_path, None)


@pytest.fixture(autouse=True)
def _log_of_its_own() -> None:
    """Leave no test the log of one before it: a logger once used keeps the manner that it was set up with."""
    structlog.reset_defaults()
    for logger in (telemetry.road, keeper.log):
        vars(logger).pop("bind", None)
