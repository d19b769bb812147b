"""A double click, a client's retry and a flaky network make one message, on however many processes they arrive."""

import json
import re
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from typing import Any

import psycopg
import pytest
from tests.asking import JSON, Answer, ask, assert_failure, assert_thanks, exchange, multipart, post, submit
from tests.running import BOB, Pillarbox, free_port, until

KEY = "Idempotency-Key"
SECRET = "s" * 64
_numbers = count(1)


class Site:
    """Two processes over one store, each with a port of its own; every visitor comes through a proxy of ours."""

    def __init__(self, pillarbox: Pillarbox, url: str) -> None:
        self.pillarbox = pillarbox
        self.url = url
        self.ports = (pillarbox.port, free_port())

    def serve(self) -> None:
        """Start both and return once both answer."""
        self.pillarbox.serve()
        self.pillarbox.start("serve", PORT=str(self.ports[1]))
        until(lambda: self._answers(self.ports[1]))

    def _answers(self, port: int) -> bool:
        try:
            return ask(port, "GET", "/health").status == 200
        except OSError:
            return False

    def ask_store(self, question: str) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        if self.url.startswith("postgresql"):
            with psycopg.connect(self.url) as connection:
                return connection.execute(question).fetchall()
        with closing(sqlite3.connect(self.pillarbox.database)) as connection:
            return connection.execute(question).fetchall()

    def count(self) -> int:
        """Return how many messages are kept."""
        return int(self.ask_store("SELECT count(*) FROM submissions")[0][0])

    def held_for(self, identifier: str) -> list[str]:
        """Return the reasons that a message is held for."""
        ((reasons,),) = self.ask_store(f"SELECT held_for FROM submissions WHERE id = '{identifier}'")
        found: list[str] = json.loads(reasons)
        return found


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = {"RATE_LIMIT": "25/day", "TRUSTED_PROXIES": "127.0.0.1", "CORS_ORIGINS": "https://www.example.com"}
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").create()
        settings |= {"DATABASE_URL": url, "SECRET_KEY": SECRET}
    pillarbox = Pillarbox(tmp_path_factory.mktemp(request.param), **settings)
    made = Site(pillarbox, url)
    try:
        made.serve()
        yield made
    finally:
        pillarbox.stop()


def somebody() -> dict[str, str]:
    """Return the headers of a visitor who was never here."""
    number = next(_numbers)
    return {"X-Forwarded-For": f"198.51.{number >> 8}.{number & 255}"}


def words() -> dict[str, str]:
    """Return what nobody has written before."""
    return BOB | {"message": f"Question {next(_numbers)}"}


def under(key: str) -> dict[str, str]:
    """Return the headers of a new visitor who gives this key."""
    return somebody() | {KEY: key}


def goes_to(answer: Answer) -> str:
    """Return where a plain form is sent: the thanks, with the message's id."""
    assert answer.status == 303, answer.text
    return answer.headers["location"]


def test_a_key_stands_for_one_message_whatever_it_is_sent_as_and_to_which_process(site):
    written, before = words(), site.count()
    as_parts = {"Content-Type": "multipart/form-data; boundary=cut", "Accept": JSON}
    body = multipart(*[(f'name="{name}"', text) for name, text in written.items()])
    stranger = {"_stamp": "of another page", "_gotcha": "spam", "company": "", "name": " Bob "}
    answers = [
        post(site.ports[0], written, headers=under("one")),
        post(site.ports[1], written, headers=under("one")),
        post(site.ports[1], written, "/send-message", under("one")),
        post(site.ports[0], written | stranger, headers=under("one")),
        submit(site.ports[1], written, "/api/contact", {"Accept": JSON} | under("one")),
        submit(site.ports[0], body, "/send-message", as_parts | under("one")),
    ]
    assert_thanks(answers[0])
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert site.count() == before + 1
    assert site.held_for(answers[0].json["id"]) == []


