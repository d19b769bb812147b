"""Group commit shares one transaction and one fsync, never a failure; every waiter is answered, exactly once."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import Connection
from tests.house import keep, keeping, message, on_both, open_store, rows, to_ada

from pillarbox.core.errors import NotKept
from pillarbox.store import keeper as keeper_module
from pillarbox.store import submissions
from pillarbox.store.keeper import MAX_WAITING, MAX_WAITING_BYTES, Keeper
from pillarbox.store.submissions import Kept

pytestmark = [pytest.mark.anyio, on_both]


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    """What the road logs meanwhile."""
    with structlog.testing.capture_logs() as lines:
        yield lines


class Asleep:
    """A keeper that has not begun: whatever is asked of it shares a batch once it does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = open_store(folder)
        self.keeper = Keeper(self.store)
        self.asked: list[asyncio.Task[Any]] = []

    async def ask(self, function: Any, *items: Any, size: int = 1_000) -> None:
        """Put jobs into the queue."""
        self.asked += [asyncio.ensure_future(self.keeper.run(function, item, size=size)) for item in items]
        await asyncio.sleep(0)

    async def answers(self) -> list[Any]:
        """Begin, and return what everybody got: results and errors."""
        self.keeper.start()
        found = await asyncio.wait_for(asyncio.gather(*self.asked, return_exceptions=True), 30)
        await self.keeper.close()
        self.store.close()
        return found

    def kept(self) -> set[str]:
        """Return the ids on disk, as somebody else sees them."""
        with closing(open_store(self.folder)) as another, another.reading() as connection:
            return {row[0] for row in connection.exec_driver_sql("SELECT id FROM submissions")}


POISONS = {
    "an id that is taken": lambda: message(identifier="AAAA-0001-AAAA"),
    "a lone surrogate": lambda: message(identifier="half a \ud800 character"),
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS.keys())
async def test_sixty_three_honest_messages_are_kept_though_one_that_cannot_be_shares_their_batch(
    tmp_path: Path, poison: Any
) -> None:
    asleep = Asleep(tmp_path)
    honest = [message(number, identifier=f"AAAA-{number:04}-AAAA") for number in range(63)]
    together = [*honest[:40], poison(), *honest[40:]]
    await asleep.ask(submissions.keep, *(Kept(one, (to_ada(),)) for one in together))
    answers = await asleep.answers()
    assert [index for index, answer in enumerate(answers) if isinstance(answer, NotKept)] == [40]
    assert [answer for answer in answers if not isinstance(answer, NotKept)] == [one.id for one in honest]
    assert asleep.kept() == {one.id for one in honest}


async def test_messages_that_wait_together_share_one_transaction(tmp_path: Path) -> None:
    asleep = Asleep(tmp_path)
    batches: list[int] = []

    def count(_: Connection, items: Sequence[int]) -> Sequence[int]:
        batches.append(len(items))
        return items

    await asleep.ask(count, *range(64))
    assert await asleep.answers() == list(range(64))
    assert batches == [64]


async def test_each_waiter_gets_its_own_result_and_each_fault_goes_to_its_own_waiter(tmp_path: Path) -> None:
    asleep = Asleep(tmp_path)

    def double(_: Connection, items: Sequence[int]) -> Sequence[int]:
        if 13 in items:
            raise ValueError("not thirteen")
        return [2 * item for item in items]

    await asleep.ask(double, *range(20))
    answers = await asleep.answers()
    assert [answer for answer in answers if not isinstance(answer, NotKept)] == [2 * n for n in range(20) if n != 13]
    assert isinstance(answers[13], NotKept)


async def test_a_fault_in_one_function_does_not_undo_another_that_shared_its_transaction(tmp_path: Path) -> None:
    asleep = Asleep(tmp_path)

    def break_down(_: Connection, items: Sequence[None]) -> Sequence[None]:
        raise RuntimeError(f"{len(items)} too many")

    kept = message()
    await asleep.ask(submissions.keep, Kept(kept, (to_ada(),)))
    await asleep.ask(break_down, None)
    first, second = await asleep.answers()
    assert isinstance(first, str)
    assert isinstance(second, NotKept)
    assert asleep.kept() == {kept.id}


@pytest.mark.only_sqlite
async def test_more_messages_than_may_wait_are_not_kept_but_what_settles_others_always_fits(tmp_path: Path) -> None:
    asleep = Asleep(tmp_path)

    def take(_: Connection, items: Sequence[int]) -> Sequence[int]:
        return items

    await asleep.ask(take, *range(MAX_WAITING), size=1)
    with pytest.raises(NotKept):
        await asyncio.wait_for(asleep.keeper.run(take, -1, size=1), 5)
    await asleep.ask(take, -2, size=0)
    answers = await asleep.answers()
    assert answers == [*range(MAX_WAITING), -2]


