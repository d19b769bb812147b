"""Letters as people see them: found by what is known of them, sent again, called off."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.house import ADA, keep, keeping, on_both, open_store, rows, to_ada, to_bob

from pillarbox.core.delivery import Purpose, State
from pillarbox.core.errors import NotKept
from pillarbox.store import deliveries
from pillarbox.store.deliveries import Cancellation, Filter, Revival, Seen
from pillarbox.store.keeper import Keeper

pytestmark = [pytest.mark.anyio, on_both]

NOW = 1_900_000_000.0
WAYS = ("default", "relay")


async def letters(keeper: Keeper, number: int = 1, **columns: object) -> list[int]:
    """Keep so many letters to Ada whose columns have these values; return their numbers."""
    last = (await rows(keeper, "SELECT coalesce(max(id), 0) FROM deliveries"))[0][0]
    for _ in range(number):
        await keep(keeper)
    for name, value in columns.items():
        await rows(keeper, f"UPDATE deliveries SET {name} = ? WHERE id > ?", value, last)
    return list(range(last + 1, last + 1 + number))


async def seen(keeper: Keeper, identifier: int) -> Seen:
    """Return the letter as it is now."""
    return await keeper.run(lambda connection, items: [deliveries.fetch(connection, one) for one in items], identifier)


async def found(keeper: Keeper, wanted: Filter, limit: int | None = None) -> list[int]:
    """Return the numbers of the letters that fit."""

    def ask(connection, items):
        return [deliveries.find(connection, one, limit=limit) for one in items]

    return [one.id for one in await keeper.run(ask, wanted)]


async def revive(keeper: Keeper, *ids: int, **how: object) -> int:
    """Send these letters again and return of how many that is true."""
    return await keeper.run(deliveries.revive, replace(Revival(ids, NOW, WAYS), **how))


async def cancel(keeper: Keeper, *ids: int) -> int:
    """Call these letters off and return how many."""
    return await keeper.run(deliveries.cancel, Cancellation(ids, NOW))


async def test_letters_are_found_by_what_is_known_of_them_the_newest_first(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        now = time.time()
        message = await keep(keeper, to_ada(), to_bob("Bob+x@example.net"), at=now - 900)
        await keep(keeper, form="jobs", at=now - 90)
        await letters(keeper, state="failed", way="relay", outcome="refused")
        assert await found(keeper, Filter()) == [4, 3, 2, 1]
        assert await found(keeper, Filter(), limit=2) == [4, 3]
        for wanted, numbers in (
            (Filter(states=("failed", "sent")), [4]),
            (Filter(form="jobs"), [3]),
            (Filter(way="relay"), [4]),
            (Filter(recipient="bob+X@EXAMPLE.net"), [2]),
            (Filter(recipient="bob@example.net"), []),
            (Filter(recipient="%"), []),
            (Filter(purpose="confirmation"), [2]),
            (Filter(outcome="refused"), [4]),
            (Filter(since=now - 100), [4, 3]),
            (Filter(submission_id=message), [2, 1]),
            (Filter(submission_id=message, purpose="notification"), [1]),
        ):
            assert await found(keeper, wanted) == numbers, wanted


async def test_a_letter_is_seen_with_its_tries(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await letters(keeper, 2)
        for identifier, outcome in ((1, "deferred"), (2, "sent"), (1, "refused")):
            await rows(
                keeper,
                "INSERT INTO attempts (delivery_id, way, begun_at, seconds, outcome, note) "
                "VALUES (?, 'relay', 7, .5, ?, '')",
                identifier,
                outcome,
            )
        one = await seen(keeper, 1)
        assert (one.purpose, one.state, one.is_in_hand, one.carrier) == (
            Purpose.NOTIFICATION,
            State.WAITING,
            False,
            None,
        )
        assert await seen(keeper, 99) is None

        def ask(connection, items):
            return [deliveries.find_attempts(connection, item) for item in items]

        tries = await keeper.run(ask, 1)
        assert [(one.outcome, one.way, one.begun_at, one.seconds) for one in tries] == [
            ("deferred", "relay", 7.0, 0.5),
            ("refused", "relay", 7.0, 0.5),
        ]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
async def test_what_is_over_begins_anew(tmp_path: Path, state: str) -> None:
    async with keeping(tmp_path) as keeper:
        (one,) = await letters(
            keeper, state=state, attempts=21, outcome="refused", settled_at=5.0, digest_id=1, claim=21, way="gone"
        )
        assert await revive(keeper, one) == 1
        after = await seen(keeper, one)
        assert (after.state, after.attempts, after.outcome, after.settled_at) == (State.WAITING, 0, None, None)
        assert (after.due_at, after.created_at, after.digest_id, after.way) == (NOW, NOW, None, "default")
        assert "by hand" in after.note
        assert await rows(keeper, "SELECT claim FROM deliveries") == [(21,)]  # a late outcome stays behind the fence


async def test_what_waits_is_due_at_once_and_keeps_its_tries(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        (one,) = await letters(keeper, attempts=3, outcome="deferred", due_at=NOW + 900, way="relay", note="451 later")
        before = await seen(keeper, one)
        assert await revive(keeper, one) == 1
        assert await seen(keeper, one) == replace(before, due_at=NOW)


@pytest.mark.parametrize(
    "columns",
    [{"state": "held"}, {"state": "sent"}, {"state": "digested", "digest_id": 7}, {"unanswered": 1, "due_at": NOW + 9}],
    ids=lambda columns: next(iter(columns)),
)
async def test_what_is_held_sent_digested_or_in_hand_is_left_alone(tmp_path: Path, columns: dict[str, object]) -> None:
    async with keeping(tmp_path) as keeper:
        (one,) = await letters(keeper, **columns)
        before = await seen(keeper, one)
        assert await revive(keeper, one, recipient="charlie@example.org") == 0
        assert await seen(keeper, one) == before


async def test_what_was_sent_is_sent_again_only_when_asked_for(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        (one,) = await letters(keeper, state="sent", settled_at=5.0)
        assert await revive(keeper, one, sent_too=True) == 1
        assert (await seen(keeper, one)).state is State.WAITING


async def test_a_mended_address_counts_as_its_own_mailbox(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        failed, waiting, other = await letters(keeper, 3)
        await rows(keeper, "UPDATE deliveries SET state = 'failed' WHERE id = ?", failed)
        assert await revive(keeper, failed, waiting, recipient="Ada.New+x@gmail.com") == 2
        found_now = await rows(keeper, "SELECT recipient, mailbox FROM deliveries ORDER BY id")
        assert found_now == [("Ada.New+x@gmail.com", "adanew@gmail.com")] * 2 + [(ADA, ADA)]
        assert other == 3


async def test_what_waits_failed_or_is_digested_can_be_called_off_and_nothing_else(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        ids = []
        for columns in (
            {},
            {"state": "failed", "settled_at": 5.0},
            {"state": "digested", "digest_id": 1},
            {"state": "sent"},
            {"state": "held"},
            {"unanswered": 1, "due_at": NOW + 9},
        ):
            ids += await letters(keeper, **columns)
        assert await cancel(keeper, *ids) == 3
        states = await rows(keeper, "SELECT state, note, settled_at FROM deliveries ORDER BY id")
        assert states[:3] == [("cancelled", "cancelled by hand", NOW)] * 3
        assert [state for state, _note, _at in states[3:]] == ["sent", "held", "waiting"]


async def test_what_a_called_off_letter_would_have_carried_goes_its_own_way(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        carrier, carried, called_off = await letters(keeper, 3, digest_id=1)
        await rows(keeper, "UPDATE deliveries SET state = 'digested' WHERE id > 1")
        assert (await seen(keeper, carried)).carrier == carrier

        def count(connection, items):
            return [deliveries.count_carried(connection, one) for one in items]

        assert [await keeper.run(count, one) for one in (carrier, carried)] == [2, 0]
        assert await cancel(keeper, carrier, called_off) == 2
        states = await rows(keeper, "SELECT state, digest_id FROM deliveries ORDER BY id")
        assert states == [("cancelled", None), ("waiting", None), ("cancelled", None)]


async def test_what_a_dead_dispatcher_held_can_be_called_off_or_sent_elsewhere_when_its_lease_has_ended(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path) as keeper:
        called_off, moved = await letters(keeper, 2, unanswered=1, due_at=NOW - 1, claim=7)
        assert await cancel(keeper, called_off) == 1
        assert await revive(keeper, moved, recipient="new@example.org") == 1
        assert await rows(keeper, "SELECT state, claim, recipient FROM deliveries ORDER BY id") == [
            ("cancelled", 8, ADA),
            ("waiting", 8, "new@example.org"),
        ]


async def test_what_a_letter_carries_does_not_go_along_to_a_mended_address(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        carrier, *_carried = await letters(keeper, 3, digest_id=1)
        await rows(keeper, "UPDATE deliveries SET state = 'digested' WHERE id > 1")
        assert await revive(keeper, carrier, recipient="new@example.org") == 1
        assert await rows(keeper, "SELECT recipient, state, digest_id FROM deliveries ORDER BY id") == [
            ("new@example.org", "waiting", None),
            (ADA, "waiting", None),
            (ADA, "waiting", None),
        ]


async def test_what_its_digest_has_in_hand_is_not_called_off(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        _carrier, carried = await letters(keeper, 2, digest_id=1)
        await rows(keeper, "UPDATE deliveries SET unanswered = 1, due_at = ? WHERE id = 1", NOW + 9)
        await rows(keeper, "UPDATE deliveries SET state = 'digested' WHERE id = 2")
        assert await cancel(keeper, carried) == 0


@pytest.mark.only_sqlite
async def test_a_store_that_is_away_is_said_so(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.writing() as connection:
        connection.exec_driver_sql("DROP TABLE deliveries")
    with pytest.raises(NotKept):
        deliveries.change(store, deliveries.cancel, Cancellation((1,), NOW))
    store.close()
