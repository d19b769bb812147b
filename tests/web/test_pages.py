"""The pages as text: complete without a script, nothing inline, nothing of a visitor's taken for markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pillarbox.core.form import CONTACT_FIELDS, Field, Form, Kind, Owners
from pillarbox.web.assets import Assets
from pillarbox.web.pages import Pages

ADAS_FORM = Form("contact", CONTACT_FIELDS, Owners(("ada@example.org",)), "forms@example.org", "Ada's Bookshop")
HOSTILE = '"><script>alert(1)</script><textarea></textarea>&amp;'
VOID = {"meta", "link", "img", "input", "circle", "path", "br"}


@pytest.fixture(scope="module")
def assets() -> Assets:
    return Assets(ADAS_FORM.accent)


@pytest.fixture(scope="module")
def pages(assets) -> Pages:
    return Pages(ADAS_FORM, assets)


class Reader(HTMLParser):
    """Reads a page as elements with their text; an element that is never closed, or closed twice, is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[dict] = []
        self.open: list[dict] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag: str, **attributes: str) -> list[dict]:
        found = [element for element in self.elements if element["tag"] == tag]
        return [element for element in found if attributes.items() <= element.items()]

    def one(self, tag: str, **attributes: str) -> dict:
        (element,) = self.all(tag, **attributes)
        return element


def every_page(pages: Pages) -> dict[str, str]:
    return {
        "form": pages.form("en"),
        "form with errors": pages.form("en", values={"name": HOSTILE}, errors={"email": HOSTILE}, alert=HOSTILE),
        "thanks": pages.thanks("en", HOSTILE),
        "failure": pages.failure("en", title=HOSTILE, sentence=HOSTILE, written=[(HOSTILE, HOSTILE)]),
    }


def test_no_page_has_anything_inline_and_everything_in_it_is_closed(pages):
    for page in every_page(pages).values():
        read = Reader(page)
        assert all(script["text"] == "" and script["src"] for script in read.all("script"))
        assert not read.all("style")
        assert not [name for element in read.elements for name in element if name == "style" or name.startswith("on")]
        assert read.one("html")["lang"] == "en"
        assert read.one("html")["dir"] == "ltr"
        assert len(read.all("h1")) == 1
        assert "Ada's Bookshop" in read.one("title")["text"]


def test_the_form_asks_its_fields_in_order_with_their_rules(pages):
    read = Reader(pages.form("en"))
    form = read.one("form")
    assert (form["method"], form["action"]) == ("post", "./send-message")
    controls = [element for element in read.elements if "form-control" in (element.get("class") or "")]
    assert [control["name"] for control in controls] == ["name", "email", "company", "subject", "message"]
    assert [control["name"] for control in controls if "required" in control] == ["name", "email", "message"]
    assert [control["maxlength"] for control in controls] == ["200", "254", "1000", "300", "20000"]
    assert read.one("input", name="email")["type"] == "email"
    for control in controls:
        assert read.one("label", **{"for": control["id"]})["text"]
    assert read.one("input", name="_language")["value"] == "en"


def test_the_honeypot_is_hidden_from_people_and_their_helpers(pages):
    read = Reader(pages.form("en"))
    trap = read.one("input", name=ADAS_FORM.honeypot)
    around = read.elements[read.elements.index(trap) - 2]
    assert (around["class"], around["aria-hidden"]) == ("visually-hidden", "true")
    assert (trap["tabindex"], trap["autocomplete"]) == ("-1", "off")


def test_what_was_typed_and_what_is_wrong_stand_at_their_fields(pages):
    errors = {"email": "No <b>such</b> address.", "message": "Too long."}
    read = Reader(pages.form("en", values={"name": HOSTILE, "message": "\n" + HOSTILE}, errors=errors, alert="Check."))
    assert read.one("input", name="name")["value"] == HOSTILE
    assert read.one("textarea", name="message")["text"] == "\n\n" + HOSTILE  # a browser drops the first line break
    assert read.one("div", id="field-email-error")["text"] == errors["email"]
    assert read.one("div", id="field-name-error")["text"] == ""
    assert "autofocus" in read.one("input", name="email")
    assert "autofocus" not in read.one("textarea", name="message")
    assert read.one("textarea", name="message")["aria-invalid"] == "true"
    assert "aria-invalid" not in read.one("input", name="name")
    assert [element["text"] for element in read.all("div", role="alert")] == ["Check.", ""]
    assert "Not sent yet" in read.one("title")["text"]


def test_one_visitors_words_never_stand_on_the_next_ones_page(pages):
    pages.form("en", values={"name": "Bob"}, errors={"name": "x"})
    assert "Bob" not in pages.form("en")
    assert pages.form("en") is pages.form("en")


def test_the_thanks_show_the_number(pages):
    assert Reader(pages.thanks("en", "K7QM4T2X")).one("p", **{"class": "number"})["text"] == "K7QM4T2X"


def test_a_failure_shows_again_what_was_written(pages):
    written = [("Name", "Bob"), ("Message", "\n" + HOSTILE)]
    read = Reader(pages.failure("en", title="Not sent", sentence="Later.", written=written))
    assert read.one("h1")["text"] == "Not sent"
    boxes = read.all("textarea")
    assert [box["text"] for box in boxes] == ["\nBob", "\n\n" + HOSTILE]
    assert all("readonly" in box for box in boxes)
    assert [read.one("label", **{"for": box["id"]})["text"] for box in boxes] == ["Name", "Message"]


def test_a_failure_without_words_promises_none(pages):
    page = pages.failure("en", title="Nothing here", sentence="Nothing.")
    assert "What you wrote" not in page
    assert "textarea" not in page


@pytest.mark.parametrize(
    ("path", "root"), [("/", "./"), ("/send-message", "./"), ("/api/contact", "../"), ("/a/b/", "../../")]
)
def test_links_are_relative_to_the_address_so_that_a_prefix_may_stand_before_it(pages, assets, path, root):
    made = [
        pages.form("en", path=path),
        pages.thanks("en", "K7QM4T2X", path=path),
        pages.failure("en", title="t", sentence="s", path=path),
    ]
    for page in made:
        assert f'href="{root}{assets.url("page.css")[1:]}"' in page
        assert not re.search(r'(?:href|src|action)="/', page)
    assert f'action="{root}send-message"' in made[0]


def test_text_that_no_encoding_can_carry_is_still_shown(pages):
    broken = "before \ud800 after"
    page = pages.form("en", values={"name": broken}) + pages.failure(
        "en", title="t", sentence="s", written=[("l", broken)]
    )
    assert page.encode().count(b"before ? after") == 2


def test_a_logo_stands_beside_the_name_only_where_there_is_one(assets, pages):
    assert not Reader(pages.form("en")).all("img")
    other = Pages(replace(ADAS_FORM, logo_url="https://example.org/logo.png?a=1&b=2"), assets)
    assert Reader(other.form("en")).one("img") == {
        **Reader(other.form("en")).one("img"),
        "src": "https://example.org/logo.png?a=1&b=2",
        "alt": "",
    }


def test_a_label_may_hold_any_character(assets):
    form = replace(ADAS_FORM, fields=(Field("rebate", "100 % <off>", Kind.TEXT),))
    assert "100 % <off>" in Reader(Pages(form, assets).form("en")).one("label", **{"for": "field-rebate"})["text"]
