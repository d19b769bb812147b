"""A keeper beside others on one PostgreSQL: who locks it out, who hangs, who else wants the claim."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection
from tests.house import message, to_ada

from pillarbox.core.errors import NotKept
from pillarbox.store import claims, submissions
from pillarbox.store.claims import Wish
from pillarbox.store.engine import Store
from pillarbox.store.keeper import Keeper
from pillarbox.store.submissions import Kept

pytestmark = pytest.mark.anyio


def kept() -> Kept:
    return Kept(message(), (to_ada(),))


async def together(keeper: Keeper, *asked: tuple[Any, Any]) -> list[Any]:
    """Return what came of jobs that share a batch."""
    waiting = [asyncio.ensure_future(keeper.run(function, item, size=1)) for function, item in asked]
    await asyncio.sleep(0)
    keeper.start()
    return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)


async def test_whoever_locks_others_out_makes_two_of_a_batch_wait_and_the_rest_is_refused_at_once(
    shared: Store,
) -> None:
    tried = []

    def keep_soon(connection: Connection, items: Sequence[Kept]) -> Sequence[str | None]:
        tried.append(len(items))
        connection.exec_driver_sql("SET LOCAL lock_timeout = 50")
        return submissions.keep(connection, items)

    keeper = Keeper(shared)
    with psycopg.connect(shared.place) as other:
        other.execute("LOCK TABLE submissions IN ACCESS EXCLUSIVE MODE")
        answers = await together(keeper, *[(keep_soon, kept())] * 6)
    assert [type(answer) for answer in answers] == [NotKept] * 6
    assert tried == [6, 1, 1]
    assert await keeper.run(submissions.keep, kept(), size=1)
    await keeper.close()


async def test_a_visitor_does_not_wait_for_ever_for_a_store_that_says_nothing(shared: Store) -> None:
    said = threading.Event()

    def hang(_connection: Connection, items: Sequence[None]) -> Sequence[None]:
        said.wait(30)
        return items

    keeper = Keeper(shared, patience=0.05)
    assert [type(answer) for answer in await together(keeper, (hang, None), (submissions.keep, kept()))] == [
        NotKept
    ] * 2
    said.set()
    await keeper.close()
    with shared.reading() as connection:  # nobody was thanked, and a second copy would find the first
        assert connection.exec_driver_sql("SELECT count(*) FROM submissions").scalar() == 1


async def test_what_holds_the_claim_comes_first_in_a_transaction_whatever_was_asked_before(shared: Store) -> None:
    order = []

    def touch(connection: Connection, items: Sequence[None]) -> Sequence[None]:
        order.append(connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").scalar())
        return items

    keeper = Keeper(shared)
    touched, claimed = await together(keeper, (touch, None), (claims.claim, Wish("default", 8, 0.0, 30.0, None)))
    assert (order, touched, claimed.letters) == ([1], None, ())
    await keeper.close()
