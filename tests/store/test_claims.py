"""Letters are claimed under a lease and settled behind a fence."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.house import WAY, keep, keeping, on_both, rows, to_ada, to_bob

from pillarbox.chores import Chores
from pillarbox.core.delivery import Purpose, State
from pillarbox.store import claims, digests
from pillarbox.store.claims import Claimed, Claims, Settlement, Wish
from pillarbox.store.digests import Gathering
from pillarbox.store.keeper import Keeper

pytestmark = [pytest.mark.anyio, on_both]

DAY = 86_400.0
HOUR = 3_600.0


async def claim(keeper: Keeper, *, limit: int = 100, at: float = 0.0, per_hour: int | None = None) -> Claims:
    """Claim what is due at this time (default: now), for 30 s."""
    return await keeper.run(claims.claim, Wish(WAY, limit, at or time.time(), 30.0, per_hour))


async def settle(keeper: Keeper, claimed: Claimed, state: State, **changes: object) -> None:
    """Settle a letter in hand."""
    settled = replace(claimed.delivery, state=state, **changes)
    await keeper.run(claims.settle, Settlement(settled, claimed.claim, None if state is State.WAITING else 1.0))


async def test_a_claimed_letter_is_not_claimed_again_while_its_lease_lives_and_is_afterwards(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper)
        now = time.time()
        assert [letter.claim for letter in (await claim(keeper, at=now)).letters] == [1]
        assert (await claim(keeper, at=now + 29)).letters == ()
        assert [letter.claim for letter in (await claim(keeper, at=now + 31)).letters] == [2]


async def test_a_message_that_cannot_be_read_hinders_no_other_letter_of_its_claim(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        broken = await keep(keeper)
        await rows(keeper, "UPDATE submissions SET answers = '[broken'")
        honest = [await keep(keeper) for _ in range(3)]
        first, *others = (await claim(keeper)).letters
        assert first.delivery.submission_id == broken
        with pytest.raises(ValueError):
            _ = first.submission
        assert [letter.submission.id for letter in others] == honest


async def test_of_two_that_claim_at_once_one_gets_a_letter(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        for _ in range(10):
            await keep(keeper)
        both = await asyncio.gather(claim(keeper, limit=7), claim(keeper, limit=7))
        ids = [letter.delivery.id for found in both for letter in found.letters]
        assert sorted(ids) == list(range(1, 11))


@pytest.mark.parametrize("late", [State.WAITING, State.FAILED, State.CANCELLED])
async def test_a_late_outcome_of_an_old_claim_changes_nothing(tmp_path: Path, late: State) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper)
        now = time.time()
        [old] = (await claim(keeper, at=now)).letters
        [new] = (await claim(keeper, at=now + 31)).letters
        before = await rows(keeper, "SELECT * FROM deliveries")
        await settle(keeper, old, late, due_at=now + DAY, attempts=9, note="late")
        assert await rows(keeper, "SELECT * FROM deliveries") == before
        await settle(keeper, new, late, note="in time")
        assert await rows(keeper, "SELECT state, note FROM deliveries") == [(late, "in time")]


async def test_a_late_sent_of_an_old_claim_counts(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper)
        now = time.time()
        [old] = (await claim(keeper, at=now)).letters
        [new] = (await claim(keeper, at=now + 31)).letters
        await settle(keeper, old, State.SENT, note="250 OK")
        await settle(keeper, new, State.FAILED, note="550 no")
        assert await rows(keeper, "SELECT state, note FROM deliveries") == [(State.SENT, "250 OK")]


async def test_an_old_claim_is_neither_renewed_nor_given_back(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper)
        now = time.time()
        [old] = (await claim(keeper, at=now)).letters
        await claim(keeper, at=now + 31)
        before = await rows(keeper, "SELECT * FROM deliveries")
        assert not await keeper.run(claims.renew, (old.delivery.id, old.claim, now + DAY))
        await keeper.run(claims.release, (old.delivery.id, old.claim, now))
        assert await rows(keeper, "SELECT * FROM deliveries") == before


@pytest.mark.parametrize("late", [State.WAITING, State.FAILED])
async def test_a_late_outcome_of_an_old_claim_sets_nothing_free_that_is_in_anothers_hand(
    tmp_path: Path, late: State
) -> None:
    async with keeping(tmp_path) as keeper:
        now = time.time()
        for _ in range(3):
            await keep(keeper, at=now - HOUR)
        assert await keeper.run(digests.gather, Gathering(WAY, 2, now)) == 1
        await rows(keeper, "INSERT INTO ways (name, note, outage_since, outage_note) VALUES (?, '', 1.0, 'away')", WAY)
        old, new = [
            (await keeper.run(claims.claim, Wish(WAY, 9, at, 30.0, None, tells=1.0))).letters[0]
            for at in (now, now + 31)
        ]
        standing = "SELECT state, digest_id, outage_id FROM deliveries JOIN ways ON way = name ORDER BY id"
        in_hand = [("waiting", 1, 1), ("digested", 1, 1), ("digested", 1, 1)]
        for claimed, stands in (old, True), (new, False):
            assert len(claimed.others) == 2
            assert claimed.preface is not None
            settled = replace(claimed.delivery, state=late)
            await keeper.run(claims.settle, Settlement(settled, claimed.claim, None, dissolves=True, tells=True))
            assert (await rows(keeper, standing) == in_hand) is stands
        assert await rows(keeper, standing) == [(late, None, None), ("waiting", None, None), ("waiting", None, None)]


async def test_a_renewed_lease_lives_longer(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper)
        now = time.time()
        [held] = (await claim(keeper, at=now)).letters
        assert await keeper.run(claims.renew, (held.delivery.id, held.claim, now + 60))
        assert (await claim(keeper, at=now + 59)).letters == ()
        assert len((await claim(keeper, at=now + 61)).letters) == 1


async def test_claims_count_up_until_there_is_an_outcome_of_any_kind(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper)
        now = time.time()
        for expected in (1, 2, 3):
            [held] = (await claim(keeper, at=now)).letters
            assert held.unanswered == expected
            now += 31
        await settle(keeper, held, State.WAITING, note="451 later", due_at=now)
        [held] = (await claim(keeper, at=now)).letters
        assert held.unanswered == 1


async def test_a_letter_given_back_unbegun_is_due_and_its_claim_does_not_count(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper)
        now = time.time()
        [held] = (await claim(keeper, at=now)).letters
        await keeper.run(claims.release, (held.delivery.id, held.claim, now))
        [again] = (await claim(keeper, at=now)).letters
        assert again.unanswered == 1


async def test_the_letters_of_a_dead_dispatcher_come_due_at_once_and_no_others(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        for _ in range(3):
            await keep(keeper)
        now = time.time()
        held = (await claim(keeper, at=now)).letters
        await settle(keeper, held[0], State.SENT)
        await settle(keeper, held[1], State.WAITING, due_at=now + HOUR, attempts=1)
        await keeper.run(claims.void_leases, now + 1)
        assert [letter.delivery.id for letter in (await claim(keeper, at=now + 1)).letters] == [held[2].delivery.id]


async def test_owners_letters_are_claimed_before_confirmations_and_the_oldest_of_each_first(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        for number in range(5):
            await keep(keeper, to_bob(f"bob-{number}@example.net"), to_ada(), at=time.time() - 100 + number)
        first = (await claim(keeper, limit=3)).letters
        second = (await claim(keeper, limit=4)).letters
        assert [letter.delivery.purpose for letter in (*first, *second)] == [
            *[Purpose.NOTIFICATION] * 5,
            *[Purpose.CONFIRMATION] * 2,
        ]
        assert [letter.delivery.id for letter in (*first, *second)] == [2, 4, 6, 8, 10, 1, 3]


async def test_a_claim_says_when_the_next_letter_comes_due(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        now = time.time()
        assert (await claim(keeper, at=now)).next_due_at is None
        await keep(keeper, to_ada(), at=now + HOUR)
        assert (await claim(keeper, at=now)).next_due_at == pytest.approx(now + HOUR)


async def test_confirmations_beyond_an_hours_number_come_due_when_the_oldest_is_an_hour_old(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        now = time.time()
        for number in range(5):
            await keep(keeper, to_bob(f"bob-{number}@example.net"), at=now)
        found = await claim(keeper, at=now, per_hour=2)
        for held in found.letters:
            await settle(keeper, held, State.SENT)
        assert len(found.letters) == 2
        found = await claim(keeper, at=now + 60, per_hour=2)
        assert found.letters == ()
        assert found.next_due_at == pytest.approx(now + HOUR)
        assert len((await claim(keeper, at=now + HOUR + 1, per_hour=2)).letters) == 2


async def test_held_letters_are_not_claimed(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper, to_ada(State.HELD))
        assert (await claim(keeper)).letters == ()


async def test_a_confirmation_that_could_not_leave_for_two_days_is_cancelled_with_the_reason(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        now = time.time()
        await keep(keeper, to_ada(), to_bob(), at=now - 2 * DAY - 1)
        await keep(keeper, to_bob("late@example.net"), at=now - 2 * DAY + 60)
        await Chores(keeper, clock=lambda: now).tidy()
        assert await rows(keeper, "SELECT state, note FROM deliveries ORDER BY id") == [
            ("waiting", ""),
            ("cancelled", "could not leave for 48 hours"),
            ("waiting", ""),
        ]


async def test_a_confirmation_in_hand_is_not_cancelled_under_the_hand(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        now = time.time()
        await keep(keeper, to_bob(), at=now - 2 * DAY - 1)
        await claim(keeper, at=now - 10)
        await Chores(keeper, clock=lambda: now).tidy()
        assert await rows(keeper, "SELECT state FROM deliveries") == [("waiting",)]


async def test_a_confirmation_that_is_too_old_is_cancelled_at_its_claim_before_any_chore(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        now = time.time()
        await keep(keeper, to_bob(), at=now - 3 * DAY)
        found = await claim(keeper, at=now)
        assert found.letters == ()
        assert await rows(keeper, "SELECT state, note FROM deliveries") == [
            ("cancelled", "could not leave for 48 hours")
        ]
        assert await rows(keeper, "SELECT count(*) FROM confirmations") == [(0,)]


async def test_a_late_renewal_does_not_shorten_what_was_put_off(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        now = time.time()
        await keep(keeper, at=now)
        (letter,) = (await claim(keeper, at=now)).letters
        put_off = replace(letter.delivery, due_at=now + 8 * 3_600, attempts=1)
        await keeper.run(claims.settle, Settlement(put_off, letter.claim, None))
        await keeper.run(claims.renew, (letter.delivery.id, letter.claim, now + 30))
        assert await rows(keeper, "SELECT due_at FROM deliveries") == [(now + 8 * 3_600,)]


@pytest.mark.only_sqlite
async def test_a_row_that_is_no_text_stops_no_other_letter(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        broken = await keep(keeper)
        await keep(keeper)
        await rows(keeper, "UPDATE submissions SET answers = CAST(x'ff00fe' AS TEXT) WHERE id = ?", broken)
        found = await claim(keeper, at=time.time())
        assert len(found.letters) == 2


async def test_of_letters_that_may_have_killed_their_worker_one_is_claimed_at_a_time(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        now = time.time()
        for _ in range(3):
            await keep(keeper, at=now)
        await claim(keeper, at=now)
        await keeper.run(claims.void_leases, now + 1)
        await keep(keeper, at=now)
        first = await claim(keeper, at=now + 1)
        assert sorted(letter.unanswered for letter in first.letters) == [1, 2]
        wish = Wish(way=WAY, limit=10, now=now + 1, lease=30.0, confirmations_per_hour=None, suspects=0)
        second = await keeper.run(claims.claim, wish)
        assert second.letters == ()
        assert second.next_due_at == now + 2


async def test_who_was_confirmed_is_forgotten_after_a_day(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        now = time.time()
        await keep(keeper, to_bob(), at=now)
        await claim(keeper, at=now)
        await Chores(keeper, clock=lambda: now + DAY - 60).tidy()
        assert await rows(keeper, "SELECT mailbox FROM confirmations") == [("bob@example.net",)]
        await Chores(keeper, clock=lambda: now + DAY + 60).tidy()
        assert await rows(keeper, "SELECT mailbox FROM confirmations") == []
