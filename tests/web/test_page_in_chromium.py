"""Bob's side of the page, in a real browser."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, Route, expect
from tests.browser import THANKS, answer, button, field, said, send, visiting, write

WRONG_EMAIL = "Please enter one valid email address, like name@example.com."
EMPTY = "Please fill in this field."
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def page(chromium, site) -> Iterator[Page]:
    with visiting(chromium) as page:
        page.goto(site)
        yield page


def freeze(page: Page) -> None:
    """Stop the page's clock, so that it moves only when told to."""
    page.clock.install(time=NOON)
    page.reload()
    page.clock.pause_at(NOON + timedelta(minutes=1))


def test_a_message_is_thanked_for_with_its_number_and_the_form_is_empty_again(page):
    write(page, Company="Tailor & Sons")
    send(page)
    expect(said(page, "status")).to_contain_text("Thank you for your message!")
    expect(said(page, "status").locator("strong")).to_have_text(page.locator(".receipt strong").text_content())
    assert len(page.locator(".receipt strong").text_content()) >= 6
    for label in ("Name", "Email", "Company", "Message"):
        expect(field(page, label)).to_have_value("")
    expect(button(page)).to_be_enabled()
    expect(button(page)).to_have_text("Send message")


def test_only_filled_fields_are_posted_with_the_language(page):
    posted = answer(page)
    write(page, Company="   ", Subject="Books")
    send(page)
    expect(said(page, "status")).to_be_visible()
    stamp = posted[0].pop("_stamp")
    assert stamp == page.locator("[name=_stamp]").input_value()
    assert posted == [
        {"name": "Bob", "email": "bob@example.com", "message": "Hello Ada", "subject": "Books", "_language": "en"}
    ]


def test_a_page_that_many_messages_are_sent_from_gets_a_new_stamp_in_time(page):
    first = page.locator("[name=_stamp]").input_value()
    for number in range(1, 6):
        write(page)
        send(page)
        expect(said(page, "status")).to_be_visible()
        stamp = expect(page.locator("[name=_stamp]"))
        stamp.to_have_value(first) if number < 5 else stamp.not_to_have_value(first)


def test_a_robot_that_fills_in_the_hidden_field_gives_itself_away(page):
    posted = answer(page)
    write(page)
    page.locator("[name=_gotcha]").evaluate("field => { field.value = 'http://spam.example' }")
    send(page)
    expect(said(page, "status")).to_be_visible()
    assert posted[0]["_gotcha"] == "http://spam.example"


def test_while_sending_the_button_is_off_and_a_second_enter_sends_nothing(page):
    waiting: list[Route] = []
    page.route("**/send-message", lambda route: waiting.append(route))  # noqa: PLW0108 - a builtin is no handler
    write(page)
    field(page, "Name").press("Enter")
    expect(button(page)).to_be_disabled()
    expect(button(page)).to_have_text("Sending…")
    expect(page.locator(".spinner-border")).to_be_visible()
    expect(page.locator("form [aria-busy=true]")).to_have_count(1)
    field(page, "Name").press("Enter")
    page.locator("form").evaluate("form => form.dispatchEvent(new SubmitEvent('submit', {cancelable: true}))")
    assert len(waiting) == 1
    waiting[0].fulfill(json=THANKS)
    expect(button(page)).to_be_enabled()
    expect(page.locator(".spinner-border")).to_be_hidden()
    expect(page.locator("form [aria-busy=true]")).to_have_count(0)
    assert len(waiting) == 1


def test_the_thanks_go_after_five_seconds_and_leave_the_number(page):
    freeze(page)
    answer(page)
    write(page)
    send(page)
    expect(said(page, "status")).to_be_visible()
    page.mouse.move(1, 1)
    page.clock.run_for(4_900)
    expect(said(page, "status")).to_be_visible()
    page.clock.run_for(200)
    expect(said(page, "status")).to_have_count(0)
    expect(page.locator(".receipt")).to_have_text("Your last message has the number K7QM4T2X")


