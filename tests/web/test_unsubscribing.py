"""The link in a confirmation: looking at it does nothing, posting to it does it at once, whoever posts from where."""

import email
import email.policy
import re
import signal
import sqlite3
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from tests.asking import FORM, ask, assert_failure, assert_thanks
from tests.browser import expect_accessible, expect_no_sideways_scroll, visiting
from tests.running import BOB, Pillarbox, until
from tests.test_stationery import ADAS_FORM, bobs

from pillarbox.core.delivery import Purpose
from pillarbox.core.keys import Keys
from pillarbox.fittings import in_ascii
from pillarbox.stationery import Stationery
from pillarbox.web import unsubscribing

KEY, OLD_KEY = "4f1d9b7c" * 8, "a2e86035" * 8
BROWSER = {"Accept": "text/html,*/*;q=0.8", "Accept-Language": "en"}
PRESSED = BROWSER | {"Content-Type": FORM, "Sec-Fetch-Mode": "navigate"}
ONE_CLICK = {"Content-Type": FORM, "Origin": "https://mail.example", "User-Agent": "mail program"}
"""What a mail program says (RFC 8058, 3.2): no cookie, no language, an origin of its own if any."""
BUTTON = "Never write to me again"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pillarbox]:
    made = Pillarbox(
        tmp_path_factory.mktemp("unsubscribing"), SITE_NAME="Ada's Bookshop", SECRET_KEY=f"{KEY},{OLD_KEY}"
    )
    made.settings["PUBLIC_URL"] = made.url
    made.serve()
    yield made
    made.stop()


def write(served: Pillarbox, name: str, **more: str) -> str:
    """Write as somebody of this name and return the message's id, once its confirmation has left or was called off."""
    status, answer = served.post(BOB | {"email": f"{name}@example.org"} | more)
    assert status == 200
    until(lambda: standing(served, answer["id"])[0] in ("sent", "cancelled"))
    return str(answer["id"])


def standing(served: Pillarbox, submission_id: str) -> tuple[str, str]:
    """Return a confirmation's state and note."""
    question = "SELECT state, note FROM deliveries WHERE submission_id = ? AND purpose = 'confirmation'"
    [row] = asked(served, question, submission_id)
    return row[0], row[1]


def asked(served: Pillarbox, question: str, *values: str) -> list[tuple[str, ...]]:
    """Return what the store answers."""
    with sqlite3.connect(served.database) as database:
        return database.execute(question, values).fetchall()


def path(submission_id: str, *, key: str = KEY, purpose: str = "unsubscribe") -> str:
    """Return the link's path and query as they would be under this key."""
    return f"/unsubscribe?by={Keys([key]).sign(submission_id, purpose)}"


def is_listed(served: Pillarbox, name: str) -> bool:
    return bool(asked(served, "SELECT 1 FROM suppressions WHERE mailbox = ?", f"{name}@example.org"))


def test_each_confirmation_and_no_other_letter_carries_the_link(served):
    submission_id = write(served, "carrier")
    link = served.url + path(submission_id)
    [sent] = [mail for mail in served.mails() if submission_id.encode() in mail and b"auto-replied" in mail]
    message = email.message_from_bytes(sent, policy=email.policy.default)
    assert message["List-Unsubscribe"] == f"<{link}>"
    bodies = [message.get_body((kind,)).get_content() for kind in ("plain", "html")]
    assert f"{BUTTON}: {link}" in bodies[0]
    assert re.search(rf'<a [^>]*href="{re.escape(link)}"[^>]*>{BUTTON}</a>', bodies[1])
    others = until(lambda: [mail for mail in served.mails() if b"auto-generated" in mail])
    assert not any(b"nsubscribe" in mail for mail in others)


