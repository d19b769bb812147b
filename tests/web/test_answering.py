"""Pages for people without JavaScript: whatever goes wrong, nothing that they typed is lost."""

import json
from contextlib import suppress
from html import unescape

import pytest
from starlette.middleware import Middleware
from starlette.requests import Request
from tests.asking import BROWSER, FORM, Answer, ask, assert_failure, assert_thanks, multipart, post, submit
from tests.running import BOB, Pillarbox

from pillarbox.core.errors import FieldError, InvalidFields, PillarboxError, TooSlow
from pillarbox.core.form import CONTACT_FIELDS, Form, Owners
from pillarbox.core.keys import Keys
from pillarbox.intake import Intake
from pillarbox.web import routes
from pillarbox.web.answering import STATUS, TITLES, Answers, wants_json
from pillarbox.web.assets import Assets
from pillarbox.web.front import Front
from pillarbox.web.guards import ClientAddress, Cors, SecurityHeaders
from pillarbox.web.health import Health, Insiders
from pillarbox.web.limits import Gate, Limiter, Stamps
from pillarbox.web.metrics import Metrics
from pillarbox.web.pages import Pages
from pillarbox.web.routes import Site
from pillarbox.web.unsubscribing import Unsubscribing

ADAS_FORM = Form("contact", CONTACT_FIELDS, Owners(("ada@example.org",)), "forms@example.org", "Ada's Bookshop")
KEYS = Keys(["k" * 32])
HOSTILE = '</textarea><script>alert("x")</script>&amp;'
LONG = "What I wrote all evening. " * 300


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    made = Pillarbox(tmp_path_factory.mktemp("answering"))
    made.serve()
    yield made.port
    made.stop()


@pytest.fixture
def answers() -> Answers:
    return Answers(ADAS_FORM, Pages(ADAS_FORM, Assets("#0b5cad")))


def as_multipart(port: int, fields: dict[str, str], path: str = "/send-message", *, cut: int = 0):
    body = multipart(*((f'name="{name}"', value) for name, value in fields.items()))
    headers = BROWSER | {"Content-Type": "multipart/form-data; boundary=cut"}
    return ask(port, "POST", path, body[: len(body) - cut], headers)


def assert_shows(page, status: int, *texts: str) -> None:
    assert page.status == status
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    shown = unescape(page.text)
    for text in texts:
        assert text in shown


@pytest.mark.parametrize("send", [submit, as_multipart])
def test_a_wrong_field_brings_the_whole_form_back_filled_in(port, send):
    page = send(port, BOB | {"email": "bob", "message": HOSTILE + LONG})
    assert_shows(page, 400, '<form class="letter"', 'value="bob"', HOSTILE + LONG.strip(), "valid email address")
    assert "<script>alert" not in page.text


@pytest.mark.parametrize("send", [submit, as_multipart])
def test_another_forms_fields_are_shown_to_be_copied(port, send):
    page = send(port, {"email": "bob", "wish": HOSTILE, "_gotcha": "secret sign"})
    assert_shows(page, 400, ">wish<", HOSTILE, 'href="./"')
    assert "secret sign" not in page.text
    assert "<script>alert" not in page.text


@pytest.mark.parametrize("fields", [{}, {"name": " "}, {"_gotcha": ""}])
def test_an_empty_form_comes_back_with_its_needed_fields_marked(port, fields):
    page = submit(port, fields)
    assert_shows(page, 400, '<form class="letter"', "Please check the marked fields.", "Not sent yet")
    assert page.text.count('aria-invalid="true"') == 3


def test_where_the_form_is_not_shown_again_each_fault_is_said_by_its_field(port):
    page = submit(port, BOB | {"email": "bob", "wish": "x" * 1_001})
    assert_shows(
        page, 400, "<h1>Not sent yet</h1>", "Email: Please enter one valid", "wish: Please keep this to at most"
    )
    assert "marked" not in page.text


