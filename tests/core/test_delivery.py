"""What comes next for a letter: the only rule, for every outcome."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.delivery import (
    Blocked,
    Cancelled,
    Deferred,
    Delivery,
    GivenUp,
    Purpose,
    Refused,
    Schedule,
    Sent,
    State,
    after,
)

SCHEDULE = Schedule(delays=(10.0, 60.0, 300.0), probe=60.0)
NOW = 1_000_000.0
TO_ADA = Delivery(7, "7K3M-9QXP-2AFD", Purpose.NOTIFICATION, "ada@example.org", "default", State.WAITING, NOW, 0, NOW)
TO_BOB = replace(TO_ADA, purpose=Purpose.CONFIRMATION, recipient="bob@example.net")


@pytest.mark.parametrize("delivery", [TO_ADA, TO_BOB])
@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Sent("250 OK"), State.SENT),
        (Cancelled("once a day"), State.CANCELLED),
        (GivenUp("five claims"), State.FAILED),
    ],
)
def test_some_outcomes_are_final_at_once_and_keep_their_note(delivery, outcome, state):
    ended = after(delivery, outcome, SCHEDULE, now=NOW)
    assert (ended.state, ended.note, ended.attempts) == (state, outcome.note, 0)


@pytest.mark.parametrize("outcome", [Deferred("451 later"), Refused("550 no")])
def test_an_owners_letter_goes_through_the_whole_schedule_before_it_fails(outcome):
    letter, waits = TO_ADA, []
    while (letter := after(letter, outcome, SCHEDULE, now=NOW)).state is State.WAITING:
        waits.append(letter.due_at - NOW)
    assert waits == [10.0, 60.0, 300.0]
    assert (letter.state, letter.attempts, letter.note) == (State.FAILED, 4, outcome.note)


def test_a_confirmation_fails_at_its_first_refusal():
    ended = after(TO_BOB, Refused("550 no such user"), SCHEDULE, now=NOW)
    assert (ended.state, ended.note) == (State.FAILED, "550 no such user")


def test_a_confirmation_that_is_put_off_waits_like_any_letter():
    waiting = after(TO_BOB, Deferred("451 greylisted"), SCHEDULE, now=NOW)
    assert (waiting.state, waiting.due_at) == (State.WAITING, NOW + 10)


@pytest.mark.parametrize("delivery", [TO_ADA, TO_BOB, replace(TO_ADA, attempts=3)])
def test_a_shut_way_out_uses_up_no_attempt_however_long_it_lasts(delivery):
    waiting = delivery
    for _ in range(1_000):
        waiting = after(waiting, Blocked("535 wrong password"), SCHEDULE, now=NOW)
    assert waiting == replace(delivery, note="535 wrong password")


OUTCOMES = st.one_of(*(st.builds(kind, st.text()) for kind in (Sent, Deferred, Refused, Blocked, Cancelled, GivenUp)))


@given(outcomes=st.lists(OUTCOMES, max_size=30), purpose=st.sampled_from(Purpose))
def test_a_letter_waits_for_a_later_time_or_has_ended_with_the_last_outcomes_note(outcomes, purpose):
    letter = replace(TO_ADA, purpose=purpose)
    for outcome in outcomes:
        if letter.state is not State.WAITING:
            break
        letter = after(letter, outcome, SCHEDULE, now=NOW)
        assert letter.note == outcome.note
        assert letter.state is not State.WAITING or isinstance(outcome, Blocked) or letter.due_at > NOW
        assert letter.state is not State.SENT or isinstance(outcome, Sent)
        assert letter.attempts <= len(SCHEDULE.delays) + 1
