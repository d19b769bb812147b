"""Chores go on whatever becomes of one of them; the ping goes out while all is well."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pillarbox.alarms import Ping
from pillarbox.chores import Chores
from pillarbox.core.errors import NotKept
from tests.house import rows, until
from tests.watching import NOON, House, watching

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with watching(tmp_path) as made:
        yield made


async def test_the_ping_goes_out_while_all_is_well_and_the_store_can_be_written(house: House):
    ping = Ping(house.keeper, house.store, url=f"{house.sink.url}/ping", fetcher=house.fetcher, clock=house.clock)
    await ping.ping()
    assert [asked.target for asked in house.sink.asked] == ["/ping"]
    assert await rows(house.keeper, "SELECT at FROM pulse") == [(NOON,)]
    await house.shut(since=NOON - 1_000)
    await house.looking().look()
    await ping.ping()
    assert len(house.sink.asked) == 1
    await house.open()
    await house.looking().look()
    await ping.ping()
    assert len(house.sink.asked) == 2
    away = house.store.path.with_suffix(".away")
    house.store.path.rename(away)
    with pytest.raises(NotKept):
        await ping.ping()
    away.rename(house.store.path)
    assert len(house.sink.asked) == 2


async def test_a_ping_that_fails_is_said_once_and_once_that_it_works_again(house: House):
    ping = Ping(house.keeper, house.store, url=f"{house.sink.url}/s3cret", fetcher=house.fetcher, clock=house.clock)
    with capture_logs() as lines:
        for answer in (404, 404, 200, 200, 500):
            house.sink.answer = answer
            await ping.ping()
    assert [line["event"] for line in lines] == ["ping_failed", "ping_works_again", "ping_failed"]
    assert lines[0]["reason"] == "it answered 404"
    assert "s3cret" not in str(lines)


class Counting:
    """Looks that fail, and a ping that never ends."""

    every = 0.0

    def __init__(self) -> None:
        self.looks = self.pings = 0
        self.ending = asyncio.Event()

    async def look(self) -> None:
        """Fail."""
        self.looks += 1
        raise ZeroDivisionError

    async def ping(self) -> None:
        """Never end."""
        self.pings += 1
        await self.ending.wait()


async def test_no_chore_waits_for_another_or_ends_by_a_fault(house: House):
    counting = Counting()
    with capture_logs() as lines:
        running = asyncio.create_task(Chores(house.keeper, counting, counting).run())
        await until(lambda: counting.looks > 3)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert counting.pings == 1
    assert {(line["event"], line["chore"]) for line in lines} == {("chore_failed", "look")}
