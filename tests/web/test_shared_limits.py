"""Machines that share a PostgreSQL share their limits; while it is away each has its own."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient
from tests.running import BOB
from tests.web.test_limits import ADAS_FORM

from pillarbox.app import create_app
from pillarbox.core.errors import NotKept, TooMany
from pillarbox.core.quota import Rate
from pillarbox.settings import Settings
from pillarbox.web.limits import REST_SECONDS, Everywhere, Flood, Limiter

PROXY = {"trusted_proxies": ["127.0.0.1"]}
A_RATE = Rate(3, 60.0)


class Machines:
    """Two web processes' parts over one PostgreSQL, behind a proxy that asks them in turn."""

    def __init__(self, stack: ExitStack, url: str, folder: Path) -> None:
        self._stack, self._url, self._folder = stack, url, folder
        self._turns: Iterator[TestClient]

    def serve(self, **limits: str) -> None:
        """Begin with these limits; what is not named is off."""
        rates = dict.fromkeys(("rate_limit", "form_rate_limit", "site_rate_limit"), "off") | limits
        settings = Settings(
            database_url=self._url, maildir=self._folder, secret_key="s" * 64, dispatch=False, **PROXY, **rates
        )
        made = [TestClient(create_app(settings), client=("127.0.0.1", 1)) for _ in range(2)]
        self._turns = cycle([self._stack.enter_context(client) for client in made])

    def post(self, text: str, client: str = "198.51.100.1", **headers: str) -> Any:
        """Let the next machine answer Bob, who writes from this address."""
        sent = {"X-Forwarded-For": client} | {name.replace("_", "-"): value for name, value in headers.items()}
        return next(self._turns).post("/api/contact", json=BOB | {"message": text}, headers=sent)

    def ask_store(self, question: str) -> list[Any]:
        """Return the first column of what a query finds."""
        with psycopg.connect(self._url) as connection:
            return [row[0] for row in connection.execute(question)]


@pytest.fixture
def machines(empty_postgresql: str, tmp_path: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        yield Machines(stack, empty_postgresql, tmp_path)


def test_a_client_that_goes_from_one_machine_to_the_next_gets_no_further_than_at_one(machines):
    machines.serve(rate_limit="5/day")
    answers = [machines.post(f"Question {number}") for number in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    assert 0 < int(answers[5].headers["retry-after"]) <= 86_400 / 5
    assert machines.post("I am new here", client="198.51.100.2").status_code == 200
    names = machines.ask_store("SELECT name FROM arrivals")
    assert len(names) == 2
    assert all(re.fullmatch(r"post [0-9a-f]{16}", name) for name in names)  # and no address


def test_a_flood_over_several_machines_is_held_as_over_one_and_repeats_are_no_part_of_it(machines):
    machines.serve(form_rate_limit="4/day", site_rate_limit="100/day")
    for number in (0, 1, 1, 1, 1, 1, 1, 2, 3, 4, 5):
        assert machines.post(f"Question {number}", Idempotency_Key=str(number)).status_code == 200
    held = machines.ask_store("SELECT held_for FROM submissions ORDER BY received_at")
    assert held == ["[]"] * 4 + ['["flood"]'] * 2
    assert sorted(machines.ask_store("SELECT name FROM arrivals")) == ["form contact", "site"]


def refuses(limiter: Limiter, client: str = "a") -> int:
    """Return how many seconds a client has to wait; 0 when it was let in."""
    try:
        asyncio.run(limiter.admit_anywhere(client))
    except TooMany as refused:
        return refused.retry_after
    return 0


def test_who_is_refused_for_what_it_did_elsewhere_is_refused_here_until_then_and_nobody_is_asked_again():
    asked, now = [], [0.0]

    async def count(name: str, _rate: Rate, _number: int) -> float:
        asked.append(name)
        return 7.0 if len(asked) == 1 else 0.0

    limiter = Limiter(A_RATE, everywhere=Everywhere(count), clock=lambda: now[0])
    assert [refuses(limiter) for _ in range(4)] == [7] * 4
    assert len(asked) == 1
    now[0] = 7.0
    assert refuses(limiter) == 0
    assert len(asked) == 2


def test_nobody_is_refused_or_held_because_nobody_could_count():
    now, asked = [0.0], []

    async def count(name: str, _rate: Rate, _number: int) -> float:
        asked.append(name)
        raise NotKept

    everywhere = Everywhere(count, clock=lambda: now[0])
    limiter = Limiter(A_RATE, everywhere=everywhere, clock=lambda: 0.0)
    flood = Flood(A_RATE, None, everywhere=everywhere, clock=lambda: 0.0)
    assert [refuses(limiter) for _ in range(4)] == [0] * 3 + [20]  # our own count goes on
    assert [asyncio.run(flood.count(ADAS_FORM)) for _ in range(4)] == [False] * 3 + [True]
    assert asked == ["post a"]  # and no visitor waits for the next question in vain
    now[0] = REST_SECONDS
    refuses(limiter, "b")
    assert asked == ["post a", "post b"]


def test_no_visitor_waits_long_for_a_count():
    async def count(_name: str, _rate: Rate, _number: int) -> float:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 10)
        return 60.0

    limiter = Limiter(A_RATE, everywhere=Everywhere(count, patience=0.01))
    assert [refuses(limiter) for _ in range(3)] == [0] * 3


def test_what_passes_no_limit_of_our_own_is_not_asked_about_elsewhere():
    asked = []

    async def count(name: str, _rate: Rate, number: int) -> float:
        asked.append((name, number))
        return 0.0

    limiter = Limiter(Rate(1, 60.0), everywhere=Everywhere(count), clock=lambda: 0.0)
    flood = Flood(Rate(1, 60.0), Rate(5, 60.0), everywhere=Everywhere(count), clock=lambda: 0.0)
    assert [refuses(limiter) for _ in range(3)] == [0, 60, 60]
    assert [asyncio.run(flood.count(ADAS_FORM)) for _ in range(3)] == [False, True, True]
    asyncio.run(flood.give_back(ADAS_FORM))
    assert asked == [("post a", 1), ("form contact", 1), ("site", 1), ("form contact", -1), ("site", -1)]
