"""The HTTP contract: one JSON shape, the right status, the right kind of answer for whoever asked."""

import json
import shutil

import pytest
from tests.asking import BROWSER, FORM, JSON, Answer, ask, assert_failure, assert_thanks, multipart, post, submit
from tests.running import BOB, Pillarbox, until

POSTS = ("/send-message", "/api/contact")
SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "strict-origin-when-cross-origin",
    "cross-origin-opener-policy": "same-origin",
}


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    made = Pillarbox(tmp_path_factory.mktemp("api"), PUBLIC_URL="https://forms.example.com", ALLOWED_HOSTS="*")
    made.settings["CORS_ORIGINS"] = "https://www.example.com,http://localhost:3000"
    made.serve()
    yield made.port
    made.stop()


@pytest.mark.parametrize("path", POSTS)
def test_a_message_is_thanked_for_in_the_one_shape_however_it_came(port, path):
    written = [BOB | {"message": f"By {path}, for the time {number}"} for number in range(5)]
    body = multipart(*((f'name="{name}"', value) for name, value in written[2].items()))
    script = {"X-Requested-With": "fetch"}
    answers = [
        post(port, written[0], path),
        submit(port, written[1], path, script),
        ask(port, "POST", path, body, script | {"Content-Type": "multipart/form-data; boundary=cut"}),
        post(port, b"\xef\xbb\xbf" + json.dumps(written[3]).encode(), path),
        post(port, written[4], path, {"Content-Type": 'application/json; charset="UTF-8"'}),
    ]
    assert len({answer.json["id"] for answer in answers}) == 5
    for answer in answers:
        assert_thanks(answer)
        assert answer.json["message"] == "Thank you for your message!"
        assert answer.json["next"] == f"https://forms.example.com/thanks?id={answer.json['id']}"


def test_every_fault_is_named_at_once_with_its_field_code_and_sentence(port):
    answer = post(port, {"name": " ", "email": "bob", "subject": "two\nlines", "company": "x" * 1_001})
    assert_failure(answer, 400)
    found = [(one["field"], one["code"]) for one in answer.json["errors"]]
    assert found == [
        ("name", "REQUIRED_FIELD_EMPTY"),
        ("email", "TYPE_EMAIL"),
        ("company", "TOO_LONG"),
        ("subject", "TYPE_TEXT"),
        ("message", "REQUIRED_FIELD_MISSING"),
    ]
    assert answer.json["errors"][2]["message"] == "Please keep this to at most 1000 characters."


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", path, 405) for path in POSTS]
    + [(method, path, 405) for path in POSTS for method in ("HEAD", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS")]
    + [("POST", "/health", 405), ("POST", "/", 405), ("DELETE", "/thanks", 405)]
    + [(method, "/nothing/here", 404) for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS")]
    + [("GET", "/api/contact/", 404), ("GET", "/static/../settings.py", 404), ("GET", "/thanks", 404)]
    + [("GET", "/docs", 404), ("GET", "/redoc", 404), ("GET", "/thanks?id=%3Cscript%3E", 404)],
)
def test_the_frameworks_own_refusals_have_the_one_shape(port, method, path, status):
    answer = ask(port, method, path)
    assert answer.status == status
    if method != "HEAD":
        assert_failure(answer, status, {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}[status])
    if path in POSTS:
        assert answer.headers["allow"] == "POST"


def test_a_health_check_may_ask_without_wanting_the_body(port):
    assert ask(port, "HEAD", "/health").status == 200
    well = {"success": True, "ok": True, "store": "ok", "mail": "ok", "you": "127.0.0.1"}
    assert ask(port, "GET", "/health").json == well


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"Content-Type": FORM}, "page"),
        ({"Content-Type": FORM} | BROWSER, "page"),
        ({"Content-Type": FORM, "Accept": "text/html, application/json;q=0.5"}, "page"),
        ({"Content-Type": FORM, "Accept": "application/json;q=0.5, text/html"}, "page"),
        ({"Content-Type": FORM, "Accept": "application/json, text/html"}, "json"),
        ({"Content-Type": FORM, "Accept": "text/html;q=0.1, application/json"}, "json"),
        ({"Content-Type": FORM, "Accept": "application/json, text/plain, */*"}, "json"),
        ({"Content-Type": FORM, "Accept": "application/problem+json"}, "json"),
        ({"Content-Type": FORM, "Accept": "*/*;q=x, ,;q=,text/html;q=nan"}, "page"),
        ({"Content-Type": FORM, "X-Requested-With": "XMLHttpRequest"} | BROWSER, "json"),
        ({"Content-Type": FORM} | BROWSER | {"Sec-Fetch-Mode": "cors"}, "json"),
        ({"Content-Type": JSON} | BROWSER, "json"),
    ],
)
def test_a_program_gets_json_and_a_person_a_page(port, headers, kind):
    body = json.dumps(BOB).encode() if headers["Content-Type"] == JSON else b"name=B&email=b%40example.org&message=hi"
    thanks = ask(port, "POST", "/send-message", body, headers)
    refused = ask(port, "POST", "/send-message", b"{}", headers)
    assert (thanks.status, refused.status) == ((200, 400) if kind == "json" else (303, 400))
    assert refused.headers["content-type"] == (JSON if kind == "json" else "text/html; charset=utf-8")


