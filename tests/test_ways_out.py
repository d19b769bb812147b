"""Several ways out: each with its own breaker, budget and pace, and none the other's trouble."""

from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pillarbox.store import ways
from pillarbox.store.ways import Shut
from tests.house import ADA, on_both, until
from tests.servers.scripted_smtp import Answer
from tests.town import A_DAY, AN_HOUR, Town, prefaces, town, tries

pytestmark = pytest.mark.anyio

WRONG_PASSWORD = "535 5.7.8 wrong password"


async def test_a_shut_way_delays_no_letter_of_another(tmp_path: Path) -> None:
    async with town(tmp_path, {"broken": {}, "well": {}}) as ours:
        ours.mail["broken"].script(CONNECT=lambda _: "421 go away")
        await ours.keep_many("broken", 100)
        await ours.keep_many("well", 5)
        await ours.turn()
        assert len(ours.mail["well"].accepted) == 5
        assert await ours.ask("SELECT DISTINCT way, state FROM deliveries ORDER BY way") == [
            ("broken", "waiting"),
            ("well", "sent"),
        ]
        assert await ours.ask("SELECT name FROM ways WHERE shut_since IS NOT NULL") == [("broken",)]


async def test_a_way_that_stays_shut_is_tried_at_growing_intervals_up_to_a_quarter_of_an_hour(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {}}) as ours:
        ours.mail["only"].script(MAIL=lambda _: "421 4.3.2 closed")
        await ours.keep_many("only", 10)
        began, tried_at = ours.clock(), []
        await ours.turn()
        for _ in range(240):
            before = tries(ours.mail["only"])
            await ours.turn(30)
            assert tries(ours.mail["only"]) - before <= 1
            if tries(ours.mail["only"]) > before:
                tried_at.append(ours.clock() - began)
        gaps = [round((later - earlier) / 60) for earlier, later in pairwise([0.0, *tried_at])]
        assert gaps == [1, 2, 4, 8, 15, 15, 15, 15, 15, 15, 15]


async def test_a_refused_login_is_tried_only_four_times_an_hour(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {}}) as ours:
        ours.mail["only"].script(MAIL=lambda _: WRONG_PASSWORD)
        await ours.keep_many("only", 3)
        await ours.turn()
        before = tries(ours.mail["only"])
        for _ in range(60):
            await ours.turn(60)
        assert tries(ours.mail["only"]) - before == 4


async def test_a_way_that_opened_again_is_tried_soon_when_it_shuts_the_next_time(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"connections": 1}}) as ours:
        ours.mail["only"].script(MAIL=["421 closed"] * 4)
        await ours.keep("only")
        for seconds in (0, 60, 120, 240, 480):
            await ours.turn(seconds)
        assert len(ours.mail["only"].accepted) == 1
        ours.mail["only"].script(MAIL=["421 closed"])
        await ours.keep("only")
        await ours.turn()
        await ours.turn(60)
        assert len(ours.mail["only"].accepted) == 2


@pytest.mark.parametrize("poisoned", [1, 8])
async def test_letters_that_shut_the_way_by_themselves_do_not_keep_it_shut_for_the_others(
    tmp_path: Path, poisoned: int
) -> None:
    async with town(tmp_path, {"only": {"connections": 1}}) as ours:
        ours.mail["only"].script(DOT=lambda moment: "421 4.7.0 not this one" if _holds(ours, "poison") else None)
        for number in range(poisoned):
            await ours.keep("only", identifier=f"poison-{number}")
        for number in range(8):
            await ours.keep("only", number=number)
        for _ in range(200):
            await ours.turn(300)
        assert len(ours.mail["only"].accepted) == 8


def _holds(ours: Town, word: str) -> bool:
    return word.encode() in ours.mail["only"].transactions[-1].raw


@on_both
async def test_what_waits_for_a_shut_way_leaves_by_its_fallback_and_the_way_is_tried_by_the_next_letter(
    tmp_path: Path,
) -> None:
    async with town(tmp_path, {"first": {"fallback": "other"}, "other": {}}) as ours:
        ours.mail["first"].script(MAIL=lambda _: "550 5.4.5 daily sending limit exceeded")
        await ours.keep_many("first", 20)
        await ours.turn()
        await ours.turn()
        await until(lambda: len(ours.mail["other"].accepted) == 20)
        before = tries(ours.mail["first"])
        await ours.keep("first")
        await ours.turn()
        await ours.turn()
        assert tries(ours.mail["first"]) == before
        assert len(ours.mail["other"].accepted) == 21
        ours.mail["first"].script(MAIL=[])
        await ours.keep("first")
        await ours.turn(AN_HOUR)
        assert len(ours.mail["first"].accepted) == 1


