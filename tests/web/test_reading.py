"""Reading a body: whatever the bytes are, it gives fields or one of our own errors; and never takes for ever."""

import asyncio
import json
import sqlite3

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request
from tests.asking import FORM, multipart
from tests.running import BOB

from pillarbox.core.delivery import Purpose
from pillarbox.core.errors import PillarboxError, TooLarge, TooSlow, Unreadable
from pillarbox.core.form import CONTACT_FIELDS, Form, Owners
from pillarbox.core.submission import Incoming, Submission, validate
from pillarbox.stationery import Stationery
from pillarbox.web import reading
from pillarbox.web.reading import JSON, MULTIPART, URLENCODED, read_body, read_fields, read_leniently

ADAS_FORM = Form("contact", CONTACT_FIELDS, Owners(("ada@example.org",)), "forms@example.org", "Ada's Bookshop")
STATIONERY = Stationery()
LOOP = asyncio.Runner()
CASES = settings(max_examples=200, deadline=None)
ODD = st.text(max_size=40) | st.sampled_from(
    [
        "\0",
        "\ud800",
        "\x1b[31m",
        "a\r\nBcc: x@y.example",
        "\u2028",
        "=?utf-8?q?x?=",
        "x" * 1_001,
        "\u202e",
        '"<a>"',
        " ",
    ]
)
ADDRESSES = st.emails() | ODD | st.builds(lambda a, b: f"{a}@{b}.example", ODD, ODD) | st.just("ödön@bücher.example")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*BOB, "company", "subject", "_next", "_language", "_gotcha", " email"]) | ODD


def request(body: bytes, content_type: str, *, pieces: int = 1, headers: dict[str, str] | None = None) -> Request:
    size = len(body) // pieces + 1
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ]

    async def receive() -> dict:
        return messages.pop(0)

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/contact",
        "query_string": b"",
        "headers": [(b"content-type", content_type.encode("latin-1")), *raw],
    }
    return Request(scope, receive)


def read(*args, **kwargs) -> dict:
    return LOOP.run(read_fields(request(*args, **kwargs)))


def leniently(*args, **kwargs) -> dict:
    return LOOP.run(read_leniently(request(*args, **kwargs)))


def assert_nothing_worse_than_a_refusal(body: bytes, content_type: str) -> None:
    """Whatever is read can be kept and mailed; whatever can't is one of our own errors."""
    leniently(body, content_type)
    try:
        fields = read(body, content_type, pieces=2)
        answers = validate(Incoming(fields, "127.0.0.1", "en"), ADAS_FORM)
    except PillarboxError:
        return
    kept = json.dumps([[answer.name, answer.label, answer.values] for answer in answers], ensure_ascii=False)
    with sqlite3.connect(":memory:") as database:
        assert database.execute("SELECT ?", (kept,)).fetchone() == (kept,)
    names = [answer.name for answer in answers]
    assert len(names) == len(set(names))
    submission = Submission("7K3M-9QXP-2AFD", "contact", 1_700_000_000.0, "en", answers)
    for purpose, recipient in ((Purpose.NOTIFICATION, "ada@example.org"), (Purpose.CONFIRMATION, submission.email)):
        letter = STATIONERY.compose(submission, ADAS_FORM, delivery_id=1, purpose=purpose, recipient=recipient)
        assert b"\r\n\r\n" in letter.content


@CASES
@given(st.binary(max_size=300), st.sampled_from([JSON, URLENCODED, f"{MULTIPART}; boundary=cut", "text/plain", ""]))
@example(b'{"a":' * 50_000, JSON)
@example(b'{"a": 1e999, "b": -0, "c": 1E400}', JSON)
@example(b"\xef\xbb\xbf\xef\xbb\xbf{}", JSON)
def test_any_bytes_are_read_or_refused(body, content_type):
    assert_nothing_worse_than_a_refusal(body, content_type)


@CASES
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_json_is_kept_as_it_can_be_mailed_or_refused(fields):
    assert_nothing_worse_than_a_refusal(json.dumps(BOB | fields).encode(), JSON)


@CASES
@given(st.dictionaries(st.sampled_from(["name", "subject", "company", "message", "wish"]), ODD), NAMES, ODD)
def test_any_text_in_any_field_can_be_mailed_or_is_refused(fields, name, value):
    assert_nothing_worse_than_a_refusal(json.dumps({name: value} | BOB | fields).encode(), JSON)


@CASES
@given(ADDRESSES)
def test_any_address_can_be_mailed_or_is_refused(address):
    assert_nothing_worse_than_a_refusal(json.dumps(BOB | {"email": address}).encode(), JSON)


