"""What has waited through an outage leaves as one letter, and nothing of it is lost or sent twice."""

from pathlib import Path
from typing import Any

import pytest

from pillarbox.store import digests, ways
from pillarbox.store.ways import Shut
from tests.house import ADA, on_both
from tests.servers.scripted_smtp import Answer
from tests.town import AN_HOUR, Town, carried, town

pytestmark = pytest.mark.anyio

DIGESTING = {"only": {"digest_above": 20, "connections": 1}}


async def shut(ours: Town) -> None:
    """Shut the way for ten minutes, with one letter of another form to try it then."""
    now = ours.clock()
    await ours.keeper.run(ways.shut, Shut("only", now, "closed", 0, now + 600))
    await ours.keep("only", form="warden")
    await ours.turn()


async def waited(ours: Town, count: int, **script: Any) -> None:
    """Keep so many messages, a second apart, while the way is shut; return when it was opened by the warden's letter.

    The script's first answers are the warden's.
    """
    await shut(ours)
    await ours.keep_many("only", count, each=1.0)
    ours.mail["only"].script(**script)
    await ours.turn(600)


@on_both
async def test_more_than_twenty_that_waited_leave_as_one_letter_that_carries_all(tmp_path: Path) -> None:
    async with town(tmp_path, DIGESTING) as ours:
        await waited(ours, 21)
        ids = [identifier for (identifier,) in await ours.ask("SELECT id FROM submissions ORDER BY received_at")]
        assert carried(ours.mail["only"]) == [[ids[0]], ids[1:]]
        assert await ours.ask("SELECT DISTINCT state, outcome, settled_at IS NOT NULL FROM deliveries") == [
            ("sent", "sent", 1)
        ]


async def test_twenty_that_waited_leave_one_by_one(tmp_path: Path) -> None:
    async with town(tmp_path, DIGESTING) as ours:
        await waited(ours, 20)
        assert [len(one) for one in carried(ours.mail["only"])] == [1] * 21


async def test_a_crowd_that_has_just_come_leaves_one_by_one(tmp_path: Path) -> None:
    async with town(tmp_path, DIGESTING) as ours:
        await ours.keep_many("only", 60)
        await ours.turn()
        assert [len(one) for one in carried(ours.mail["only"])] == [1] * 60


@on_both
async def test_forms_are_not_mixed_and_a_digest_holds_a_hundred_at_most(tmp_path: Path) -> None:
    async with town(tmp_path, DIGESTING) as ours:
        await shut(ours)
        await ours.keep_many("only", 130, form="blue")
        await ours.keep_many("only", 30, form="red")
        await ours.turn(600)
        assert sorted(len(one) for one in carried(ours.mail["only"])) == [1, 30, 30, 100]


@on_both
async def test_what_a_digest_carries_waits_for_it_and_shares_its_fate(tmp_path: Path) -> None:
    async with town(tmp_path, DIGESTING) as ours:
        await waited(ours, 30, DOT=lambda moment: "451 4.3.0 later" if moment.nth > 1 else None)
        standing = "SELECT state, count(*) FROM deliveries WHERE form = 'contact' GROUP BY state ORDER BY state"
        assert await ours.ask(standing) == [("digested", 29), ("waiting", 1)]
        for seconds in (10, 60, 300):
            await ours.turn(seconds)
        assert await ours.ask(standing) == [("failed", 30)]
        notes = "SELECT DISTINCT note FROM deliveries WHERE form = 'contact'"
        assert await ours.ask(notes) == [("451 4.3.0 later (to the letter)",)]


@on_both
async def test_a_repeated_digest_is_the_same_letter_although_more_messages_came(tmp_path: Path) -> None:
    async with town(tmp_path, DIGESTING) as ours:
        await waited(ours, 30, DOT=[None, Answer(b"", drop=True)])
        await ours.keep_many("only", 5)
        await ours.turn(AN_HOUR)
        first, second = [one.raw for one in ours.mail["only"].transactions if one.raw.count(b",") > 20]
        assert first == second
        assert await ours.ask("SELECT DISTINCT state FROM deliveries") == [("sent",)]


@on_both
@pytest.mark.parametrize("reply", ["554 5.7.1 looks like spam", "552 5.3.4 too big"])
async def test_a_refused_digest_sets_its_letters_free(tmp_path: Path, reply: str) -> None:
    async with town(tmp_path, DIGESTING) as ours:
        await waited(ours, 30, DOT=[None, reply])
        await ours.turn(AN_HOUR)
        assert await ours.ask("SELECT DISTINCT state FROM deliveries") == [("sent",)]
        assert [len(one) for one in carried(ours.mail["only"])] == [1] * 31


async def test_one_message_that_cannot_be_composed_sets_the_others_of_its_digest_free(tmp_path: Path) -> None:
    async with town(tmp_path, DIGESTING) as ours:
        await shut(ours)
        await ours.keep_many("only", 30)
        await ours.keep("only", identifier="broken")
        for _ in range(5):
            await ours.turn(AN_HOUR)
        states = await ours.ask("SELECT state, count(*) FROM deliveries GROUP BY state ORDER BY state")
        assert states == [("failed", 1), ("sent", 31)]


@on_both
async def test_a_budget_counts_a_digest_as_one_letter(tmp_path: Path) -> None:
    options = {"only": {"digest_above": 20, "connections": 1, "budget": ((3, 24 * AN_HOUR),)}}
    async with town(tmp_path, options) as ours:
        await waited(ours, 30)
        await ours.keep("only")
        await ours.turn()
        assert await ours.ask("SELECT DISTINCT state FROM deliveries") == [("sent",)]
        assert [one.recipients for one in ours.mail["only"].accepted] == [[ADA]] * 3


async def test_a_digest_that_is_given_up_sets_its_letters_free(tmp_path: Path) -> None:
    async with town(tmp_path, DIGESTING) as ours:
        await shut(ours)
        await ours.keep_many("only", 30)
        await ours.turn(599)
        await ours.keeper.run(ways.reopen, ways.Reopened("only", ours.clock()))
        await ours.keeper.run(digests.gather, digests.Gathering("only", 20, ours.clock()))
        await ours.ask("UPDATE deliveries SET unanswered = 5 WHERE digest_id = id")  # it killed five workers
        for _ in range(3):
            await ours.turn(AN_HOUR)
        states = await ours.ask("SELECT state, outcome, count(*) FROM deliveries GROUP BY 1, 2 ORDER BY state")
        assert states == [("failed", "givenup", 1), ("sent", "sent", 30)]
