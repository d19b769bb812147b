"""Held messages: found, released once with all that was held of them, dropped, and released after all."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event
from tests.house import keeping, message, on_both, rows, to_ada, to_bob

from pillarbox.core.delivery import State
from pillarbox.store import held, submissions
from pillarbox.store.held import Drop, Filter, Judged, Judgement, Release
from pillarbox.store.keeper import Keeper
from pillarbox.store.submissions import Kept, NewDelivery

pytestmark = [pytest.mark.anyio, on_both]

NOW = 1_900_000_000.0
WAYS = ("default", "relay")
IN_A_FLOOD = "it came in a flood"


def to_bob_held(address: str = "bob@example.net") -> NewDelivery:
    return replace(to_bob(address), state=State.HELD)


async def suspect(keeper: Keeper, *letters: NewDelivery, reasons: tuple[str, ...] = ("honeypot",), **about: Any) -> str:
    """Keep a message with signs of spam and return its id; without letters: one to Ada and one to Bob, both held."""
    client = about.pop("client", "")
    kept = Kept(
        replace(message(**({"at": NOW - 900} | about)), held_for=reasons, client=client),
        letters or (to_ada(State.HELD), to_bob_held()),
    )
    await keeper.run(submissions.keep, kept, size=1_000)
    return kept.submission.id


async def found(keeper: Keeper, wanted: Filter, limit: int = 100) -> list[str]:
    """Return the ids of what fits."""

    def ask(connection, items):
        return [([one.submission.id for one in held.find(connection, one, limit=limit)]) for one in items]

    return await keeper.run(ask, wanted)


async def release(keeper: Keeper, *ids: str, now: float = NOW) -> Judged:
    return await keeper.run(held.release, Release(ids, now, WAYS))


async def drop(keeper: Keeper, *ids: str, now: float = NOW) -> Judged:
    return await keeper.run(held.drop, Drop(ids, now))


async def letters(keeper: Keeper, identifier: str) -> list[tuple[Any, ...]]:
    """Return (purpose, state, note) of each letter of a message."""
    question = "SELECT purpose, state, note FROM deliveries WHERE submission_id = ? ORDER BY id"
    return await rows(keeper, question, identifier)


async def test_held_messages_are_found_by_what_is_known_of_them_the_newest_first(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        clean = await suspect(keeper, to_ada(), reasons=())
        old = await suspect(keeper, at=NOW - 9_000, client="ab12")
        flood = await suspect(keeper, reasons=("many_links", "flood"), at=NOW - 90, form="jobs")
        gone = await suspect(keeper, at=NOW - 50)
        await drop(keeper, gone)
        for wanted, ids in (
            (Filter(), [flood, old]),
            (Filter(judged_too=True), [gone, flood, old]),
            (Filter(form="jobs"), [flood]),
            (Filter(reason="flood"), [flood]),
            (Filter(reason="honeypot"), [old]),
            (Filter(reason="flo"), []),
            (Filter(reason="%"), []),
            (Filter(since=NOW - 100), [flood]),
            (Filter(client="ab12"), [old]),
            (Filter(form="jobs", reason="honeypot"), []),
        ):
            assert await found(keeper, wanted) == ids, wanted
        assert await found(keeper, Filter(), limit=1) == [flood]
        assert await keeper.run(lambda connection, _: [held.find_ids(connection, Filter())], None) == [flood, old]
        assert await keeper.run(lambda connection, items: [held.count(connection) for _ in items], None) == 2
        assert clean not in await found(keeper, Filter(judged_too=True))


async def test_release_sends_all_that_was_held_from_now_on(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        one = await suspect(keeper, at=NOW - 9 * 86_400)
        other = await suspect(keeper)
        assert await release(keeper, one) == Judged((one,), 2, {})
        freed = await rows(
            keeper,
            "SELECT purpose, state, created_at, due_at, attempts, settled_at FROM deliveries "
            "WHERE submission_id = ? ORDER BY id",
            one,
        )
        assert freed == [
            ("notification", "waiting", NOW, NOW, 0, None),
            ("confirmation", "waiting", NOW, NOW, 0, None),
        ]
        assert {state for _, state, _ in await letters(keeper, other)} == {"held"}
        assert await rows(keeper, "SELECT judgement, judged_at FROM submissions WHERE id = ?", one) == [
            ("released", NOW)
        ]


async def test_what_a_flood_cancelled_stays_cancelled_and_is_counted(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        never = replace(to_bob(), state=State.CANCELLED, note=IN_A_FLOOD)
        ids = [await suspect(keeper, to_ada(State.HELD), never, reasons=("flood",)) for _ in range(2)]
        judged = await release(keeper, *ids)
        assert (set(judged.ids), judged.letters, judged.still_cancelled) == (set(ids), 2, {IN_A_FLOOD: 2})
        assert (await letters(keeper, ids[0]))[1] == ("confirmation", "cancelled", IN_A_FLOOD)


async def test_of_many_who_release_at_once_one_does(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        one = await suspect(keeper)
        judged = await asyncio.gather(*(release(keeper, one) for _ in range(20)))
        assert sorted(each.letters for each in judged) == [0] * 19 + [2]
        await rows(keeper, "UPDATE deliveries SET state = 'sent'")
        assert await release(keeper, one) == Judged((), 0, {})
        assert {state for _, state, _ in await letters(keeper, one)} == {"sent"}


async def test_a_way_out_that_is_gone_is_replaced(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        one = await suspect(keeper)
        await rows(keeper, "UPDATE deliveries SET way = CASE purpose WHEN 'notification' THEN 'relay' ELSE 'gone' END")
        await release(keeper, one)
        assert await rows(keeper, "SELECT way FROM deliveries ORDER BY id") == [("relay",), ("default",)]


async def test_of_a_dropped_message_nothing_is_sent_until_it_is_released_after_all(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        never = replace(to_bob(), state=State.CANCELLED, note="no confirmations")
        one = await suspect(keeper, to_ada(State.HELD), to_bob_held(), never)
        assert await drop(keeper, one) == Judged((one,), 2)
        assert [state for _, state, _ in await letters(keeper, one)] == ["cancelled"] * 3
        assert (await letters(keeper, one))[0][2] == held.DROPPED_BY_HAND
        assert await drop(keeper, one) == Judged((), 0)
        assert await release(keeper, one) == Judged((one,), 2, {"no confirmations": 1})
        assert [state for _, state, _ in await letters(keeper, one)] == ["waiting", "waiting", "cancelled"]
        assert await rows(keeper, "SELECT count(*) FROM deliveries WHERE settled_at IS NOT NULL") == [(1,)]
        assert await drop(keeper, one) == Judged((), 0)


async def test_a_message_that_was_never_held_is_neither_released_nor_dropped(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        failed = replace(to_ada(State.FAILED), note="550 no")
        one = await suspect(keeper, failed, to_bob(), reasons=())
        assert await release(keeper, one, "7K3M-9QXP-2AFD") == Judged((), 0, {})
        assert await drop(keeper, one) == Judged((), 0)
        assert [state for _, state, _ in await letters(keeper, one)] == ["failed", "waiting"]


async def test_a_message_is_fetched_with_its_network_and_its_judgement(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        one = await suspect(keeper, client="ab12", at=NOW - 7)
        await suspect(keeper, to_ada(), reasons=(), client="ab12")
        await suspect(keeper, client="cd34")
        await drop(keeper, one)

        def ask(connection, items):
            return [
                (held.fetch(connection, one), held.count_of_client(connection, "ab12"), held.fetch(connection, "no"))
                for one in items
            ]

        seen, others, nobody = await keeper.run(ask, one)
        assert (seen.submission.id, seen.client, seen.judgement, seen.judged_at) == (one, "ab12", "dropped", NOW)
        assert seen.judgement is Judgement.DROPPED
        assert (others, nobody) == (2, None)


async def test_a_damaged_message_does_not_hide_the_others(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        ids = [await suspect(keeper, at=NOW - number) for number in range(3)]
        await rows(keeper, "UPDATE submissions SET answers = '[[' WHERE id = ?", ids[1])
        assert await found(keeper, Filter()) == ids
        assert (await release(keeper, *ids)).letters == 6


@pytest.mark.only_sqlite
async def test_a_judgement_finds_what_it_is_about_by_its_key_however_much_is_held(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        ids = tuple([await suspect(keeper) for _ in range(3)])
        dropped = await keeper.run(_explain, lambda connection: held.drop(connection, [Drop(ids, NOW)]))
        back = await keeper.run(_explain, lambda connection: held.release(connection, [Release(ids, NOW, ("w",))]))
    assert len(dropped + back) == 5
    by_key = ("SEARCH submissions USING INDEX sqlite_autoindex", "deliveries_of_submission")
    assert all(any(key in plan for key in by_key) for plan in dropped + back), json.dumps(dropped + back, indent=1)


@pytest.mark.only_sqlite
async def test_the_lists_of_held_messages_go_by_their_index(tmp_path: Path) -> None:
    def ask(connection: Connection) -> None:
        held.count(connection)
        held.find(connection, Filter(), limit=20)
        held.find_ids(connection, Filter(reason="flood", since=NOW))

    async with keeping(tmp_path) as keeper:
        plans = await keeper.run(_explain, ask)
    assert len(plans) == 3
    assert all("submissions_held" in plan for plan in plans), json.dumps(plans, indent=1)


def _explain(connection: Connection, items: Sequence[Callable[[Connection], object]]) -> list[list[str]]:
    """Return SQLite's plan of each statement that somebody asks."""
    asked = []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        asked.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    for ask in items:
        ask(connection)
    event.remove(connection, "before_cursor_execute", note)
    plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given) for statement, given in asked]
    return [[" ".join(row[3] for row in plan) for plan in plans]]