@pytest.mark.parametrize("path", POSTS)
def test_a_plain_form_leads_to_a_thanks_page_that_shows_the_number_and_can_be_loaded_again(port, path):
    answer = submit(port, BOB, path)
    assert answer.status == 303
    assert answer.headers["location"] == ("../" if path.count("/") > 1 else "") + "thanks?id=" + _id_of(answer)
    for _ in range(2):
        page = ask(port, "GET", f"/thanks?id={_id_of(answer)}", headers=BROWSER)
        assert page.status == 200
        assert _id_of(answer) in page.text


def _id_of(answer: Answer) -> str:
    return answer.headers["location"].partition("?id=")[2]


GOOD_TARGETS = (
    "/thanks.html",
    "/a/b?c=d#e",
    "/",
    "https://www.example.com",
    "https://www.example.com/danke?x=//y",
    "http://localhost:3000/done",
    "https://forms.example.com/thanks",
)
HOSTILE_TARGETS = (
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https://evil.example",
    "https:evil.example",
    "https:///evil.example",
    "http://www.example.com",
    "https://www.example.com.evil.example/",
    "https://www.example.com@evil.example/",
    "https://www.example.com:444/",
    "https://evil.example/https://www.example.com",
    "https://www.example.com\\@evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "/\t/evil.example",
    "/\r\nSet-Cookie: a=b",
    "\n//evil.example",
    " //evil.example",
    "/ö",
    "thanks.html",
    "?x",
    "/" + "x" * 2_001,
    "[",
    "https://[::1",
)


@pytest.mark.parametrize("target", GOOD_TARGETS)
def test_the_form_says_where_to_go_next_on_this_site_or_an_allowed_one(port, target):
    assert submit(port, BOB | {"_next": target}).headers["location"] == target
    assert post(port, BOB | {"_next": target}).json["next"] == target


@pytest.mark.parametrize("target", HOSTILE_TARGETS)
def test_nobody_is_led_anywhere_else(port, target):
    answer = submit(port, BOB | {"_next": target})
    assert answer.status == 303
    assert answer.headers["location"] == "thanks?id=" + _id_of(answer)
    assert "set-cookie" not in answer.headers
    assert post(port, BOB | {"_next": target}).json["next"].startswith("https://forms.example.com/thanks?id=")


def test_what_is_no_target_at_all_leads_to_the_thanks_page(port):
    assert_thanks(post(port, BOB | {"_next": ["/x"], "_language": 7}))


