"""A captcha on the page, in a real browser: its provider's script is played by ours, under the policy that it needs."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from playwright.sync_api import Browser, Page, Route, expect
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
from tests.running import Pillarbox, until
from tests.servers.siteverify import Siteverify

from pillarbox.core.captcha import KINDS

WIDGETS = [name for name, kind in KINDS.items() if kind.box]
MISSING = "Please complete the check above the button first"
REFUSED = "Please confirm once more that you are a person"

WIDGET = """
(() => {
  const tokens = TOKENS;
  const box = document.querySelector(".BOX");
  const answer = Object.assign(document.createElement("textarea"), { name: "FIELD" });
  const frame = Object.assign(document.createElement("iframe"), { src: "FRAME", title: "Widget of API" });
  frame.width = box.dataset.size === "compact" ? 160 : 300;
  frame.height = 65;
  const tick = Object.assign(document.createElement("button"), { type: "button", textContent: "I am a person" });
  tick.style.display = "block";  // as a script may, which a policy for styles does not look at
  tick.onclick = () => { answer.value = tokens.shift() ?? "made-up"; };
  box.append(frame, answer, tick);
  window.API = { drawn: 1, reset() { answer.value = ""; this.drawn += 1; } };
  window.seen = { ...box.dataset };
  if (BROKEN) window[box.dataset.errorCallback]("300030");
})();
"""
"""What the three widgets have in common: a frame, a field for the token, something to press, and how to begin anew."""

FRAME = "<!doctype html><html lang=en><title>Widget</title><button>Listen instead</button>"

JUDGE = """
(() => {
  const tokens = TOKENS;
  window.API = { ready: (then) => setTimeout(then, 1), execute: async (key, { action }) => {
    if (key !== "our-site-key" || action !== "contact") throw new Error("not registered");
    return tokens.shift();
  } };
})();
"""
"""What reCAPTCHA version 3 has instead."""


def play(page: Page, provider: Siteverify, *, tokens: list[str], broken: bool = False) -> list[str]:
    """Let the provider's script be ours; returns the addresses that were asked for."""
    kind = KINDS[provider.kind]
    frame = kind.sources["frame-src"][0].replace("*.", "newassets.").rstrip("/") + "/frame"
    script = WIDGET if kind.box else JUDGE
    for name, value in {"BOX": kind.box, "FIELD": kind.field, "FRAME": frame, "API": kind.api}.items():
        script = script.replace(name, value)
    script = script.replace("TOKENS", json.dumps(tokens)).replace("BROKEN", json.dumps(broken))
    asked: list[str] = []

    def fulfil(route: Route) -> None:
        asked.append(route.request.url)
        if route.request.resource_type == "script":
            route.fulfill(body=script, content_type="text/javascript")
        else:
            route.fulfill(body=FRAME, content_type="text/html")

    page.unroute_all()
    page.route(is_foreign, fulfil)
    return asked


def is_foreign(url: str) -> bool:
    """Whether this is asked of somebody else than us."""
    return not url.startswith("http://127.0.0.1")


class Site:
    """Ada's form with a captcha, and its provider."""

    def __init__(self, pillarbox: Pillarbox, provider: Siteverify) -> None:
        self.pillarbox = pillarbox
        self.provider = provider
        self.url = pillarbox.url

    def held_for(self) -> list[str]:
        """Return what the newest message is held for."""
        with closing(sqlite3.connect(self.pillarbox.database)) as database:
            newest = "SELECT held_for FROM submissions ORDER BY received_at DESC LIMIT 1"
            return list(json.loads(database.execute(newest).fetchone()[0]))


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    with ExitStack() as stack:
        made = {}
        for kind in KINDS:
            provider = stack.enter_context(Siteverify(kind).running())
            pillarbox = Pillarbox(tmp_path_factory.mktemp(kind), SITE_NAME="Ada's Bookshop", **provider.settings)
            stack.callback(pillarbox.stop)
            pillarbox.start()
            made[kind] = Site(pillarbox, provider)
        for site in made.values():
            until(site.pillarbox.answers)
        yield made
        for site in made.values():  # all at once, then wait for each
            site.pillarbox.processes[0].terminate()


