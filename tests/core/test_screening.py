"""Spam is held with its reasons, never dropped."""

import pytest

from pillarbox.core.form import CONTACT_FIELDS, Form, Owners
from pillarbox.core.screening import Signal, Verdict, screen
from pillarbox.core.submission import Incoming

ADAS_FORM = Form("contact", CONTACT_FIELDS, Owners(("ada@example.org",)), "forms@example.org", "Ada's Bookshop")


def held_for(**fields: object) -> tuple[str, ...]:
    return screen(Incoming({name: (value,) for name, value in fields.items()}, "192.0.2.1", "en"), ADAS_FORM).held_for


def test_an_honest_message_is_clean():
    assert held_for(name="Bob", message="Hello", _gotcha="") == held_for(name="Bob", _gotcha=None) == ()


@pytest.mark.parametrize("value", ["x", " ", 0, False, [], {}, ["x"]])
def test_a_field_that_no_person_sees_holds_the_message_whatever_is_in_it(value):
    assert held_for(name="Bob", _gotcha=value) == ("honeypot",)


def test_signs_that_are_weak_alone_hold_together_and_are_all_named():
    assert Verdict((Signal("a", 60),)).held_for == ()
    assert Verdict((Signal("a", 60), Signal("b", 39))).held_for == ()
    assert Verdict((Signal("a", 60), Signal("b", 40))).held_for == ("a", "b")


def test_every_check_is_asked():
    checks = (lambda _incoming, _form: Signal("a", 50), lambda _incoming, _form: None, lambda _i, _f: Signal("b", 50))
    assert screen(Incoming({}, "192.0.2.1", "en"), ADAS_FORM, checks=checks).held_for == ("a", "b")
