"""What waits stays in step with a clock that was set, whoever notices it, and however many do."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Barrier

import pytest
from tests.house import ADA, WAY, keep, keeping, message, on_both, open_store, rows, to_ada

from pillarbox.store import claims, clocks, submissions
from pillarbox.store.claims import Wish
from pillarbox.store.submissions import Kept

pytestmark = [pytest.mark.anyio, on_both]

NOW = 1_900_000_000.0
HOUR = 3_600.0


async def test_what_was_written_under_a_clock_that_was_ahead_is_brought_back_to_now(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        for at in (NOW - HOUR, NOW + HOUR):
            await keep(keeper, at=at)
        await rows(keeper, "UPDATE deliveries SET due_at = due_at + 600")
        await rows(
            keeper,
            "INSERT INTO ways (name, shut_since, note, probe_at) VALUES ('a', ?, '', ?)",
            NOW + 9,
            NOW + HOUR + 60,
        )
        await rows(
            keeper,
            "INSERT INTO confirmations (form, mailbox, delivery_id, confirmed_at) VALUES ('f', ?, 2, ?)",
            ADA,
            NOW + 9,
        )
        await rows(
            keeper,
            "INSERT INTO attempts (delivery_id, way, begun_at, seconds, outcome, note) VALUES (2, 'a', ?, 1, '', '')",
            NOW + 9,
        )
        await rows(keeper, "INSERT INTO alarms VALUES ('k', 'way_shut', 'a', '', 1.0, NULL, 1, ?, 0)", NOW + HOUR + 60)
        await keeper.run(clocks.catch_up, (NOW, 5.0))
        assert await rows(keeper, "SELECT created_at, due_at FROM deliveries ORDER BY id") == [
            (NOW - HOUR, NOW - HOUR + 600),
            (NOW, NOW + 600),
        ]
        assert await rows(keeper, "SELECT shut_since, probe_at FROM ways") == [(NOW, NOW + 60)]
        assert await rows(keeper, "SELECT confirmed_at FROM confirmations") == [(NOW,)]
        assert await rows(keeper, "SELECT begun_at FROM attempts") == [(NOW,)]
        assert await rows(keeper, "SELECT tell_at FROM alarms") == [(NOW + 60,)]


async def test_a_clock_that_is_a_little_behind_moves_nothing(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper, at=NOW + 4)
        await keeper.run(clocks.catch_up, (NOW, 5.0))
        assert await rows(keeper, "SELECT created_at, due_at FROM deliveries") == [(NOW + 4, NOW + 4)]


async def test_a_lease_ends_soon_and_not_at_once_whichever_clock_it_was_written_by(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        for at in (NOW, NOW + HOUR):
            await keep(keeper, at=at)
            await keeper.run(claims.claim, Wish(WAY, 1, at, 20.0, None, suspects=0))
        await keeper.run(clocks.catch_up, (NOW, 5.0))
        assert await rows(keeper, "SELECT due_at - ? FROM deliveries ORDER BY id", NOW) == [(20.0,), (30.0,)]


def test_of_four_that_see_the_clock_set_one_moves_what_waits(tmp_path: Path) -> None:
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(tmp_path)))
        threads = stack.enter_context(ThreadPoolExecutor(4))
        with store.writing() as connection:
            submissions.keep(connection, [Kept(message(at=NOW + 2 * HOUR), (to_ada(),))])
            connection.exec_driver_sql("UPDATE deliveries SET due_at = due_at + 18000")
        gate = Barrier(4)

        def catch_up(_: int) -> None:
            gate.wait(20)
            with store.writing() as connection:
                clocks.catch_up(connection, [(NOW, 5.0)])

        list(threads.map(catch_up, range(4)))
        with store.reading() as connection:
            assert connection.exec_driver_sql("SELECT due_at FROM deliveries").scalar_one() == NOW + 18_000
