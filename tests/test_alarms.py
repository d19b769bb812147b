"""Trouble is shouted about: one alarm, one a day while it lasts, one when it is well, whoever looks or dies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pillarbox.channels import Envelope
from pillarbox.channels.mail import MailChannel
from pillarbox.core.alarm import CLAIM, DAY, GONE_FOR, Bounds, Event, Message
from pillarbox.core.errors import NotKept
from pillarbox.store import alarms
from pillarbox.store.alarms import Told
from pillarbox.store.keeper import Keeper
from pillarbox.store.sqlite_file import DataVersion
from tests.house import WAY, keep, on_both, open_store, rows, to_bob
from tests.servers.scripted_smtp import ScriptedSmtp
from tests.transports.letters import way_to
from tests.watching import NOON, House, watching

pytestmark = pytest.mark.anyio

ENVELOPE = Envelope("forms@pillarbox.example", ("ada@example.org",))
QUIET = Bounds(after=900.0, quiet_after=3 * DAY, forms=("contact",))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with watching(tmp_path) as made:
        yield made


@asynccontextmanager
async def second_keeper(folder: Path) -> AsyncIterator[Keeper]:
    """Write to the same database as another process would."""
    store = open_store(folder)
    other = Keeper(store)
    other.start()
    yield other
    await other.close()
    store.close()


async def test_a_way_is_alarmed_about_once_it_was_shut_for_so_long(house: House):
    await house.shut(since=NOON - 890)
    assert await house.look() == []
    assert await house.look(after=15) == ["opened way_shut"]
    assert await house.look(after=15) == []
    said = house.sink.asked[0].said
    assert said["title"] == '[Ada\'s shop] no mail leaves through "default"'
    assert said["since"] == "2027-01-15T07:45:10+00:00"
    assert "2027-01-15 07:45 UTC (15 minutes): 535 5.7.8 bad credentials" in said["text"]
    assert "password" in said["text"].lower()  # what to do about this very reply
    assert "Nothing is lost" in said["text"]
    assert 2 <= len(said["text"].splitlines()) <= 6


async def test_a_week_of_it_is_one_alarm_one_a_day_and_one_well_again(house: House):
    await house.shut(since=NOON)
    await house.letter(age=0)
    heard = [event for _ in range(7 * 24 * 6) for event in await house.look(after=600)]
    assert heard == ["opened way_shut", *["still way_shut"] * 6]
    await house.open()
    await house.settle_all()
    assert [event for _ in range(100) for event in await house.look(after=600)] == ["well way_shut"]
    assert await house.alarm_rows() == []
    assert "It began at 2027-01-15 08:00 UTC" in house.sink.asked[-1].said["text"]


async def test_a_way_that_opens_in_time_is_never_told_of(house: House):
    await house.shut(since=NOON - 600)
    await house.look()
    await house.open()
    assert await house.look(after=600) == []
    assert await house.alarm_rows() == []


@on_both
@pytest.mark.parametrize(
    ("state", "outcome", "words"),
    [("failed", "givenup", "1 letter failed for good"), ("waiting", "refused", "1 letter refused and still tried")],
)
async def test_a_letter_that_failed_or_is_refused_is_told_at_once(house: House, state, outcome, words):
    await house.letter(age=1, state=state, outcome=outcome, note="550 5.1.1 <bob@example.net> unknown (to RCPT)")
    assert await house.look() == ["opened letters_failed"]
    said = house.sink.asked[0].said
    assert said["note"] == (
        f"{words}; the newest is delivery 1 to ada@example.org: 550 5.1.1 <…@example.net> unknown (to RCPT)"
    )
    assert "pillarbox deliveries list" in said["text"]
    assert "RECIPIENT_EMAIL" in said["text"]  # what to do about this very reply
    assert said["subject"] == "contact"


async def test_failed_letters_that_were_sent_after_all_are_well_again(house: House):
    await house.letter(age=1, state="failed", outcome="refused")
    await house.letter(age=1, outcome="refused")
    await house.look()
    note = house.sink.asked[0].said["note"]
    assert note.startswith("1 letter failed for good, 1 letter refused and still tried; the newest is delivery 2 ")
    await house.settle_all()
    assert await house.look(after=15) == []
    assert await house.look(after=GONE_FOR) == ["well letters_failed"]


async def test_a_confirmation_that_failed_is_nobodys_trouble(house: House):
    await keep(house.keeper, to_bob(), at=NOON)
    await rows(house.keeper, "UPDATE deliveries SET state = 'failed', outcome = 'refused'")
    assert await house.look() == []


@on_both
async def test_letters_that_wait_for_too_long_are_told_of_unless_the_way_is_shut(house: House):
    await house.letter(age=890)
    await house.letter(age=10)
    assert await house.look() == []
    await house.shut(since=NOON + 10)
    assert await house.look(after=15) == []
    await house.open()
    assert await house.look() == ["opened letters_late"]
    assert house.sink.asked[0].said["note"] == "1 letter waiting"
    await house.settle_all()
    await house.look()
    assert await house.look(after=GONE_FOR) == ["well letters_late"]


@on_both
async def test_letters_late_are_not_told_of_while_late_ones_are_leaving(house: House):
    await house.letter(age=5_000)
    await house.letter(age=4_000, state="sent", outcome="sent")
    assert await house.look() == []
    assert await house.look(after=901) == ["opened letters_late"]


async def test_a_backlog_that_only_grows_is_told_of_each_day_though_late_ones_leave(house: House):
    await house.letter(age=5_000)
    assert await house.look() == ["opened letters_late"]
    heard = []
    for _ in range(3 * 24 * 6):
        await house.letter(age=5_000, state="sent", outcome="sent")
        heard += await house.look(after=600)
    assert heard == ["still letters_late"] * 3


async def test_an_outage_is_one_alarm_though_its_first_letter_is_older_than_it(house: House):
    await house.letter(age=700)
    await house.letter(age=40)
    await house.shut(since=NOON)
    assert [event for _ in range(400) for event in await house.look(after=15)] == ["opened way_shut"]


async def test_an_outage_in_the_midst_of_a_backlog_that_was_leaving_is_one_alarm(house: House):
    await house.letter(age=5_000)
    await house.letter(age=4_000, state="sent", outcome="sent")
    await house.shut(since=NOON + 60)
    assert [event for _ in range(400) for event in await house.look(after=15)] == ["opened way_shut"]


async def test_a_way_that_opens_and_shuts_by_turns_while_no_letter_leaves_is_told_of(house: House):
    await house.letter(age=0)
    heard = []
    for second in range(15, 2 * 3_600, 15):
        if second % 600 == 0:
            await house.shut(since=house.clock.now)
        heard += await house.look(after=15)
    assert heard == ["opened letters_late"]
    assert house.clock.now > NOON + 3_600


@on_both
async def test_a_refused_letter_is_one_alarm_not_two(house: House):
    await house.letter(age=5_000, outcome="refused")
    assert await house.look() == ["opened letters_failed"]


@on_both
async def test_a_form_that_is_silent_is_told_of_where_that_is_asked_for(house: House):
    usual, house.alarms = house.alarms, house.looking(house.hook, bounds=QUIET)
    assert await house.look() == []  # a new form had no message yet
    await keep(house.keeper, to_bob(), at=NOON)
    assert await house.look(after=3 * DAY) == []
    assert await house.look(after=15) == ["opened form_silent"]
    await rows(house.keeper, "UPDATE submissions SET received_at = ?", house.clock.now)
    await house.look()
    assert await house.look(after=GONE_FOR) == ["well form_silent"]
    house.alarms = usual
    assert await house.look(after=30 * DAY) == []


@on_both
async def test_what_is_held_as_spam_does_not_break_a_silence(house: House):
    await keep(house.keeper, to_bob(), at=NOON - 4 * DAY)
    house.alarms = house.looking(house.hook, bounds=QUIET)
    await keep(house.keeper, to_bob(), at=NOON, identifier="held")
    await rows(house.keeper, """UPDATE submissions SET held_for = '["links"]' WHERE id = 'held'""")
    assert await house.look() == ["opened form_silent"]


@on_both
async def test_two_processes_on_one_store_tell_once(house: House, tmp_path: Path):
    async with second_keeper(tmp_path) as other:
        both = (house.alarms, house.looking(house.hook, keeper=other))
        for trouble in range(20):
            await house.shut(since=house.clock.now - 1_000)
            await asyncio.gather(*(one.look() for one in both))
            assert [asked.said["event"] for asked in house.sink.asked] == ["opened", "well"] * trouble + ["opened"]
            await house.open()
            await house.look()
            house.clock.now += GONE_FOR
            await asyncio.gather(*(one.look() for one in both))
        assert len(house.sink.asked) == 40


class Dying:
    """A channel that its process does not survive."""

    name, transport = "dying://", None

    async def tell(self, news: Message) -> str | None:
        """End, as a killed process does: nothing after this runs."""
        raise asyncio.CancelledError


@on_both
async def test_who_dies_between_claim_and_telling_is_followed_by_another(house: House):
    await house.shut(since=NOON - 1_000)
    with pytest.raises(asyncio.CancelledError):
        await house.looking(Dying()).look()
    assert await house.look(after=CLAIM - 1) == []
    assert await house.look(after=1) == ["opened way_shut"]
    assert await house.look(after=CLAIM) == []


async def test_what_no_channel_takes_is_told_again_in_five_minutes_and_logged(house: House):
    house.sink.answer = 500
    await house.shut(since=NOON - 1_000)
    with capture_logs() as lines:
        assert await house.look() == ["opened way_shut"]
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("alarm_untold", "error")
    assert line["untold"] == ["http://127.0.0.1: it answered 500"]
    house.sink.answer = 200
    assert await house.look(after=CLAIM - 1) == []
    assert await house.look(after=1) == ["opened way_shut"]
    assert house.sink.asked[0].said["id"] == house.sink.asked[1].said["id"]


async def test_an_outage_that_cut_the_channel_too_is_told_of_once_when_that_works_again(house: House):
    house.sink.answer = 500
    await house.shut(since=NOON - 1_000)
    for _ in range(24):
        await house.look(after=CLAIM)
    await house.open()
    await house.look(after=CLAIM)
    for _ in range(24):
        assert await house.look(after=CLAIM) == ["well way_shut"]
    house.sink.answer = 200
    assert [event for _ in range(24) for event in await house.look(after=CLAIM)] == ["well way_shut"]
    said = house.sink.asked[-1].said
    assert said["title"] == '[Ada\'s shop] Well again: mail leaves through "default"'
    over, seen = said["text"].splitlines()
    assert over.startswith("It began at 2027-01-15 07:43 UTC and was over at 2027-01-15 10:05 UTC (2 hours). Nobody ")
    assert seen == "What was seen last: 535 5.7.8 bad credentials"
    assert await house.alarm_rows() == []


async def test_who_can_be_told_only_by_the_broken_way_hears_of_it_when_that_is_open(house: House):
    async with ScriptedSmtp() as server:
        way = way_to(server)
        house.alarms = house.looking(MailChannel(WAY, way.send, envelope=ENVELOPE))
        await house.shut(since=NOON - 1_000)
        await house.look()
        await house.open()
        for _ in range(3):
            await house.look(after=CLAIM)
        (letter,) = server.accepted
        assert b"Nobody could be told" in letter.content
        await way.close()


class Faulty:
    """A channel with a fault of ours."""

    name, transport = "faulty://", None

    async def tell(self, news: Message) -> str | None:
        """Fail in an unforeseen manner."""
        raise ZeroDivisionError


async def test_one_channel_that_takes_it_is_enough_and_a_faulty_one_silences_none(house: House):
    await house.shut(since=NOON - 1_000)
    with capture_logs() as lines:
        await house.looking(Faulty(), house.hook).look()
    assert [line["event"] for line in lines] == ["channel_failed", "alarm"]
    assert lines[1]["told"] == ["http://127.0.0.1"]
    assert lines[1]["untold"] == ["faulty://: it failed in an unforeseen manner (ZeroDivisionError)"]
    assert await house.look(after=CLAIM) == []


async def test_without_any_channel_the_log_is_told_once_a_day(house: House):
    await house.shut(since=NOON - 1_000)
    alone = house.looking()
    with capture_logs() as lines:
        for _ in range(2 * 24):
            await alone.look()
            house.clock.now += 3_600
        await house.open()
        await alone.look()
        house.clock.now += GONE_FOR
        await alone.look()
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("alarm", "error"),
        ("alarm", "error"),
        ("alarm_over", "warning"),
    ]


@on_both
async def test_who_sets_a_channel_during_a_trouble_hears_of_it_at_once_and_only_once(house: House):
    await house.shut(since=NOON - 1_000)
    await house.looking().look()
    assert await house.look(after=60) == ["opened way_shut"]
    await house.looking(house.hook).look()
    assert await house.look(after=CLAIM) == []


async def test_what_was_over_before_a_channel_was_set_ends_silently(house: House):
    await house.shut(since=NOON - 1_000)
    await house.looking().look()
    await house.open()
    assert [event for _ in range(3) for event in await house.look(after=CLAIM)] == []
    assert await house.alarm_rows() == []


async def test_a_mail_through_the_broken_way_is_not_tried_but_may_tell_that_it_is_well(house: House):
    async with ScriptedSmtp() as server:
        way = way_to(server)
        over_it, past_it = (MailChannel(name, way.send, envelope=ENVELOPE) for name in (WAY, "backup"))
        await house.shut(since=NOON - 1_000)
        with capture_logs() as lines:
            await house.looking(over_it).look()
        assert [line["event"] for line in lines] == ["alarm_untold"]
        house.clock.now += CLAIM
        await house.looking(over_it, past_it).look()
        assert len(server.accepted) == 1
        await house.open()
        await house.looking(over_it).look()
        house.clock.now += GONE_FOR
        await house.looking(over_it).look()
        assert b"Well again" in server.accepted[1].content
        await house.letter(age=1, state="failed", outcome="refused")
        await house.looking(over_it).look()
        assert len(server.accepted) == 3
        await way.close()


@on_both
async def test_a_row_that_changed_since_it_was_read_is_left_alone(house: House):
    await house.shut(since=NOON - 1_000)
    await house.look()
    with house.store.writing() as connection:
        # Both read the row as it was before either.
        alarms.told(connection, [Told("way_shut:default", Event.STILL, NOON + later) for later in (0, 60)])
    assert await rows(house.keeper, "SELECT told, tell_at FROM alarms") == [(2, NOON + DAY)]


async def test_nothing_is_written_while_nothing_changes(house: House):
    await house.letter(age=1, state="failed", outcome="refused")
    await house.look()
    watch = DataVersion(house.store)
    watch.changed()
    for _ in range(3):
        await house.look(after=15)
    assert not watch.changed()
    watch.close()


async def test_a_store_that_cannot_be_written_after_the_telling_makes_nobody_hear_it_twice(house: House):
    await house.shut(since=NOON - 1_000)

    class Cutting:
        """Takes the store away while it tells, as a disk that is full does."""

        name, transport = "cutting://", None

        async def tell(self, news: Message) -> str | None:
            """Take the news."""
            house.store.path.rename(house.store.path.with_suffix(".away"))

    looking = house.looking(Cutting())
    with pytest.raises(NotKept):
        await looking.look()
    house.store.path.with_suffix(".away").rename(house.store.path)
    house.clock.now += 2 * CLAIM
    await looking.look()
    assert await house.alarm_rows() == [("way_shut:default", 1)]
