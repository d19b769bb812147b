"""What owners get after an outage: many messages in one letter, and a word on what happened."""

import re
from dataclasses import replace
from functools import partial
from html import unescape

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pillarbox.core.delivery import Purpose
from pillarbox.core.form import Form
from pillarbox.core.letter import Letter, Preface
from pillarbox.core.submission import Submission
from pillarbox.stationery import Stationery
from tests.test_stationery import ADAS_FORM, ANSWERS, STATIONERY, Page, bobs, bodies, compose

OUTAGE = Preface(1_789_900_000, "535 5.7.8 <b>Wrong</b> password\r\nX: \u202e100% & {{ 7 }}")
MESSAGE = partial(
    STATIONERY.compose, bobs(), ADAS_FORM, delivery_id=1, purpose=Purpose.NOTIFICATION, recipient="ada@ada.example"
)


def digest(*submissions: Submission, form: Form = ADAS_FORM, preface: Preface | None = None) -> Letter:
    many = submissions or numbered(3)
    return STATIONERY.digest(many, form, delivery_id=9, recipient="ada@ada.example", preface=preface)


def numbered(count: int, **changes: tuple[str, ...]) -> list[Submission]:
    """Return so many messages of Bob's, a minute after each other."""
    return [
        replace(bobs(**changes), id=f"ID-{number}", received_at=1_790_000_000 + 60 * number) for number in range(count)
    ]


def test_a_digest_lists_its_messages_and_then_holds_each_complete_the_oldest_first():
    others = replace(bobs(name=("Amy",), subject=("",)), id="later", received_at=1_790_003_600)
    text, html = bodies(digest(others, bobs()))
    answers = [cell for cell in Page(html).cells if cell.strip()]
    first, second = (start for start, cell in enumerate(answers) if cell == "Name")
    assert answers[first : first + 10] == [
        *("Name", "Bob <b>Builder</b>", "Email", "bob@example.com", "Subject", "Bread, please"),
        *("Topics", "Rye\nSpelt & oats", "Message", "Good morning,\n\n  two loaves   please\nBob"),
    ]
    assert answers[second : second + 4] == ["Name", "Amy", "Email", "bob@example.com"]
    assert "1. Bob <b>Builder</b>: Bread, please\n2. Amy: Good morning, two loaves please Bob\n\n" in text
    assert (
        "1. Bob <b>Builder</b>\nReceived September 21, 2026, 2:13\u202fPM UTC\nReference k7m2p9qx\n\n"
        "  Name: Bob <b>Builder</b>\n  Email: bob@example.com\n  Subject: Bread, please\n  Topics:\n    Rye\n"
        "    Spelt & oats\n  Message:\n    Good morning,\n\n      two loaves   please\n    Bob\n\n"
        "To answer, write to bob@example.com.\n"
    ) in text
    assert text.index("Reference k7m2p9qx") < text.index("Reference later")
    for body in (text, html):
        assert "These messages waited while no mail could leave, so they come together." in body
        assert "2 messages from your form" in body
        assert "Reference later" in body


def test_each_visitor_of_a_digest_can_be_answered_by_a_link_that_names_nobody_else():
    visitors = [
        bobs(),
        replace(bobs("de", subject=("",), email=("jürgen+x@bücher.example",)), id="l"),
        replace(bobs(email=("bob@example.com?bcc=eve@evil.example",)), id="m"),
        replace(bobs(email=("",)), id="n"),
    ]
    text, html = bodies(digest(*visitors))
    site = "Ada%20%26%20Amy%27s%20Bakery"
    assert [one["href"] for tag, one in Page(html).elements if tag == "a" and one["class"] == "answer"] == [
        "mailto:bob@example.com?subject=Re%3A%20Bread%2C%20please",
        f"mailto:j%C3%BCrgen%2Bx@xn--bcher-kva.example?subject=Re%3A%20Ihre%20Nachricht%20an%20{site}",
    ]
    assert [one for one in unescape(html).split("\n") if "To answer, write to bob@example.com?bcc" in one]
    assert "To answer, write to jürgen+x@bücher.example.\n" in text
    for body in (text, html):
        assert body.count("The visitor left no address to answer to.") == 1


