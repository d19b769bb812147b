"""The letters as their readers get them."""

import email
import email.policy
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pillarbox.core.delivery import Purpose
from pillarbox.core.form import CONTACT_FIELDS, Form, Owners
from pillarbox.core.letter import Letter
from pillarbox.core.submission import Answer, Submission
from pillarbox.stationery import Stationery, ink
from pillarbox.wording import moment

ADAS_FORM = Form(
    slug="contact",
    fields=CONTACT_FIELDS,
    owners=Owners(to=("ada@ada.example",)),
    sender="forms@ada.example",
    site_name="Ada & Amy's Bakery",
    accent="#f5b301",
)
ANSWERS = {
    "name": ("Bob <b>Builder</b>",),
    "email": ("bob@example.com",),
    "subject": ("Bread, please",),
    "topics": ("Rye", "Spelt & oats"),
    "company": ("",),
    "message": ("Good morning,\n\n  two loaves   please\nBob",),
}
STATIONERY = Stationery()


def bobs(language: str = "en", **changes: tuple[str, ...]) -> Submission:
    answers = (Answer(name, name.capitalize(), values) for name, values in (ANSWERS | changes).items())
    return Submission("k7m2p9qx", "contact", 1_790_000_000, language, tuple(answers))


def compose(purpose: Purpose, submission: Submission | None = None, form: Form = ADAS_FORM) -> Letter:
    recipient = "ada@ada.example" if purpose is Purpose.NOTIFICATION else "bob@example.com"
    return STATIONERY.compose(submission or bobs(), form, delivery_id=1, purpose=purpose, recipient=recipient)


def bodies(letter: Letter) -> tuple[str, str]:
    parts = email.message_from_bytes(letter.content).get_payload()
    text, html = (part.get_payload(decode=True).decode().replace("\r\n", "\n") for part in parts)
    return text, html


MADE = {
    "notification": lambda: compose(Purpose.NOTIFICATION),
    "confirmation": lambda: compose(Purpose.CONFIRMATION),
    "digest": lambda: STATIONERY.digest([bobs(), bobs()], ADAS_FORM, delivery_id=1, recipient="ada@ada.example"),
}


