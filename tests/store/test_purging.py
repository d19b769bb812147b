"""What is old is erased with all that came of it, except what somebody may still need; and no byte of it stays."""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event
from tests.house import keep, keeping, message, on_both, open_store, rows, to_ada, to_bob

from pillarbox.core.delivery import State
from pillarbox.store import held, purging, submissions
from pillarbox.store.held import Drop, Release
from pillarbox.store.keeper import Keeper
from pillarbox.store.purging import A_MONTH, MOST, Sweep, Swept
from pillarbox.store.submissions import Kept, NewDelivery

pytestmark = [pytest.mark.anyio, on_both]

NOW = 1_900_000_000.0
DAY, WEEK = 86_400.0, 7 * 86_400.0


async def old(
    keeper: Keeper, *letters: NewDelivery, age: float = 10 * DAY, held_for: tuple[str, ...] = (), **columns: Any
) -> str:
    """Keep a message of this age whose letters have these columns, and return its id."""
    kept = Kept(replace(message(at=NOW - age), held_for=held_for, client="ab12"), letters or (to_ada(), to_bob()))
    await keeper.run(submissions.keep, kept, size=1_000)
    for name, value in columns.items():
        await rows(keeper, f"UPDATE deliveries SET {name} = ? WHERE submission_id = ?", value, kept.submission.id)
    return kept.submission.id


async def sent(keeper: Keeper, age: float = 10 * DAY, **about: Any) -> str:
    """Keep a message of this age whose letters were sent at once."""
    return await old(keeper, age=age, state="sent", settled_at=NOW - age, **about)


async def erase(keeper: Keeper, retention: float = WEEK, now: float = NOW) -> Swept:
    """Erase what is older than that."""
    return await keeper.run(purging.erase_old, Sweep(now, now - retention))


async def left(keeper: Keeper) -> list[str]:
    """Return the ids of the messages that are still there, oldest first."""
    return [row[0] for row in await rows(keeper, "SELECT id FROM submissions ORDER BY received_at, id")]


