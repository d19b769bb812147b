"""The page's own files: named by their content, kept by browsers, small on the wire."""

import gzip
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from pillarbox.core import colour
from pillarbox.core.errors import NotFound
from pillarbox.web import assets as room
from pillarbox.web.assets import Assets, NotBuilt

FOR_EVER = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
def assets() -> Assets:
    return Assets("#0b5cad")


@pytest.fixture(scope="module")
def browser(assets):
    site = Starlette(
        routes=[Route("/static/{name}", assets.serve)],
        exception_handlers={NotFound: lambda request, error: PlainTextResponse(error.code, 404)},
    )
    return TestClient(site)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("page.css", "text/css; charset=utf-8"),
        ("mail.css", "text/css; charset=utf-8"),
        ("theme.css", "text/css; charset=utf-8"),
        ("bootstrap.css", "text/css; charset=utf-8"),
        ("page.js", "text/javascript; charset=utf-8"),
        ("draft.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_every_file_is_served_under_its_hash_for_ever(assets, browser, name, media_type):
    stem, ending = name.split(".")
    assert re.fullmatch(rf"/static/{stem}-[0-9a-f]{{12}}\.{ending}", assets.url(name))
    answer = browser.get(assets.url(name))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["cache-control"] == FOR_EVER
    assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(("script", "imported"), [("page.js", {"draft.js", "sending.js"}), ("thanks.js", {"draft.js"})])
def test_a_script_asks_for_what_it_imports_by_its_hash(assets, browser, script, imported):
    found = re.findall(r'from "\./(.+)";', browser.get(assets.url(script)).text)
    assert {f"/static/{name}" for name in found} == {assets.url(name) for name in imported}


def test_a_file_is_the_same_zipped_and_plain(assets, browser):
    with browser.stream("GET", assets.url("page.css"), headers={"accept-encoding": "br, gzip;q=0.5"}) as answer:
        zipped = b"".join(answer.iter_raw())
    plain = browser.get(assets.url("page.css"), headers={"accept-encoding": "identity"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(zipped) == plain.content == (room.STATIC / "page.css").read_bytes()
    assert len(zipped) < len(plain.content) / 2
    assert answer.headers["etag"] != plain.headers["etag"]


@pytest.mark.parametrize("header", ["", "br", "gzip;q=0", "gzip; q=0.0", "deflate, gzip;q=0.000", "x-gzip"])
def test_who_takes_no_gzip_gets_none(assets, browser, header):
    assert "content-encoding" not in browser.get(assets.url("page.css"), headers={"accept-encoding": header}).headers


def test_what_a_browser_still_has_is_not_sent_again(assets, browser):
    tag = browser.get(assets.url("page.js")).headers["etag"]
    for header in (tag, f'"other", W/{tag}', "*"):
        answer = browser.get(assets.url("page.js"), headers={"if-none-match": header})
        assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (304, b"", FOR_EVER)
    assert browser.get(assets.url("page.js"), headers={"if-none-match": '"other"'}).status_code == 200


def test_head_tells_the_length_and_sends_nothing(assets, browser):
    plain = {"accept-encoding": "identity"}
    answer = browser.head(assets.url("page.css"), headers=plain)
    assert answer.content == b""
    assert int(answer.headers["content-length"]) == len(browser.get(assets.url("page.css"), headers=plain).content)


@pytest.mark.parametrize("name", ["page.css", "page-000000000000.css", "nothing", "..%2fassets.py", "%00", "vendor"])
def test_an_unknown_name_is_not_found(browser, name):
    assert browser.get(f"/static/{name}").status_code == 404


def test_another_accent_changes_the_theme_and_its_name(assets):
    other = Assets("#a03000")
    assert other.url("theme.css") != assets.url("theme.css")
    assert other.url("icon.svg") != assets.url("icon.svg")
    assert other.url("page.css") == assets.url("page.css")


def test_an_installation_without_bootstrap_says_what_to_do(tmp_path):
    with pytest.raises(NotBuilt, match="make setup"):
        Assets("#0b5cad", vendor=tmp_path)


@settings(deadline=None)
@given(st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}"))
def test_whatever_the_accent_button_links_and_focus_can_be_seen(accent):
    blocks = re.findall(r":root\{(.*?)\}", room.theme(accent))
    assert len(blocks) == 2
    for block in blocks:
        made = dict(re.findall(r"--([a-z-]+):(#[0-9a-f]{6})", block))
        for shade in ("accent", "accent-hover", "accent-active"):
            assert colour.contrast(made["accent-ink"], made[shade]) >= 4.5
        for ground in (made["paper"], made["desk"]):
            assert colour.contrast(made["accent-text"], ground) >= 4.5
        assert colour.contrast(made["accent"], made["paper"]) >= 3
        assert colour.contrast(made["focus"], made["desk"]) >= 3
        assert colour.contrast(made["focus"], made["paper"]) >= 3


def test_a_colour_that_is_none_never_reaches_the_stylesheet():
    with pytest.raises(ValueError, match="#rrggbb"):
        Assets("red;}body{display:none")
