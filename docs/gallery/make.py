"""Makes the pictures of this folder: every state of the page and of /mail, from a real site in a real browser.

Run it from the repository root: `.venv/bin/python docs/gallery/make.py`
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.browser import launched_chromium, running_site  # noqa: E402 - the repository root is not a package's place

SIZES = {"1280": {"width": 1280, "height": 800}, "360": {"width": 360, "height": 720}}
SCHEMES = ("light", "dark")
LETTER = """Dear bookshop,

do you still have the second edition of “Notes on the Analytical Engine”? I would collect it on Saturday.

Kind regards
Bob"""


def main() -> None:
    """Take every picture anew."""
    with launched_chromium() as chromium:
        with tempfile.TemporaryDirectory() as folder, running_site(Path(folder)) as site:
            take_mails(chromium, site)
        with tempfile.TemporaryDirectory() as folder, running_site(Path(folder)) as site:
            for state in ("empty", "wrong", "busy", "sent", "failed"):
                take_form(state, chromium, site)
            take_plain(chromium, site)
    print(f"{sum(picture.stat().st_size for picture in HERE.glob('*.png')) / 1e6:.2f} MB in all")


def windows(chromium: Browser, **options):
    """Give a fresh window for each size and scheme, with its name."""
    for size, viewport in SIZES.items():
        for scheme in SCHEMES:
            context = chromium.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce", **options)
            page = context.new_page()
            yield page, f"{size}-{scheme}"
            context.close()


def shoot(page: Page, name: str) -> None:
    """Write the picture, small."""
    page.mouse.move(0, 0)
    target = HERE / f"{name}.png"
    page.screenshot(path=target, full_page=True, animations="disabled", caret="hide")
    with Image.open(target) as picture:
        flat = picture.convert("RGB")
    small = flat.quantize(256, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
    small.save(target, optimize=True)


def take_form(state: str, chromium: Browser, site: str) -> None:
    """Bring the form into a state and take it."""
    for page, window in windows(chromium):
        page.goto(site)
        held: list[Route] = []
        shown = reach(page, state, held)
        expect(page.locator(shown).first).to_be_visible()
        shoot(page, f"form-{state}-{window}")
        for route in held:
            route.abort()


def reach(page: Page, state: str, held: list[Route]) -> str:
    """Bring the form into a state, its post into `held` where it must wait; returns what is then to be seen."""
    match state:
        case "wrong":
            page.locator("[name=email]").fill("bob(at)example.com")
        case "busy":
            page.route("**/send-message", lambda route: held.append(route))  # noqa: PLW0108 - a builtin is no handler
        case "failed":
            page.route("**/send-message", _lose)
    if state in ("busy", "sent", "failed"):
        write(page)
    if state != "empty":
        page.locator("button[type=submit]").click()
    shown = {"wrong": ".is-invalid", "busy": "button:disabled", "sent": ".alert-success", "failed": ".alert-danger"}
    return shown.get(state, "form")


def _lose(route: Route) -> None:
    sentence = "We could not keep your message just now. Please try again in a moment."
    route.fulfill(status=500, json={"success": False, "message": sentence, "errors": []})


def write(page: Page) -> None:
    """Fill the form in."""
    page.locator("[name=name]").fill("Bob Tailor")
    page.locator("[name=email]").fill("bob@example.com")
    page.locator("[name=message]").fill(LETTER)


def take_plain(chromium: Browser, site: str) -> None:
    """Take the pages that a visitor without JavaScript gets: `submit()` posts as the form itself does."""
    for page, window in windows(chromium):
        page.goto(site)
        write(page)
        page.locator("form").evaluate("form => form.submit()")
        expect(page.locator(".number")).to_be_visible()
        shoot(page, f"thanks-{window}")
        page.goto(site)
        write(page)
        page.locator("[name=email]").fill("bob@localhost")
        page.locator("form").evaluate("form => { form.action = 'api/contact'; form.submit() }")
        expect(page.locator(".written")).to_be_visible()
        shoot(page, f"failure-{window}")


def take_mails(chromium: Browser, site: str) -> None:
    """Take the local mail page: empty at first, then with the two letters of a message."""
    for page, window in windows(chromium):
        page.goto(f"{site}/mail")
        if window == "360-dark":
            shoot(page, f"mail-empty-{window}")
    for page, window in windows(chromium):
        page.goto(f"{site}/mail")
        if page.locator(".empty").count():
            page.goto(site)
            write(page)
            page.locator("button[type=submit]").click()
            expect(page.locator(".alert-success")).to_be_visible()
        while page.locator(".mails li").count() < 2:
            page.goto(f"{site}/mail")
        shoot(page, f"mail-list-{window}")
        page.locator(".mails a").filter(has_text="Bob").first.click()
        page.frame_locator("iframe").locator("body").wait_for()
        shoot(page, f"mail-{window}")


if __name__ == "__main__":
    main()