@on_both
async def test_nothing_goes_to_a_fallback_that_is_shut_itself(tmp_path: Path) -> None:
    async with town(tmp_path, {"first": {"fallback": "other"}, "other": {"fallback": "first"}}) as ours:
        for name in ours.mail:
            await ours.keeper.run(ways.shut, Shut(name, ours.clock(), "closed", 0, ours.clock() + AN_HOUR))
            await ours.keep(name)
        for _ in range(3):
            await ours.turn(1)
        assert await ours.ask("SELECT way, count(*) FROM deliveries GROUP BY way ORDER BY way") == [
            ("first", 1),
            ("other", 1),
        ]
        assert not any(mail.lines for mail in ours.mail.values())


async def test_a_shut_way_without_letters_is_asked_itself_and_opens(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {}}) as ours:
        ours.mail["only"].script(CONNECT=["421 closed"] * 2)
        await ours.keep("only")
        await ours.turn()
        await ours.ask("UPDATE deliveries SET state = 'cancelled'")
        await ours.turn(60)
        assert await ours.ask("SELECT count(*) FROM ways WHERE shut_since IS NOT NULL") == [(1,)]
        await ours.turn(120)
        assert await ours.ask("SELECT count(*) FROM ways WHERE shut_since IS NOT NULL") == [(0,)]
        assert ours.mail["only"].transactions == []


@on_both
async def test_a_way_that_refused_a_letter_is_opened_by_a_letter_alone(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"connections": 1}}) as ours:
        ours.mail["only"].script(DATA=["550 5.4.5 daily sending limit exceeded"] * 2)
        await ours.keep("only")
        await ours.turn()
        [(since,)] = await ours.ask("SELECT shut_since FROM ways")
        await ours.ask("UPDATE deliveries SET state = 'cancelled'")
        connections = ours.mail["only"].connections
        for _ in range(3):
            await ours.turn(AN_HOUR)
        assert ours.mail["only"].connections == connections
        await ours.keep("only")
        await ours.turn()
        assert await ours.ask("SELECT shut_since, probes FROM ways") == [(since, 1)]
        await ours.turn(AN_HOUR)
        assert await ours.ask("SELECT shut_since FROM ways") == [(None,)]


async def test_a_budget_is_never_overspent_and_nothing_is_dropped(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"budget": ((5, AN_HOUR), (12, A_DAY)), "connections": 3}}) as ours:
        await ours.keep_many("only", 30, each=0.001)
        sent_at: list[float] = []
        for _ in range(3 * 24 * 4):
            await ours.turn(AN_HOUR / 4)
            sent_at += [ours.clock()] * (len(ours.mail["only"].accepted) - len(sent_at))
        assert len(sent_at) == 30
        for most, seconds in ((5, AN_HOUR), (12, A_DAY)):
            assert all(later - earlier >= seconds for earlier, later in zip(sent_at, sent_at[most:], strict=False))


@on_both
async def test_what_a_budget_holds_back_leaves_in_the_order_of_age(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"budget": ((3, AN_HOUR),), "connections": 1}}) as ours:
        await ours.keep_many("only", 10, each=1.0)
        for _ in range(5):
            await ours.turn(AN_HOUR + 1)
        kept = await ours.ask("SELECT id FROM submissions ORDER BY received_at")
        assert [one.message_id[1:15] for one in ours.mail["only"].accepted] == [identifier for (identifier,) in kept]


@on_both
async def test_the_last_fifth_of_a_budget_is_kept_for_owners(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"budget": ((10, A_DAY),)}}) as ours:
        for number in range(20):
            await ours.keep("only", to=f"bob-{number}@example.net")
        await ours.turn()
        assert len(ours.mail["only"].accepted) == 8
        for number in range(5):
            await ours.keep("only", number=number)
        await ours.turn()
        assert [one.recipients[0] for one in ours.mail["only"].accepted[8:]] == [ADA] * 2


@on_both
async def test_the_first_owners_letter_after_an_outage_says_what_happened_and_no_other_does(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"tells": 900.0, "connections": 1}}) as ours:
        await ours.keep("only")
        await ours.turn()
        ours.mail["only"].script(MAIL=[WRONG_PASSWORD] * 3)
        for number in range(6):
            await ours.keep("only", number=number)
        await ours.keep("only", to="bob@example.net")
        for _ in range(5):
            await ours.turn(AN_HOUR)
        assert prefaces(ours.mail["only"]) == ["", f"{WRONG_PASSWORD} (to MAIL)", "", "", "", "", "", ""]


async def test_a_letter_that_told_of_an_outage_tells_the_same_when_it_has_to_be_repeated(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"tells": 30.0, "connections": 1}}) as ours:
        ours.mail["only"].script(MAIL=["421 closed"], DOT=[Answer(b"", drop=True)])
        await ours.keep("only")
        for _ in range(3):
            await ours.turn(60)
        first, second = ours.mail["only"].transactions
        assert b"Preface: 421 closed" in first.raw
        assert first.raw == second.raw