@pytest.mark.parametrize("send", [submit, as_multipart])
@pytest.mark.parametrize("path", ["/nothing", "/nothing/at%2Fall", "/f/gone"])
def test_the_text_is_shown_again_where_there_is_no_form(port, send, path):
    page = send(port, {"message": LONG}, path)
    assert_shows(page, 404, LONG.strip(), f'href="{"../" * (path.count("/") - 1) or "./"}static/')


@pytest.mark.parametrize("send", [submit, as_multipart])
def test_what_fits_of_too_long_a_text_is_shown_again(port, send):
    text = "line of a very long letter\n" * 20_000
    page = send(port, {"name": "Bob", "message": text})
    assert_shows(page, 413, text[:100_000], "shorten")


def test_a_form_of_10_mb_is_answered_with_a_page(port):
    page = submit(port, b"message=begin" + b"x" * 10_000_000)
    assert_shows(page, 413, "beginxxx")


def test_a_cut_multipart_form_is_not_kept_but_shown_again(port):
    assert_shows(as_multipart(port, BOB | {"message": LONG}, cut=30), 400, LONG[:-60])


def test_a_form_in_an_unreadable_encoding_is_shown_as_far_as_possible(port):
    assert_shows(
        submit(port, b"name=J%fcrgen&email=j%40example.org&message=hello+there"), 400, "hello there", "J\ufffdrgen"
    )


def test_too_many_messages_are_refused_with_the_time_to_wait_and_the_text(pillarbox):
    pillarbox.serve(RATE_LIMIT="2/hour")
    port = pillarbox.port
    assert_thanks(post(port, BOB))
    assert submit(port, BOB | {"message": "And the red one?"}).status == 303
    refused = post(port, BOB)
    assert_failure(refused, 429, "TOO_MANY_REQUESTS")
    assert 0 < int(refused.headers["retry-after"]) <= 1_800
    assert post(port, BOB | {"_language": "de"}).json["message"] != refused.json["message"]
    for send in (submit, as_multipart):
        page = send(port, BOB | {"message": HOSTILE + LONG})
        assert_shows(page, 429, HOSTILE + LONG.strip(), 'value="bob@example.org"')
        assert int(page.headers["retry-after"]) > 0
    assert ask(port, "GET", "/", headers=BROWSER).status == 200
    assert pillarbox.run("stats", "--json").stdout.count('"accepted": 2') == 1


def test_every_error_of_ours_has_a_status_and_every_status_a_title():
    ours = {found for found in PillarboxError.__subclasses__() if found.__module__ == "pillarbox.core.errors"}
    assert set(STATUS) == ours
    assert set(TITLES) == set(STATUS.values())


async def test_a_body_that_came_too_slowly_ends_the_connection(answers):
    scope = {"type": "http", "method": "POST", "path": "/api/contact", "headers": [(b"accept", b"application/json")]}
    answer = await answers.refuse(Request(scope), TooSlow())
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")


async def test_what_nobody_foresaw_is_a_fault_of_ours_that_shows_the_text_again(answers):
    async def receive():
        return {"type": "http.request", "body": b"name=Bob&message=hello+there"}

    headers = [(b"content-type", FORM.encode()), (b"accept", b"text/html")]
    scope = {"type": "http", "method": "POST", "path": "/x", "headers": headers}
    answer = await answers.refuse(Request(scope, receive), RuntimeError("secret"))
    assert answer.status_code == 500
    assert b"hello there" in answer.body
    assert b"secret" not in answer.body


class Broken:
    """A guard with a fault of ours in it."""

    def __init__(self, app):
        pass

    async def __call__(self, scope, receive, send):
        raise RuntimeError("secret")


async def nothing():
    return {"type": "http.request"}


async def kept(_message=None):
    return "7K3M-9QXP-2AFD"


async def break_down(_kept):
    raise RuntimeError("secret")