@pytest.fixture(scope="module")
def window(chromium: Browser) -> Iterator[Page]:
    """One window for most tests here, which fails at the end for whatever the policy did not let in."""
    with visiting(chromium) as page:
        yield page


def tick(page: Page) -> None:
    """Do what the widget wants."""
    page.get_by_role("button", name="I am a person").click()


def drawn(page: Page) -> int:
    """How often the widget began anew, its first time included."""
    return int(page.evaluate("window.turnstile.drawn"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_solved_captcha_takes_a_message_all_the_way(window, sites, kind):
    site = sites[kind]
    asked = play(window, site.provider, tokens=[site.provider.solve(), site.provider.solve()])
    window.goto(site.url)
    for _ in range(2):  # the second with a token of its own
        write(window)
        if KINDS[kind].box:
            tick(window)
        send(window)
        expect(said(window, "status")).to_be_visible()
        assert site.held_for() == []
    key = {"hcaptcha": "hl=en", "recaptcha": "hl=en", "recaptcha3": "render=our-site-key&hl=en"}.get(kind, "api.js")
    assert key in asked[0]


def test_a_widget_is_told_the_key_the_language_and_the_pages_colours(chromium, sites):
    with visiting(chromium, locale="de-DE", color_scheme="dark") as page:
        for kind in WIDGETS:
            asked = play(page, sites[kind].provider, tokens=[])
            page.goto(sites[kind].url)
            seen = page.evaluate("window.seen")
            assert seen["sitekey"] == "our-site-key"
            assert seen["theme"] == ("auto" if kind == "turnstile" else "dark")
            assert "de" in (seen.get("language"), asked[0].partition("hl=")[2][:2])
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 320, "height": 640})
        for kind in WIDGETS:
            play(page, sites[kind].provider, tokens=[])
            page.goto(sites[kind].url)
            seen = page.evaluate("window.seen")
            assert (seen["size"], seen["theme"]) == ("compact", "auto" if kind == "turnstile" else "light")


@pytest.fixture
def page(window: Page, sites: dict[str, Site]) -> Iterator[Page]:
    provider = sites["turnstile"].provider
    play(window, provider, tokens=["made-up", provider.solve()])
    window.goto(sites["turnstile"].url)
    yield window
    window.evaluate("sessionStorage.clear()")


def test_without_the_captcha_solved_nothing_is_sent_and_the_visitor_is_told_and_taken_there(page):
    posted = answer(page)
    write(page)
    send(page)
    expect(said(page, "alert")).to_contain_text(MISSING)
    expect(
        page.get_by_role("group", name="A short check that you are a person, by Cloudflare Turnstile")
    ).to_be_focused()
    assert posted == []
    tick(page)
    send(page)
    expect(said(page, "status")).to_be_visible()
    expect(said(page, "alert")).to_have_count(0)
    assert posted[0]["cf-turnstile-response"] == "made-up"


def test_wrong_fields_are_told_before_the_captcha(page):
    write(page, Email="bob")
    send(page)
    expect(field(page, "Email")).to_be_focused()
    expect(said(page, "alert")).to_have_count(0)


def test_a_refused_token_keeps_the_text_and_the_next_one_goes_through(page, sites):
    write(page)
    tick(page)
    send(page)
    expect(said(page, "alert")).to_contain_text(REFUSED)
    expect(field(page, "Message")).to_have_value("Hello Ada")
    expect(page.locator(".captcha")).to_be_focused()
    assert drawn(page) == 2
    tick(page)
    send(page)
    expect(said(page, "status")).to_be_visible()
    assert drawn(page) == 3
    assert sites["turnstile"].held_for() == []


