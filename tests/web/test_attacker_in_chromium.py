"""An attacker's page on another origin, in a real browser: what it can do with our form, and what it can't."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.browser import running_site
from tests.running import until

OWNED = "<img src=x onerror=\"document.title='owned'; alert('owned'); fetch('/owned')\"><script>alert('owned')</script>"
ALLOWED = "http://localhost:1"


class Attacker:
    """A web server on a host of its own that shows whatever page it is given."""

    def __init__(self) -> None:
        self.page = ""
        attacker = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(attacker.page.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["Attacker"]:
        """Serve while the block runs."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join(10)


@pytest.fixture(scope="module")
def attacker() -> Iterator[Attacker]:
    with Attacker().running() as server:
        yield server


@pytest.fixture(scope="module")
def adas_site(tmp_path_factory) -> Iterator[str]:
    """A site at 127.0.0.1 that lets one other origin read, and not the attacker's at localhost."""
    with running_site(tmp_path_factory.mktemp("attacked"), CORS_ORIGINS=ALLOWED) as address:
        yield address


class Watched:
    """A window, with everything that would show that something ran in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.dialogs: list[str] = []
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda said: self.complaints.append(said.text))

    def visit(self, attacker: Attacker, page: str) -> Page:
        """Open this page of the attacker's."""
        attacker.page = f"<!doctype html><title>A bargain</title>{page}"
        self.page.goto(attacker.url)
        return self.page


@pytest.fixture
def window(chromium: Browser) -> Iterator[Watched]:
    context = chromium.new_context()
    context.set_default_timeout(10_000)
    watched = Watched(context.new_page())
    yield watched
    assert context.cookies() == []  # nothing of ours that a post from elsewhere could ride on
    context.close()


def form(site: str, path: str, **fields: str) -> str:
    """Return a form that sends itself."""
    values = {"name": "Bob", "email": "bob@example.com", "message": "Hello"} | fields
    inputs = "".join(f'<input name="{name}" value="{escape(value)}">' for name, value in values.items())
    return f'<form method=post action="{site}{path}">{inputs}</form><script>document.forms[0].submit()</script>'


@pytest.mark.parametrize("path", ["/send-message", "/api/contact"])
@pytest.mark.parametrize("target", ["", "//localhost/evil", "https://evil.example/", "javascript:alert('owned')"])
def test_a_post_from_elsewhere_is_a_message_like_any_other_that_ends_on_our_thanks(
    window, attacker, adas_site, path, target
):
    page = window.visit(attacker, form(adas_site, path, _next=target))
    page.wait_for_url(f"{adas_site}/thanks?id=*")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert window.dialogs == []
    assert all(url.startswith((adas_site, attacker.url)) for url in window.asked)


FETCHING = """async ([url, mode, type]) => {
    const options = {method: 'POST', mode, credentials: 'include', headers: {'Content-Type': type},
        body: type.includes('json') ? '{"name":"","email":"x"}' : 'name=&email=x'};
    try {
        const answer = await fetch(url, options);
        return [answer.type, answer.status, (await answer.text()).length, [...answer.headers].length];
    } catch (error) { return String(error); }
}"""


def test_a_script_from_elsewhere_reads_nothing(window, attacker, adas_site):
    page = window.visit(attacker, "")
    plain = "application/x-www-form-urlencoded"
    for path in ("/send-message", "/api/contact", "/metrics", "/mail", "/health"):
        for mode, kind in (("cors", plain), ("cors", "application/json")):
            assert page.evaluate(FETCHING, [adas_site + path, mode, kind]) == "TypeError: Failed to fetch", path
        assert page.evaluate(FETCHING, [adas_site + path, "no-cors", plain]) == ["opaque", 0, 0, 0], path
    assert any("Access-Control-Allow-Origin" in said for said in window.complaints)


def test_no_page_of_ours_shows_in_a_frame(window, attacker, adas_site):
    frames = "".join(f'<iframe src="{adas_site}{path}"></iframe>' for path in FRAMED)
    page = window.visit(attacker, frames)
    refused = until(lambda: _refusals(page, window))
    assert len(refused) == len(FRAMED), window.complaints
    assert all(frame.url.startswith("chrome-error:") or frame == page.main_frame for frame in page.frames)


FRAMED = ("/", "/thanks?id=7K3M-9QXP-2AFD", "/mail", "/nothing", "/health", "/openapi.json")


def _refusals(page: Page, window: Watched) -> list[str]:
    page.evaluate("0")  # lets the browser's events through
    found = [said for said in window.complaints if "frame" in said and "127.0.0.1" in said]
    return found if len(found) >= len(FRAMED) else []


def test_what_the_attacker_wrote_is_text_wherever_it_is_shown(window, attacker, adas_site):
    subject = "<b onclick=alert(1)>Sale</b>"
    page = window.visit(
        attacker, form(adas_site, "/send-message", name=OWNED[:190], subject=subject, message=OWNED, extra=OWNED)
    )
    page.wait_for_url(f"{adas_site}/thanks?id=*")
    page.goto(f"{adas_site}/mail")
    until(lambda: page.reload() and page.locator(".mails li").count() >= 2)
    expect(page.locator(".mails")).to_contain_text(subject)
    page.locator(".mails a", has_text="Sale").click()
    expect(page.frame_locator("iframe").locator("body")).to_contain_text(OWNED)
    page.get_by_role("link", name="Plain text").click()
    expect(page.locator("pre")).to_contain_text(OWNED)
    for path in ("/send-message", "/api/contact"):
        page = window.visit(attacker, form(adas_site, path, email="nobody", message=OWNED, subject=OWNED))
        page.wait_for_url(f"{adas_site}{path}")
        assert OWNED in (page.locator("main").inner_text() + "".join(_typed(page)))
    assert window.dialogs == []
    assert "owned" not in page.title()
    assert [url for url in window.asked if "owned" in url or url.endswith("/x")] == []


def _typed(page: Page) -> list[str]:
    return page.locator("textarea, input").evaluate_all("fields => fields.map(field => field.value)")
