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
COLOURS = 96
"""So many a picture: enough for flat colours and smooth letters, a quarter of the bytes."""
LETTER = """Dear bookshop,

do you still have the second edition of “Notes on the Analytical Engine”? I would collect it on Saturday.

Kind regards
Bob"""


def main() -> None:
    """Take every picture anew."""
    with tempfile.TemporaryDirectory() as folder, running_site(Path(folder)) as site, launched_chromium() as chromium:
        take_page("empty-mail", chromium, f"{site}/mail")
        for state in ("empty", "wrong", "busy", "sent", "failed"):
            take_form(state, chromium, site)
        take_plain(chromium, site)
        take_mails(chromium, site)
    print(f"{sum(picture.stat().st_size for picture in HERE.glob('*.png')) / 1e6:.2f} MB in all")


def windows(chromium: Browser, **options):
    """Give a fresh window for each size and scheme, with its name."""
    for size, viewport in SIZES.items():
        for scheme in SCHEMES:
            context = chromium.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce", **options)
            yield context.new_page(), f"{size}-{scheme}"
            context.close()


def shoot(page: Page, name: str) -> None:
    """Write the picture, small."""
    target = HERE / f"{name}.png"
    page.screenshot(path=target, full_page=True, animations="disabled", caret="hide")
    with Image.open(target) as picture:
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(target, optimize=True)


def take_form(state: str, chromium: Browser, site: str) -> None:
    """Bring the form into a state and take it."""
    for page, window in windows(chromium):
        page.goto(site)
        shown = reach(page, state)
        expect(page.locator(shown).first).to_be_visible()
        shoot(page, f"form-{state}-{window}")


def reach(page: Page, state: str) -> str:
    """Bring the form into a state; returns what is then to be seen."""
    match state:
        case "wrong":
            page.locator("[name=email]").fill("bob(at)example.com")
        case "busy":
            page.route("**/send-message", _hold)
        case "failed":
            page.route("**/send-message", _lose)
    if state in ("busy", "sent", "failed"):
        write(page)
    if state != "empty":
        page.locator("button[type=submit]").click()
    shown = {"wrong": ".is-invalid", "busy": "button:disabled", "sent": ".alert-success", "failed": ".alert-danger"}
    return shown.get(state, "form")


def _hold(route: Route) -> None:
    del route  # never answered


def _lose(route: Route) -> None:
    sentence = "We could not keep your message just now. Please try again in a moment."
    route.fulfill(status=500, json={"success": False, "message": sentence, "errors": []})


def write(page: Page) -> None:
    """Fill the form in."""
    page.locator("[name=name]").fill("Bob Tailor")
    page.locator("[name=email]").fill("bob@example.com")
    page.locator("[name=message]").fill(LETTER)


def take_plain(chromium: Browser, site: str) -> None:
    """Take the pages that a visitor without JavaScript gets."""
    for page, window in windows(chromium, java_script_enabled=False):
        page.goto(site)
        write(page)
        page.locator("button[type=submit]").click()
        expect(page.locator(".number")).to_be_visible()
        shoot(page, f"thanks-{window}")
        page.goto(f"{site}/nowhere")
        shoot(page, f"failure-{window}")


def take_mails(chromium: Browser, site: str) -> None:
    """Take the local mail page with what has arrived by now."""
    for page, window in windows(chromium):
        page.goto(f"{site}/mail")
        while page.locator(".mails li").count() < 2:
            page.reload()
        if window == "1280-light":
            shoot(page, f"mail-list-{window}")
        page.locator(".mails a").first.click()
        page.frame_locator("iframe").locator("body").wait_for()
        shoot(page, f"mail-{window}")


def take_page(name: str, chromium: Browser, address: str) -> None:
    """Take one page as a small phone shows it in the dark."""
    for page, window in windows(chromium):
        page.goto(address)
        if window == "360-dark":
            shoot(page, f"{name}-{window}")


if __name__ == "__main__":
    main()