def test_one_click_is_offered_where_it_is_safe_and_nothing_without_a_public_address():
    def composed(public_url: str) -> bytes:
        stationery = Stationery(
            lambda submission_id: unsubscribing.link(in_ascii(public_url), Keys([KEY]), submission_id)
        )
        letters = [
            stationery.compose(bobs(), ADAS_FORM, delivery_id=1, purpose=Purpose.CONFIRMATION, recipient="b@x.example")
            for _ in range(2)
        ]
        assert letters[0] == letters[1]
        return letters[0].content

    safe = composed("https://Bücher.example:8443/für uns")
    assert b"\r\nList-Unsubscribe: <https://xn--bcher-kva.example:8443/f%C3%BCr%20uns/unsubscribe?by=k7m2p9qx." in safe
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in safe
    assert b"List-Unsubscribe: <http://" in composed("http://forms.example")
    assert b"One-Click" not in composed("http://forms.example")
    assert b"nsubscribe" not in composed("")
    assert BUTTON.encode() not in composed("")


def test_looking_at_the_link_shows_who_writes_and_changes_nothing(served):
    link = path(write(served, "looker"))
    for headers in (BROWSER, {}, {"Purpose": "prefetch"}):
        page = ask(served.port, "GET", link, headers=headers)
        assert page.status == 200
        assert "Ada&#39;s Bookshop" in page.text
        assert page.text.count("<button") == 1
        assert page.headers["cache-control"] == "no-store"
        assert "looker" not in page.text
    assert ask(served.port, "HEAD", link).status == 200
    assert not is_listed(served, "looker")


def test_the_button_does_it_before_it_says_so_and_once_more_changes_nothing(served):
    link = path(write(served, "presser"))
    for _ in range(2):
        page = ask(served.port, "POST", link, headers=PRESSED)
        assert page.status == 200
        assert "That is done" in page.text
        assert "presser" not in page.text
        assert is_listed(served, "presser")
    assert "That is done" in ask(served.port, "GET", link, headers=BROWSER).text
    for name in ("presser", "PRESSER+again"):
        assert standing(served, write(served, name, message="Do you have another one?")) == (
            "cancelled",
            "this address asked never to be written to again",
        )
    assert "presser" not in served.log.read_text().lower()


@pytest.mark.parametrize("content_type", [FORM, "multipart/form-data; boundary=cut", "text/plain"])
def test_a_mail_program_does_it_by_one_click(served, content_type):
    name = f"clicker-{len(content_type)}"
    link = path(write(served, name))
    body = b"List-Unsubscribe=One-Click"
    if "multipart" in content_type:
        body = b'--cut\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--cut--\r\n'
    answer = ask(served.port, "POST", link, body, ONE_CLICK | {"Content-Type": content_type})
    assert (answer.status, is_listed(served, name)) == (200, True)


def test_a_program_gets_the_one_shape(served):
    submission_id = write(served, "program")
    answers = [
        ask(served.port, method, path(submission_id), headers={"Accept": "application/json"})
        for method in ("GET", "POST", "POST")
    ]
    for answer in answers:
        assert_thanks(answer)
        assert answer.json["id"] == submission_id
        assert "program" not in answer.text
    assert "sends no more confirmations" in answers[1].json["message"]


def wrong_links() -> list[str]:
    right = path("AAAA-BBBB-CCCC")
    return [
        "/unsubscribe",
        "/unsubscribe?by=",
        "/unsubscribe?by=AAAA-BBBB-CCCC",
        "/unsubscribe?by=%00%ff.%F0%9F%92%A9",
        f"/unsubscribe?by={'a' * 5_000}.b",
        right[:-1],
        right.replace("AAAA", "AAAB"),
        path("AAAA-BBBB-CCCC", key="0" * 64),
        path("AAAA-BBBB-CCCC", purpose="stamp"),
    ]


@pytest.mark.parametrize("link", wrong_links(), ids=range(len(wrong_links())))
def test_a_link_that_is_not_ours_is_told_from_one_that_is(served, link):
    for method, headers in (("GET", BROWSER), ("POST", PRESSED)):
        page = ask(served.port, method, link, headers=headers)
        assert page.status == 400
        assert "This link does not work" in page.text
        assert "<textarea" not in page.text
    for method in ("GET", "POST"):
        assert_failure(ask(served.port, method, link, headers={"Accept": "application/json"}), 400, "LINK_NOT_KNOWN")


def test_a_link_outlives_the_key_that_signed_it(served):
    link = path(write(served, "patient"), key=OLD_KEY)
    assert ask(served.port, "POST", link, headers=PRESSED).status == 200
    assert is_listed(served, "patient")


