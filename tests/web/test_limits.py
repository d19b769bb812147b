"""How much is too much: one client waits, a flood is held, a robot gives itself away, and no memory fills."""

import json
import re
import sqlite3
from dataclasses import replace

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.asking import ask, assert_failure, assert_thanks, post, submit
from tests.running import BOB, Pillarbox, until

from pillarbox.app import create_app
from pillarbox.core import stamp
from pillarbox.core.errors import NotKept, PillarboxError, TooMany
from pillarbox.core.form import CONTACT_FIELDS, HONEYPOT, Form, Owners
from pillarbox.core.keys import Keys
from pillarbox.core.quota import Rate
from pillarbox.intake import Intake
from pillarbox.settings import Settings
from pillarbox.store.submissions import Kept
from pillarbox.web.answering import Answers
from pillarbox.web.assets import Assets
from pillarbox.web.front import Front
from pillarbox.web.guards import ClientAddress
from pillarbox.web.limits import Flood, Limiter, Recent, Stamps
from pillarbox.web.pages import Pages

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


def test_a_flood_of_one_form_leaves_the_others_alone_and_ends_with_time():
    now = [0.0]
    is_flooded = Flood(Rate(2, 60), None, clock=lambda: now[0])
    assert [is_flooded(ADAS_FORM) for _ in range(4)] == [False, False, True, True]
    assert not is_flooded(CHARLIES_FORM)
    now[0] = 30.0
    assert [is_flooded(ADAS_FORM) for _ in range(2)] == [False, True]


def test_a_flood_over_all_forms_is_one_too():
    is_flooded = Flood(Rate(2, 60), Rate(3, 60), clock=lambda: 0.0)
    assert [is_flooded(form) for form in (ADAS_FORM, ADAS_FORM, CHARLIES_FORM, CHARLIES_FORM)] == [False] * 3 + [True]


def test_without_rates_nothing_is_a_flood():
    is_flooded = Flood(None, None)
    assert not any(is_flooded(ADAS_FORM) for _ in range(10_000))


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

    def status(visitor: str, **more: str) -> int:
        return post(port, BOB | more, headers={"X-Forwarded-For": visitor}).status

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


class Visited:
    """Ada's form at a moment of our choosing, and what is kept of what its visitors send."""

    def __init__(self, *, origins: frozenset[str] = frozenset()) -> None:
        self.now = 1_790_000_000.0
        self.kept: list[Kept] = []
        self.is_away = False
        stamps = Stamps(KEYS, clock=lambda: self.now)
        pages = Pages(ADAS_FORM, Assets("#0b5cad"), stamp=stamps.renewed)
        answers = Answers(ADAS_FORM, pages)
        intake = Intake(self._keep)
        front = Front(ADAS_FORM, pages, answers, Limiter(None), ClientAddress(()), intake, KEYS, stamps, origins)
        routes = [Route("/", front.show), Route("/send-message", front.submit, methods=["POST"])]
        site = Starlette(routes=routes, exception_handlers={PillarboxError: answers.refuse})
        self.client = TestClient(site, base_url="https://forms.example.com", headers={"Accept": "text/html"})

    async def _keep(self, kept: Kept) -> None:
        if self.is_away:
            raise NotKept
        self.kept.append(kept)

    def page_stamp(self) -> str:
        return stamp_on(self.client.get("/").text)

    def send(self, sent: object = None, **more: str) -> str:
        """Post a form, with this stamp unless it is None, and return the page that comes back, if any."""
        fields = BOB | more | ({} if sent is None else {stamp.STAMP: sent})
        answer = self.client.post("/send-message", data=fields, follow_redirects=False)
        assert (answer.status_code == 303) == (len(answer.text) == 0)
        return answer.text

    @property
    def reasons(self) -> tuple[str, ...]:
        """What the last kept message is held for."""
        return self.kept[-1].submission.held_for


def stamp_on(page: str) -> str:
    (found,) = re.findall(r'<input type="hidden" name="_stamp" value="([^"]+)">', page)
    return found


@pytest.fixture
def visited() -> Visited:
    return Visited()


def test_each_page_has_a_stamp_of_its_own_and_is_nobody_elses(visited):
    assert len({visited.page_stamp() for _ in range(20)}) == 20
    answer = visited.client.get("/", headers={"Accept-Language": "de"})
    assert answer.headers["cache-control"] == "no-store"
    assert stamp_on(answer.text)
    assert "\0" not in answer.text


@pytest.mark.parametrize("sent", [None, ""])
def test_a_program_has_no_stamp_and_is_no_robot_for_it(visited, sent):
    assert visited.send(sent) == ""
    assert visited.reasons == ()


def test_a_person_takes_a_while_to_write(visited):
    carried = visited.page_stamp()
    visited.now += 30
    visited.send(carried)
    assert visited.reasons == ()
    assert all("stamp" not in answer.name for answer in visited.kept[-1].submission.answers)


FORGERIES = ["x", "1a-b.c", stamp.make(Keys(["x" * 32]), "a", now=0), "0" * 5_000]


@pytest.mark.parametrize("sent", FORGERIES, ids=["a word", "a shape", "another key's", "long"])
def test_a_forged_stamp_holds_the_message_behind_the_same_thanks(visited, sent):
    assert visited.send(sent) == ""
    assert visited.reasons == ("stamp_forged",)


def test_two_stamps_are_none(visited):
    visited.send([visited.page_stamp(), visited.page_stamp()])
    assert visited.reasons == ("stamp_forged",)


