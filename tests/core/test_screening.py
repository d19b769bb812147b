"""Spam is held with its reasons, never dropped."""

import pytest

from pillarbox.core.form import CONTACT_FIELDS, Form, Owners
from pillarbox.core.screening import Signal, Verdict, foreign_origin, screen
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


LISTED = frozenset({"https://forms.example.com", "https://www.example.com"})


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://www.example.com",
        "https://www.example.com:8443",
        "https://www.example.com.evil.example",
        "https://www.example.com/",
        "www.example.com",
        "inside:8000",
    ],
)
def test_a_browser_that_comes_from_an_unlisted_site_is_a_weak_sign(origin):
    sign = foreign_origin(origin, LISTED, host="inside:8000")
    assert sign == Signal("foreign_origin", 50)
    assert Verdict((sign,)).held_for == ()


@pytest.mark.parametrize(
    "origin",
    [None, "https://www.example.com", "https://forms.example.com", "http://inside:8000", "https://inside:8000"],
)
def test_our_own_site_by_any_of_its_names_a_listed_one_and_a_program_are_none(origin):
    assert foreign_origin(origin, LISTED, host="Inside:8000") is None


def test_a_request_that_names_no_host_is_from_nowhere_in_particular():
    assert foreign_origin("null", LISTED, host="") == foreign_origin("x://", LISTED, host="") is not None


def test_signs_in_how_a_message_came_add_to_those_in_what_it_says():
    verdict = Verdict((Signal("a", 60),))
    assert verdict.joined_by(()) == verdict
    assert verdict.joined_by((Signal("b", 40),)).held_for == ("a", "b")
