"""The page of figures: true over restarts and processes, well-formed, for operators alone, and bounded."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from prometheus_client.samples import Sample
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.asking import ask, assert_failure, post
from tests.road import ledger
from tests.running import BOB, Pillarbox, until

from pillarbox.core.errors import NotFound, NotKept
from pillarbox.store.counts import Pile, ShutWay, Standing
from pillarbox.telemetry import Counts
from pillarbox.web import metrics
from pillarbox.web.guards import ClientAddress
from pillarbox.web.health import Health, Insiders
from pillarbox.web.metrics import Metrics

OPENMETRICS = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1"
TOKEN = "a token of Ada's"
QUIET = Standing((), (), {})


@dataclass
class Books:
    """What a store would say, and how often it was asked."""

    counts: Counts = field(default_factory=dict)
    standing: Standing = QUIET
    is_away: bool = False
    reads: int = 0
    flushes: int = 0

    async def flush(self) -> None:
        self.flushes += 1

    async def beat(self) -> None:
        if self.is_away:
            raise NotKept

    def survey(self) -> Standing:
        return self.standing

    def read(self) -> tuple[Counts, Standing]:
        self.reads += 1
        if self.is_away:
            raise NotKept
        return self.counts, self.standing


def served(books: Books, *, peer: str = "127.0.0.1", token: str = TOKEN) -> TestClient:
    insiders = Insiders(token)
    health = Health(books.beat, books.survey, client_address=ClientAddress(()), insiders=insiders, alarm_after=900.0)
    page = Metrics(books, health, ways=("default", "spare"), insiders=insiders, clock=lambda: 1_000.0)

    def nothing(_request: Request, _error: Exception) -> PlainTextResponse:
        return PlainTextResponse("", 404)

    site = Starlette(routes=[Route("/metrics", page.show)], exception_handlers={NotFound: nothing})
    return TestClient(site, base_url="http://127.0.0.1", client=(peer, 50_000))


def values(text: str) -> dict[str, float]:
    """Return every sample of the plain format by its name and labels as they are written."""
    return {_named(sample): sample.value for family in parse_plain(text) for sample in family.samples}


def _named(sample: Sample) -> str:
    labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}}" if labels else sample.name


def scraped(site: Pillarbox) -> dict[str, float]:
    answer = ask(site.port, "GET", "/metrics")
    assert answer.status == 200
    return values(answer.text)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Pillarbox]:
    """A site that has had three messages, one of them spam and one of them twice, and two that were refused."""
    made = Pillarbox(tmp_path_factory.mktemp("metrics"))
    made.serve()
    again, spam = BOB | {"message": "And the red one?"}, {"message": "Buy!", "_gotcha": "http://spam.example"}
    for fields in (BOB, BOB, again, BOB | spam, {}, BOB | {"email": "nobody"}):
        post(made.port, fields)
    ask(made.port, "GET", "/nothing")
    until(lambda: ledger.waiting(made.database) == 0)
    yield made
    made.stop()


def test_what_became_of_messages_is_counted_once_each(site: Pillarbox):
    found = scraped(site)
    assert found["pillarbox_messages_accepted_total{form=contact}"] == 2
    assert found["pillarbox_messages_held_total{form=contact}"] == 1
    assert found["pillarbox_messages_repeated_total{form=contact}"] == 1
    assert found["pillarbox_spam_signs_total{sign=honeypot}"] == 1
    refused = {name: number for name, number in found.items() if "messages_refused" in name and number}
    assert refused == {
        "pillarbox_messages_refused_total{code=REQUIRED_FIELD_MISSING}": 1,
        "pillarbox_messages_refused_total{code=TYPE_EMAIL}": 1,
    }
    assert found["pillarbox_accept_seconds_count"] == found["pillarbox_accept_seconds_bucket{le=+Inf}"] == 3
    assert 0 < found["pillarbox_accept_seconds_sum"] < 60


def test_how_things_stand_is_read_from_the_store(site: Pillarbox):
    found = scraped(site)
    assert found["pillarbox_store_up"] == 1
    assert found["pillarbox_way_shut{way=default}"] == 0
    for purpose in ("notification", "confirmation"):
        assert found[f"pillarbox_letters_held{{purpose={purpose},way=default}}"] == 1
        assert found[f"pillarbox_letters_waiting{{purpose={purpose},way=default}}"] == 0
        assert found[f"pillarbox_letters_failed{{purpose={purpose},way=default}}"] == 0
        assert found[f"pillarbox_oldest_waiting_seconds{{purpose={purpose},way=default}}"] == 0


def test_what_may_be_counted_one_day_begins_at_nought(site: Pillarbox):
    found = scraped(site)
    assert found["pillarbox_messages_refused_total{code=TOO_MANY_REQUESTS}"] == 0
    assert found["pillarbox_attempts_total{outcome=blocked,purpose=notification,way=default}"] == 0
    assert found["pillarbox_delivery_seconds_bucket{le=432000.0,way=default}"] >= 0


def test_prometheus_gets_openmetrics_and_everybody_else_the_plain_format(site: Pillarbox):
    plain = ask(site.port, "GET", "/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    asked = ask(site.port, "GET", "/metrics", headers={"Accept": OPENMETRICS})
    assert asked.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family.type for family in parse_openmetrics(asked.text)}
    assert families["pillarbox_messages_accepted"] == "counter"
    assert families["pillarbox_delivery_seconds"] == "histogram"
    assert families.keys() == {family.name for family in parse_plain(plain.text)}


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=x",
        "text/plain; version=99999999999999999999",
        "text/plain; version=; escaping=\x01",
        "application/openmetrics-text;q=z",
        "*/*;q=x",
        ";;,,",
        "application/json",
    ],
)
def test_no_accept_breaks_the_page(site: Pillarbox, accept: str):
    assert ask(site.port, "GET", "/metrics", headers={"Accept": accept.replace("\x01", "a")}).status == 200


def test_through_a_proxy_there_is_no_such_page(site: Pillarbox):
    for header in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Proto", "Via"):
        assert_failure(ask(site.port, "GET", "/metrics", headers={header: "127.0.0.1"}), 404, "NOT_FOUND")


def test_no_figure_holds_what_a_visitor_wrote(site: Pillarbox):
    words = ("mallory", "A very private matter")
    post(site.port, BOB | {"message": words[1], "mallory": "x" * 2_000, "name": words[0]})
    ask(site.port, "POST", "/mallory", b"mallory", {"Content-Type": "mallory/mallory", "User-Agent": "mallory"})
    text = ask(site.port, "GET", "/metrics").text
    assert not any(word in text for word in (*words, "bob@"))


def stop(site: Pillarbox, sign: signal.Signals) -> None:
    """End every process of the site in this manner."""
    for process in site.processes:
        process.send_signal(sign)
    for process in site.processes:
        process.wait(30)
    site.processes.clear()


def test_what_several_processes_count_outlives_them(pillarbox: Pillarbox):
    pillarbox.serve("--no-worker")
    pillarbox.start("worker")
    for number in range(12):
        assert post(pillarbox.port, BOB | {"email": f"bob{number}@example.org"}).status == 200
    until(lambda: len(pillarbox.mails()) == 24)
    stop(pillarbox, signal.SIGTERM)
    pillarbox.serve()
    found = scraped(pillarbox)
    assert found["pillarbox_messages_accepted_total{form=contact}"] == 12
    assert found["pillarbox_attempts_total{outcome=sent,purpose=notification,way=default}"] == 12
    assert found["pillarbox_attempts_total{outcome=sent,purpose=confirmation,way=default}"] == 12
    assert found["pillarbox_delivery_seconds_count{way=default}"] == 12
    assert found["pillarbox_delivery_seconds_sum{way=default}"] > 0


def test_a_kill_loses_no_more_counts_than_were_not_yet_written(pillarbox: Pillarbox):
    pillarbox.serve("--no-worker")
    for number in range(3):
        post(pillarbox.port, BOB | {"message": f"Question {number}"})
    assert scraped(pillarbox)["pillarbox_messages_accepted_total{form=contact}"] == 3
    for number in range(3, 5):
        post(pillarbox.port, BOB | {"message": f"Question {number}"})
    stop(pillarbox, signal.SIGKILL)
    pillarbox.serve("--no-worker")
    found = scraped(pillarbox)
    assert 3 <= found["pillarbox_messages_accepted_total{form=contact}"] <= 5
    assert found["pillarbox_letters_waiting{purpose=notification,way=default}"] == 5


def test_whoever_shows_the_token_sees_the_page_and_nobody_else():
    books = Books()
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    far = served(books, peer="203.0.113.7")
    assert far.get("/metrics", headers=bearer).status_code == 200
    assert far.get("/metrics").status_code == 404
    assert far.get(f"/metrics?token={TOKEN}").status_code == 404
    assert (
        served(books, peer="203.0.113.7", token="").get("/metrics", headers={"Authorization": "Bearer "}).status_code
        == 404
    )


def test_many_scrapes_are_one_look_at_the_store_and_those_turned_away_are_none():
    books = Books()
    far, near = served(books, peer="203.0.113.7"), served(books)
    for _ in range(10):
        far.get("/metrics")
    assert (books.reads, books.flushes) == (0, 0)
    assert {near.get("/metrics").status_code for _ in range(10)} == {200}
    assert (books.reads, books.flushes) == (1, 1)


def test_of_a_store_that_is_away_the_page_says_so():
    answer = served(Books(is_away=True)).get("/metrics")
    assert (answer.status_code, values(answer.text)) == (200, {"pillarbox_store_up": 0})


def test_a_store_that_can_be_read_but_not_written_is_not_up():
    books = Books({("pillarbox_messages_accepted", (("form", "contact"),)): 7})

    async def refuse() -> None:
        raise NotKept

    books.beat = refuse
    found = values(served(books).get("/metrics").text)
    assert found["pillarbox_store_up"] == 0
    assert found["pillarbox_messages_accepted_total{form=contact}"] == 7


def test_waiting_letters_shut_ways_and_alarms_are_shown_by_way_and_kind():
    waiting = Pile("waiting", "default", "notification", 3, 400.0), Pile("waiting", "gone", "confirmation", 2, 2_000.0)
    books = Books(standing=Standing(waiting, (ShutWay("spare", 1.0, "no login"),), {"way_shut": 1}))
    text = served(books).get("/metrics").text
    found = values(text)
    assert found["pillarbox_letters_waiting{purpose=notification,way=default}"] == 3
    assert found["pillarbox_oldest_waiting_seconds{purpose=notification,way=default}"] == 600
    assert found["pillarbox_letters_waiting{purpose=confirmation,way=gone}"] == 2
    assert found["pillarbox_oldest_waiting_seconds{purpose=confirmation,way=gone}"] == 0
    assert {way: found[f"pillarbox_way_shut{{way={way}}}"] for way in ("default", "spare", "gone")} == {
        "default": 0,
        "spare": 1,
        "gone": 0,
    }
    assert found["pillarbox_alarms_open{kind=way_shut}"] == 1
    assert "no login" not in text


def test_buckets_count_up_and_those_of_another_version_stand_beside_ours():
    name = "pillarbox_accept_seconds"
    kept = {"0.005": 1.0, "0.007": 2.0, "0.01": 4.0, "+Inf": 8.0}
    counts = {(f"{name}_bucket", (("le", bound),)): number for bound, number in kept.items()}
    found = values(served(Books(counts | {(f"{name}_sum", ()): 20.5})).get("/metrics").text)
    seen = [found[f"{name}_bucket{{le={bound}}}"] for bound in ("0.005", "0.007", "0.01", "10.0", "+Inf")]
    assert seen == [1, 3, 7, 7, 15]
    assert (found[f"{name}_count"], found[f"{name}_sum"]) == (15, 20.5)


def test_counts_that_this_version_does_not_know_are_left_out():
    unknown = {
        ("pillarbox_new", ()): 1.0,
        ("pillarbox_messages_accepted", (("other", "x"),)): 1.0,
        ("pillarbox_accept_seconds_bucket", (("form", "x"), ("le", "1.0"))): 1.0,
        ("pillarbox_accept_seconds_bucket", ()): 1.0,
    }
    assert served(Books(unknown)).get("/metrics").text == served(Books()).get("/metrics").text


def test_a_store_that_is_slow_delays_the_page_for_a_bounded_time_and_what_was_counted_goes_on(monkeypatch):
    monkeypatch.setattr(metrics, "WAIT_AT_MOST", 0.01)
    monkeypatch.setattr(metrics, "LOOK_AT_MOST_EVERY", 0.0)
    held = asyncio.Event()
    ended: list[str] = []

    class Slow(Books):
        async def flush(self) -> None:
            self.flushes += 1
            await held.wait()
            ended.append("written")

    books = Slow()
    with served(books) as client:
        assert [client.get("/metrics").status_code for _ in range(3)] == [200] * 3
        assert (books.flushes, ended) == (1, [])
        client.portal.call(held.set)
        client.portal.call(asyncio.sleep, 0)
        assert ended == ["written"]


def test_the_library_that_writes_the_page_is_not_loaded_before_anybody_asks(site: Pillarbox):
    loaded = "import sys, pillarbox.web.routes; print('prometheus_client' in sys.modules)"
    command = [sys.executable, "-c", loaded]
    done = subprocess.run(command, env=site.environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
