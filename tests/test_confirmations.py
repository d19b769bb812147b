"""Confirmations are no weapon: whoever bombs whom, from wherever, few leave, and each of the others says why not."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillarbox.core.confirming import fold
from pillarbox.core.delivery import Purpose, Refused
from pillarbox.store import submissions, suppressions
from pillarbox.store.submissions import Kept, NewDelivery
from pillarbox.store.suppressions import Reason, Suppression
from pillarbox.transports.smtp_replies import Stage, judge
from tests.house import ADA, message, on_both, until
from tests.town import AN_HOUR, Town, town

pytestmark = pytest.mark.anyio

MANY = 240
ONE_WAY: dict[str, dict[str, Any]] = {"one": {"confirmations_per_client": 3}}
TWO_WAYS = {name: {"confirmations_per_hour": 60, "confirmations_per_client": 3} for name in ("one", "other")}
REPEAT = "this address had a confirmation within the last day"
CROWD = "its visitor's network had 3 confirmations within the hour"
ASKED = "this address asked never to be written to again"
UNKNOWN = "its mail server says that there is no such mailbox"

Written = tuple[str, str]
"""The address that somebody types, and the network they come from."""


async def write(there: Town, address: str, client: str = "", *, form: str = "contact", way: str = "one") -> None:
    """Keep one message from this network and wake the dispatchers, as the front door does."""
    letter = NewDelivery(Purpose.CONFIRMATION, address, fold(address), way)
    kept = Kept(replace(message(at=there.clock(), form=form), client=client), (letter,))
    await there.keeper.run(submissions.keep, kept, size=1)
    for dispatcher in there.dispatchers.values():
        dispatcher.wake()


async def write_all(there: Town, *written: Written) -> None:
    """Write all of them at once, by every way in turn."""
    ways = list(there.mail)
    await asyncio.gather(*(write(there, *one, way=ways[n % len(ways)]) for n, one in enumerate(written)))


async def outcomes(there: Town) -> Counter[str]:
    """Return how many confirmations were sent, wait, or were cancelled for which reason."""
    found = await there.ask("SELECT state, note FROM deliveries WHERE purpose = 'confirmation'")
    return Counter(note if state == "cancelled" else state for state, note in found)


async def end(there: Town) -> Counter[str]:
    """Return the outcomes once nothing waits."""

    async def is_over() -> bool:
        return not (await outcomes(there))["waiting"]

    await until(is_over)
    return await outcomes(there)


def arrived(there: Town) -> list[str]:
    """Return who got a letter, by any way."""
    return [one.recipients[0] for mail in there.mail.values() for one in mail.accepted]


def one_address(number: int) -> Written:
    return "victim@example.org", f"client-{number}"


def one_mailbox_written_in_many_ways(number: int) -> Written:
    dots = "".join(letter + "." * (number >> place & 1) for place, letter in enumerate("victi")) + "m"
    name = dots.upper() if number % 3 else dots
    return f"{name}+{number}@{('gmail.com', 'GoogleMail.com', 'Gmail.COM')[number % 3]}", f"client-{number}"


def many_addresses_from_one_network(number: int) -> Written:
    return f"victim-{number}@example.org", "mallory"


def many_addresses_from_many_networks(number: int) -> Written:
    return f"victim-{number}@example.org", f"client-{number}"


def a_few_of_each(number: int) -> Written:
    return f"Victim+{number}@{number % 12}.example", f"client-{number % 5}"


@on_both
@pytest.mark.parametrize(
    ("bomb", "expected"),
    [
        (one_address, {"sent": 1, REPEAT: MANY - 1}),
        (one_mailbox_written_in_many_ways, {"sent": 1, REPEAT: MANY - 1}),
        (many_addresses_from_one_network, {"sent": 3, CROWD: MANY - 3}),
    ],
)
async def test_a_bomb_of_confirmations_is_defused_whoever_throws_it(
    bomb: Callable[[int], Written], expected: dict[str, int], tmp_path: Path
) -> None:
    async with town(tmp_path, TWO_WAYS) as there:
        await write_all(there, *map(bomb, range(MANY)))
        assert await end(there) == expected
        assert len(arrived(there)) == expected["sent"]


@on_both
async def test_sixty_leave_in_an_hour_whatever_comes_by_two_loops_at_once(tmp_path: Path) -> None:
    async with town(tmp_path, TWO_WAYS) as there:
        await write_all(there, *map(many_addresses_from_many_networks, range(MANY)))
        for hour in (1, 2):
            await until(lambda so_many=60 * hour: len(arrived(there)) >= so_many)
            await there.turn()
            assert await outcomes(there) == {"sent": 60 * hour, "waiting": MANY - 60 * hour}
            await there.turn(AN_HOUR + 1)
        assert len(set(arrived(there))) == len(arrived(there))


@on_both
async def test_neither_mailbox_nor_network_is_passed_by_mixing_them(tmp_path: Path) -> None:
    async with town(tmp_path, TWO_WAYS) as there:
        await write_all(there, *map(a_few_of_each, range(MANY)))
        found = await end(there)
        assert set(found) == {"sent", REPEAT, CROWD}
        assert 3 < found["sent"] == len(arrived(there)) == len(set(map(fold, arrived(there)))) <= 12
        counted = await there.ask("SELECT client, count(*) FROM confirmations GROUP BY client")
        assert sum(number for _, number in counted) == found["sent"]
        assert max(number for _, number in counted) == 3


async def test_a_network_may_have_three_more_an_hour_later(tmp_path: Path) -> None:
    async with town(tmp_path, ONE_WAY) as there:
        for hour in range(2):
            await write_all(there, *((f"bob-{hour}-{number}@example.net", "a library") for number in range(4)))
            assert (await end(there))["sent"] == 3 * (hour + 1)
            await there.turn(AN_HOUR + 1)


@on_both
async def test_repeats_take_no_place_from_others_of_their_network(tmp_path: Path) -> None:
    async with town(tmp_path, ONE_WAY, begins=False) as there:
        names = ["bob", "bob", "Bob+1", "bob", "carol", "bob", "dave", "eve"]
        await write_all(there, *((f"{name}@example.net", "a library") for name in names))
        there.begin("one")
        assert await end(there) == {"sent": 3, REPEAT: 4, CROWD: 1}
        assert arrived(there) == ["bob@example.net", "carol@example.net", "dave@example.net"]


@on_both
async def test_who_had_a_confirmation_today_takes_no_place_from_another_network(tmp_path: Path) -> None:
    async with town(tmp_path, ONE_WAY, begins=False) as there:
        await write(there, "bob@example.net", "his own")
        there.begin("one")
        await end(there)
        await write_all(there, *((f"{name}@example.net", "a library") for name in ("bob", "carol", "dave", "eve")))
        assert await end(there) == {"sent": 4, REPEAT: 1}


@on_both
async def test_three_that_a_network_asked_for_still_leave_after_a_greylist(tmp_path: Path) -> None:
    async with town(tmp_path, ONE_WAY) as there:
        there.mail["one"].script(RCPT=["450 4.2.0 Greylisted"] * 3)
        await write_all(there, *((f"bob-{number}@example.net", "a library") for number in range(3)))
        await there.rest()
        await write(there, "late@example.net", "a library")
        await there.rest()
        assert await outcomes(there) == {"waiting": 3, CROWD: 1}
        await there.turn(10.0)
        assert await end(there) == {"sent": 3, CROWD: 1}


async def test_visitors_of_whom_no_network_is_known_are_not_counted_as_one(tmp_path: Path) -> None:
    async with town(tmp_path, ONE_WAY) as there:
        await write_all(there, *((f"bob-{number}@example.net", "") for number in range(5)))
        assert await end(there) == {"sent": 5}


async def test_without_a_bound_a_network_gets_what_it_asks_for(tmp_path: Path) -> None:
    async with town(tmp_path, {"one": {}}) as there:
        await write_all(there, *((f"bob-{number}@example.net", "a library") for number in range(9)))
        assert await end(there) == {"sent": 9}


@on_both
@pytest.mark.parametrize(
    ("reason", "note"),
    [(Reason.ASKED, ASKED), (Reason.REFUSED, UNKNOWN), (Reason.LISTED, "this address is on the suppression list")],
)
async def test_who_is_on_the_list_gets_none_from_any_form_and_the_letter_says_why(
    reason: Reason, note: str, tmp_path: Path
) -> None:
    async with town(tmp_path, ONE_WAY) as there:
        await there.keeper.run(suppressions.suppress, Suppression("bob@gmail.com", Reason.LISTED, 1.0))
        await there.ask("UPDATE suppressions SET reason = ?", reason)
        await write(there, "B.o.b+x@googlemail.com")
        await write(there, "bob@gmail.com", form="another")
        await write(there, "carol@gmail.com")
        assert await end(there) == {note: 2, "sent": 1}
        assert arrived(there) == ["carol@gmail.com"]


async def test_owners_letters_do_not_ask_the_list(tmp_path: Path) -> None:
    async with town(tmp_path, ONE_WAY) as there:
        await there.keeper.run(suppressions.suppress, Suppression(ADA, Reason.ASKED, 1.0))
        there.mail["one"].script(RCPT=["550 5.1.1 no such user"])
        await there.keep("one")
        await there.turn()
        await there.turn(10.0)
        assert arrived(there) == [ADA]


@on_both
async def test_a_mailbox_that_its_server_does_not_know_is_asked_for_once(tmp_path: Path) -> None:
    async with town(tmp_path, ONE_WAY) as there:
        there.mail["one"].script(RCPT=["550 5.1.1 <bob@example.net>: no such\tuser"])
        await write(there, "bob@example.net")
        await there.rest()
        await write(there, "BOB+again@example.net", form="another")
        assert await end(there) == {"failed": 1, UNKNOWN: 1}
        assert len([verb for verb in there.mail["one"].verbs() if verb == "RCPT"]) == 1
        [(mailbox, reason, note)] = await there.ask("SELECT mailbox, reason, note FROM suppressions")
        assert (mailbox, reason) == ("bob@example.net", "refused")
        assert note == "550 5.1.1 <…@example.net>: no such user (to RCPT)"


@pytest.mark.parametrize(
    ("address", "reply"),
    [
        ("bob@example.net", "552 5.2.2 mailbox full"),
        ("bob@example.net", "554 5.7.1 Service unavailable; client host blocked"),
        ("bob@example.net", "450 4.2.0 Greylisted"),
        ("bob+tag@example.net", "550 5.1.1 no such user"),
    ],
)
async def test_what_is_no_word_about_the_mailbox_keeps_nobody_from_the_next_confirmation(
    address: str, reply: str, tmp_path: Path
) -> None:
    async with town(tmp_path, ONE_WAY) as there:
        there.mail["one"].script(RCPT=[reply])
        await write(there, address)
        await there.rest()
        await write(there, "bob@example.net", form="another")
        await there.rest()
        assert await there.ask("SELECT * FROM suppressions") == []
        assert arrived(there) == ["bob@example.net"]


NO_MAILBOX = [
    "550 5.1.1 no such user",
    "551 5.1.6 moved",
    "553 5.1.3 bad address",
    "554 5.1.2 bad domain",
    "556 5.1.10 the domain takes no mail",
    "550 5.2.1 disabled",
    "550 5.0.0 unknown user",
    "550 5.3.0 unknown user",
    "550 5.1.0 address rejected",
    "550 unknown user",
    "550 Requested action not taken: mailbox unavailable",
]
SOMETHING_ELSE = [
    "552 5.2.2 over quota",
    "550 5.2.2 over quota",
    "552 too much in this mailbox",
    "550 mailbox is full",
    "552 5.2.3 message too large",
    "554 5.7.1 relay access denied",
    "550 5.7.1 unsolicited mail",
    "550 relaying denied",
    "550 blocked by our blacklist",
    "554 your host has no good reputation",
    "550 5.1.0 sender rejected",
    "550 5.1.7 bad sender address",
    "550 5.4.1 no answer from host",
    "501 syntax error",
    "450 5.1.1 no such user",
]


@pytest.mark.parametrize("reply", NO_MAILBOX)
def test_a_reply_that_a_mailbox_is_none_is_known(reply: str) -> None:
    outcome = judge(Stage.RCPT, int(reply[:3]), reply[4:])
    assert isinstance(outcome, Refused)
    assert outcome.no_mailbox
    for stage in (Stage.MAIL, Stage.DATA, Stage.DOT):
        assert not getattr(judge(stage, int(reply[:3]), reply[4:]), "no_mailbox", False)


@pytest.mark.parametrize("reply", SOMETHING_ELSE)
def test_a_reply_about_us_or_about_a_letter_says_nothing_of_the_mailbox(reply: str) -> None:
    assert not getattr(judge(Stage.RCPT, int(reply[:3]), reply[4:]), "no_mailbox", False)
