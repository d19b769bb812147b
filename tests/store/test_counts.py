"""Counts are added up in the store, whoever counted; how things stand is read where the letters lie."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.house import ADA, keep, on_both, open_store, rows, to_ada, to_bob, until

from pillarbox.core.delivery import Purpose, State
from pillarbox.store import counts, deliveries, ways
from pillarbox.store.counts import Bookkeeper, Standing
from pillarbox.store.deliveries import Revival
from pillarbox.store.keeper import Keeper
from pillarbox.store.sqlite_file import SqliteStore
from pillarbox.store.submissions import NewDelivery
from pillarbox.telemetry import ACCEPTED, DELIVERING, TURNED_AWAY, Tallies

pytestmark = [pytest.mark.anyio, on_both]

ACCEPTED_HERE = (ACCEPTED.name, (("form", "contact"),))


@dataclass
class Books:
    """A store, what writes to it, and what one process counted."""

    folder: Path
    store: SqliteStore
    keeper: Keeper
    own: Tallies
    books: Bookkeeper

    def standing(self) -> Standing:
        return self.books.survey()


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Books]:
    store = open_store(tmp_path)
    keeper = Keeper(store)
    keeper.start()
    own = Tallies()
    yield Books(tmp_path, store, keeper, own, Bookkeeper(store, keeper, own=own, every=0.01))
    await keeper.close()
    store.close()


async def test_what_several_processes_counted_is_added_up(made: Books) -> None:
    other = Bookkeeper(made.store, made.keeper, own=Tallies())
    for _ in range(3):
        made.own.count(ACCEPTED, "contact")
        made.own.count(TURNED_AWAY, "TOO_LONG")
        other._own.count(ACCEPTED, "contact")
        await made.books.flush()
    await other.flush()
    found, _ = made.books.read()
    assert found == {ACCEPTED_HERE: 6, (TURNED_AWAY.name, (("code", "TOO_LONG"),)): 3}


async def test_counts_that_share_a_batch_are_all_counted(made: Books) -> None:
    with made.store.writing() as connection:
        counts.add(connection, [{ACCEPTED_HERE: 2.0}, {ACCEPTED_HERE: 3.0}, {("other", ()): 1.0}])
    assert made.books.read()[0] == {ACCEPTED_HERE: 5, ("other", ()): 1}


async def test_what_is_counted_is_written_down_by_itself_and_only_once(made: Books) -> None:
    made.own.count(ACCEPTED, "contact")
    made.own.observe(DELIVERING, 3.0, "default")
    made.books.start()
    await until(lambda: made.books.read()[0])
    await made.books.stop()
    assert made.books.read()[0] == {
        ACCEPTED_HERE: 1,
        ("pillarbox_delivery_seconds_bucket", (("way", "default"), ("le", "5.0"))): 1,
        ("pillarbox_delivery_seconds_sum", (("way", "default"),)): 3,
    }


async def test_stopping_writes_down_what_is_left(made: Books) -> None:
    books = Bookkeeper(made.store, made.keeper, own=made.own, every=3_600)
    books.start()
    made.own.count(ACCEPTED, "contact")
    await books.stop()
    assert made.books.read()[0] == {ACCEPTED_HERE: 1}


@pytest.mark.only_sqlite
async def test_counts_outlive_a_store_that_is_away(made: Books) -> None:
    path, elsewhere = made.folder / "pillarbox.db", made.folder / "elsewhere"
    path.rename(elsewhere)
    for _ in range(3):
        made.own.count(ACCEPTED, "contact")
        await made.books.flush()
    elsewhere.rename(path)
    await made.books.flush()
    assert made.books.read()[0] == {ACCEPTED_HERE: 3}


async def test_letters_are_seen_by_state_way_and_purpose_with_the_age_of_the_oldest(made: Books) -> None:
    held = NewDelivery(Purpose.NOTIFICATION, ADA, ADA, "other", State.HELD)
    failed = NewDelivery(Purpose.CONFIRMATION, ADA, ADA, "other", State.FAILED)
    for at in (100.0, 200.0, 300.0):
        await keep(made.keeper, to_ada(), to_bob(), to_ada(State.SENT), at=at)
    await keep(made.keeper, held, failed, at=400.0)
    piles = {(one.state, one.way, one.purpose): (one.number, one.oldest_at) for one in made.standing().letters}
    assert piles == {
        ("waiting", "default", "notification"): (3, 100.0),
        ("waiting", "default", "confirmation"): (3, 100.0),
        ("held", "other", "notification"): (1, 400.0),
        ("failed", "other", "confirmation"): (1, 400.0),
    }


async def test_shut_ways_and_open_alarms_are_seen_and_those_that_are_over_are_not(made: Books) -> None:
    await rows(
        made.keeper, "INSERT INTO ways (name, shut_since, note) VALUES ('a', 5.0, 'login refused'), ('b', NULL, '')"
    )
    for key, kind, closed_at in (("1", "way_shut", None), ("2", "way_shut", None), ("3", "letters_late", 9.0)):
        await rows(made.keeper, "INSERT INTO alarms VALUES (?, ?, '', '', 1.0, ?, 1, 2.0, 0)", key, kind, closed_at)
    standing = made.standing()
    assert [(way.name, way.since, way.note) for way in standing.shut] == [("a", 5.0, "login refused")]
    assert standing.alarms == {"way_shut": 2}


@pytest.mark.only_sqlite
async def test_a_look_at_what_waits_does_not_read_what_was_sent(made: Books) -> None:
    plan = await rows(made.keeper, f"EXPLAIN QUERY PLAN {counts._LETTERS}")
    first = next(step for *_, step in plan if "deliveries" in step)
    assert "USING INDEX deliveries_due" in first


async def test_a_letter_that_is_sent_again_does_not_hide_that_others_wait_for_longer(made: Books) -> None:
    await keep(made.keeper, at=100.0)
    await keep(made.keeper, at=200.0)
    await rows(made.keeper, "UPDATE deliveries SET state = 'failed' WHERE id = 1")
    await made.keeper.run(deliveries.revive, Revival((1,), ways=("default",), now=900.0))
    (pile,) = made.standing().letters
    assert (pile.number, pile.oldest_at) == (2, 200.0)


async def test_the_newest_sign_of_life_takes_the_place_of_the_one_before(made: Books) -> None:
    for at in (5.0, 7.0):
        await made.keeper.run(ways.beat, at)
    assert await rows(made.keeper, "SELECT at FROM pulse") == [(7.0,)]
