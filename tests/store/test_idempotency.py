"""A key stands for one message, on however many machines it is kept, and as long as it stands."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from tests.house import keeping, message, on_both, open_store, rows, to_ada

from pillarbox.core.once import A_MOMENT, WEEK, Key
from pillarbox.store import idempotency, submissions
from pillarbox.store.keeper import Keeper
from pillarbox.store.submissions import Kept

pytestmark = [pytest.mark.anyio, on_both]

NOW = 1_900_000_000.0


def kept(number: int, *, key: str = "one", digest: str = "same", at: float = NOW, lasts: float = WEEK) -> Kept:
    """Return Bob's n-th message under a key."""
    return Kept(message(at=at, identifier=f"AAAA-{number:04}-AAAA"), (to_ada(),), Key(key, digest, at + lasts))


def identifier(number: int) -> str:
    return f"AAAA-{number:04}-AAAA"


async def keep(keeper: Keeper, *items: Kept) -> Sequence[str | None]:
    """Keep these in one batch, and return what each was told."""

    def together(connection, batches):
        return [submissions.keep(connection, batch) for batch in batches]

    return await keeper.run(together, items)


async def counted(keeper: Keeper) -> tuple[int, int]:
    """Return how many messages and letters there are."""
    ((messages, letters),) = await rows(
        keeper, "SELECT (SELECT count(*) FROM submissions), (SELECT count(*) FROM deliveries)"
    )
    return messages, letters


async def test_the_same_key_with_the_same_fields_is_the_first_message_and_with_others_none(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        assert await keep(keeper, kept(1)) == [identifier(1)]
        assert await keep(keeper, kept(2)) == [identifier(1)]
        assert await keep(keeper, kept(3, digest="edited")) == [None]
        assert await keep(keeper, kept(4, key="another")) == [identifier(4)]
        assert await counted(keeper) == (2, 2)


async def test_a_key_is_one_forms_own(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        other = kept(2)
        other = replace(other, submission=replace(other.submission, form="jobs"))
        assert await keep(keeper, kept(1), other) == [identifier(1), identifier(2)]


async def test_both_copies_in_one_batch_are_one_message_and_whatever_shares_it_is_kept(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        without = replace(kept(9), key=None)
        batch = [kept(1), kept(2), kept(3, digest="edited"), kept(4, key="another"), without]
        assert await keep(keeper, *batch) == [identifier(1), identifier(1), None, identifier(4), identifier(9)]
        assert await counted(keeper) == (3, 3)


@pytest.mark.parametrize("lasts", [WEEK, A_MOMENT])
async def test_a_key_stands_until_its_time_is_over_and_then_for_the_next_message(tmp_path: Path, lasts: float) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper, kept(1, lasts=lasts))
        assert await keep(keeper, kept(2, at=NOW + lasts - 1, lasts=lasts)) == [identifier(1)]
        assert await keep(keeper, kept(3, at=NOW + lasts, lasts=lasts)) == [identifier(3)]
        assert await keep(keeper, kept(4, at=NOW + lasts + 1, lasts=lasts)) == [identifier(3)]


async def test_what_a_key_stands_for_is_known_before_anything_is_kept(tmp_path: Path) -> None:
    def ask(connection, items):
        return [idempotency.fetch(connection, "contact", kept(9).key, now=now) for now in items]

    async with keeping(tmp_path) as keeper:
        assert await keeper.run(ask, NOW) is None
        await keep(keeper, kept(1))
        assert await keeper.run(ask, NOW + WEEK - 1) == (identifier(1), "same")
        assert await keeper.run(ask, NOW + WEEK) is None


async def test_what_could_not_be_kept_takes_no_key(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper, kept(1))
        taken = kept(1, key="another")  # its id is another's already
        jobs = [keeper.run(submissions.keep, one, size=1) for one in (taken, kept(2, key="another"))]
        refused, answered = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(refused, Exception)
        assert answered == identifier(2)


async def test_keys_whose_time_is_over_are_forgotten_and_no_others(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper, kept(1, lasts=5), kept(2, key="young", lasts=50))
        assert await keeper.run(idempotency.forget, NOW + 10) == 1
        assert await rows(keeper, "SELECT key FROM idempotency_keys") == [("young",)]
        assert await keeper.run(idempotency.forget, NOW + 10) == 0


def test_eight_who_send_the_same_at_once_to_two_machines_send_one_message(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(open_store(tmp_path))) for _ in range(2)]
        threads = stack.enter_context(ThreadPoolExecutor(8))
        gate = Barrier(8)

        def send(number: int) -> list[str | None]:
            told = []
            for at, key in enumerate(("first", "second", "third")):
                gate.wait(20)
                with stores[number % 2].writing() as connection:
                    told += submissions.keep(connection, [kept(100 * at + number, key=key)])
            return told

        told = list(threads.map(send, range(8)))
        assert all(one == told[0] for one in told)
        assert len(set(told[0])) == 3
        with stores[0].reading() as connection:
            assert len(submissions.find_newest(connection, limit=99)) == 3
