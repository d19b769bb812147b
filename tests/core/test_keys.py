"""One key signs, all count, each for its purpose; and a fingerprint tells nothing without the key."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.keys import Keys

OLD, NEW = "o" * 32, "n" * 32
KEYS = Keys([OLD])


def test_without_a_key_there_is_nothing_to_sign_with():
    with pytest.raises(ValueError, match="at least one key"):
        Keys([])


@given(st.text(st.characters(codec="ascii", categories=("L", "N")) | st.sampled_from("-_"), min_size=1, max_size=40))
def test_what_was_signed_comes_back(text: str):
    signed = KEYS.sign(text, "stamp")
    assert re.fullmatch(r"[\w-]+\.[\w-]+", signed)
    assert KEYS.verified(signed, "stamp") == text


@given(st.text(max_size=80))
def test_what_was_not_signed_is_nothing_and_breaks_nothing(text: str):
    assert KEYS.verified(text, "stamp") is None


def test_a_signature_counts_for_its_purpose_alone():
    signed = KEYS.sign("7K3M", "stamp")
    assert KEYS.verified(signed, "unsubscribe") is None
    assert KEYS.verified(signed, "") is None


def test_not_one_character_can_be_changed():
    signed = KEYS.sign("7K3M", "stamp")
    for place in range(len(signed) - 1):  # the very last one has two bits that say nothing
        changed = signed[:place] + ("A" if signed[place] != "A" else "B") + signed[place + 1 :]
        assert KEYS.verified(changed, "stamp") is None


@pytest.mark.parametrize("tail", ['="><b>', "=", "\n", " ", "A", "é", "."])
def test_what_stands_behind_a_good_signature_makes_it_a_bad_one(tail):
    signed = KEYS.sign("7K3M", "stamp")
    assert KEYS.verified(signed, "stamp") == "7K3M"
    assert KEYS.verified(signed + tail, "stamp") is None


def test_the_first_key_signs_and_all_are_believed():
    both = Keys([NEW, OLD])
    assert both.verified(KEYS.sign("a", "stamp"), "stamp") == "a"
    assert Keys([NEW]).verified(both.sign("a", "stamp"), "stamp") == "a"
    assert KEYS.verified(both.sign("a", "stamp"), "stamp") is None


def test_a_fingerprint_is_the_same_for_the_same_client_and_key_only():
    assert re.fullmatch(r"[0-9a-f]{16}", KEYS.fingerprint("203.0.113.7"))
    assert KEYS.fingerprint("203.0.113.7") == Keys([OLD, NEW]).fingerprint("203.0.113.7")
    others = {KEYS.fingerprint("203.0.113.8"), Keys([NEW]).fingerprint("203.0.113.7"), KEYS.fingerprint("")}
    assert KEYS.fingerprint("203.0.113.7") not in others
    assert len(others) == 3


def test_any_text_has_a_fingerprint():
    assert KEYS.fingerprint("\ud800") == KEYS.fingerprint("\ud801")
    assert len(KEYS.fingerprint("x" * 100_000)) == 16