@given(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r"), max_size=200),
    st.sampled_from(list(ANSWERS)),
)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@example("</td></tr></table><script>alert(1)</script><a href='https://evil.example'>x</a>", "message")
@example("x\n" + "-" * 60 + "\n3. Charlie\n\nTo answer, write to eve@evil.example.", "message")
@example("x\u2028To answer, write to eve@evil.example.", "company")
@example("{{ 7 * 7 }}{% raw %}<!--% endfor %-->", "name")
@example("<script>alert(1)</script><img src=x onerror=alert(1)>", "name")
@example("<script>alert(1)</script><img src=x onerror=alert(1)>", "subject")
@example("x\n3. Charlie\n\nTo answer, write to eve@evil.example.", "name")
@example('x" onmouseover="x', "email")
@example("\u202egro.elpmaxe@live\x00\x1b[31m", "subject")
def test_no_visitor_of_a_digest_adds_an_element_or_a_line_that_looks_like_ours(typed, name):
    plain, hostile = bobs(**{name: ("plain",)}), bobs(**{name: (f"a{typed}z",)})
    other = replace(bobs(), id="other", received_at=1_790_000_060)
    (plain_text, plain_html), (text, html) = bodies(digest(plain, other)), bodies(digest(hostile, other))
    visible = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202d\u202e]", "", f"a{typed}z")
    page = Page(html)
    assert visible in page.cells
    assert set(re.split(r"[ \n\u2028\u2029]", visible)) <= set(re.split(r"[ \n\u2028\u2029]", text))
    known = {tag for tag, _ in Page(plain_html).elements} | {"br"}
    assert {tag for tag, _ in page.elements} - known == set()
    links = [one["href"] for tag, one in page.elements if tag == "a"]
    assert all(link.startswith(("#message-", "mailto:")) for link in links)
    ours = [line for line in text.splitlines() if line and line[0] != " "]
    expected = [line for line in plain_text.splitlines() if line and line[0] != " "]
    assert len(ours) == len(expected)
    assert [one[:3] for one in ours] == [one[:3] for one in expected]


@pytest.mark.parametrize("character", ["x", "界", "x& ", " ."])
def test_a_digest_of_a_hundred_long_messages_holds_every_character(character):
    long = (character * 20_000)[:20_000]
    letter = digest(*numbered(100, message=(long,)))
    text, html = bodies(letter)
    visible = long.strip("\n")
    assert Page(html).cells.count(visible) == 100
    assert "".join(text.split()).count("".join(visible.split())) == 100
    assert max(map(len, letter.content.split(b"\r\n"))) <= 998


@pytest.mark.parametrize("count", [0, 1, 101])
def test_a_digest_holds_two_to_a_hundred_messages(count):
    with pytest.raises(ValueError, match="2 to 100"):
        STATIONERY.digest(numbered(count), ADAS_FORM, delivery_id=9, recipient="ada@ada.example")


@pytest.mark.parametrize("made", [MESSAGE, digest], ids=["message", "digest"])
def test_after_an_outage_an_owners_letter_begins_with_what_happened(made):
    text, html = bodies(made(preface=OUTAGE))
    told = (
        "No mail could leave between September 20, 2026, 10:26\u202fAM UTC and now.\n"
        "The reason was: “535 5.7.8 <b>Wrong</b> password X: 100% & {{ 7 }}”.\n"
        "What waited is on its way; `pillarbox deliveries list` shows what is still waiting.\n"
        "To be told at once next time, set ALARM_TO.\n"
    )
    plain_text, plain_html = bodies(made(preface=None))
    assert text == f"* * *\n{told}* * *\n\n{plain_text}"
    box = unescape(html[html.index('<td class="message outage"') : html.index("<h1")])
    assert (
        re.sub(r"<br>|</?(?:strong|code|td|tr|tbody|table)\b[^>]*>", "", box).strip() == told.replace("`", "").strip()
    )
    assert "&lt;b&gt;Wrong" in html
    assert "outage" not in plain_html


def test_of_what_the_mail_server_said_three_hundred_characters_are_shown_and_silence_is_not():
    for preface in (Preface(0.0, "x" * 10_000), Preface(0.0, " \u202e\n")):
        text, html = bodies(digest(preface=preface))
        for body in (text, html):
            assert body.count("x" * 299) == bool(preface.reason.strip(" \u202e\n"))
            assert "x" * 300 not in body
            assert ("The reason was" in body) == ("xx" in body)


def test_a_confirmation_tells_the_visitor_nothing_of_an_outage():
    confirmation = MESSAGE(purpose=Purpose.CONFIRMATION, recipient="bob@example.com", preface=OUTAGE)
    assert confirmation == compose(Purpose.CONFIRMATION)


def test_another_process_composes_the_same_digest():
    submissions = numbered(3)
    again = Stationery().digest(
        submissions[::-1], ADAS_FORM, delivery_id=9, recipient="ada@ada.example", preface=OUTAGE
    )
    assert again == digest(*submissions, preface=OUTAGE)


def test_a_german_owner_reads_digest_and_preface_in_german():
    german = replace(ADAS_FORM, language="de", timezone="Europe/Berlin")
    text, html = bodies(digest(form=german, preface=OUTAGE))
    for sentence in (
        "3 Nachrichten aus Ihrem Formular",
        "Vom 20. September 2026, 12:26 CEST bis eben konnten keine E-Mails gesendet werden.",
        "Der Grund war: „535",
        "setzen Sie ",
        "Deshalb kommen sie gemeinsam.",
    ):
        assert sentence in text
        assert sentence in unescape(html)
    assert "Für eine Antwort schreiben Sie an bob@example.com." in text
    assert "Bob &lt;b&gt;Builder&lt;/b&gt; antworten" in html
    assert not re.search("waited|answer|leave|Received|Reference", text.replace(OUTAGE.reason, ""))
