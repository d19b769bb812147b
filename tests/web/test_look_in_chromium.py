"""Every state of the page for every eye: contrast, small phones, forced colours, less motion."""

import pytest
from playwright.sync_api import Page, expect
from tests.browser import (
    answer,
    button,
    expect_accessible,
    expect_no_sideways_scroll,
    field,
    said,
    send,
    visiting,
    write,
)

SHOWN = {
    "empty": "form",
    "restored": ".earlier .btn",
    "wrong": ".is-invalid",
    "busy": "button:disabled",
    "waiting": ".btn-stop",
    "sent": ".alert-success",
    "failed": ".alert-danger",
}


def bring_about(page: Page, state: str) -> None:
    if state in ("busy", "waiting", "sent", "failed"):
        write(page)
    match state:
        case "restored":
            field(page, "Message").fill("Hello Ada")
            page.reload()
        case "wrong":
            field(page, "Email").fill("bob")
        case "busy":
            page.route("**/send-message", lambda route: None)
        case "waiting":
            answer(page, 503, "")
        case "sent":
            answer(page)
        case "failed":
            answer(page, 500, {"success": False, "message": "We could not keep your message just now."})
    if state not in ("empty", "restored"):
        send(page)
    expect(page.locator(SHOWN[state]).first).to_be_visible()
    if state == "sent":
        said(page, "status").hover()  # or it is gone before it is looked at


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", SHOWN)
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
        assert field(page, "Name").evaluate("field => getComputedStyle(field).outlineStyle") == "solid"
        assert button(page).evaluate("button => getComputedStyle(button).borderTopStyle") == "solid"


def test_who_asked_for_less_motion_gets_no_transitions(chromium, site):
    with visiting(chromium, reduced_motion="reduce") as page:
        page.goto(site)
        assert field(page, "Name").evaluate("field => getComputedStyle(field).transitionDuration") == "0s"
