"""Limits that machines share are one limit, however many count at once; nobody is remembered for longer than that."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.house import keeping, on_both, open_store, rows

from pillarbox.chores import Chores
from pillarbox.core import quota
from pillarbox.core.quota import Rate
from pillarbox.store import arrivals
from pillarbox.store.arrivals import Arrival
from pillarbox.store.keeper import Keeper

pytestmark = [pytest.mark.anyio, on_both]

RATE = Rate(3, 60.0)
NOW = 1_790_000_000.0


async def count(keeper: Keeper, *items: Arrival) -> list[float]:
    """Count these in one batch."""

    def together(connection, batches: Sequence[tuple[Arrival, ...]]) -> list[list[float]]:
        return [list(arrivals.count(connection, items)) for items in batches]

    return await keeper.run(together, items)


async def test_one_name_gets_what_the_rule_gives_in_one_batch_and_in_many(tmp_path):
    moments = [NOW, NOW, NOW, NOW, NOW + 10, NOW + 20, NOW + 20, NOW + 61, NOW + 200]
    expected, arrival = [], None
    for moment in moments:
        arrival, wait = quota.admit(arrival, RATE, moment)
        expected.append(wait)
    async with keeping(tmp_path) as keeper:
        assert await count(keeper, *(Arrival("together", RATE, moment) for moment in moments)) == expected
        one_by_one = [(await count(keeper, Arrival("alone", RATE, moment)))[0] for moment in moments]
    assert one_by_one == expected


async def test_names_stand_beside_each_other_with_rates_of_their_own(tmp_path):
    asked = [Arrival(name, Rate(number, 60.0), NOW) for name, number in (("b", 1), ("a", 2), ("b", 1), ("a", 2))]
    async with keeping(tmp_path) as keeper:
        assert await count(keeper, *asked) == [0.0, 0.0, 60.0, 0.0]
        assert await count(keeper, *asked) == [60.0, 30.0, 60.0, 30.0]


async def test_what_is_taken_back_may_come_again(tmp_path):
    async with keeping(tmp_path) as keeper:
        assert await count(keeper, *[Arrival("a", RATE, NOW)] * 4) == [0.0, 0.0, 0.0, 20.0]
        await count(keeper, Arrival("a", RATE, NOW, -1), Arrival("never seen", RATE, NOW, -1))
        assert await count(keeper, Arrival("a", RATE, NOW), Arrival("a", RATE, NOW)) == [0.0, 20.0]
        assert await count(keeper, *[Arrival("never seen", RATE, NOW)] * 4) == [0.0, 0.0, 0.0, 20.0]


async def test_whoever_counts_at_once_counts_together(tmp_path):
    names = [f"name {number}" for number in range(5)]
    async with keeping(tmp_path) as one:
        store = open_store(tmp_path)
        other = Keeper(store)
        other.start()
        asked = [Arrival(name, Rate(30, 3_600.0), NOW) for name in names for _ in range(20)]
        jobs = [keeper.run(arrivals.count, item) for item in asked for keeper in (one, other)]
        jobs += [other.run(arrivals.count, item) for item in reversed(asked)]
        waits = await asyncio.gather(*jobs)
        await other.close()
        store.close()
    assert waits.count(0.0) == 30 * len(names)


async def test_whom_no_limit_holds_any_more_is_forgotten(tmp_path):
    async with keeping(tmp_path) as keeper:
        await count(keeper, *(Arrival(f"early {number}", RATE, NOW) for number in range(arrivals.MOST + 1)))
        await count(keeper, Arrival("late", RATE, NOW + 50))
        await Chores(keeper, clock=lambda: NOW + 21).tidy()
        assert await rows(keeper, "SELECT name FROM arrivals") == [("late",)]
        await Chores(keeper, clock=lambda: NOW + 71).tidy()
        assert await rows(keeper, "SELECT name FROM arrivals") == []
