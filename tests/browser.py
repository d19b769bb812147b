"""What the browser tests stand on: Debian's Chromium, driven by Playwright, and a real site on loopback."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, sync_playwright

from tests.running import Pillarbox

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

THANKS = {"success": True, "ok": True, "message": "Thank you for your message!", "id": "K7QM4T2X", "next": "/"}


@contextmanager
def launched_chromium() -> Iterator[Browser]:
    """Give a running Chromium and close it afterwards."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def chromium_or_skip() -> Iterator[Browser]:
    """Be a fixture's body: a browser, or a skip that says why; on CI a missing browser is a failure."""
    if not CHROMIUM.exists():
        reason = f"{CHROMIUM} is missing: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with launched_chromium() as browser:
        yield browser


@contextmanager
def running_site(folder: Path, **settings: str) -> Iterator[str]:
    """Serve a real Pillarbox out of this folder, its mail going into `folder / "mail"`; gives its address."""
    pillarbox = Pillarbox(folder, SITE_NAME="Ada's Bookshop", **settings)
    try:
        pillarbox.serve()
        yield pillarbox.url
    finally:
        pillarbox.stop()


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


def expect_accessible(page: Page) -> None:
    """Let axe-core look for what keeps people out."""
    found = Axe().run(page, options={"resultTypes": ["violations", "incomplete"]}).response
    assert found["violations"] == []
    # Where the ground under a text cannot be told, its contrast would go unchecked.
    assert [rule for rule in found["incomplete"] if rule["id"] == "color-contrast"] == []


def expect_no_sideways_scroll(page: Page) -> None:
    """Nothing is wider than the window."""
    assert page.locator("html").evaluate("page => page.scrollWidth - page.clientWidth") == 0


def field(page: Page, label: str) -> Locator:
    """Return the field with this label."""
    return page.get_by_role("textbox", name=label)


def write(page: Page, **other: str) -> None:
    """Fill the form in."""
    for label, text in {"Name": "Bob", "Email": "bob@example.com", "Message": "Hello Ada", **other}.items():
        field(page, label).fill(text)


def send(page: Page) -> None:
    """Press the button."""
    page.get_by_role("button", name="Send message").click()


def answer(page: Page, status: int = 200, body: object = THANKS) -> list[dict[str, str]]:
    """Let every post be answered like this; returns what was posted."""
    posted: list[dict[str, str]] = []

    def fulfil(route: Route) -> None:
        posted.append(route.request.post_data_json)
        text = body if isinstance(body, str) else json.dumps(body)
        route.fulfill(status=status, body=text, content_type="application/json")

    page.route("**/send-message", fulfil)
    return posted


def said(page: Page, role: str) -> Locator:
    """Return what the page says: good news as "status", bad as "alert"."""
    return page.locator(f".says[role={role}] .alert")


def button(page: Page) -> Locator:
    """Return the button that sends."""
    return page.locator("button[type=submit]")
