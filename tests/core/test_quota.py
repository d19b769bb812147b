"""How often is too often: a burst, then one each time a place is free."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.quota import Rate, admit


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/minute", Rate(10, 60)),
        ("1/second", Rate(1, 1)),
        ("3/Hours", Rate(3, 3_600)),
        (" 5/day ", Rate(5, 86_400)),
        ("off", None),
        ("0", None),
    ],
)
def test_a_rate_is_read_as_it_is_written(text, rate):
    assert Rate.parse(text) == rate


@pytest.mark.parametrize("text", ["", "10", "10/", "/minute", "0/minute", "-1/minute", "1.5/minute", "10/week"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="10/minute"):
        Rate.parse(text)


def test_a_burst_is_let_through_then_one_for_each_gap():
    rate, arrival = Rate(3, 60), None
    for _ in range(3):
        arrival, wait = admit(arrival, rate, 1_000.0)
        assert wait == 0
    assert admit(arrival, rate, 1_000.0) == (arrival, 20.0)
    arrival, wait = admit(arrival, rate, 1_020.0)
    assert wait == 0
    assert admit(arrival, rate, 1_020.0)[1] == 20.0


def test_who_was_silent_for_long_has_saved_nothing_up():
    rate = Rate(2, 60)
    arrival, _ = admit(None, rate, 0.0)
    for _ in range(2):
        arrival, wait = admit(arrival, rate, 6_000.0)
        assert wait == 0
    assert admit(arrival, rate, 6_000.0)[1] == 30.0


@given(st.integers(1, 20), st.floats(1, 1_000), st.lists(st.floats(0, 300), max_size=80))
def test_never_more_than_the_count_in_any_period_plus_the_burst(count, period, pauses):
    rate, arrival, now, admitted = Rate(count, period), None, 0.0, []
    for pause in pauses:
        now += pause
        before = arrival
        arrival, wait = admit(arrival, rate, now)
        if wait:
            assert arrival == before
            assert admit(arrival, rate, now + wait)[1] == 0
        else:
            admitted.append(now)
    for start in admitted:
        inside = [at for at in admitted if start <= at < start + period]
        assert len(inside) <= 2 * count