@pytest.mark.parametrize("value", [1, True, ["x"], {"a": 1}])
def test_a_stamp_that_is_no_text_is_forged(visited, value):
    answer = visited.client.post("/send-message", json=BOB | {stamp.STAMP: value})
    assert answer.status_code == 200
    assert visited.reasons == ("stamp_forged",)


def test_one_page_is_good_for_ten_messages(visited):
    carried = visited.page_stamp()
    visited.now += 30
    for _ in range(10):
        visited.send(carried)
        assert visited.reasons == ()
    visited.send(carried)
    assert visited.reasons == ("stamp_replayed",)
    # The same stamp in other letters: the last digit of a signature has bits that say nothing.
    twins = [carried[:-1] + digit for digit in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]
    (twin, *_) = [one for one in twins if one != carried and stamp.verified(KEYS, one)]
    visited.send(twin)
    assert visited.reasons == ("stamp_replayed",)


def test_who_tries_again_because_we_failed_has_used_nothing_up(visited):
    carried = visited.page_stamp()
    visited.now += 30
    visited.is_away = True
    for _ in range(20):
        assert stamp_on(visited.send(carried)) == carried
    visited.is_away = False
    visited.send(carried)
    assert visited.reasons == ()


def test_a_signature_too_fast_or_too_old_is_not_enough_alone(visited):
    carried = visited.page_stamp()
    visited.send(carried)
    assert visited.reasons == ()
    visited.now += 90_000
    visited.send(carried)
    assert visited.reasons == ()


def test_who_corrects_an_error_is_not_too_fast_for_it():
    visited = Visited(origins=frozenset({LISTED}))
    visited.client.headers["Origin"] = "null"  # so that one more weak sign would be seen
    carried = visited.page_stamp()
    visited.now += 30
    page = visited.send(carried, email="bob")
    assert stamp_on(page) == carried
    assert page.count(carried) == 1
    visited.send(stamp_on(page))
    assert visited.reasons == ()


def test_a_stamp_that_is_not_ours_is_not_shown_again(visited):
    for sent in ('"><script>alert(1)</script>', "forged"):
        page = visited.send(sent, email="bob")
        assert sent not in page
        assert stamp_on(page) != sent
    assert stamp_on(visited.send(None, email="bob"))
    assert "forged" not in visited.client.post("/send-message", json={stamp.STAMP: "forged"}).text


def test_nothing_behind_a_good_stamp_is_shown_with_it(visited):
    """Decoders of base64 stop at its end, whatever follows; a page must not."""
    carried = visited.page_stamp()
    page = visited.send(f'{carried}="><meta http-equiv=refresh content="0;url=//evil.example/">', email="bob")
    assert "<meta http-equiv=refresh" not in page
    assert "evil.example" not in page
    assert stamp_on(page) != carried


def test_a_visitors_words_never_stand_in_the_stamps_place(visited):
    page = visited.send(None, email="bob", name="Bob \0 Bobson")
    assert "\0" not in page
    assert page.count(stamp_on(page)) == 1


@pytest.mark.parametrize(
    ("origin", "held"),
    [
        ("https://evil.example", True),
        ("null", True),
        (LISTED, False),
        ("https://forms.example.com", False),
        (None, False),
    ],
)
def test_an_unlisted_origin_is_a_sign_among_others_where_origins_are_listed(origin, held):
    visited = Visited(origins=frozenset({LISTED}))
    if origin:
        visited.client.headers["Origin"] = origin
    assert visited.send() == ""
    assert visited.reasons == ()
    visited.send(visited.page_stamp())
    assert visited.reasons == (("sent_too_fast", "foreign_origin") if held else ())


def test_where_no_origins_are_listed_none_is_foreign(visited):
    visited.client.headers["Origin"] = "https://evil.example"
    visited.send(visited.page_stamp())  # too fast, which one more sign would make enough
    assert visited.reasons == ()


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ({"cors_origins": f"{LISTED}, *"}, set()),
        ({"cors_origins": "*"}, set()),
        ({"public_url": "https://forms.example.com"}, set()),
        ({"cors_origins": LISTED}, {LISTED}),
        ({"cors_origins": LISTED, "public_url": "https://Forms.example.com/a"}, {LISTED, "https://forms.example.com"}),
    ],
)
def test_only_origins_that_are_named_one_by_one_make_others_foreign(tmp_path, settings, known):
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path}/pillarbox.db", maildir=tmp_path, **settings))
    (endpoint,) = [route.endpoint for route in app.routes if route.path == "/send-message"]
    assert endpoint.__self__.origins == known


def test_a_stamped_page_and_a_foreign_origin_are_seen_by_the_whole_site(pillarbox):
    pillarbox.serve(CORS_ORIGINS=LISTED, PUBLIC_URL="https://forms.example.com", ALLOWED_HOSTS="*")

    def reasons(origin: str) -> set[str]:
        fields = BOB | {HONEYPOT: "x", "_stamp": stamp_on(ask(pillarbox.port, "GET", "/").text)}
        assert submit(pillarbox.port, fields, headers={"Origin": origin}).status == 303
        return {*list(held_for(pillarbox).values())[-1]} - {"sent_too_fast"}

    assert reasons("https://evil.example") == {"honeypot", "foreign_origin"}
    for own in (LISTED, "https://forms.example.com", pillarbox.url):
        assert reasons(own) == {"honeypot"}
