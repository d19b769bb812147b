"""A page's stamp and a visitor's origin give a robot away, and nobody else."""

import re

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.asking import ask, submit
from tests.running import BOB
from tests.web.test_limits import ADAS_FORM, LISTED, held_for

from pillarbox.app import create_app
from pillarbox.core import stamp
from pillarbox.core.errors import NotKept, PillarboxError
from pillarbox.core.form import HONEYPOT
from pillarbox.core.keys import Keys
from pillarbox.intake import Intake
from pillarbox.settings import Settings
from pillarbox.store.submissions import Kept
from pillarbox.web.answering import Answers
from pillarbox.web.assets import Assets
from pillarbox.web.front import Front
from pillarbox.web.guards import ClientAddress
from pillarbox.web.limits import Limiter, Stamps
from pillarbox.web.pages import Pages

KEYS = Keys(["k" * 32])


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

    async def _keep(self, kept: Kept) -> str:
        if self.is_away:
            raise NotKept
        self.kept.append(kept)
        return kept.submission.id

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
        fields = (
            BOB
            | {"message": f"I come from {origin}"}
            | {HONEYPOT: "x", "_stamp": stamp_on(ask(pillarbox.port, "GET", "/").text)}
        )
        assert submit(pillarbox.port, fields, headers={"Origin": origin}).status == 303
        return {*list(held_for(pillarbox).values())[-1]} - {"sent_too_fast"}

    assert reasons("https://evil.example") == {"honeypot", "foreign_origin"}
    for own in (LISTED, "https://forms.example.com", pillarbox.url):
        assert reasons(own) == {"honeypot"}
