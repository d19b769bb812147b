"""How much is too much: one client waits, a flood is held, a robot gives itself away, and no memory fills."""

import json
import sqlite3
from dataclasses import replace
from itertools import count

import pytest
from starlette.testclient import TestClient
from tests.asking import assert_failure, assert_thanks, post
from tests.running import BOB, Pillarbox, until

from pillarbox.app import create_app
from pillarbox.core.errors import TooMany
from pillarbox.core.form import CONTACT_FIELDS, HONEYPOT, Form, Owners
from pillarbox.core.keys import Keys
from pillarbox.core.quota import Rate
from pillarbox.settings import Settings
from pillarbox.web.limits import Flood, Limiter, Recent

ADAS_FORM = Form("contact", CONTACT_FIELDS, Owners(("ada@example.org",)), "forms@example.org", "Ada's Bookshop")
CHARLIES_FORM = replace(ADAS_FORM, slug="charlie")
KEYS = Keys(["k" * 32])
LISTED = "https://www.example.com"


def refuses(limiter: Limiter, client: str) -> int:
    """Count one and return how many seconds the client has to wait; 0 when it was let in."""
    try:
        limiter.admit(client)
    except TooMany as refused:
        return refused.retry_after
    return 0


def test_a_client_that_waited_may_go_on_and_others_are_not_held_up():
    now = [0.0]
    limiter = Limiter(Rate(2, 60), clock=lambda: now[0])
    assert [refuses(limiter, client) for client in "aaab"] == [0, 0, 30, 0]
    now[0] = 29.0
    assert refuses(limiter, "a") == 1
    now[0] = 30.0
    assert [refuses(limiter, "a") for _ in range(2)] == [0, 30]


def test_who_is_told_to_wait_is_let_in_after_that_many_whole_seconds():
    now = [0.3]
    limiter = Limiter(Rate(7, 60), clock=lambda: now[0])
    waits = [refuses(limiter, "a") for _ in range(8)]
    assert waits == [0] * 7 + [9]  # 60 / 7 is 8.57
    now[0] += 8.0
    assert refuses(limiter, "a") == 1
    now[0] += 1.0
    assert refuses(limiter, "a") == 0


def test_who_is_refused_more_often_than_a_person_tries_is_flooding_until_it_rests():
    now = [0.0]
    limiter = Limiter(Rate(2, 60), clock=lambda: now[0])

    def is_flooding() -> bool:
        with pytest.raises(TooMany) as refused:
            limiter.admit("a")
        return refused.value.is_flooding

    assert [refuses(limiter, "a") for _ in range(2)] == [0, 0]
    assert [is_flooding() for _ in range(22)] == [False] * 20 + [True] * 2
    now[0] = 61.0
    assert [refuses(limiter, "a") for _ in range(2)] == [0, 0]
    assert not is_flooding()


def test_what_a_flooding_client_sends_is_read_no_more_and_it_is_told_all_the_same(tmp_path):
    settings = Settings(database_url=f"sqlite:///{tmp_path}/p.db", maildir=tmp_path, rate_limit="1/hour")
    with TestClient(create_app(settings)) as client:
        sent = {"data": BOB | {"email": "bob", "message": "Do you read this?"}, "headers": {"Accept": "text/html"}}
        pages = [client.post("/send-message", **sent) for _ in range(23)]
    assert [page.status_code for page in pages] == [400] + [429] * 22
    assert ["Do you read this?" in page.text for page in pages] == [True] * 21 + [False] * 2
    assert "wait a moment" in pages[-1].text


def test_no_limit_means_no_limit():
    limiter = Limiter(None)
    assert not any(refuses(limiter, "a") for _ in range(1_000))


def test_the_table_of_clients_is_bounded_and_forgets_the_oldest_first():
    limiter = Limiter(Rate(1, 3_600), clock=lambda: 0.0, most=100)
    for number in range(1_000):
        assert refuses(limiter, str(number)) == 0
        assert len(limiter._arrivals) <= 100
    assert [bool(refuses(limiter, str(number))) for number in (0, 500, 949, 951, 999)] == [False] * 3 + [True] * 2


def test_what_is_noted_again_is_not_forgotten_with_what_was_noted_once():
    recent: Recent[int] = Recent(10)
    for number in range(1_000):
        recent.note("often", number)
        recent.note(f"once {number}", number)
    assert (recent.get("often"), recent.get("once 999"), recent.get("once 0")) == (999, 999, None)
    assert len(recent) <= 10


