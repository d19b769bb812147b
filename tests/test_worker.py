"""The loops around dispatch: who may dispatch, what wakes it, and that nothing ends it quietly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pillarbox.chores import Chores
from pillarbox.core.delivery import Schedule
from pillarbox.core.errors import NotKept
from pillarbox.dispatch import Dispatcher, Way
from pillarbox.store.engine import Store
from pillarbox.store.keeper import Keeper
from pillarbox.store.sqlite_file import DataVersion, DispatchLock, SqliteStore
from pillarbox.worker import Worker
from tests.house import WAY, keep, on_both, open_store, rows, until
from tests.servers.scripted_smtp import ScriptedSmtp
from tests.test_dispatch import compose
from tests.transports.letters import way_to

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def working(store: Store, mail: ScriptedSmtp) -> AsyncIterator[Keeper]:
    """Run a whole worker over the store, which polls once an hour; it is not told of what others keep."""
    keeper = Keeper(store)
    keeper.start()
    way = Way(WAY, way_to(mail), 2, Schedule((1.0,), 1.0), 3_600.0, None)
    dispatcher = Dispatcher(way, keeper=keeper, compose=compose)
    worker = Worker(store, keeper=keeper, dispatchers=[dispatcher], chores=Chores(keeper))
    worker.start()
    try:
        yield keeper
    finally:
        await worker.stop()
        await keeper.close()


async def test_the_right_to_dispatch_belongs_to_one_until_it_is_given_back(tmp_path: Path) -> None:
    first, second = DispatchLock(tmp_path / "lock"), DispatchLock(tmp_path / "lock")
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


@on_both
async def test_a_commit_of_another_connection_wakes_the_dispatcher(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    other = Keeper(open_store(tmp_path))
    other.start()
    async with ScriptedSmtp() as mail, working(store, mail):
        for number in (1, 2, 3):
            await keep(other)
            await until(lambda number=number: len(mail.accepted) == number)
    await other.close()


async def test_nobody_dispatches_while_another_holds_the_right_and_it_is_taken_as_soon_as_that_one_ends(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path)
    another = DispatchLock(store.lock_path)
    assert another.acquire()
    async with ScriptedSmtp() as mail, working(store, mail) as keeper:
        await keep(keeper)
        assert await rows(keeper, "SELECT claim FROM deliveries") == [(0,)]
        another.release()
        await until(lambda: len(mail.accepted) == 1)


async def test_a_lock_file_that_cannot_be_opened_for_a_while_is_asked_for_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.lock_path.mkdir()
    async with ScriptedSmtp() as mail, working(store, mail) as keeper:
        await keep(keeper)
        await asyncio.sleep(0)
        store.lock_path.rmdir()
        await until(lambda: len(mail.accepted) == 1)


async def test_a_watch_sees_what_others_commit_and_goes_on_after_the_store_was_opened_anew(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    watch = DataVersion(SqliteStore(store.path))
    watch.changed()
    assert not watch.changed()
    keeper = Keeper(store)
    keeper.start()
    await keep(keeper)
    assert watch.changed()
    assert not watch.changed()
    await keeper.close()
    watch.close()


async def test_a_watch_on_a_file_that_is_gone_makes_none_and_sees_the_file_that_comes_back(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    watch = DataVersion(store)
    watch.changed()
    watch.close()
    store.close()
    store.path.rename(tmp_path / "elsewhere")
    assert not watch.changed()
    assert not store.path.exists()
    (tmp_path / "elsewhere").rename(store.path)
    await until(watch.changed)
    watch.close()


async def test_a_watch_follows_the_store_to_a_file_that_took_the_old_ones_place(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    open_store(tmp_path / "other").close()
    store = open_store(tmp_path)
    keeper, watch = Keeper(store), DataVersion(store)
    keeper.start()
    await keep(keeper)
    watch.changed()
    for name in ("pillarbox.db", "pillarbox.db-wal", "pillarbox.db-shm"):
        (tmp_path / name).rename(tmp_path / f"old-{name}")
    (tmp_path / "other" / "pillarbox.db").rename(store.path)
    with pytest.raises(NotKept):
        await keep(keeper)
    watch.changed()
    assert not watch.changed()
    another = Keeper(SqliteStore(store.path))
    another.start()
    await keep(another)
    assert watch.changed()
    watch.close()
    await another.close()
    await keeper.close()
