"""A page's stamp says when it was made, and nobody else can say it."""

import pytest

from pillarbox.core import stamp
from pillarbox.core.keys import Keys
from pillarbox.core.screening import Signal, Verdict

MADE = 1_790_000_000.25
KEYS = Keys(["k" * 32])
GOOD = stamp.make(KEYS, "0a1b2c", now=MADE)


def judged(sent: str = GOOD, *, age: float = 60.0, uses: int = 0, keys: Keys = KEYS) -> Signal | None:
    return stamp.judge(stamp.verified(keys, sent), now=MADE + age, uses=uses)


@pytest.mark.parametrize("age", [2.0, 60.0, 86_400.0])
def test_a_page_that_was_open_for_a_while_is_no_sign(age: float):
    assert judged(age=age) is None


@pytest.mark.parametrize(
    ("age", "sign"),
    [
        (0.0, Signal("sent_too_fast", 60)),
        (1.99, Signal("sent_too_fast", 60)),
        (-3_600.0, Signal("sent_too_fast", 60)),
        (86_401.0, Signal("stamp_old", 20)),
        (86_400.0 * 400, Signal("stamp_old", 20)),
    ],
)
def test_who_is_faster_than_fingers_or_slower_than_a_day_is_a_weak_sign(age: float, sign: Signal):
    assert judged(age=age) == sign
    assert Verdict((sign,)).held_for == ()


def test_a_stamp_serves_ten_times_and_no_more():
    assert judged(uses=9) is None
    assert judged(uses=10) == judged(uses=1_000) == Signal("stamp_replayed", 100)


FORGED = {
    "nothing": "",
    "no signature": GOOD.partition(".")[0],
    "an empty signature": GOOD.partition(".")[0] + ".",
    "another moment": GOOD.replace("-", "0-"),
    "another key's": stamp.make(Keys(["x" * 32]), "0a1b2c", now=MADE),
    "signed for another purpose": KEYS.sign(GOOD.rpartition(".")[0], "unsubscribe"),
    "a guess": "1a0c9d1d0fa-0a1b2c.sXlKY0yq2fQ8cYQmZq3r0Jm7m1m0b1Y0Jm7m1m0b1Y0",
    "not ASCII": "\u0661\u0662." + GOOD,
    "a surrogate": "\ud800" + GOOD,
    "NUL": "\0" + GOOD,
    "one too long to look at": stamp.make(KEYS, "0" * 200, now=MADE),
}


@pytest.mark.parametrize("sent", FORGED.values(), ids=FORGED.keys())
def test_what_we_did_not_sign_is_enough_to_hold_a_message(sent: str):
    assert judged(sent) == Signal("stamp_forged", 100)
    assert Verdict((stamp.FORGED,)).held_for == ("stamp_forged",)


def test_a_stamp_holds_on_when_a_new_key_comes_before_the_old_one_and_not_without_it():
    assert judged(keys=Keys(["n" * 32, "k" * 32])) is None
    assert judged(keys=Keys(["n" * 32])) == stamp.FORGED


def test_two_pages_of_one_moment_have_stamps_of_their_own_and_each_has_one_name():
    other = stamp.make(KEYS, "0a1b2d", now=MADE)
    assert stamp.verified(KEYS, other) != stamp.verified(KEYS, GOOD)
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twins = {GOOD[:-1] + digit for digit in digits} - {GOOD}  # the last digit of a signature has bits that say nothing
    assert {stamp.verified(KEYS, twin) for twin in twins} <= {None, stamp.verified(KEYS, GOOD)}


def test_a_stamp_stands_in_a_page_as_it_is():
    assert set(GOOD) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
