"""Bob's side of the page, in a real browser."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect
from tests.browser import chromium_or_skip, running_site

THANKS = {"success": True, "ok": True, "message": "Thank you for your message!", "id": "K7QM4T2X", "next": "/"}
WRONG_EMAIL = "Please enter one valid email address, like name@example.com."
EMPTY = "Please fill in this field."


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from chromium_or_skip()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    with running_site(tmp_path_factory.mktemp("site")) as address:
        yield address


@contextmanager
def visiting(chromium: Browser, **options) -> Iterator[Page]:
    """Give Bob a fresh window, and fail when his browser had to stop or report something of ours."""
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    context.set_default_timeout(10_000)
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        yield page
        assert complaints == []
    finally:
        context.close()


@pytest.fixture
def page(chromium, site) -> Iterator[Page]:
    with visiting(chromium) as page:
        page.goto(site)
        yield page


def field(page: Page, label: str):
    return page.get_by_role("textbox", name=label)


def write(page: Page, **other: str) -> None:
    for label, text in {"Name": "Bob", "Email": "bob@example.com", "Message": "Hello Ada", **other}.items():
        field(page, label).fill(text)


def send(page: Page) -> None:
    page.get_by_role("button", name="Send message").click()


def answer(page: Page, status: int = 200, body: object = THANKS) -> list[dict]:
    """Let every post be answered like this; returns what was posted."""
    posted: list[dict] = []

    def fulfil(route: Route) -> None:
        posted.append(route.request.post_data_json)
        text = body if isinstance(body, str) else json.dumps(body)
        route.fulfill(status=status, body=text, content_type="application/json")

    page.route("**/send-message", fulfil)
    return posted


def freeze(page: Page) -> None:
    """Stop the page's clock, so that it moves only when told to."""
    page.clock.install()
    page.reload()


def said(page: Page, role: str):
    return page.locator(f".says[role={role}] .alert")


def button(page: Page):
    return page.locator("button[type=submit]")


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
    assert posted == [
        {"name": "Bob", "email": "bob@example.com", "message": "Hello Ada", "subject": "Books", "_language": "en"}
    ]


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
    expect(page.get_by_role("form")).to_have_attribute("aria-busy", "true")
    field(page, "Name").press("Enter")
    page.locator("form").evaluate("form => form.dispatchEvent(new SubmitEvent('submit', {cancelable: true}))")
    assert len(waiting) == 1
    waiting[0].fulfill(json=THANKS)
    expect(button(page)).to_be_enabled()
    expect(page.locator(".spinner-border")).to_be_hidden()
    expect(page.get_by_role("form")).to_have_attribute("aria-busy", "false")
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
    page.clock.run_for(60_000)
    expect(said(page, "status")).to_be_visible()
    page.mouse.move(1, 1)
    page.clock.run_for(5_100)
    expect(said(page, "status")).to_have_count(0)


def test_the_thanks_stay_while_the_keyboard_stands_in_them(page):
    freeze(page)
    answer(page)
    write(page)
    send(page)
    page.mouse.move(1, 1)
    page.get_by_role("button", name="Close").focus()
    page.clock.run_for(60_000)
    expect(said(page, "status")).to_be_visible()
    field(page, "Name").focus()
    page.clock.run_for(5_100)
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
        (503, "<h1>Bad gateway</h1>", "Your message was not sent."),
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


def test_a_network_that_is_gone_loses_nothing_and_the_next_try_works(page):
    page.route("**/send-message", lambda route: route.abort("connectionrefused"))
    write(page)
    send(page)
    expect(said(page, "alert")).to_contain_text("We could not be reached")
    expect(field(page, "Message")).to_have_value("Hello Ada")
    page.unroute("**/send-message")
    answer(page)
    send(page)
    expect(said(page, "status")).to_be_visible()
    expect(said(page, "alert")).to_have_count(0)


def test_a_server_that_never_answers_gives_the_button_back(page):
    freeze(page)
    asked = threading.Event()
    page.route("**/send-message", lambda route: asked.set())
    write(page)
    send(page)
    expect(button(page)).to_be_disabled()
    page.clock.run_for(30_100)
    expect(said(page, "alert")).to_contain_text("No answer came")
    expect(button(page)).to_be_enabled()
    expect(field(page, "Message")).to_have_value("Hello Ada")
    assert asked.is_set()


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


STATES = ["empty", "wrong", "busy", "sent", "failed"]


def bring_about(page: Page, state: str) -> None:
    if state in ("busy", "sent", "failed"):
        write(page)
    match state:
        case "wrong":
            field(page, "Email").fill("bob")
        case "busy":
            page.route("**/send-message", lambda route: None)
        case "sent":
            answer(page)
        case "failed":
            answer(page, 500, {"success": False, "message": "We could not keep your message just now."})
    if state != "empty":
        send(page)
    shown = {"wrong": ".is-invalid", "busy": "button:disabled", "sent": ".alert-success", "failed": ".alert-danger"}
    expect(page.locator(shown.get(state, "form")).first).to_be_visible()