def test_the_link_of_an_erased_message_is_answered_kindly_and_lists_nobody(served):
    before = asked(served, "SELECT * FROM suppressions")
    for method, headers in (("GET", BROWSER), ("POST", PRESSED)):
        page = ask(served.port, method, path("ZZZZ-ZZZZ-ZZZZ"), headers=headers | {"Accept-Language": "en"})
        assert page.status == 200
        assert "We no longer know that address" in page.text
        assert "<button" not in page.text
    assert asked(served, "SELECT * FROM suppressions") == before


def test_the_page_speaks_the_language_of_the_mail(served):
    submission_id = write(served, "deutsch", _language="de")
    assert '<html lang="de"' in ask(served.port, "GET", path(submission_id), headers=BROWSER).text
    erased = ask(served.port, "GET", path("ZZZZ-ZZZZ-ZZZZ"), headers=BROWSER | {"Accept-Language": "de-AT,en;q=0.5"})
    assert '<html lang="de"' in erased.text


def test_one_client_presses_so_often_and_looks_no_less_for_it(pillarbox):
    pillarbox.settings |= {"RATE_LIMIT": "2/day", "PAGE_RATE_LIMIT": "2/day", "SECRET_KEY": KEY}
    pillarbox.serve()
    assert pillarbox.post(BOB)[0] == 200
    link = path("AAAA-BBBB-CCCC")
    statuses = [ask(pillarbox.port, "POST", link, headers=PRESSED).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert ask(pillarbox.port, "GET", link, headers=BROWSER).status == 200
    assert pillarbox.post(BOB | {"message": "again"})[0] == 200


def test_what_waits_is_called_off_and_the_word_outlives_a_kill(pillarbox):
    pillarbox.settings |= {"SMTP_SERVER": "127.0.0.1", "SMTP_PORT": "1", "SMTP_SECURITY": "plain"}
    pillarbox.settings |= {"EMAIL_ADDRESS": "forms@ada.example", "SECRET_KEY": KEY}
    process = pillarbox.serve()
    ids = [pillarbox.post(BOB | {"email": f"{name}@example.org"})[1]["id"] for name in ("bob", "Bob+x", "carol")]
    assert ask(pillarbox.port, "POST", path(ids[0]), headers=PRESSED).status == 200
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [standing(pillarbox, one)[0] for one in ids] == ["cancelled", "cancelled", "waiting"]
    assert is_listed(pillarbox, "bob")


def test_nobody_is_told_that_it_is_done_while_it_cannot_be_written_down(pillarbox):
    pillarbox.settings["SECRET_KEY"] = KEY
    pillarbox.serve()
    link = path(pillarbox.post(BOB)[1]["id"])
    until(lambda: len(pillarbox.mails()) == 2)
    away = pillarbox.database.rename(pillarbox.database.with_suffix(".away"))
    page = ask(pillarbox.port, "POST", link, headers=PRESSED)
    away.rename(pillarbox.database)
    assert page.status == 503
    assert page.headers["retry-after"]
    assert "Not done yet" in page.text
    assert "Please try again in a moment" in page.text


def test_without_script_the_keyboard_is_enough_on_a_phone(served, chromium):
    link = served.url + path(write(served, "typist"))
    with visiting(chromium, viewport={"width": 320, "height": 640}, java_script_enabled=False) as page:
        page.goto(link)
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name=BUTTON)).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="That is done")).to_be_visible()
    assert is_listed(served, "typist")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_of_the_page_is_for_every_eye(served, chromium, scheme):
    link = served.url + path(write(served, f"viewer-{scheme}"))
    with visiting(chromium, viewport={"width": 320, "height": 640}, color_scheme=scheme) as page:
        for url, title in (
            (link, BUTTON),
            ("", "That is done"),
            (served.url + path("ZZZZ-ZZZZ-ZZZZ"), "We no longer know that address"),
            (link[:-1], "This link does not work"),
        ):
            page.goto(url) if url else page.get_by_role("button", name=BUTTON).click()
            expect(page.get_by_role("heading", name=title)).to_be_visible()
            expect_accessible(page)
            expect_no_sideways_scroll(page)
