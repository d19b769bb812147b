"""Pages for people without JavaScript: whatever goes wrong, nothing that they typed is lost."""

import json
from html import unescape

import pytest
from starlette.requests import Request
from tests.asking import BROWSER, FORM, Answer, ask, assert_failure, assert_thanks, multipart, post, submit
from tests.running import BOB, Pillarbox

from pillarbox.core.errors import PillarboxError, TooSlow
from pillarbox.core.form import CONTACT_FIELDS, Form, Owners
from pillarbox.web import routes
from pillarbox.web.answering import STATUS, TITLES, Answers
from pillarbox.web.assets import Assets
from pillarbox.web.front import Front
from pillarbox.web.guards import ClientAddress, Limiter
from pillarbox.web.health import Health
from pillarbox.web.pages import Pages

ADAS_FORM = Form("contact", CONTACT_FIELDS, Owners(("ada@example.org",)), "forms@example.org", "Ada's Bookshop")
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
    assert submit(port, BOB).status == 303
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


async def test_the_whole_site_answers_so_when_a_part_of_it_breaks():
    async def broken(kept):
        raise RuntimeError("secret")

    async def receive():
        return {"type": "http.request", "body": json.dumps(BOB).encode()}

    async def send(message):
        sent.append(message)

    sent: list = []
    assets = Assets("#0b5cad")
    pages = Pages(ADAS_FORM, assets)
    front = Front(ADAS_FORM, pages, Answers(ADAS_FORM, pages), Limiter(None), ClientAddress(()), broken)
    web = routes.make(front, Health(lambda: None, lambda: False), assets=assets, mailbox=None, lifespan=None)
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/api/contact", "query_string": b"", "headers": headers}
    await web(scope, receive, send)
    answer = Answer(sent[0]["status"], {"content-type": "application/json"}, sent[1]["body"])
    assert_failure(answer, 500, "INTERNAL_ERROR")
    assert b"secret" not in answer.body
