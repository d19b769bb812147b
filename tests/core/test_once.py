"""What stands for one message, and what does not."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.form import CONTACT_FIELDS, Form, Owners
from pillarbox.core.once import A_MOMENT, WEEK, Key, is_good_key, key_of
from pillarbox.core.submission import Incoming, validate

ADAS_FORM = Form("contact", CONTACT_FIELDS, Owners(("ada@example.org",)), "forms@example.org", "Ada's Bookshop")
BOB = {"name": ("Bob",), "email": ("bob@example.org",), "message": ("Hello\nAda",)}


def key(fields: Mapping[str, tuple[object, ...]] = BOB, *, client: str = "here", key: str = "", page: str = "") -> Key:
    incoming = Incoming(fields, client, "en", key, page)
    return key_of(incoming, validate(incoming, ADAS_FORM), now=1_000.0)


SAME = {
    "spelt otherwise": {"name": (" Bob ",), "email": ("bob@EXAMPLE.org",), "message": ("Hello\r\nAda\n",)},
    "with empty optional fields": BOB | {"company": ("",), "subject": (" ",), "wish": ("",)},
    "with what is no answer": BOB
    | {"_stamp": ("x",), "_gotcha": ("y",), "_language": ("de",), "cf-turnstile-response": ("z",)},
    "in another order": dict(reversed(BOB.items())),
}
OTHER = {
    "another text": BOB | {"message": ("Hello, Ada",)},
    "one field more": BOB | {"subject": ("Hello",)},
    "a text in another field": BOB | {"wish": ("Hello",)},
}


@pytest.mark.parametrize("fields", SAME.values(), ids=SAME)
def test_what_comes_to_the_same_fields_is_the_same_message(fields):
    assert key(fields) == key()


@pytest.mark.parametrize("fields", OTHER.values(), ids=OTHER)
def test_other_fields_are_another_message(fields):
    assert key(fields).name != key().name
    assert key(fields, page="p").name != key(page="p").name
    assert key(fields, key="k").name == key(key="k").name
    assert key(fields, key="k").digest != key(key="k").digest


def test_fields_of_ones_own_may_come_in_any_order_and_their_values_may_not():
    one, other = BOB | {"a": ("1", "2"), "b": ("3",)}, BOB | {"b": ("3",), "a": ("1", "2")}
    assert key(one) == key(other)
    assert key(one) != key(BOB | {"a": ("2", "1"), "b": ("3",)})
    assert key(one) != key(BOB | {"a": ("1",), "b": ("2", "3")})


def test_a_key_counts_more_than_a_page_and_a_page_more_than_where_it_came_from():
    assert key(client="here", key="k", page="p") == key(client="there", key="k", page="q")
    assert key(client="here", page="p") == key(client="there", page="p")
    assert len({key().name, key(client="there").name, key(page="p").name, key(key="k").name, key(key="l").name}) == 5


def test_who_gives_a_key_or_a_page_has_a_week_and_who_gives_none_a_moment():
    assert [found.kept_until - 1_000 for found in (key(key="k"), key(page="p"), key())] == [WEEK, WEEK, A_MOMENT]
    assert (WEEK, A_MOMENT) == (7 * 24 * 3_600, 10)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255))
def test_no_key_that_a_client_may_give_passes_for_a_page_or_a_network(text):
    assert key(key=text).name not in {key(page=text).name, key(client=text).name, text}
    assert is_good_key(text)


@pytest.mark.parametrize("text", ["", "x" * 256, "a\tb", "a\nb", "\x7f", "ä", "\0"])
def test_no_other_text_is_a_key(text):
    assert not is_good_key(text)