def test_a_key_that_stands_for_another_message_is_refused_and_the_text_shown_again(site):
    kept, written = words(), words()
    assert_thanks(post(site.ports[0], kept, headers=under("taken")))
    before = site.count()
    for port in site.ports:
        assert_failure(post(port, written, headers=under("taken")), 422, "IDEMPOTENCY_KEY_REUSED")
    page = submit(site.ports[1], written, headers=under("taken") | {"Accept-Language": "de"})
    assert page.status == 422
    assert written["message"] in page.text
    assert 'lang="de"' in page.text
    assert "steht für eine andere Nachricht" in page.text
    assert site.count() == before
    assert_thanks(post(site.ports[1], written, headers=under("free")))


def test_twenty_copies_at_once_make_one_message_and_one_letter_each_to_owner_and_visitor(site):
    written, headers = words(), under("twenty")
    with ThreadPoolExecutor(20) as threads:
        jobs = [threads.submit(post, site.ports[number % 2], written, headers=headers) for number in range(20)]
        answers = [job.result() for job in jobs]
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    letters = site.ask_store(
        f"SELECT purpose, count(*) FROM deliveries WHERE submission_id = '{answers[0].json['id']}' "
        "GROUP BY purpose ORDER BY purpose"
    )
    assert letters == [("confirmation", 1), ("notification", 1)]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "clé"], ids=["empty", "long", "tab", "accent"])
def test_what_can_be_no_key_is_refused_and_the_text_shown_again(site, key):
    written, before = words(), site.count()
    assert_failure(post(site.ports[0], written, headers=under(key)), 400, "IDEMPOTENCY_KEY_INVALID")
    page = submit(site.ports[0], written, headers=under(key))
    assert page.status == 400
    assert written["message"] in page.text
    assert site.count() == before


def test_two_keys_are_none(site):
    body = json.dumps(words()).encode()
    head = f"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
    both = f"{head}{KEY}: one\r\n{KEY}: two\r\n\r\n".encode() + body
    assert_failure(exchange(site.ports[0], both), 400, "IDEMPOTENCY_KEY_INVALID")


def test_the_longest_key_of_any_printable_characters_is_one(site):
    key = ("".join(map(chr, range(33, 127))) * 3)[:255]
    found = [post(port, written, headers=under(key)).json["id"] for written in [words()] for port in site.ports]
    assert len({*found}) == 1


def test_what_is_refused_uses_no_key_up_and_counts_as_any_post_does(site):
    visitor = under("patient")
    for _ in range(12):
        assert_failure(post(site.ports[0], BOB | {"email": "bob"}, headers=visitor), 400, "TYPE_EMAIL")
    for _ in range(13):
        assert_failure(post(site.ports[0], words(), headers=visitor | {KEY: ""}), 400, "IDEMPOTENCY_KEY_INVALID")
    assert_failure(post(site.ports[0], words(), headers=visitor), 429, "TOO_MANY_REQUESTS")
    assert_thanks(post(site.ports[0], words(), headers=under("patient")))


def test_a_repeat_counts_as_any_post_does(site):
    visitor, written = under("insistent"), words()
    assert {post(site.ports[0], written, headers=visitor).status for _ in range(25)} == {200}
    assert_failure(post(site.ports[0], written, headers=visitor), 429, "TOO_MANY_REQUESTS")


def test_the_repeat_of_a_held_message_is_answered_as_that_of_any_other(site):
    spam = words() | {"_gotcha": "http://spam.example"}
    held = [post(port, spam, headers=under("spam")) for port in site.ports]
    clean = [post(port, written, headers=under("clean")) for written in [words()] for port in site.ports]
    assert site.held_for(held[0].json["id"]) == ["honeypot"]
    assert site.held_for(clean[0].json["id"]) == []
    shapes = {answer.body.replace(answer.json["id"].encode(), b"") for answer in held + clean}
    assert len(shapes) == 1
    assert held[0].body == held[1].body
    assert {(*answer.headers,) for answer in held + clean} == {(*held[0].headers,)}


def test_without_a_key_the_same_fields_from_the_same_network_are_one_message(site):
    written, visitor = words(), somebody()
    first = post(site.ports[0], written, headers=visitor)
    assert post(site.ports[1], dict(reversed(written.items())), headers=visitor).body == first.body
    assert submit(site.ports[1], written, headers=visitor | {"Accept": JSON}).body == first.body
    ids = {first.json["id"]}
    ids |= {post(site.ports[1], written, headers=somebody()).json["id"]}
    ids |= {post(site.ports[1], words(), headers=visitor).json["id"]}
    assert len(ids) == 3