@pytest.mark.only_sqlite
async def test_more_bytes_than_may_wait_are_not_kept(tmp_path: Path) -> None:
    asleep = Asleep(tmp_path)

    def take(_: Connection, items: Sequence[int]) -> Sequence[int]:
        return items

    await asleep.ask(take, 1, 2, size=MAX_WAITING_BYTES // 2)
    with pytest.raises(NotKept):
        await asyncio.wait_for(asleep.keeper.run(take, 3, size=1), 5)
    assert await asleep.answers() == [1, 2]


@pytest.mark.only_sqlite
async def test_what_was_written_no_longer_counts_against_the_bounds(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:

        def take(_: Connection, items: Sequence[int]) -> Sequence[int]:
            return items

        for number in range(3):
            assert await keeper.run(take, number, size=MAX_WAITING_BYTES) == number


async def test_closing_writes_what_waits_and_takes_no_more(tmp_path: Path) -> None:
    asleep = Asleep(tmp_path)
    waiting = [message(number) for number in range(3 * keeper_module.MAX_BATCH)]
    await asleep.ask(submissions.keep, *(Kept(one, (to_ada(),)) for one in waiting))
    asleep.keeper.start()
    closing = asyncio.ensure_future(asleep.keeper.close())
    await asyncio.sleep(0)
    with pytest.raises(NotKept):
        await asleep.keeper.run(submissions.keep, Kept(message(), ()), size=1)
    await closing
    assert None not in await asyncio.gather(*asleep.asked)
    assert asleep.kept() == {one.id for one in waiting}


async def test_a_waiter_that_went_away_takes_nobody_with_it(tmp_path: Path) -> None:
    asleep = Asleep(tmp_path)
    await asleep.ask(submissions.keep, *(Kept(message(number), (to_ada(),)) for number in range(5)))
    asleep.asked[2].cancel()
    answers = await asleep.answers()
    assert isinstance(answers.pop(2), asyncio.CancelledError)
    assert [isinstance(answer, str) for answer in answers] == [True] * 4
    assert len(asleep.kept()) == 5


@pytest.mark.only_sqlite
async def test_the_connection_that_writes_waits_for_the_disk(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        assert await rows(keeper, "PRAGMA journal_mode") == [("wal",)]
        assert await rows(keeper, "PRAGMA synchronous") == [(2,)]
        assert await rows(keeper, "PRAGMA busy_timeout") == [(5_000,)]


@pytest.mark.only_sqlite
async def test_a_database_file_that_is_gone_is_not_made_anew_and_what_it_holds_comes_back_with_it(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path) as keeper:
        first = await keep(keeper)
        path, elsewhere = tmp_path / "pillarbox.db", tmp_path / "elsewhere"
        path.rename(elsewhere)
        for _ in range(3):
            with pytest.raises(NotKept):
                await keep(keeper)
        assert not path.exists()
        elsewhere.rename(path)
        second = await keep(keeper)
        assert {row[0] for row in await rows(keeper, "SELECT id FROM submissions")} == {first, second}


@pytest.mark.only_sqlite
async def test_a_database_file_that_was_replaced_is_noticed_before_anybody_is_thanked(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    open_store(tmp_path / "other").close()
    async with keeping(tmp_path) as keeper:
        await keep(keeper)
        (tmp_path / "other" / "pillarbox.db").rename(tmp_path / "pillarbox.db")
        with pytest.raises(NotKept):
            await keep(keeper)


@pytest.mark.only_sqlite
async def test_a_wal_that_is_deleted_takes_nothing_with_it(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        thanked = [await keep(keeper) for _ in range(5)]
        for _ in range(2):
            (tmp_path / "pillarbox.db-wal").unlink()
            thanked += [await keep(keeper) for _ in range(2)]
        assert {row[0] for row in await rows(keeper, "SELECT id FROM submissions")} >= set(thanked)
        # A second look by somebody who only knows what lies on the disk, as after a kill.
        with sqlite3.connect(f"file:{tmp_path}/pillarbox.db?mode=ro", uri=True) as other:
            assert {row[0] for row in other.execute("SELECT id FROM submissions")} >= set(thanked)
            assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.only_sqlite
async def test_a_store_that_is_away_is_told_of_once_when_it_begins_and_once_when_it_ends(
    tmp_path: Path, log: list[dict[str, Any]]
) -> None:
    async with keeping(tmp_path) as keeper:
        path, elsewhere = tmp_path / "pillarbox.db", tmp_path / "elsewhere"
        for refused in (3, 2):
            path.rename(elsewhere)
            for _ in range(refused):
                with pytest.raises(NotKept):
                    await keep(keeper)
                with pytest.raises(NotKept):
                    await rows(keeper, "SELECT 1")
            elsewhere.rename(path)
            for _ in range(2):
                await keep(keeper)
    assert [(line["event"], line.get("reason"), line.get("refused")) for line in log] == [
        ("not_kept", "the file is gone", None),
        ("kept_again", None, 3),
        ("not_kept", "the file is gone", None),
        ("kept_again", None, 2),
    ]


@pytest.mark.only_sqlite
async def test_writers_of_one_store_tell_together_of_its_being_away_and_whoever_did_not_meet_it_ends_nothing(
    tmp_path: Path, log: list[dict[str, Any]]
) -> None:
    async with keeping(tmp_path) as keeper:
        second, third = keeper.another(), keeper.another()
        for writer in (second, third):
            writer.start()
        path, elsewhere = tmp_path / "pillarbox.db", tmp_path / "elsewhere"
        path.rename(elsewhere)
        for writer in (second, keeper, keeper, second):
            with pytest.raises(NotKept):
                await keep(writer)
        elsewhere.rename(path)
        await keep(third)
        assert [line["event"] for line in log] == ["not_kept"]
        for writer in (keeper, second, third):
            await keep(writer)
            await writer.close()
    assert [(line["event"], line.get("refused")) for line in log] == [("not_kept", None), ("kept_again", 4)]


async def test_a_message_that_cannot_be_kept_is_told_of_each_time_and_the_store_is_not_said_to_be_away(
    tmp_path: Path, log: list[dict[str, Any]]
) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper, identifier="AAAA-0001-AAAA")
        for _ in range(2):
            with pytest.raises(NotKept):
                await keep(keeper, identifier="AAAA-0001-AAAA")
        await keep(keeper)
    refusals = [("not_kept", "IntegrityError")], [("not_kept", "UniqueViolation")]  # as SQLite and PostgreSQL name it
    assert [(line["event"], line["error"]) for line in log] in [2 * one for one in refusals]