def test_a_visitor_solves_another_only_where_the_first_may_be_used_up(page):
    write(page)
    tick(page)
    wrong = [{"field": "email", "code": "TYPE_EMAIL", "message": "Wrong."}]
    for status, code, errors, times in (
        (400, "TYPE_EMAIL", wrong, 1),
        (429, "TOO_MANY_REQUESTS", [], 1),
        (503, "NOT_KEPT", [], 2),
    ):
        posted = answer(
            page, status, {"success": False, "message": f"Not sent: {code}.", "code": code, "errors": errors}
        )
        send(page)
        expect(said(page, "alert")).to_contain_text(f"Not sent: {code}.")
        assert drawn(page) == times
        assert posted[0]["cf-turnstile-response"] == "made-up"  # the first went along until then


def test_the_keyboard_alone_is_enough_for_the_captcha_too(page):
    answer(page)
    page.keyboard.press("Tab")
    for text in ("Bob", "bob@example.com", "", "Books", "Hello Ada"):
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    expect(page.locator("iframe")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="I am a person")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(button(page)).to_be_focused()
    page.keyboard.press("Enter")
    expect(said(page, "status")).to_be_visible()


@pytest.mark.parametrize("kind", ["turnstile", "recaptcha3"])  # one that is drawn, and the one that is not
def test_where_the_providers_script_is_blocked_the_message_is_sent_and_held(window, sites, kind):
    site = sites[kind]
    window.unroute_all()
    window.route(is_foreign, lambda route: route.abort("blockedbyclient"))
    window.goto(site.url)
    write(window)
    send(window)
    expect(said(window, "status")).to_be_visible()
    assert "captcha_missing" in site.held_for()


def test_a_widget_that_is_broken_keeps_nobody_from_writing(window, sites):
    site = sites["hcaptcha"]
    play(window, site.provider, tokens=[], broken=True)
    window.goto(site.url)
    write(window)
    send(window)
    expect(said(window, "status")).to_be_visible()
    assert "captcha_missing" in site.held_for()


def test_a_judge_that_never_comes_to_an_end_keeps_nobody_from_writing(chromium, sites):
    site = sites["recaptcha3"]
    with visiting(chromium) as page:
        page.clock.install()
        play(page, site.provider, tokens=[])
        page.goto(site.url)
        page.evaluate("window.grecaptcha.ready = () => {}")
        write(page)
        send(page)
        expect(button(page)).to_be_disabled()
        page.clock.run_for(5_100)
        expect(said(page, "status")).to_be_visible()
        assert "captcha_missing" in site.held_for()


def test_a_judge_is_asked_anew_for_each_try(chromium, sites):
    site = sites["recaptcha3"]
    with visiting(chromium) as page:
        play(page, site.provider, tokens=["first", "second"])
        posted = answer(page, 503, "")
        page.goto(site.url)
        write(page)
        send(page)
        until(lambda: page.locator(".btn-stop").count() and len(posted) == 2)
        assert [fields["g-recaptcha-response"] for fields in posted] == ["first", "second"]


def test_without_javascript_the_page_says_what_becomes_of_the_message(chromium, sites):
    site = sites["turnstile"]
    with visiting(chromium, java_script_enabled=False) as page:
        page.goto(site.url)
        told = page.locator("form noscript p")  # which Playwright takes for no text
        expect(told).to_be_visible()
        assert "Without it you can send your message all the same" in told.evaluate("told => told.textContent")
        write(page)
        send(page)
        expect(page.get_by_role("heading", level=1)).to_have_text("Thank you for your message!")
        assert "captcha_missing" in site.held_for()


def test_with_a_captcha_the_page_is_accessible_and_fits_a_small_phone(chromium, sites):
    with visiting(chromium, reduced_motion="reduce") as page:
        for kind, schemes in {"turnstile": ("light", "dark"), "recaptcha3": ("dark",)}.items():
            play(page, sites[kind].provider, tokens=[])
            for scheme in schemes:
                page.emulate_media(color_scheme=scheme)
                page.set_viewport_size({"width": 1280, "height": 800})
                page.goto(sites[kind].url)
                if kind == "turnstile":
                    write(page)
                    send(page)
                    expect(said(page, "alert")).to_be_visible()
                expect_accessible(page)
            for width in (360, 320):
                page.set_viewport_size({"width": width, "height": 640})
                page.reload()
                expect_no_sideways_scroll(page)