def expect_accessible(page: Page) -> None:
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def expect_no_sideways_scroll(page: Page) -> None:
    assert page.locator("html").evaluate("page => page.scrollWidth - page.clientWidth") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_every_state_is_accessible_and_fits_a_small_phone(chromium, site, state, scheme):
    with visiting(chromium, color_scheme=scheme, reduced_motion="reduce") as page:
        page.goto(site)
        bring_about(page, state)
        expect_accessible(page)
        for width in (360, 320):
            page.set_viewport_size({"width": width, "height": 640})
            expect_no_sideways_scroll(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_thanks_page_is_accessible_and_fits_a_small_phone(chromium, site, scheme):
    with visiting(chromium, color_scheme=scheme, viewport={"width": 360, "height": 640}) as page:
        page.goto(site)
        field(page, "Name").fill("Bob")
        page.locator("form").evaluate("form => form.submit()")  # posts as without a script
        expect(page.locator(".alert")).to_be_visible()
        expect_accessible(page)
        expect_no_sideways_scroll(page)
        write(page)
        page.locator("form").evaluate("form => form.submit()")
        expect(page.locator(".number")).to_be_visible()
        expect_accessible(page)
        expect_no_sideways_scroll(page)


def test_forced_colours_leave_every_field_button_and_mistake_visible(chromium, site):
    with visiting(chromium, forced_colors="active") as page:
        page.goto(site)
        bring_about(page, "wrong")
        expect_accessible(page)
        assert field(page, "Name").evaluate("field => getComputedStyle(field).outlineStyle") == "solid"
        assert button(page).evaluate("button => getComputedStyle(button).borderTopStyle") == "solid"


def test_who_asked_for_less_motion_gets_no_transitions(chromium, site):
    with visiting(chromium, reduced_motion="reduce") as page:
        page.goto(site)
        assert field(page, "Name").evaluate("field => getComputedStyle(field).transitionDuration") == "0s"


@pytest.fixture(scope="module")
def mallorys_site(tmp_path_factory) -> Iterator[str]:
    """A site whose Maildir holds a mail that tries everything."""
    folder = tmp_path_factory.mktemp("mallory")
    (folder / "mail/new").mkdir(parents=True)
    made = EmailMessage()
    made["From"] = "<script>owned()</script> <forms@example.org>"
    made["To"] = "ada@example.org"
    made["Subject"] = "<img src=x onerror=alert(1)> " + "unbreakable" * 30
    made.set_content("<script>alert(1)</script>\n" + "x" * 500)
    made.add_alternative(HOSTILE_HTML, subtype="html")
    (folder / "mail/new/mallory").write_bytes(bytes(made))
    with running_site(folder) as address:
        yield address


HOSTILE_HTML = """<h1>Hello</h1><script>top.document.title = 'owned'; alert(1)</script>
<img src=x onerror="top.document.title = 'owned'"><body onload="top.location = '/owned'">
<meta http-equiv=refresh content="0; url=/owned"><base href=http://192.0.2.1/ target=_top>
<iframe src=/mail></iframe><object data=/mail></object><link rel=stylesheet href=/static/x.css>
<form action=/send-message method=post target=_top><button id=trap>Continue</button></form>
<a href=/owned target=_top id=away>away</a><svg onload="top.document.title='owned'"></svg>"""


def test_stored_markup_does_nothing_in_the_mail_page(chromium, mallorys_site):
    context = chromium.new_context()
    page = context.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{mallorys_site}/mail")
    page.locator(".mails a").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Hello")).to_be_visible()
    frame.locator("#trap").click()
    frame.locator("#away").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror=alert(1)>")
    page.get_by_role("link", name="Plain text").click()
    expect(page.locator("pre")).to_contain_text("<script>alert(1)</script>")
    assert dialogs == []
    assert "owned" not in page.title()
    ours = (f"{mallorys_site}/mail", f"{mallorys_site}/static/")
    assert [url for url in asked if not url.startswith(ours)] == []
    context.close()


def test_a_mails_markup_opened_by_itself_does_nothing_either(chromium, mallorys_site):
    context = chromium.new_context()
    page = context.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(f"{mallorys_site}/mail/mallory/html")
    expect(page.get_by_role("heading", name="Hello")).to_be_visible()
    assert dialogs == []
    assert page.title() == ""
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_mail_page_is_accessible_and_fits_a_small_phone(chromium, mallorys_site, scheme):
    with visiting(chromium, color_scheme=scheme, viewport={"width": 360, "height": 640}) as page:
        for path in ("/mail", "/mail/mallory?view=text"):
            page.goto(mallorys_site + path)
            expect_accessible(page)
            expect_no_sideways_scroll(page)


def test_a_sent_message_arrives_in_the_mail_page_and_an_empty_one_says_what_to_do(chromium, tmp_path):
    with running_site(tmp_path) as site, visiting(chromium) as page:
        page.goto(f"{site}/mail")
        expect(page.get_by_role("heading", name="No mail yet")).to_be_visible()
        expect_accessible(page)
        page.get_by_role("link", name="the page").click()
        write(page, Subject="Second edition")
        send(page)
        expect(said(page, "status")).to_be_visible()
        arrived = page.locator(".mails li")
        deadline = time.monotonic() + 20
        while arrived.count() < 2 and time.monotonic() < deadline:
            page.goto(f"{site}/mail")
        arrived.filter(has_text="Second edition").locator("a").click()
        expect(page.locator(".headers")).to_contain_text("bob@example.com")
        expect(page.frame_locator("iframe").locator("body")).to_contain_text("Hello Ada")


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