def test_programs_are_answered_in_the_forms_language_unless_they_ask_for_another(port):
    german = {"Accept-Language": "de-AT,de;q=0.9"}
    assert post(port, BOB, headers=german).json["message"] == "Thank you for your message!"
    thanks = post(port, BOB | {"_language": "de"}).json["message"]
    refusal = post(port, {"_language": "de"}).json["message"]
    assert "Nachricht" in thanks
    assert refusal != post(port, {}).json["message"]
    assert submit(port, {"_language": "de"}, headers={"Accept": JSON}).json["message"] == refusal
    body = multipart(('name="_language"', "de"))
    headers = {"Content-Type": "multipart/form-data; boundary=cut", "Accept": JSON}
    assert ask(port, "POST", "/api/contact", body, headers).json["message"] == refusal


@pytest.mark.parametrize("language", ["x" * 5_000, "de\r\nX: y", "\ud800", "", "-", "_", "de_DE-x", "\x00"])
def test_a_language_nobody_speaks_is_the_forms_own(port, language):
    assert post(port, BOB | {"_language": language}).json["message"].startswith(("Thank you", "Vielen Dank"))


def test_pages_are_in_the_language_that_the_browser_prefers(port):
    for header, language in (("de-AT,en;q=0.5", "de"), ("en,de;q=0.9", "en"), ("xx, ;q=,de;q=0", "en")):
        refused = submit(port, {"name": "Bob"}, headers={"Accept-Language": header})
        assert f'<html lang="{language}"' in ask(port, "GET", "/", headers={"Accept-Language": header} | BROWSER).text
        assert f'<html lang="{language}"' in refused.text
    asked = submit(port, {"name": "Bob", "_language": "de"}, headers={"Accept-Language": "en"})
    assert '<html lang="de"' in asked.text


@pytest.mark.parametrize("path", ["/", "/thanks", "/nothing", "/health", "/openapi.json", "/api/contact", "/static/x"])
def test_every_answer_keeps_browsers_strict_and_names_no_software(port, path):
    for answer in (ask(port, "GET", path), ask(port, "GET", path, headers=BROWSER), ask(port, "POST", path)):
        assert SECURITY.items() <= answer.headers.items()
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "server" not in answer.headers
        assert "set-cookie" not in answer.headers


def test_static_files_keep_browsers_strict_too(port):
    page = ask(port, "GET", "/", headers=BROWSER).text
    link = page.partition('href="./static/')[2].partition('"')[0]
    answer = ask(port, "GET", f"/static/{link}")
    assert answer.status == 200
    assert SECURITY.items() <= answer.headers.items()


def test_a_held_message_is_answered_like_an_accepted_one(port):
    accepted, held = post(port, BOB | {"message": "Hi"}), post(port, BOB | {"message": "Buy", "_gotcha": "buy"})
    assert held.body.replace(held.json["id"].encode(), b"") == accepted.body.replace(accepted.json["id"].encode(), b"")
    assert held.headers.keys() == accepted.headers.keys()


def test_what_cannot_be_kept_is_never_thanked_for_and_the_text_is_shown_again(pillarbox):
    pillarbox.serve()
    shutil.move(pillarbox.database.parent, pillarbox.folder / "away")
    until(lambda: not pillarbox.answers())  # its view may be five seconds old
    assert_failure(post(pillarbox.port, BOB), 503, "NOT_KEPT")
    assert_failure(post(pillarbox.port, BOB, "/send-message"), 500, "NOT_KEPT")
    assert_failure(ask(pillarbox.port, "GET", "/health"), 503, "NOT_KEPT")
    assert int(post(pillarbox.port, BOB).headers["retry-after"]) > 0
    for path, status in (("/send-message", 500), ("/api/contact", 503)):
        page = submit(pillarbox.port, BOB, path)
        assert page.status == status
        assert BOB["message"] in page.text
        assert int(page.headers["retry-after"]) > 0
    shutil.move(pillarbox.folder / "away", pillarbox.database.parent)
    until(lambda: post(pillarbox.port, BOB).status == 200)