async def test_an_old_message_is_erased_with_all_that_came_of_it(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await old(keeper, to_bob(), to_bob("eve@example.net"), state="sent", settled_at=1)
        young = await sent(keeper, age=6 * DAY)
        await rows(
            keeper,
            "INSERT INTO attempts (delivery_id, way, begun_at, seconds, outcome, note) "
            "SELECT id, way, 1, 1, 'sent', '250' FROM deliveries",
        )
        await rows(
            keeper,
            "INSERT INTO confirmations (form, mailbox, delivery_id, confirmed_at) VALUES "
            "('contact', 'eve@example.net', 2, 1), ('contact', 'bob@example.net', 4, 1)",
        )
        assert await erase(keeper) == Swept(1, 2, None)
        assert await left(keeper) == [young]
        assert await rows(keeper, "SELECT id FROM deliveries ORDER BY id") == [(3,), (4,)]
        assert await rows(keeper, "SELECT delivery_id FROM attempts ORDER BY id") == [(3,), (4,)]
        assert await rows(keeper, "SELECT delivery_id FROM confirmations") == [(4,)]


async def test_what_has_a_letter_to_be_sent_is_never_erased(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        waiting = await old(keeper, age=400 * DAY)
        digested = await old(keeper, to_ada(), age=300 * DAY, state="digested", digest_id=1)
        one_of_two = await old(keeper, replace(to_ada(), state=State.SENT), to_bob(), age=200 * DAY)
        await erase(keeper)
        assert await left(keeper) == [waiting, digested, one_of_two]
        await rows(keeper, "UPDATE deliveries SET state = 'cancelled'")
        assert (await erase(keeper)).messages == 3


async def test_a_digests_carrier_stays_while_what_it_carries_waits(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        carrier = await old(keeper, to_ada(), age=9 * DAY, state="sent", digest_id=1, settled_at=NOW - 9 * DAY)
        carried = await old(keeper, to_ada(), age=8 * DAY, state="digested", digest_id=1)
        await erase(keeper)
        assert await left(keeper) == [carrier, carried]
        await rows(keeper, "UPDATE deliveries SET state = 'sent', settled_at = 1")
        assert (await erase(keeper)).messages == 2


async def test_a_failure_can_be_looked_into_for_thirty_days(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        mended = await old(keeper, age=400 * DAY, state="failed", settled_at=NOW - 29 * DAY)
        await old(keeper, age=400 * DAY, state="failed", settled_at=NOW - 31 * DAY)
        assert (await erase(keeper)).messages == 1
        assert await left(keeper) == [mended]


async def test_what_was_sent_within_a_day_still_counts_for_budgets_and_stays_as_long(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await sent(keeper, age=DAY / 2)
        assert (await erase(keeper, retention=3_600.0)).messages == 0
        assert (await erase(keeper, retention=3_600.0, now=NOW + DAY)).messages == 1


async def test_a_held_message_has_thirty_days_whatever_retention_says(tmp_path: Path) -> None:
    held_letter = to_ada(State.HELD)
    async with keeping(tmp_path) as keeper:
        suspect = await old(keeper, held_letter, age=29 * DAY, held_for=("honeypot",))
        dropped = await old(keeper, held_letter, age=28 * DAY, held_for=("honeypot",))
        released = await old(keeper, held_letter, age=27 * DAY, held_for=("honeypot",))
        await keeper.run(held.drop, Drop((dropped,), NOW - 20 * DAY))
        await keeper.run(held.release, Release((released,), NOW - 20 * DAY, ("default",)))
        await rows(keeper, "UPDATE deliveries SET state = 'sent', settled_at = 1 WHERE state = 'waiting'")
        assert (await erase(keeper)).messages == 1
        assert await left(keeper) == [suspect, dropped]
        assert (await erase(keeper, now=NOW + 1.5 * DAY)).messages == 1
        assert await left(keeper) == [dropped]


async def test_a_letter_that_may_be_in_hand_is_not_erased_though_it_was_called_off(tmp_path: Path) -> None:
    """Its number could become another letter's, whose fate its late outcome would decide."""
    async with keeping(tmp_path) as keeper:
        one = await old(keeper, state="cancelled", settled_at=NOW - 60)
        assert (await erase(keeper)).messages == 0
        assert (await erase(keeper, now=NOW + DAY)).messages == 1
        assert one not in await left(keeper)


async def test_a_dropped_message_is_erased_but_not_one_of_which_a_letter_was_sent_all_the_same(tmp_path: Path) -> None:
    held_letter = to_ada(State.HELD)
    async with keeping(tmp_path) as keeper:
        ids = [await old(keeper, held_letter, age=31 * DAY + n, held_for=("honeypot",)) for n in range(4, 0, -1)]
        gone, sent_by_hand, unjudged, released = ids
        young = await old(keeper, held_letter, age=31 * DAY, held_for=("honeypot",))
        await keeper.run(held.drop, Drop((gone, sent_by_hand), NOW - 30 * DAY - 1))
        await keeper.run(held.drop, Drop((young,), NOW - 29 * DAY))
        await keeper.run(held.release, Release((released,), NOW, ("default",)))
        await rows(keeper, "UPDATE deliveries SET state = 'sent' WHERE submission_id = ?", sent_by_hand)
        assert await keeper.run(purging.erase_dropped, Sweep(NOW, NOW - A_MONTH)) == Swept(1, 1, None)
        assert await left(keeper) == [sent_by_hand, unjudged, released, young]


async def test_many_are_erased_a_few_hundred_at_a_time_past_what_stays(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await rows(
            keeper,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO submissions (id, form, received_at, language, answers, held_for) "
            "SELECT CAST(10000000 + i AS TEXT), 'contact', ?, 'en', '[]', '[]' FROM n",
            2 * MOST + 3,
            NOW - 9 * DAY,
        )
        waits = str(10_000_000 + MOST)
        await rows(
            keeper,
            "INSERT INTO deliveries (submission_id, form, purpose, recipient, mailbox, way, state, created_at, due_at,"
            " attempts, claim, unanswered, note) VALUES (?, 'contact', 'notification', 'a', 'a', 'w', 'waiting', 0, 0,"
            " 0, 0, 0, '')",
            waits,
        )
        swept, sweep = [], Sweep(NOW, NOW - WEEK)
        while not swept or swept[-1].goes_on:
            swept.append(await keeper.run(purging.erase_old, sweep))
            sweep = replace(sweep, after=swept[-1].goes_on or sweep.after)
        assert [one.messages for one in swept] == [MOST - 1, MOST, 3]
        assert await left(keeper) == [waits]


async def test_networks_are_forgotten_after_their_time_a_few_hundred_at_once(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        before, after = await old(keeper, age=30 * DAY + 1), await old(keeper, age=30 * DAY - 1)
        assert await keeper.run(purging.forget_clients, NOW - A_MONTH) == 1
        assert await rows(keeper, "SELECT id, client FROM submissions ORDER BY received_at") == [
            (before, None),
            (after, "ab12"),
        ]
        assert await keeper.run(purging.forget_clients, NOW - A_MONTH) == 0
        await rows(
            keeper,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <= ?) "
            "INSERT INTO submissions (id, form, received_at, language, answers, held_for, client) "
            "SELECT CAST(i AS TEXT), 'contact', 1, 'en', '[]', '[]', 'cd34' FROM n",
            MOST,
        )
        assert [await keeper.run(purging.forget_clients, NOW - A_MONTH) for _ in range(3)] == [MOST, 1, 0]


@pytest.mark.parametrize("call", [purging.erase_old, purging.erase_dropped, purging.forget_clients])
@pytest.mark.only_sqlite
async def test_no_question_of_the_purge_looks_through_a_whole_table(
    tmp_path: Path, call: Callable[[Connection, Sequence[Any]], Sequence[Any]]
) -> None:
    async with keeping(tmp_path) as keeper:
        one = await old(keeper, to_ada(State.HELD), age=40 * DAY, held_for=("honeypot",))
        await keeper.run(held.drop, Drop((one,), NOW - 31 * DAY))
        item = NOW if call is purging.forget_clients else Sweep(NOW, NOW - A_MONTH)
        plans = await keeper.run(_explain(call), item)
    assert plans
    whole = [step for plan in plans for step in plan if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"]
    assert whole == [], json.dumps(plans, indent=1)
    index = {purging.erase_old: "by_age", purging.erase_dropped: "held", purging.forget_clients: "of_clients"}[call]
    assert f"submissions_{index} " in json.dumps(plans)


def _explain(call: Callable[[Connection, Sequence[Any]], Sequence[Any]]) -> Callable[..., list[list[list[str]]]]:
    """Return what makes this call and gives SQLite's plan of each statement in it."""

    def explained(connection: Connection, items: Sequence[Any]) -> list[list[list[str]]]:
        asked: list[tuple[str, Any]] = []

        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
            asked.append((statement, parameters))

        event.listen(connection, "before_cursor_execute", note)
        call(connection, items)
        event.remove(connection, "before_cursor_execute", note)
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {one}", given) for one, given in asked]
        return [[[str(row[3]) for row in plan] for plan in plans] for _ in items]

    return explained


@pytest.mark.parametrize("size", [40, 90_000])
@pytest.mark.only_sqlite
def test_no_byte_of_what_was_erased_stays_in_the_files(tmp_path: Path, size: int) -> None:
    secret = "the-word-that-nobody-knows"
    with closing(open_store(tmp_path)) as store:
        for number in range(40):
            kept = message(number, at=NOW - 9 * DAY)
            words = f"{secret} {number} ".ljust(size, "x")
            told = replace(kept, answers=(replace(kept.answers[1], values=(words,)),), client="deadbeefdeadbeef")
            letter = replace(to_bob(f"{secret}-{number}@example.net"), state=State.SENT)
            with store.writing() as connection:
                submissions.keep(connection, [Kept(told, (letter,))])
        with store.writing() as connection:  # what is rewritten leaves no old version about either
            connection.exec_driver_sql("UPDATE deliveries SET note = 'sent', recipient = recipient || '.'")
            connection.exec_driver_sql("UPDATE submissions SET client = NULL")
        assert secret in _bytes(tmp_path)
        with store.writing() as connection:
            assert purging.erase_old(connection, [Sweep(NOW, NOW - WEEK)]) == [Swept(40, 40, None)]
        assert secret in _bytes(tmp_path)  # in the WAL
        assert store.erase_traces()
        assert secret not in _bytes(tmp_path)
        assert "deadbeefdeadbeef" not in _bytes(tmp_path)


def _bytes(folder: Path) -> str:
    """Return what lies in the store's files."""
    return "".join(path.read_bytes().decode("latin-1") for path in folder.glob("pillarbox.db*"))


@pytest.mark.only_sqlite
async def test_the_wal_is_not_emptied_while_somebody_reads(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        with store.writing() as connection:
            submissions.keep(connection, [Kept(message(), (to_ada(),))])
        with store.reading() as reading:
            assert reading.exec_driver_sql("SELECT count(*) FROM submissions").scalar_one() == 1
            with store.writing() as connection:
                submissions.keep(connection, [Kept(message(), (to_ada(),))])
            assert not store.erase_traces()
        assert store.erase_traces()
        assert (tmp_path / "pillarbox.db-wal").stat().st_size == 0
    async with keeping(tmp_path) as keeper:
        await keep(keeper)
        assert len(await left(keeper)) == 3