def test_a_network_is_the_half_of_an_ipv6_address(site):
    written = words()
    network, other = f"2001:db8:{next(_numbers):x}", f"2001:db8:{next(_numbers):x}"
    found = [
        post(site.ports[0], written, headers={"X-Forwarded-For": address}).json["id"]
        for address in (f"{network}:7::1", f"{network}:7:a:b:c:d", f"{network}:8::1", f"{other}:7::1")
    ]
    assert found[0] == found[1]
    assert len({*found}) == 3


def page_stamp(site: Site) -> str:
    page = ask(site.ports[0], "GET", "/")
    assert page.headers["cache-control"] == "no-store"
    (found,) = re.findall(r'name="_stamp" value="([^"]+)"', page.text)
    return str(found)


def test_a_page_makes_one_message_of_each_text_that_is_sent_from_it(site):
    carried, written = {"_stamp": page_stamp(site)}, words()
    first = goes_to(submit(site.ports[0], written | carried, headers=somebody()))
    assert goes_to(submit(site.ports[1], written | carried, headers=somebody())) == first
    edited = goes_to(submit(site.ports[1], words() | carried, headers=somebody()))
    assert edited != first
    assert goes_to(submit(site.ports[0], written | carried, headers=somebody())) == first
    assert goes_to(submit(site.ports[0], written | {"_stamp": page_stamp(site)}, headers=somebody())) != first


def test_a_page_sent_again_and_again_is_not_used_up(site):
    carried, written, visitor = {"_stamp": page_stamp(site)}, words(), somebody()
    assert len({goes_to(submit(site.ports[0], written | carried, headers=visitor)) for _ in range(15)}) == 1
    found = goes_to(submit(site.ports[0], words() | carried, headers=visitor))
    assert site.held_for(found.partition("=")[2]) == []


@pytest.mark.parametrize("stamp", ["forged", "1a-b." + "c" * 43])
def test_a_stamp_that_is_not_ours_names_no_page(site, stamp):
    written = words() | {"_stamp": stamp}
    found = [goes_to(submit(site.ports[0], written, headers=somebody())) for _ in range(2)]
    assert found[0] != found[1]


def test_a_key_counts_more_than_the_page(site):
    written = words() | {"_stamp": page_stamp(site)}
    found = [post(site.ports[0], written, headers=under(key)).json["id"] for key in ("first", "second", "first")]
    assert found[0] == found[2] != found[1]


def test_a_script_on_another_site_may_name_its_message(site):
    asked = {
        "Origin": "https://www.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,idempotency-key",
    }
    told = ask(site.ports[0], "OPTIONS", "/api/contact", headers=asked).headers
    assert told["access-control-allow-origin"] == "https://www.example.com"
    assert "idempotency-key" in told["access-control-allow-headers"].lower().split(",")
    assert "access-control-allow-credentials" not in told


def test_repeats_are_told_in_the_log_and_counted_and_keys_are_not_told(site):
    written, key = words(), "a-key-of-my-own"
    _, identifier = (post(site.ports[0], written, headers=under(key)).json["id"] for _ in range(2))
    log = site.pillarbox.log.read_text()
    told = [line for line in log.splitlines() if identifier in line and " sent " not in line]
    assert ["accepted" in told[0], "repeated" in told[-1]] == [True, True]
    assert key not in log
    counted = ask(site.ports[0], "GET", "/metrics").text
    (repeated,) = re.findall(r'pillarbox_messages_repeated_total{form="contact"} (\d+)', counted)
    assert int(repeated) > 0


def test_keys_outlive_a_kill_of_every_process(site):
    written, page = words(), words() | {"_stamp": page_stamp(site)}
    first = post(site.ports[0], written, headers=under("forever"))
    sent = goes_to(submit(site.ports[0], page, headers=somebody()))
    for process in site.pillarbox.processes:
        process.send_signal(signal.SIGKILL)
        process.wait()
    site.serve()
    assert post(site.ports[1], written, headers=under("forever")).body == first.body
    assert goes_to(submit(site.ports[1], page, headers=somebody())) == sent
    assert_failure(post(site.ports[1], words(), headers=under("forever")), 422, "IDEMPOTENCY_KEY_REUSED")
