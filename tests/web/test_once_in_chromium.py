"""Once and never lost, as Bob sees it: clicks that come twice, connections that break, pages that are loaded anew."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Dialog, Page, Route, expect
from tests.browser import THANKS, button, field, said, send, visiting, write
from tests.running import Pillarbox, until
from tests.web.posts import Server, answer_lost, broken, let_time_pass, saying, unanswered

NOT_KEPT = {"success": False, "message": "We could not keep your message.", "code": "NOT_KEPT"}
REUSED = {"success": False, "message": "This key is taken.", "code": "IDEMPOTENCY_KEY_REUSED"}
BLOCKED = (
    "Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
)
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TYPED = {"Name": "Bob", "Email": "bob@example.com", "Message": "Hello Ada"}


@pytest.fixture(scope="module")
def pillarbox(tmp_path_factory) -> Iterator[Pillarbox]:
    made = Pillarbox(tmp_path_factory.mktemp("once"), SITE_NAME="Ada's Bookshop")
    try:
        made.serve()
        yield made
    finally:
        made.stop()


@pytest.fixture
def new(pillarbox) -> Callable[[], list[str]]:
    """Return what names the messages that were kept since the test began."""

    def kept() -> list[str]:
        with closing(sqlite3.connect(pillarbox.database)) as database:
            return [found for (found,) in database.execute("SELECT id FROM submissions ORDER BY received_at")]

    before = set(kept())
    return lambda: [found for found in kept() if found not in before]


@pytest.fixture(scope="module")
def window(chromium) -> Iterator[Page]:
    """Give a window in which no time passes until it is told to, so that nothing comes again by time alone."""
    with visiting(chromium) as page:
        page.clock.install(time=NOON)
        page.clock.pause_at(NOON + timedelta(minutes=1))
        yield page


@pytest.fixture
def page(window, pillarbox) -> Iterator[Page]:
    window.goto(pillarbox.url)
    yield window
    window.unroute_all()
    window.context.set_offline(False)
    window.set_extra_http_headers({})
    window.evaluate("sessionStorage.clear()")


@pytest.fixture(scope="module")
def plain_window(chromium) -> Iterator[Page]:
    with visiting(chromium, java_script_enabled=False) as page:
        yield page


@pytest.fixture
def plain_page(plain_window, pillarbox) -> Page:
    """Return the form as a browser without JavaScript shows it."""
    plain_window.goto(pillarbox.url)
    return plain_window


def stored(page: Page) -> list[str]:
    """Return what the browser keeps for this tab."""
    return page.evaluate("Object.values(sessionStorage)")


def test_a_double_click_is_one_message(page, new):
    write(page)
    button(page).dblclick()
    expect(said(page, "status")).to_contain_text("Thank you for your message!")
    assert len(new()) == 1


def test_without_javascript_a_second_click_on_the_same_page_is_the_same_message(plain_page, new):
    def swallow(route: Route) -> None:
        route.fetch(max_redirects=0)
        route.fulfill(status=204)  # which leaves a browser where it is

    write(plain_page)
    plain_page.route("**/send-message", swallow, times=1)
    with plain_page.expect_event("requestfailed"):
        button(plain_page).click(no_wait_after=True)
    button(plain_page).click()
    expect(plain_page.locator(".number")).to_have_text(new()[0])
    assert len(new()) == 1


def test_without_javascript_going_back_and_sending_other_text_makes_another_message(plain_page, new):
    write(plain_page)
    send(plain_page)
    number = plain_page.locator(".number").text_content()
    plain_page.go_back()
    expect(field(plain_page, "Name")).to_have_value("Bob")
    field(plain_page, "Message").fill("Hello Ada, and one more thing")
    send(plain_page)
    expect(plain_page.locator(".number")).not_to_have_text(number)
    assert len(new()) == 2


def test_offline_in_mid_post_and_back_is_one_message_without_another_click(page, new):
    server = Server(page, answer_lost, None)
    write(page)
    send(page)
    expect(said(page, "status")).to_contain_text("This takes longer than usual. We keep trying")
    page.context.set_offline(True)
    expect(said(page, "status")).to_contain_text("You are offline.")
    expect(field(page, "Message")).to_have_value("Hello Ada")
    assert len(new()) == 1
    page.context.set_offline(False)
    expect(said(page, "status")).to_contain_text("Thank you for your message!")
    assert page.locator(".receipt strong").text_content() == new()[0]
    assert len(new()) == 1
    assert len(server.keys) == 2
    assert len(set(server.keys)) == 1


def test_what_passes_is_waited_for_and_makes_one_message_under_one_key(page, new):
    gateway = "<h1>Bad gateway</h1>"
    kept_later = saying(500, NOT_KEPT, **{"Retry-After": "1"})
    server = Server(page, saying(503, gateway), saying(502, gateway), kept_later, broken, None)
    write(page)
    send(page)
    let_time_pass(page, until_shown=".alert-success", at_rest=server.at_rest)
    assert len(server.keys) == 5
    assert len(set(server.keys)) == 1
    assert UUID.fullmatch(server.keys[0])
    assert len(new()) == 1


def test_a_limit_and_a_fault_that_stays_are_told_at_once(page):
    server = Server(page, saying(429, {"message": "One moment."}, **{"Retry-After": "1"}), saying(500, {}))
    write(page)
    for times, sentence in ((1, "One moment."), (2, "Your message was not sent.")):
        send(page)
        expect(said(page, "alert")).to_contain_text(sentence)
        assert len(server.keys) == times


def test_after_two_minutes_it_is_told_and_the_text_is_still_there(page):
    server = Server(page, broken)
    write(page)
    send(page)
    assert 90 < let_time_pass(page, until_shown=".alert-danger", at_rest=server.at_rest) <= 130
    assert 6 <= len(server.keys) <= 20
    assert len(set(server.keys)) == 1
    expect(said(page, "alert")).to_contain_text("We could not be reached")
    expect(said(page, "status")).to_have_count(0)
    expect(field(page, "Message")).to_have_value("Hello Ada")
    expect(field(page, "Message")).to_be_editable()
    expect(button(page)).to_be_focused()


def test_a_server_that_never_answers_is_told_of_soon_asked_again_and_told_of_at_the_end(page):
    server = Server(page, unanswered)
    write(page)
    send(page)
    assert 0 < let_time_pass(page, until_shown=".btn-stop") < 10
    expect(said(page, "status")).to_contain_text("This takes longer than usual.")
    assert len(server.keys) == 1
    let_time_pass(page, until_shown=".alert-danger")
    expect(said(page, "alert")).to_contain_text("No answer came")
    assert len(server.keys) >= 3


def test_after_the_machine_slept_the_message_is_tried_once_more_in_peace(page):
    held: list[Route] = []
    Server(page, broken, held.append)
    write(page)
    send(page)
    expect(said(page, "status")).to_be_visible()
    page.clock.fast_forward("10:00:00")
    until(lambda: page.evaluate("1") and held)
    page.clock.run_for(1_000)
    held[0].fulfill(json=THANKS)
    expect(said(page, "status")).to_contain_text("Thank you for your message!")


def test_offline_it_waits_for_longer_than_two_minutes(page):
    write(page)
    page.context.set_offline(True)
    send(page)
    for _ in range(4):
        expect(said(page, "status")).to_contain_text("You are offline.")
        page.clock.run_for(50_000)
    server = Server(page, broken, saying(200, THANKS))
    page.context.set_offline(False)
    expect(said(page, "status")).to_contain_text("We keep trying")
    let_time_pass(page, until_shown=".alert-success", at_rest=server.at_rest)


def test_the_server_says_how_long_to_wait_and_is_not_asked_sooner(page):
    long, short = (saying(503, NOT_KEPT, **{"Retry-After": seconds}) for seconds in ("600", "40"))
    server = Server(page, long, short, saying(200, THANKS))
    write(page)
    send(page)
    expect(said(page, "alert")).to_contain_text("We could not keep your message.")  # so long nobody waits at a page
    send(page)
    assert let_time_pass(page, until_shown=".alert-success", at_rest=server.at_rest) >= 40
    assert len(server.keys) == 3


def test_while_it_goes_on_the_text_can_be_read_and_the_keyboard_can_stop_it(page):
    Server(page, broken)
    write(page)
    button(page).press("Enter")
    expect(said(page, "status")).to_be_visible()
    expect(button(page)).to_be_disabled()
    expect(page.locator(".spinner-border")).to_be_visible()
    expect(field(page, "Message")).to_have_value("Hello Ada")
    expect(field(page, "Message")).not_to_be_editable()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    page.keyboard.press("Enter")
    expect(said(page, "status")).to_contain_text("We no longer try")
    expect(button(page)).to_be_focused()
    expect(field(page, "Message")).to_be_editable()
    page.unroute_all()
    page.keyboard.press("Enter")
    expect(said(page, "status")).to_contain_text("Thank you for your message!")


def test_whoever_leaves_before_the_message_did_is_asked(page):
    Server(page, broken)
    write(page)
    send(page)
    expect(said(page, "status")).to_be_visible()
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.evaluate("location.reload()")
    until(lambda: page.evaluate("1") and asked)
    page.get_by_role("button", name="Stop").click()
    page.reload()
    page.remove_listener("dialog", stay)
    assert asked == ["beforeunload"]


def test_the_same_text_goes_under_the_same_key_and_other_text_under_another(page):
    server = Server(page, saying(500, {}), saying(500, {}), saying(500, {}), saying(200, THANKS))
    write(page)
    for text in ("Hello Ada", "Hello Ada", "Hello!", "Hello!"):
        field(page, "Message").fill(text)
        send(page)
        expect(page.locator(".alert")).to_be_visible()
    write(page, Message="Hello!")
    send(page)
    expect(said(page, "status")).to_be_visible()
    first, again, other, thanked, new = server.keys
    assert first == again
    assert other == thanked
    assert len({first, other, new}) == 3


def test_a_key_that_stands_for_another_message_is_given_up(page):
    server = Server(page, saying(422, REUSED), saying(200, THANKS))
    write(page)
    send(page)
    expect(said(page, "status")).to_contain_text("Thank you for your message!")
    assert len(set(server.keys)) == 2


def test_a_draft_outlives_the_page_with_its_key_and_is_gone_once_sent(page):
    server = Server(page, saying(500, {}), saying(200, THANKS))
    write(page)
    send(page)
    expect(said(page, "alert")).to_be_visible()
    page.reload()
    for label, text in TYPED.items():
        expect(field(page, label)).to_have_value(text)
    send(page)
    expect(said(page, "status")).to_be_visible()
    assert len(set(server.keys)) == 1
    page.reload()
    expect(field(page, "Message")).to_have_value("")
    assert stored(page) == []


def test_a_draft_that_comes_back_says_so_and_the_keyboard_can_clear_it(page):
    write(page)
    page.reload()
    expect(page.get_by_role("status").filter(has_text="This is what you wrote before.")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Clear")).to_be_focused()
    page.keyboard.press("Enter")
    for label in TYPED:
        expect(field(page, label)).to_have_value("")
    expect(field(page, "Name")).to_be_focused()
    expect(page.locator(".earlier")).to_be_empty()
    assert stored(page) == []


def test_a_draft_is_good_for_an_hour(page):
    write(page)
    page.clock.fast_forward("59:00")
    page.reload()
    expect(field(page, "Message")).to_have_value("Hello Ada")
    page.clock.fast_forward("02:00")
    page.reload()
    expect(field(page, "Message")).to_have_value("")
    expect(page.locator(".earlier")).to_be_empty()
    assert stored(page) == []


def test_a_draft_is_what_stands_in_the_fields_and_nothing_else(page):
    page.locator("[name=_gotcha]").evaluate("field => { field.value = 'robot' }")
    write(page, Message="My secret")
    typed = {"name": "Bob", "email": "bob@example.com", "company": "", "subject": "", "message": "My secret"}
    assert [json.loads(one)["values"] for one in stored(page)] == [typed]
    assert "robot" not in stored(page)[0]
    Server(page, saying(500, {}))
    send(page)
    expect(said(page, "alert")).to_be_visible()
    field(page, "Message").fill("")
    assert stored(page) != []
    assert "secret" not in stored(page)[0]
    for label in TYPED:
        field(page, label).fill("")
    assert stored(page) == []


def test_what_stands_in_the_form_is_newer_than_the_draft(page):
    write(page, Email="bob@localhost", Message="An older thought")
    page.locator("[name=message]").evaluate("field => { field.value = 'The newer one' }")
    page.locator("form").evaluate("form => form.submit()")  # as without a script, and refused
    expect(page.locator(".alert.top")).to_be_visible()
    expect(field(page, "Message")).to_have_value("The newer one")


def test_thanks_without_the_script_end_the_draft_too(page, pillarbox):
    write(page)
    page.locator("form").evaluate("form => form.submit()")
    expect(page.locator(".number")).to_be_visible()
    page.goto(pillarbox.url)
    expect(field(page, "Message")).to_have_value("")


def test_where_nothing_may_be_stored_everything_but_the_draft_works(page, pillarbox, new):
    with closing(page.context.new_page()) as bare:
        bare.add_init_script(BLOCKED)
        bare.goto(pillarbox.url)
        server = Server(bare, saying(500, {}), None)
        write(bare)
        send(bare)
        expect(said(bare, "alert")).to_be_visible()
        send(bare)
        expect(said(bare, "status")).to_contain_text("Thank you for your message!")
    assert len(set(server.keys)) == 1
    assert len(new()) == 1


def test_a_german_visitor_reads_in_german_what_came_back_what_goes_on_and_what_was_stopped(page):
    page.set_extra_http_headers({"Accept-Language": "de-DE"})
    page.reload()
    Server(page, broken)
    for label, text in {"Name": "Bob", "E-Mail": "bob@example.com", "Nachricht": "Hallo Ada"}.items():
        field(page, label).fill(text)
    page.reload()
    expect(page.locator(".earlier p")).to_have_text("Das haben Sie vorhin geschrieben.")
    expect(page.get_by_role("button", name="Löschen")).to_be_visible()
    page.get_by_role("button", name="Nachricht senden").click()
    expect(said(page, "status")).to_contain_text("Das dauert länger als sonst.")
    page.context.set_offline(True)
    expect(said(page, "status")).to_contain_text("Sie sind offline.")
    page.get_by_role("button", name="Abbrechen").click()
    expect(said(page, "status")).to_contain_text("Wir versuchen es nicht weiter")
