"""What a form accepts: everything honest, and of the rest every fault at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.errors import InvalidFields, PillarboxError, TooManyFields
from pillarbox.core.form import CONTACT_FIELDS, Field, Form, Kind, Owners
from pillarbox.core.submission import Incoming, Submission, validate

ADAS_FORM = Form("contact", CONTACT_FIELDS, Owners(("ada@example.org",)), "forms@example.org", "Ada's Bookshop")
BOB = {"name": "Bob", "email": "bob@example.org", "message": "Hello"}
OPTIONAL = Form(
    "poll", (Field("email", "Email", Kind.EMAIL), Field("note", "Note")), ADAS_FORM.owners, "f@x.example", "S"
)


def answers(form: Form = ADAS_FORM, **fields: object) -> dict[str, tuple[str, ...]]:
    sent = {name: value if isinstance(value, tuple) else (value,) for name, value in fields.items()}
    return {answer.name: answer.values for answer in validate(Incoming(sent, "192.0.2.1", "en"), form)}


def faults(form: Form = ADAS_FORM, **fields: object) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFields) as caught:
        answers(form, **fields)
    return [(fault.field, fault.code) for fault in caught.value.errors]


def test_answers_stand_in_the_forms_order_and_then_as_sent():
    found = answers(wish="blue", message="Hello", subject="Hi", email="bob@example.org", age="7", name="Bob")
    assert list(found) == ["name", "email", "subject", "message", "wish", "age"]


def test_values_are_stripped_and_empty_optional_ones_left_out():
    found = answers(**BOB | {"name": "  Bob\t", "company": " ", "subject": "", "message": "\r\na\r\nb\n", "wish": " "})
    assert found == {"name": ("Bob",), "email": ("bob@example.org",), "message": ("a\nb",)}


@pytest.mark.parametrize(("name", "most"), [("name", 200), ("subject", 300), ("company", 1_000), ("message", 20_000)])
def test_the_longest_allowed_is_allowed_and_one_more_is_not(name, most):
    assert answers(**BOB | {name: "ä" * most})[name] == ("ä" * most,)
    assert answers(**BOB | {name: " " * 50 + "ä" * most + " " * 50})[name] == ("ä" * most,)
    assert faults(**BOB | {name: "ä" * (most + 1)}) == [(name, "TOO_LONG")]


def test_a_text_that_was_longer_only_in_another_form_of_unicode_is_allowed():
    assert answers(**BOB | {"name": "a\u0308" * 120})["name"] == ("ä" * 120,)


GOOD_ADDRESSES = {
    "bob@example.org": "bob@example.org",
    "Bob.O'Neil+tag@EXAMPLE.org": "Bob.O'Neil+tag@example.org",
    "x" * 64 + "@example.org": "x" * 64 + "@example.org",
    "bob@bücher.example": "bob@bücher.example",
    "bob@xn--bcher-kva.example": "bob@bücher.example",
    "ödön@example.org": "ödön@example.org",
    "用户@例子.example": "用户@例子.example",
    "user%host@relay.example": "user%host@relay.example",
    "  bob@example.org ": "bob@example.org",
}


@pytest.mark.parametrize("given_address", GOOD_ADDRESSES)
def test_one_address_of_any_script_is_taken(given_address):
    assert answers(**BOB | {"email": given_address})["email"] == (GOOD_ADDRESSES[given_address],)


@pytest.mark.parametrize(
    "address",
    [
        "bob",
        "bob@",
        "@example.org",
        "bob@example",
        "bob@localhost",
        "bob@@example.org",
        "bob@example..org",
        "bob@-example.org",
        "bob@example.org.",
        ".bob@example.org",
        "bob.@example.org",
        "bo b@example.org",
        '"bob"@example.org',
        '"bob@evil.example"@example.org',
        "bob(comment)@example.org",
        "Bob <bob@example.org>",
        "<bob@example.org>",
        "a@b.example, c@d.example",
        "a@b.example;c@d.example",
        "friends: a@b.example;",
        "bob@[192.0.2.1]",
        "bob@[IPv6:2001:db8::1]",
        "=?utf-8?q?a=40b.com=2C?=x@example.com",
        "x" * 65 + "@example.org",
        "bob@" + "a" * 64 + ".example",
        "bob@" + "a." * 124 + "example",
        "bob@exa\u0000mple.org",
        "bob\u200b@example.org",
        "bob@example.org\u2028x",
        "bob@ｅｘａｍｐｌｅ．ｏｒｇ，eve",
    ],
)
def test_what_is_not_exactly_one_address_is_refused(address):
    ((field, code),) = faults(**BOB | {"email": address})
    assert field == "email"
    assert code in {"TYPE_EMAIL", "TYPE_TEXT", "TOO_LONG"}


@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], ["a"], {}, {"a": "b"}, ("a", "b"), (["a"],)])
def test_only_one_text_is_a_text(value):
    assert faults(**BOB | {"company": value}) == [("company", "TYPE_TEXT")]


def test_fields_that_the_form_does_not_name_may_be_several_texts_of_several_lines():
    found = answers(**BOB, color=("red", "blue"), size=(["S", "M"],), note="a\r\nb")
    assert found["color"] == ("red", "blue")
    assert found["size"] == ("S", "M")
    assert found["note"] == ("a\nb",)


@pytest.mark.parametrize("value", [None, 1, {}, [None], [["a"]], "x" * 1_001, "\0", ("a",) * 51, ["a"] * 51])
def test_and_nothing_else(value):
    assert [field for field, _ in faults(**BOB, extra=value)] == ["extra"]


def test_names_that_begin_with_an_underscore_steer_and_are_no_answers():
    assert "_next" not in answers(**BOB, _next="/x", _cc="eve@example.com", _gotcha={"a": [1]})


@pytest.mark.parametrize("name", [" email", "email\x1b", "\u202eemail", " note\t"])
def test_no_field_comes_in_under_another_ones_name(name):
    assert len(faults(OPTIONAL, **{name: "eve@example.com"})) == 1


def test_no_two_answers_have_one_name_and_none_has_none():
    assert faults(**BOB, **{"a": "1", " a": "2"}) == [(" a", "TYPE_TEXT")]
    assert faults(**BOB, **{"\u200b": "x"}) == [("", "TYPE_TEXT")]
    assert "" not in answers(**BOB, **{"": " "})


def test_too_many_fields_are_refused_before_any_value_is_looked_at():
    assert len(answers(**BOB, **{f"k{number}": "x" for number in range(50)})) == 53
    with pytest.raises(TooManyFields):
        answers(**{f"k{number}": None for number in range(51)})


def test_a_refusal_repeats_little_of_what_was_sent():
    found = faults(**{"x" * 200 + str(number): None for number in range(40)}, **{"\ud800": "x", "a\nb": None})
    assert [name for name, _ in found] == ["name", "email", "message", *[""] * 7]


@given(st.dictionaries(st.text(max_size=8), st.tuples(st.text(max_size=30)), max_size=8))
def test_whatever_is_sent_is_answered_once_a_name_or_refused(fields):
    try:
        found = validate(
            Incoming({"name": ("Bob",), "message": ("x",), "email": ("b@c.example",)} | fields, "", "en"), ADAS_FORM
        )
    except PillarboxError:
        return
    names = [answer.name for answer in found]
    assert len(names) == len(set(names))
    assert all(answer.values and all(answer.values) for answer in found)
    assert Submission("x", "contact", 0.0, "en", found).email