@on_both
async def test_when_the_letter_that_was_to_tell_is_put_off_the_next_that_gets_through_tells(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"tells": 30.0, "connections": 1}}) as ours:
        ours.mail["only"].script(MAIL=["421 closed"], RCPT=["451 4.7.1 later"])
        for number in range(3):
            await ours.keep("only", number=number)
        await ours.turn()
        await ours.turn(60)
        told = prefaces(ours.mail["only"])
        assert told[0] == "421 closed (to MAIL)"
        assert told[1:] == [""] * (len(told) - 1)


@on_both
async def test_when_a_way_was_opened_without_a_letter_the_next_one_tells(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"tells": 30.0}}) as ours:
        ours.mail["only"].script(CONNECT=["421 closed"])
        await ours.keep("only")
        await ours.turn()
        await ours.ask("UPDATE deliveries SET state = 'cancelled'")
        await ours.turn(60)
        assert await ours.ask("SELECT shut_since FROM ways") == [(None,)]
        for number in range(2):
            await ours.keep("only", number=number)
            await ours.turn(60)
        assert prefaces(ours.mail["only"]) == ["421 closed (to the greeting)", ""]


async def test_an_outage_that_was_short_is_not_told(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"tells": 900.0}}) as ours:
        ours.mail["only"].script(MAIL=["421 closed"])
        await ours.keep("only")
        await ours.turn()
        await ours.turn(60)
        assert prefaces(ours.mail["only"]) == [""]


@on_both
async def test_every_attempt_is_kept_with_time_reply_and_duration(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"connections": 1}}) as ours:
        began = ours.clock()
        ours.mail["only"].script(CONNECT=["554 closed"], RCPT=["451 4.7.1 greylisted"])
        await ours.keep("only")
        for seconds in (0, 60, 10):
            await ours.turn(seconds)
        found = await ours.ask("SELECT begun_at, seconds, outcome, note, way FROM attempts ORDER BY id")
        assert [row[2:] for row in found] == [
            ("blocked", "554 closed (to the greeting)", "only"),
            ("deferred", "451 4.7.1 greylisted (to RCPT)", "only"),
            ("sent", found[2][3], "only"),
        ]
        assert found[2][3].startswith("250 ")
        assert [round(row[0] - began) for row in found] == [0, 60, 70]
        assert all(0 < row[1] < 60 for row in found)
        assert await ours.ask("SELECT outcome FROM deliveries") == [("sent",)]


async def test_repeats_are_spread_by_chance(tmp_path: Path) -> None:
    factors = iter([0.9, 1.1, 1.0])
    async with town(tmp_path, {"only": {"connections": 1}}, jitter=lambda: next(factors)) as ours:
        ours.mail["only"].script(RCPT=lambda _: "451 4.7.1 later")
        await ours.keep("only")
        waits = []
        for seconds in (0, 9, 66):
            await ours.turn(seconds)
            [(due_at,)] = await ours.ask("SELECT due_at FROM deliveries")
            waits.append(round(due_at - ours.clock()))
        assert waits == [9, 66, 300]


@on_both
async def test_letters_of_a_way_that_is_no_more_are_given_to_one_that_is(tmp_path: Path) -> None:
    async with town(tmp_path, {"default": {}}) as ours:
        await ours.keep("gone")
        await ours.keep("default")
        await ours.keeper.run(ways.shut, Shut("gone", ours.clock(), "closed", 0, ours.clock()))
        assert await ours.keeper.run(ways.adopt, (("default",), "default")) == 1
        assert await ours.ask("SELECT count(*) FROM ways WHERE shut_since IS NOT NULL") == [(0,)]
        await ours.turn()
        assert await ours.ask("SELECT DISTINCT way, state FROM deliveries") == [("default", "sent")]


@on_both
async def test_a_refused_letter_stays_known_as_refused_until_it_leaves(tmp_path: Path) -> None:
    async with town(tmp_path, {"only": {"connections": 1}}) as ours:
        ours.mail["only"].script(MAIL=[None, "421 4.3.2 closing", "421 4.3.2 closing"], RCPT=["550 5.1.1 no such user"])
        await ours.keep("only")
        for seconds in (0, 10, 60, 120):
            await ours.turn(seconds)
            if not ours.mail["only"].accepted:
                assert await ours.ask("SELECT outcome FROM deliveries") == [("refused",)]
        await ours.turn(AN_HOUR)
        assert await ours.ask("SELECT outcome FROM deliveries") == [("sent",)]
        tried = await ours.ask("SELECT outcome FROM attempts ORDER BY id")
        assert tried == [("refused",), ("blocked",), ("sent",)]


async def test_the_log_holds_no_address_that_a_server_repeats(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with town(tmp_path, {"only": {}}) as ours:
            ours.mail["only"].script(RCPT=lambda _: "550 5.1.1 <bob.private@example.net>: no such user")
            await ours.keep("only", to="bob.private@example.net")
            await ours.turn()
    [refused] = [line for line in lines if line["event"] == "refused"]
    assert "no such user" in refused["note"]
    assert "bob.private" not in refused["note"]
