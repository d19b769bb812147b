"""Chores go on whatever becomes of one of them; the ping goes out while all is well; what is old is erased."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pillarbox.alarms import Ping
from pillarbox.chores import Chores, Purge
from pillarbox.core.delivery import State
from pillarbox.core.errors import NotKept
from pillarbox.store import held, purging, submissions
from pillarbox.store.held import Drop
from pillarbox.store.purging import Sweep
from pillarbox.store.submissions import Kept
from tests.house import message, on_both, rows, to_ada, until
from tests.running import BOB, Pillarbox
from tests.running import until as until_then
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


DAY = 86_400.0
MANY = purging.MOST + 1
"""More than are erased in one transaction."""


async def keep_all(house: House, number: int, *, state: State = State.SENT, held_for: tuple[str, ...] = ()) -> None:
    """Keep so many messages that come at this moment from one network; their letters stand so."""
    written = [message(each, at=house.clock.now) for each in range(number)]
    marked = [replace(one, held_for=held_for, client="deadbeefdeadbeef") for one in written]
    keep = house.keeper.run
    await asyncio.gather(*(keep(submissions.keep, Kept(one, (to_ada(state),)), size=1_000) for one in marked))
    await rows(house.keeper, "UPDATE deliveries SET settled_at = created_at WHERE settled_at IS NULL")


def purging_in(house: House, retention: float | None) -> Purge:
    return Purge(house.keeper, house.store, retention=retention, clock=house.clock, monotonic=house.clock)


async def count(house: House) -> tuple[int, int]:
    """Return how many messages there are, and of how many the network is known."""
    ((messages, known),) = await rows(house.keeper, "SELECT count(*), count(client) FROM submissions")
    return messages, known


@on_both
async def test_as_time_goes_by_what_is_older_than_retention_is_erased_in_one_go_and_said_in_one_line(
    house: House,
):
    await keep_all(house, MANY)
    house.clock.now += 6 * DAY
    await keep_all(house, 1)
    purge = purging_in(house, 7 * DAY)
    with capture_logs() as lines:
        await purge.purge()
        assert lines == []
        house.clock.now += 1.5 * DAY
        await purge.purge()
    assert await count(house) == (1, 1)
    assert lines == [{"event": "purged", "messages": MANY, "letters": MANY, "networks": 0, "log_level": "info"}]


async def test_without_retention_messages_stay_and_only_their_networks_are_forgotten(
    house: House,
):
    await keep_all(house, MANY)
    house.clock.now += 29 * DAY
    await keep_all(house, 1)
    await purging_in(house, None).purge()
    assert await count(house) == (MANY + 1, MANY + 1)
    house.clock.now += 2 * DAY
    with capture_logs() as lines:
        await purging_in(house, None).purge()
    assert await count(house) == (MANY + 1, 1)
    assert [(line["messages"], line["networks"]) for line in lines] == [(0, MANY)]


@on_both
async def test_a_dropped_message_is_gone_thirty_days_later_with_or_without_retention(house: House):
    await keep_all(house, 1, state=State.HELD, held_for=("honeypot",))
    ((dropped,),) = await rows(house.keeper, "SELECT id FROM submissions")
    await keep_all(house, 1, state=State.HELD, held_for=("honeypot",))
    house.clock.now += 40 * DAY
    await house.keeper.run(held.drop, Drop((dropped,), house.clock.now))
    house.clock.now += 29.9 * DAY
    await purging_in(house, None).purge()
    assert (await count(house))[0] == 2
    house.clock.now += 0.2 * DAY
    await purging_in(house, None).purge()
    assert (await count(house))[0] == 1
    assert await rows(house.keeper, "SELECT 1 FROM submissions WHERE id = ?", dropped) == []


async def test_nothing_is_erased_for_a_day_after_the_clock_was_set(house: House):
    await keep_all(house, 1)
    elapsed = [0.0]
    purge = Purge(house.keeper, house.store, retention=DAY, clock=house.clock, monotonic=lambda: elapsed[0])
    house.clock.now += 365 * DAY
    await purge.purge()
    elapsed[0] += DAY - 1
    house.clock.now += DAY - 1
    await purge.purge()
    assert (await count(house))[0] == 1
    elapsed[0] += 2
    house.clock.now += 2
    await purge.purge()
    assert (await count(house))[0] == 0


async def test_what_a_purge_that_was_killed_left_in_the_wal_is_gone_after_the_next(house: House):
    def files() -> bytes:
        return b"".join(path.read_bytes() for path in house.store.path.parent.glob("pillarbox.db*"))

    await keep_all(house, 3)
    house.clock.now += 31 * DAY
    await house.keeper.run(purging.erase_old, Sweep(house.clock.now, house.clock.now - DAY))
    assert b"This is message" in files()
    await purging_in(house, DAY).purge()
    assert b"This is message" not in files()


async def test_the_copy_that_an_upgrade_left_goes_when_its_messages_would(house: House):
    aside = house.store.path.with_name("pillarbox.db.before-upgrade")
    aside.write_bytes(b"This is message 1.")
    house.clock.now = time.time() + 6 * DAY
    await purging_in(house, 7 * DAY).purge()
    assert aside.exists()
    house.clock.now += 2 * DAY
    await purging_in(house, 7 * DAY).purge()
    assert not aside.exists()


async def test_no_byte_of_what_was_purged_is_left_even_when_somebody_was_reading(house: House):
    def files() -> bytes:
        return b"".join(path.read_bytes() for path in house.store.path.parent.glob("pillarbox.db*"))

    await keep_all(house, 3)
    house.clock.now += 31 * DAY
    assert b"This is message 2." in files()
    reader = sqlite3.connect(house.store.path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM submissions").fetchone() == (3,)
    going = asyncio.create_task(purging_in(house, DAY).purge())
    await until(lambda: b"This is message 2." in files() and reader.total_changes == 0 and _is_purged(house))
    reader.close()
    await going
    assert b"This is message" not in files()
    assert b"deadbeefdeadbeef" not in files()


async def _is_purged(house: House) -> bool:
    return (await count(house))[0] == 0


def test_a_running_pillarbox_erases_what_is_older_than_retention(pillarbox: Pillarbox):
    server = pillarbox.serve()
    old, young = (pillarbox.post(BOB | {"message": f"the {age} one"})[1]["id"] for age in ("old", "young"))
    until_then(lambda: len(pillarbox.mails()) == 3)
    server.terminate()
    server.wait(30)
    with sqlite3.connect(pillarbox.database) as database:
        long_ago = time.time() - 8 * DAY
        database.execute("UPDATE submissions SET received_at = ? WHERE id = ?", (long_ago, old))
        database.execute("UPDATE deliveries SET settled_at = ? WHERE submission_id = ?", (long_ago, old))
    pillarbox.serve(RETENTION="7d")
    until_then(lambda: "purged" in pillarbox.log.read_text())
    with sqlite3.connect(pillarbox.database) as database:
        assert database.execute("SELECT id FROM submissions").fetchall() == [(young,)]
    files = lambda: b"".join(path.read_bytes() for path in pillarbox.database.parent.glob("pillarbox.db*"))  # noqa: E731
    until_then(lambda: b"the old one" not in files())
    assert b"the young one" in files()


def test_a_visitors_address_is_kept_nowhere_but_as_a_fingerprint(pillarbox: Pillarbox):
    addresses = {"198.51.100.77": "198.51.100.77", "2001:db8:77:66:55:44:33:22": "2001:db8:77:66"}
    pillarbox.serve(TRUSTED_PROXIES="127.0.0.1", LOG_LEVEL="debug")
    for address in addresses:
        assert pillarbox.post(BOB, **{"X-Forwarded-For": address})[0] == 200
        assert pillarbox.post(BOB | {"email": "no"}, **{"X-Forwarded-For": address})[0] == 400
    until_then(lambda: len(pillarbox.mails()) >= 3)
    with sqlite3.connect(pillarbox.database) as database:
        clients = {row[0] for row in database.execute("SELECT client FROM submissions")}
    assert {len(client) for client in clients} == {16}
    assert len(clients) == 2
    pillarbox.stop()
    for path in (path for path in pillarbox.folder.rglob("*") if path.is_file()):
        written = path.read_bytes()
        assert not [address for address in addresses.values() if address.encode() in written], path