def test_the_thanks_stay_while_pointed_at(page):
    freeze(page)
    answer(page)
    write(page)
    send(page)
    said(page, "status").hover()
    page.clock.run_for(63_000)
    expect(said(page, "status")).to_be_visible()
    page.mouse.move(1, 1)
    page.clock.run_for(4_900)
    expect(said(page, "status")).to_be_visible()
    page.clock.run_for(200)
    expect(said(page, "status")).to_have_count(0)


def test_the_thanks_stay_while_the_keyboard_stands_in_them(page):
    freeze(page)
    answer(page)
    write(page)
    send(page)
    page.mouse.move(1, 1)
    page.get_by_role("button", name="Close").focus()
    page.clock.run_for(63_000)
    expect(said(page, "status")).to_be_visible()
    field(page, "Name").focus()
    page.clock.run_for(4_900)
    expect(said(page, "status")).to_be_visible()
    page.clock.run_for(200)
    expect(said(page, "status")).to_have_count(0)


@pytest.mark.parametrize(("status", "role"), [(200, "status"), (500, "alert")])
def test_what_is_said_can_be_closed(page, status, role):
    answer(page, status, THANKS if status == 200 else {"success": False, "message": "Not kept."})
    write(page)
    send(page)
    page.get_by_role("button", name="Close").click()
    expect(said(page, role)).to_have_count(0)
    expect(button(page)).to_be_focused()


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (500, {"success": False, "message": "We could not keep it."}, "We could not keep it."),
        (429, {"success": False, "message": "Wait a moment."}, "Wait a moment."),
        (200, {"success": False, "message": "Not this time."}, "Not this time."),
        (500, {"success": True, "message": "Thank you!", "id": "K7QM4T2X"}, "Thank you!"),
        (404, "<h1>Not here</h1>", "Your message was not sent."),
        (200, "<h1>Hello from a proxy</h1>", "Your message was not sent."),
        (500, {"success": False, "message": None, "errors": "none"}, "Your message was not sent."),
        (500, [], "Your message was not sent."),
        (500, {"message": "<img src=x onerror=alert(1)>"}, "<img src=x onerror=alert(1)>"),
    ],
)
def test_a_failure_says_why_and_keeps_the_text(page, status, body, sentence):
    answer(page, status, body)
    write(page)
    send(page)
    expect(said(page, "alert")).to_contain_text(sentence)
    expect(said(page, "status")).to_have_count(0)
    expect(field(page, "Message")).to_have_value("Hello Ada")
    expect(button(page)).to_be_enabled()
    expect(button(page)).to_have_text("Send message")


def test_a_failure_stays_until_it_is_read(page):
    freeze(page)
    answer(page, 500, {"success": False, "message": "Not kept."})
    write(page)
    send(page)
    expect(said(page, "alert")).to_be_visible()
    page.clock.run_for(60_000)
    expect(said(page, "alert")).to_be_visible()