async def test_a_flood_of_one_form_leaves_the_others_alone_and_ends_with_time():
    now = [0.0]
    flood = Flood(Rate(2, 60), None, clock=lambda: now[0])
    assert [await flood.count(ADAS_FORM) for _ in range(4)] == [False, False, True, True]
    assert not await flood.count(CHARLIES_FORM)
    now[0] = 30.0
    assert [await flood.count(ADAS_FORM) for _ in range(2)] == [False, True]


async def test_a_flood_over_all_forms_is_one_too():
    flood = Flood(Rate(2, 60), Rate(3, 60), clock=lambda: 0.0)
    forms = (ADAS_FORM, ADAS_FORM, CHARLIES_FORM, CHARLIES_FORM)
    assert [await flood.count(form) for form in forms] == [False] * 3 + [True]


async def test_without_rates_nothing_is_a_flood():
    flood = Flood(None, None)
    assert not any([await flood.count(ADAS_FORM) for _ in range(10_000)])


def held_for(site: Pillarbox) -> dict[str, list[str]]:
    """Return the reasons that each kept message is held for, in the order that they came."""
    with sqlite3.connect(site.database) as connection:
        rows = connection.execute("SELECT id, held_for FROM submissions ORDER BY received_at")
        return {identifier: json.loads(reasons) if reasons else [] for identifier, reasons in rows}


def test_above_a_forms_rate_messages_are_thanked_for_kept_and_held_and_no_visitor_hears_of_them(pillarbox):
    pillarbox.serve(FORM_RATE_LIMIT="3/day")
    answers = [pillarbox.post(BOB | {"email": f"bob-{number}@example.net"}) for number in range(6)]
    assert [status for status, _ in answers] == [200] * 6
    assert len({tuple((answer | {"id": "", "next": ""}).items()) for _, answer in answers}) == 1
    assert list(held_for(pillarbox).values()) == [[]] * 3 + [["flood"]] * 3
    until(lambda: len(pillarbox.mails()) == 6)
    flooded = pillarbox.run("messages", "show", answers[5][1]["id"], "--json").stdout
    assert {(one["purpose"], one["state"]) for one in json.loads(flooded)["letters"]} == {
        ("notification", "held"),
        ("confirmation", "cancelled"),
    }


def test_what_is_refused_or_held_for_another_reason_is_no_part_of_a_flood(pillarbox):
    pillarbox.serve(RATE_LIMIT="3/day", FORM_RATE_LIMIT="2/day", TRUSTED_PROXIES="127.0.0.1")
    port = pillarbox.port

    numbers = count()

    def status(visitor: str, **more: str) -> int:
        fields = BOB | {"message": f"Question {next(numbers)}"} | more
        return post(port, fields, headers={"X-Forwarded-For": visitor}).status

    assert [status("198.51.100.1", **{HONEYPOT: "x"}) for _ in range(6)] == [200] * 3 + [429] * 3
    assert [status("198.51.100.2", email="nobody") for _ in range(6)] == [400] * 3 + [429] * 3
    assert [status("198.51.100.3") for _ in range(3)] == [200] * 3
    assert list(held_for(pillarbox).values()) == [["honeypot"]] * 3 + [[], [], ["flood"]]


def test_a_script_on_another_site_can_read_how_long_it_has_to_wait(pillarbox):
    pillarbox.serve(RATE_LIMIT="1/minute", CORS_ORIGINS=LISTED)
    assert_thanks(post(pillarbox.port, BOB, headers={"Origin": LISTED}))
    refused = post(pillarbox.port, BOB, headers={"Origin": LISTED})
    assert_failure(refused, 429, "TOO_MANY_REQUESTS")
    told = {name: refused.headers[name] for name in refused.headers if name.startswith(("ratelimit-", "retry-"))}
    wait = told["retry-after"]
    assert 1 <= int(wait) <= 60
    assert told == {
        "retry-after": wait,
        "ratelimit-limit": "1",
        "ratelimit-remaining": "0",
        "ratelimit-reset": wait,
        "ratelimit-policy": "1;w=60",
    }
    exposed = refused.headers["access-control-expose-headers"].lower().split(", ")
    assert sorted(exposed) == sorted(told)
