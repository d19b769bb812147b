"""Fixtures that every room's tests share, and the room that a test marked `alone` has to itself."""

import fcntl
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest
import structlog

from pillarbox import telemetry
from pillarbox.store import keeper
from tests.running import Pillarbox

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


@pytest.fixture(autouse=True)
def _log_of_its_own() -> None:
    """Leave no test the log of one before it: a logger once used keeps the manner that it was set up with."""
    structlog.reset_defaults()
    for logger in (telemetry.road, keeper.log):
        vars(logger).pop("bind", None)