@CASES
@given(st.lists(st.tuples(NAMES, ODD), max_size=6), st.integers(0, 400), st.binary(max_size=8))
def test_any_multipart_body_cut_or_broken_anywhere_is_read_or_refused(extra, cut, rubbish):
    parts = [(f'name="{name}"', value) for name, value in (*BOB.items(), *extra) if "\ud800" not in name + value]
    body = multipart(*parts)
    assert_nothing_worse_than_a_refusal(body, f"{MULTIPART}; boundary=cut")
    assert_nothing_worse_than_a_refusal(body[:cut] + rubbish + body[cut:], f"{MULTIPART}; boundary=cut")
    with pytest.raises(PillarboxError):
        read(body[: min(cut, len(body) - 8)], f"{MULTIPART}; boundary=cut")


@CASES
@given(st.text(st.characters(codec="latin-1"), max_size=60))
@example("application/json; charset=utf-8")
@example(f"{MULTIPART}; boundary=" + '"' * 40)
@example(f"{MULTIPART}; boundary*=utf-8''cut; boundary")
def test_any_content_type_is_read_or_refused(content_type):
    assert_nothing_worse_than_a_refusal(b"--cut--", content_type)
    assert_nothing_worse_than_a_refusal(b"--cut--", f"{MULTIPART}; {content_type}")


def test_repeated_names_are_kept_in_the_order_sent():
    assert read(b"a=1&b=2&a=3", FORM) == {"a": ("1", "3"), "b": ("2",)}
    body = multipart(('name="a"', "1"), ('name="b"', "2"), ('name="a"', "3"))
    assert read(body, f"{MULTIPART}; boundary=cut") == {"a": ("1", "3"), "b": ("2",)}


def test_what_still_can_be_read_of_a_broken_form_is_shown_again():
    assert leniently(b"name=Bob&message=Gr%fc%C3%9Fe&x=%C3", FORM)["message"] == ("Gr\ufffdße",)
    assert leniently(b"&".join(b"k%d=x" % number for number in range(10_000)), FORM)["k0"] == ("x",)
    body = multipart(*((f'name="{name}"', value) for name, value in BOB.items()))
    assert leniently(body[:-20], f"{MULTIPART}; boundary=cut")["message"] == (BOB["message"][:-9],)
    assert leniently(body, MULTIPART) == {}


@pytest.mark.parametrize("content_type", [FORM, f"{MULTIPART}; boundary=cut"])
def test_what_fits_of_a_body_over_the_limit_is_shown_again(content_type):
    text = "long " * 100_000
    body = b"name=Bob&message=" + text.encode() if content_type == FORM else multipart(('name="message"', text))
    sent = request(body, content_type, pieces=9)
    with pytest.raises(TooLarge):
        LOOP.run(read_fields(sent))
    (shown,) = LOOP.run(read_leniently(sent))["message"]
    assert 200_000 < len(shown) < reading.MAX_BODY_BYTES
    assert text.startswith(shown.strip())


@pytest.mark.parametrize("text", ["ö" * 150_000, "blue \xff"])
def test_what_is_cut_within_a_letter_or_is_none_leaves_the_other_letters_as_they_are(text):
    body = multipart(('name="message"', "?ß")).replace(b"?", text.encode("latin-1" if "\xff" in text else "utf-8"))
    (shown,) = leniently(body, f"{MULTIPART}; boundary=cut")["message"]
    assert shown.startswith(text[:5])
    assert set(shown) <= {*text, "ß", "\ufffd"}


async def test_a_body_that_takes_too_long_is_given_up_and_what_came_is_still_there(monkeypatch):
    monkeypatch.setattr(reading, "MAX_SECONDS", 0.05)

    async def receive() -> dict:
        messages.append(None)
        if len(messages) > 1:
            await anyio.sleep_forever()
        return {"type": "http.request", "body": b"name=Bob", "more_body": True}

    messages: list[None] = []
    sent = Request({"type": "http", "headers": [(b"content-type", FORM.encode())]}, receive)
    with pytest.raises(TooSlow):
        await read_fields(sent)
    assert await read_leniently(sent) == {"name": ("Bob",)}
    assert len(messages) == 2


async def test_a_client_that_goes_away_leaves_nothing_behind():
    async def receive() -> dict:
        return {"type": "http.disconnect"}

    sent = Request({"type": "http", "headers": [(b"content-type", FORM.encode())]}, receive)
    with pytest.raises(Unreadable) as caught:
        await read_body(sent)
    assert isinstance(caught.value.__cause__, ClientDisconnect)