async def answered(fields: dict[str, str], *guards: Middleware, keep=kept, **scope: str) -> Answer:
    """Send Bob's JSON to a whole site that stands behind these guards."""
    sent: list = []

    async def receive():
        return {"type": "http.request", "body": json.dumps(fields).encode()}

    async def send(message):
        sent.append(message)

    assets = Assets("#0b5cad")
    pages = Pages(ADAS_FORM, assets)
    answers = Answers(ADAS_FORM, pages)
    front = Front(ADAS_FORM, pages, answers, Limiter(None), ClientAddress(()), Intake(keep), KEYS, Stamps(KEYS))
    insiders = Insiders("")
    health = Health(kept, list, client_address=ClientAddress(()), insiders=insiders, alarm_after=900)
    metrics, gate = Metrics(None, health, ways=(), insiders=insiders), Gate(None, ClientAddress(()))
    leaving = Unsubscribing(front.pages, front.answers, front.limiter, front.client_address, front.keys, None, None)
    site = Site(front, health, metrics, assets, gate, leaving)
    web = routes.make(site, lifespan=None, guards=guards)
    headers = [(b"content-type", b"application/json")]
    about = {"type": "http", "method": "POST", "path": "/api/contact", "query_string": b"", "headers": headers}
    with suppress(RuntimeError):  # what breaks outside of everything is told to the server, which logs it
        await web(about | scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, sent[1]["body"])


@pytest.mark.parametrize(
    ("guards", "keep"),
    [
        ([Middleware(SecurityHeaders)], break_down),
        ([Middleware(Broken), Middleware(SecurityHeaders)], kept),
        ([Middleware(SecurityHeaders), Middleware(Broken)], kept),
        ([Middleware(SecurityHeaders), Middleware(Cors, allow_origins=("*",)), Middleware(Broken)], kept),
    ],
    ids=["a route", "the first guard", "the second guard", "the last guard"],
)
async def test_the_whole_site_answers_so_when_a_part_of_it_breaks(guards, keep):
    answer = await answered(BOB, *guards, keep=keep)
    assert_failure(answer, 500, "INTERNAL_ERROR")
    assert b"secret" not in answer.body


async def test_what_breaks_behind_the_guards_is_answered_with_their_headers():
    guards = [Middleware(SecurityHeaders), Middleware(Cors, allow_origins=("*",))]
    answer = await answered(BOB, *guards, keep=break_down)
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/send-message", "/forms/send-message"])
async def test_links_of_an_answer_hold_below_a_prefix_that_the_server_knows_of(answers, path):
    headers = [(b"content-type", FORM.encode()), (b"accept", b"text/html")]
    scope = {"type": "http", "method": "POST", "path": path, "root_path": path[:-13], "headers": headers}
    answer = await answers.refuse(
        Request(scope, nothing), InvalidFields((FieldError("name", "REQUIRED_FIELD_MISSING", {}),))
    )
    assert b'action="./send-message"' in answer.body
    assert b'href="./static/' in answer.body


async def test_the_thanks_link_back_from_where_they_stand(answers):
    pages = Pages(ADAS_FORM, Assets("#0b5cad"))
    front = Front(ADAS_FORM, pages, answers, Limiter(None), ClientAddress(()), Intake(kept), KEYS, Stamps(KEYS))
    scope = {"type": "http", "method": "GET", "path": "/a/thanks", "query_string": b"id=7K3M-9QXP-2AFD", "headers": []}
    assert b'href="../static/' in (await front.thanks(Request(scope))).body
    assert b'href="./static/' in (await front.thanks(Request(scope | {"root_path": "/a"}))).body


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/json; q=0.1, text/html", False),
        ("application/json;q=0.1, text/html;q=0.9", False),
        ("text/html; q=0.1, application/json", True),
        ("*/*", False),
    ],
)
def test_what_a_client_likes_better_is_what_it_gets(accept: str, wanted: bool):
    headers = [(b"content-type", FORM.encode()), (b"accept", accept.encode())]
    assert (
        wants_json(Request({"type": "http", "method": "POST", "path": "/send-message", "headers": headers})) is wanted
    )
