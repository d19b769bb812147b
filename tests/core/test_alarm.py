"""The rule of alarms: told when it begins, once a day while it lasts, once when it is over."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.alarm import (
    CLAIM,
    DAY,
    GONE_FOR,
    UNTRIED,
    Alarm,
    Event,
    Kind,
    News,
    Trouble,
    heard,
    in_words,
    news_id,
    steps,
    without_addresses,
)

NOW = 1_800_000_000.0
SHUT = Trouble(Kind.WAY_SHUT, "default", "535 no", NOW - 900)
LATE = Trouble(Kind.LETTERS_LATE, "default", "3 letters waiting", NOW - 900)


class Row:
    """One row by the rule alone; `told` is what somebody heard, with the time; `missed` the ends of what nobody did."""

    def __init__(self) -> None:
        self.alarm: Alarm | None = None
        self.missed: list[float] = []
        self.told: list[tuple[Event, float]] = []

    def look(self, *troubles: Trouble, now: float, ears: bool = True) -> list[Event]:
        """Look once; with `ears` somebody hears what there is to tell. Return what there was."""
        news = []
        for step in steps(troubles, [self.alarm] if self.alarm else [], now=now):
            self.alarm = step.after
            if step.event:
                news.append(step.event)
                if ears:
                    assert self.alarm is not None
                    if step.event is Event.WELL and self.alarm.missed_until is not None:
                        self.missed.append(self.alarm.missed_until)
                    else:
                        self.told.append((step.event, now))
                    self.alarm = heard(self.alarm, step.event, now=now)
        return news


def test_a_trouble_is_told_when_it_is_found_and_not_at_the_next_look():
    row = Row()
    assert row.look(SHUT, now=NOW) == [Event.OPENED]
    assert row.look(SHUT, now=NOW + 15) == []


def test_it_is_told_again_a_whole_day_after_it_was_told_last():
    row = Row()
    row.look(SHUT, now=NOW)
    assert row.look(SHUT, now=NOW + DAY - 1) == []
    assert row.look(SHUT, now=NOW + DAY + 10) == [Event.STILL]
    assert row.look(SHUT, now=NOW + 2 * DAY) == []
    assert row.look(SHUT, now=NOW + 2 * DAY + 10) == [Event.STILL]


def test_what_nobody_heard_is_told_again_in_five_minutes_as_if_it_were_new():
    row = Row()
    row.look(SHUT, now=NOW, ears=False)
    assert row.look(SHUT, now=NOW + CLAIM - 1) == []
    assert row.look(SHUT, now=NOW + CLAIM) == [Event.OPENED]


def test_its_end_is_told_once_when_it_was_gone_for_two_minutes():
    row = Row()
    row.look(SHUT, now=NOW)
    assert row.look(now=NOW + 60) == []
    assert row.look(now=NOW + 60 + GONE_FOR - 1) == []
    assert row.look(now=NOW + 60 + GONE_FOR) == [Event.WELL]
    assert row.alarm is None


def test_an_end_that_nobody_heard_is_told_again_in_five_minutes():
    row = Row()
    row.look(SHUT, now=NOW)
    row.look(now=NOW)
    assert row.look(now=NOW + GONE_FOR, ears=False) == [Event.WELL]
    assert row.look(now=NOW + GONE_FOR + CLAIM - 1) == []
    assert row.look(now=NOW + GONE_FOR + CLAIM) == [Event.WELL]


def test_what_comes_and_goes_within_two_minutes_is_one_alarm_that_is_still_told_each_day():
    row = Row()
    for minute in range(2 * 24 * 60):
        row.look(*([SHUT] if minute % 2 == 0 else []), now=NOW + 60 * minute)
    assert [event for event, _ in row.told] == [Event.OPENED, Event.STILL]


def test_what_ended_before_anybody_heard_of_it_is_told_once_when_somebody_does():
    row = Row()
    row.look(SHUT, now=NOW, ears=False)
    assert row.look(now=NOW + 3_600) == []
    assert row.look(now=NOW + 3_600 + GONE_FOR, ears=False) == [Event.WELL]
    assert row.look(now=NOW + 3_600 + GONE_FOR + CLAIM - 1) == []
    assert row.look(now=NOW + 3 * DAY) == [Event.WELL]
    assert (row.alarm, row.missed, row.told) == (None, [NOW + 3_600], [])


def test_what_nobody_heard_of_and_comes_back_is_new_to_all():
    row = Row()
    row.look(SHUT, now=NOW, ears=False)
    row.look(now=NOW + CLAIM)
    assert row.look(SHUT, now=NOW + CLAIM + 15) == [Event.OPENED]


def test_what_nobody_tried_to_tell_ends_silently():
    untried = Alarm(Kind.WAY_SHUT, "default", "", NOW - 9_000, UNTRIED)
    (step,) = steps([], [untried], now=NOW)
    assert (step.after, step.event) == (None, None)


def test_the_end_of_what_somebody_may_just_be_telling_of_waits_for_them():
    row = Row()
    row.look(SHUT, now=NOW, ears=False)
    row.look(now=NOW + 15)
    assert row.look(now=NOW + 15 + GONE_FOR) == []
    assert row.look(now=NOW + CLAIM) == [Event.WELL]


def test_while_somebody_may_be_telling_of_it_an_end_waits():
    row = Row()
    row.look(SHUT, now=NOW, ears=False)
    row.look(now=NOW + 15)
    assert row.alarm is not None
    row.alarm = heard(row.alarm, Event.OPENED, now=NOW + 30)
    assert row.look(now=NOW + 15 + GONE_FOR) == [Event.WELL]


def test_who_heard_of_an_end_too_early_hears_that_it_is_there_again():
    row = Row()
    row.look(SHUT, now=NOW)
    row.look(now=NOW)
    row.look(now=NOW + GONE_FOR, ears=False)
    row.look(SHUT, now=NOW + GONE_FOR + 15)
    assert row.alarm is not None
    row.alarm = heard(row.alarm, Event.WELL, now=NOW + GONE_FOR + 20)
    assert row.look(SHUT, now=NOW + GONE_FOR + 30) == [Event.STILL]


def test_a_quiet_trouble_opens_nothing_and_ends_nothing_and_what_was_told_of_is_told_each_day():
    quiet, row = replace(SHUT, quiet=True), Row()
    assert row.look(quiet, now=NOW) == []
    assert row.alarm is None
    row.look(SHUT, now=NOW)
    row.look(now=NOW + 15)
    row.look(quiet, now=NOW + 30)
    assert row.look(quiet, now=NOW + DAY - 1) == []
    assert row.alarm is not None
    assert row.alarm.closed_at is None
    assert row.look(quiet, now=NOW + DAY) == [Event.STILL]


def test_what_nobody_heard_of_is_not_told_while_it_is_quiet():
    row = Row()
    row.look(SHUT, now=NOW, ears=False)
    assert row.look(replace(SHUT, quiet=True), now=NOW + CLAIM) == []
    assert row.look(SHUT, now=NOW + CLAIM + 15) == [Event.OPENED]


def test_letters_that_a_shut_way_held_up_are_no_second_alarm_until_its_end_was_told():
    way = Alarm(Kind.WAY_SHUT, "default", "", NOW - 9_000, NOW + DAY, closed_at=NOW + 60, told=1)
    assert steps([LATE], [way], now=NOW) == []
    elsewhere = replace(LATE, subject="backup")
    assert [step.event for step in steps([elsewhere], [way], now=NOW)] == [Event.OPENED]


def test_late_letters_that_were_told_of_are_not_repeated_while_their_way_is_told_of():
    late = Alarm(Kind.LETTERS_LATE, "default", LATE.note, NOW - 2 * DAY, NOW - 1, told=1)
    for troubles, alarms, heard_of in (
        ([LATE], [late], [Event.STILL]),
        ([LATE, SHUT], [late], [Event.OPENED]),
        ([LATE, replace(SHUT, quiet=True)], [late], [Event.STILL]),
    ):
        assert [step.event for step in steps(troubles, alarms, now=NOW) if step.event] == heard_of


def test_an_outage_that_nobody_can_be_told_of_hides_late_letters_for_a_day():
    way = Alarm(Kind.WAY_SHUT, "default", "", NOW - 9 * DAY, NOW + CLAIM, closed_at=NOW - DAY + 1)
    assert steps([LATE], [way], now=NOW) == []
    assert [step.event for step in steps([LATE], [way], now=NOW + 1)] == [Event.OPENED]


def test_a_row_keeps_its_first_time_and_takes_the_newest_words():
    row = Row()
    row.look(SHUT, now=NOW)
    row.look(replace(SHUT, note="421 busy", since=NOW + 20), now=NOW + 30)
    assert row.alarm is not None
    assert (row.alarm.opened_at, row.alarm.note) == (SHUT.since, "421 busy")


def test_a_clock_that_ran_a_year_ahead_silences_nothing():
    row = Row()
    row.look(SHUT, now=NOW + 365 * DAY)
    assert row.look(SHUT, now=NOW) == [Event.STILL]
    row.look(now=NOW + 365 * DAY)
    assert row.look(now=NOW) == []
    assert row.look(now=NOW + GONE_FOR) == [Event.WELL]


def test_a_clock_set_back_by_an_hour_repeats_nothing():
    row = Row()
    row.look(SHUT, now=NOW)
    assert row.look(SHUT, now=NOW - 3_600) == []


LOOKS = st.lists(st.tuples(st.floats(15, 90_000), st.booleans(), st.booleans(), st.booleans()), max_size=60)


@given(LOOKS)
def test_whatever_comes_goes_and_goes_unheard_nobody_hears_too_much_or_an_end_without_a_beginning(looks):
    row, now = Row(), NOW
    for wait, found, quiet, ears in looks:
        now += wait
        row.look(*([replace(SHUT, quiet=quiet)] if found else []), now=now, ears=ears)
    events = [event for event, _ in row.told]
    for before, after in zip([Event.WELL, *events], events, strict=False):
        assert (after is Event.OPENED) == (before is Event.WELL)
    bad = [(event, at) for event, at in row.told if event is not Event.WELL]
    for (_, before), (event, at) in pairwise(bad):
        assert event is Event.OPENED or at >= before + DAY


@given(LOOKS)
def test_what_lasts_is_told_within_a_look_of_its_time_once_somebody_listens(looks):
    row, now = Row(), NOW
    for wait, found, quiet, ears in looks:
        now += wait
        row.look(*([replace(SHUT, quiet=quiet)] if found else []), now=now, ears=ears)
    already = len(row.told)
    for later in (0, CLAIM, DAY + CLAIM):
        row.look(SHUT, now=now + later)
    assert len(row.told) > already
    for later in (0, GONE_FOR, CLAIM + GONE_FOR):
        row.look(now=now + 2 * DAY + later)
    assert row.alarm is None
    assert row.told[-1][0] is Event.WELL


@given(LOOKS)
def test_whatever_was_tried_is_told_of_by_its_beginning_or_its_end(looks):
    row, now, tried = Row(), NOW, False
    for wait, found, quiet, ears in looks:
        now += wait
        tried |= bool(row.look(*([replace(SHUT, quiet=quiet)] if found else []), now=now, ears=ears))
    for later in (0, GONE_FOR, CLAIM + GONE_FOR):
        row.look(now=now + 2 * DAY + later)
    assert row.alarm is None
    assert bool(row.told or row.missed) == tried


def test_the_same_news_has_the_same_name_and_other_news_another():
    first = News(Event.OPENED, Alarm(Kind.WAY_SHUT, "default", "a", NOW, NOW + CLAIM))
    again = News(Event.OPENED, replace(first.alarm, tell_at=NOW + 2 * CLAIM, note="b"))
    assert news_id(first) == news_id(again)
    others = [
        replace(first, event=Event.WELL),
        News(Event.OPENED, replace(first.alarm, opened_at=NOW + 1)),
        News(Event.OPENED, replace(first.alarm, told=1)),
        News(Event.OPENED, replace(first.alarm, subject="backup")),
    ]
    assert len({news_id(one) for one in (first, *others)}) == 5


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-10, "less than a minute"),
        (59, "less than a minute"),
        (60, "1 minute"),
        (900, "15 minutes"),
        (7_199, "119 minutes"),
        (7_200, "2 hours"),
        (2 * DAY - 1, "47 hours"),
        (9 * DAY, "9 days"),
    ],
)
def test_a_span_of_time_is_said_as_people_say_it(seconds, words):
    assert in_words(seconds) == words


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("550 5.1.1 <bob@example.net>: no such user", "550 5.1.1 <…@example.net>: no such user"),
        ("for bob.b+x@example.net, eve@example.org", "for …@example.net, …@example.org"),
        ("böb@example.net", "…@example.net"),
        ("an @ alone stays", "an @ alone stays"),
    ],
)
def test_addresses_in_a_servers_words_lose_whom_they_name(said, shown):
    assert without_addresses(said) == shown