def test_the_servers_field_errors_stand_at_their_fields_and_the_first_gets_the_focus(page):
    errors = [
        {"field": "message", "code": "TOO_LONG", "message": "Shorter, please."},
        {"field": "email", "code": "TYPE_EMAIL", "message": WRONG_EMAIL},
        {"field": "unknown", "code": "X", "message": "?"},
    ]
    answer(page, 400, {"success": False, "message": "Please check the marked fields.", "errors": errors})
    write(page)
    send(page)
    expect(field(page, "Email")).to_be_focused()
    expect(field(page, "Email")).to_have_accessible_description(WRONG_EMAIL)
    expect(field(page, "Email")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#field-message-error")).to_have_text("Shorter, please.")
    expect(field(page, "Name")).not_to_have_attribute("aria-invalid", "true")
    expect(said(page, "alert")).to_contain_text("Please check the marked fields.")


def test_wrong_fields_are_explained_before_anything_is_sent(page):
    posted = answer(page)
    field(page, "Name").fill("   ")
    field(page, "Email").fill("bob at example.com")
    send(page)
    expect(field(page, "Name")).to_be_focused()
    expect(field(page, "Name")).to_have_accessible_description(EMPTY)
    expect(field(page, "Email")).to_have_accessible_description(WRONG_EMAIL)
    expect(page.locator("#field-message-error")).to_be_visible()
    assert posted == []


def test_a_mended_field_is_no_longer_marked(page):
    send(page)
    expect(field(page, "Name")).to_have_attribute("aria-invalid", "true")
    field(page, "Name").press_sequentially("B")
    expect(field(page, "Name")).not_to_have_attribute("aria-invalid", "true")
    expect(page.locator("#field-name-error")).to_be_hidden()
    expect(field(page, "Email")).to_have_attribute("aria-invalid", "true")


def test_an_address_in_another_script_is_left_to_the_server(page):
    posted = answer(page)
    write(page, Email="жора@example.com")
    send(page)
    expect(said(page, "status")).to_be_visible()
    assert posted[0]["email"] == "жора@example.com"


def test_the_keyboard_alone_is_enough(page):
    page.keyboard.press("Tab")
    for text in ("Bob", "bob@example.com", "", "Books", "Hello Ada"):
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    expect(button(page)).to_be_focused()
    assert button(page).evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(said(page, "status")).to_be_visible()
    expect(button(page)).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(said(page, "status")).to_have_count(0)
    expect(button(page)).to_be_focused()


def test_without_javascript_a_message_is_thanked_for_on_a_page(chromium, site):
    with visiting(chromium, java_script_enabled=False) as page:
        page.goto(site)
        write(page)
        send(page)
        expect(page.get_by_role("heading", level=1)).to_have_text("Thank you for your message!")
        assert len(page.locator(".number").text_content()) >= 6
        page.get_by_role("link", name="Write another message").click()
        expect(field(page, "Message")).to_have_value("")


def test_without_javascript_the_browser_itself_asks_for_what_is_missing(chromium, site):
    with visiting(chromium, java_script_enabled=False) as page:
        page.goto(site)
        send(page)
        expect(page.locator("[name=name]:invalid")).to_be_focused()
        assert page.url.rstrip("/") == site


def test_without_javascript_a_refused_field_comes_back_marked_with_everything_typed(chromium, site):
    with visiting(chromium, java_script_enabled=False) as page:
        page.goto(site)
        write(page, Email="bob@localhost", Company='<b>"Tailor"</b>', Message="\nfirst line is empty")
        send(page)
        expect(page.locator(".alert")).to_have_text("Please check the marked fields.")
        expect(field(page, "Email")).to_be_focused()
        expect(field(page, "Email")).to_have_accessible_description(WRONG_EMAIL)
        expect(field(page, "Company")).to_have_value('<b>"Tailor"</b>')
        expect(field(page, "Message")).to_have_value("\nfirst line is empty")


def test_a_german_browser_gets_everything_in_german(chromium, site):
    with visiting(chromium, locale="de-DE") as page:
        page.goto(site)
        expect(page.locator("html")).to_have_attribute("lang", "de")
        page.get_by_role("button", name="Nachricht senden").click()
        expect(field(page, "Nachricht")).to_have_accessible_description("Bitte füllen Sie dieses Feld aus.")
        for label, text in {"Name": "Bob", "E-Mail": "bob@localhost", "Nachricht": "Hallo Ada"}.items():
            field(page, label).fill(text)
        page.get_by_role("button", name="Nachricht senden").click()
        expect(said(page, "alert")).to_be_visible()
        assert "Please" not in said(page, "alert").text_content()
        field(page, "E-Mail").fill("bob@example.com")
        page.get_by_role("button", name="Nachricht senden").click()
        expect(said(page, "status")).to_contain_text("Vielen Dank für Ihre Nachricht! Sie hat die Nummer")