class Page(HTMLParser):
    """What a browser finds in a letter: its elements, and the cells' text with a line end for each break."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._cell: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self._cell = ""
        elif tag == "br" and self._cell is not None:
            self._cell += "\n"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.cells.append(self._cell)
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell += data.replace("\n", "")  # only a break breaks a line where white-space is not kept


def test_the_owner_reads_every_answer_in_the_forms_order_and_no_empty_one():
    text, html = bodies(compose(Purpose.NOTIFICATION))
    labels_and_values = [cell for cell in Page(html).cells if cell.strip()]
    start = labels_and_values.index("Name")
    assert labels_and_values[start : start + 10] == [
        *("Name", "Bob <b>Builder</b>", "Email", "bob@example.com", "Subject", "Bread, please"),
        *("Topics", "Rye\nSpelt & oats", "Message", "Good morning,\n\n  two loaves   please\nBob"),
    ]
    assert "Company" not in html + text
    assert (
        "Name: Bob <b>Builder</b>\nEmail: bob@example.com\nSubject: Bread, please\nTopics:\n  Rye\n  Spelt & oats\n\n"
        "Message:\n\nGood morning,\n\n  two loaves   please\nBob\n"
    ) in text


def test_the_owner_is_told_how_to_answer():
    for body in bodies(compose(Purpose.NOTIFICATION, bobs(name=("Bob",)))):
        assert "Reply to this mail to answer Bob." in body
    for body in bodies(compose(Purpose.NOTIFICATION, bobs(email=("jürgen@example.com",)))):
        assert "Please write to jürgen@example.com instead." in unescape(body)
    for body in bodies(compose(Purpose.NOTIFICATION, bobs(email=("",)))):
        assert "The visitor left no address to answer to." in body


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({}, "[Ada & Amy's Bakery] Bread, please"),
        ({"subject": ("",), "name": ("Bob 100%",)}, "[Ada & Amy's Bakery] Message from Bob 100%"),
        ({"subject": ("",), "name": ("",)}, "[Ada & Amy's Bakery] Message from bob@example.com"),
        ({"subject": ("",), "name": ("",), "email": ("",)}, "[Ada & Amy's Bakery] New message"),
    ],
)
def test_the_subject_is_the_visitors_or_says_who_wrote(changes, subject):
    letter = compose(Purpose.NOTIFICATION, bobs(**changes))
    assert email.message_from_bytes(letter.content, policy=email.policy.default)["Subject"] == subject


def test_the_confirmation_names_site_reference_and_time_and_holds_no_word_of_the_visitors():
    secret = "Xyzzy"
    letter = compose(Purpose.CONFIRMATION, bobs(**dict.fromkeys(ANSWERS, (secret,))))
    text, html = bodies(letter)
    assert all(secret not in body for body in (text, html, letter.content.decode()))
    for body in (text, html):
        assert "Thank you for your message" in body
        assert "k7m2p9qx" in body
        assert "September 21, 2026" in body
    assert "Ada & Amy's Bakery" in text
    assert "Ada &amp; Amy&#39;s Bakery" in html


# What is kept has no other line ends than \n.
@given(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r"), max_size=200),
    st.sampled_from(list(ANSWERS)),
)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@example("<script>alert(1)</script><img src=x onerror=alert(1)>", "message")
@example("{{ 7 * 7 }}{% raw %}<!--% for x in y %-->", "name")
@example('" onmouseover="x', "email")
@example("</style></title><a href='https://evil.example'>x</a>", "subject")
@example("x" * 100_000, "message")
@example("\u202egro.elpmaxe@live\x00\x1b[31m", "email")
def test_no_visitor_adds_an_element_or_loses_a_letter(typed, name):
    plain = Page(bodies(compose(Purpose.NOTIFICATION, bobs(**{name: ("plain",)})))[1])
    text, html = bodies(compose(Purpose.NOTIFICATION, bobs(**{name: (f"a{typed}z",)})))
    visible = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202d\u202e]", "", f"a{typed}z")
    page = Page(html)
    assert visible in page.cells
    assert visible in text or visible.replace("\n", "\n  ") in re.sub(r"\n +\n", "\n  \n", text)
    outline = [tag for tag, _ in page.elements if tag != "br"]
    if "\n" not in visible and len(visible) <= 200:
        assert outline == [tag for tag, _ in plain.elements if tag != "br"]
    assert set(outline) == {tag for tag, _ in plain.elements if tag != "br"}


def test_nothing_is_loaded_from_afar_but_the_logo_and_its_place_is_named():
    plain = Page(bodies(compose(Purpose.CONFIRMATION))[1])
    assert not {"img", "link", "script", "iframe", "a"} & {tag for tag, _ in plain.elements}
    logo = replace(ADAS_FORM, logo_url="https://ada.example/logo.png?a=1&b=2")
    html = bodies(compose(Purpose.CONFIRMATION, form=logo))[1]
    (image,) = [attributes for tag, attributes in Page(html).elements if tag == "img"]
    assert (image["src"], image["alt"]) == ("https://ada.example/logo.png?a=1&b=2", "Ada & Amy's Bakery")
    assert "url(" not in html
    assert "@import" not in html


@pytest.mark.parametrize("made", [*MADE.values()], ids=MADE)
def test_a_letter_is_dressed_for_every_program(made):
    html = bodies(made())[1]
    elements = Page(html).elements
    assert ("meta", {"name": "color-scheme", "content": "light dark"}) in elements
    assert "@media (prefers-color-scheme: dark)" in html
    assert re.search(r"background-color:\s*#f5b301;\s*color:\s*#101318", html)
    assert [attributes["lang"] for tag, attributes in elements if tag == "html"] == ["en"]
    assert [tag for tag, _ in elements].count("h1") == 1
    assert all(
        attributes.get("role") == "presentation" or "answers" in attributes["class"]
        for tag, attributes in elements
        if tag == "table"
    )
    assert not re.search(r"\{\{|\{%|<!--|var\(|\[(content|foot|media|preface|rows)\]", html)


def test_each_form_keeps_its_own_look():
    assert "#f5b301" in bodies(compose(Purpose.NOTIFICATION))[1]
    other = bodies(compose(Purpose.NOTIFICATION, form=replace(ADAS_FORM, accent="#0b5cad")))[1]
    assert "#0b5cad" in other
    assert "#f5b301" not in other


def test_a_language_written_from_the_right_turns_the_letter_round():
    html = bodies(compose(Purpose.CONFIRMATION, bobs(language="ar")))[1]
    elements = Page(html).elements
    assert [(one["lang"], one["dir"]) for tag, one in elements if tag == "html"] == [("ar", "rtl")]
    assert "right" in {attributes.get("align") for tag, attributes in elements if tag == "th"}


def test_a_letter_of_a_form_that_lost_its_fields_is_still_composed():
    changed = replace(ADAS_FORM, fields=())
    text, html = bodies(compose(Purpose.NOTIFICATION, form=changed))
    assert "two loaves   please" in text
    assert ("td", "2") in [(tag, attributes.get("colspan")) for tag, attributes in Page(html).elements]


def test_an_answer_without_a_label_goes_by_its_fields_name():
    nameless = replace(bobs(), answers=(Answer("topic", "", ("Rye",)),))
    assert "topic: Rye\n" in bodies(compose(Purpose.NOTIFICATION, nameless, replace(ADAS_FORM, language="de")))[0]


@pytest.mark.parametrize("purpose", Purpose)
def test_another_process_composes_the_same_bytes(purpose):
    again = Stationery().compose(bobs(), ADAS_FORM, delivery_id=1, purpose=purpose, recipient="ada@ada.example")
    once = STATIONERY.compose(bobs(), ADAS_FORM, delivery_id=1, purpose=purpose, recipient="ada@ada.example")
    assert again == once


@pytest.mark.parametrize(
    ("accent", "colour"),
    [
        ("#000000", "#ffffff"),
        ("#0b5cad", "#ffffff"),
        ("#767676", "#ffffff"),
        ("#f5b301", "#101318"),
        ("#ffffff", "#101318"),
    ],
)
def test_the_ink_reads_well_on_the_accent(accent, colour):
    assert ink(accent) == colour


@pytest.mark.parametrize("accent", ["red", "#fff", "#0b5cad;x:y", "", "#ggggggg"])
def test_what_is_no_colour_is_refused(accent):
    with pytest.raises(ValueError):
        ink(accent)


def test_each_reads_the_time_in_their_own_language():
    submission = replace(bobs(), language="de")
    stationery = Stationery()
    told = {
        purpose: stationery.words(submission, ADAS_FORM, purpose).text
        for purpose in (Purpose.NOTIFICATION, Purpose.CONFIRMATION)
    }
    assert moment(submission.received_at, "en", ADAS_FORM.timezone) in told[Purpose.NOTIFICATION]
    assert moment(submission.received_at, "de", ADAS_FORM.timezone) in told[Purpose.CONFIRMATION]


def test_a_confirmation_rendered_for_many_carries_each_ones_own_id():
    stationery = Stationery()
    for submission_id in ("AAAA-BBBB-CCCC", "DDDD-EEEE-FFFF"):
        words = stationery.words(replace(bobs(), id=submission_id), ADAS_FORM, Purpose.CONFIRMATION)
        assert submission_id in words.text
        assert submission_id in words.html
        assert "0000-0000-0000" not in words.text + words.html
