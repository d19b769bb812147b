"""The languages: nothing is left in English, and nothing is lost in translation."""

import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from email import message_from_bytes, policy
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

from pillarbox import wording
from pillarbox.core import errors
from pillarbox.core.form import CONTACT_FIELDS
from pillarbox.web import answering
from tests.running import BOB, Pillarbox, until

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src/pillarbox"
LOCALES = SOURCES / "locales"
CATALOGUES = sorted(LOCALES.glob("*/LC_MESSAGES/pillarbox.po"))
KEYWORDS = DEFAULT_KEYWORDS | {"N_": None, "translate": (2,)}
PLACE = re.compile(r"%\(\w+\)s")
WORD = re.compile(r"[^\W\d_]{2,}")


@cache
def extracted() -> set[str]:
    """Return every sentence that our sources mark for translation."""
    with (ROOT / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)
    found = extract_from_dir(SOURCES, methods, options, KEYWORDS)
    return {sentence for _file, _line, sentence, _comments, _context in found}


def catalogue(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=path.parts[-3] if path.suffix == ".po" else None, abort_invalid=True)


def sentences_of_errors() -> set[str]:
    classes = [errors.PillarboxError]
    for one in classes:
        classes.extend(one.__subclasses__())
    own = {one.sentence for one in classes if one.__module__.startswith("pillarbox.")}
    return own | set(errors.FIELD_SENTENCES.values())


def test_there_is_at_least_german():
    assert "de" in wording.languages()
    assert [path.parts[-3] for path in CATALOGUES] == list(wording.languages()[1:])


def test_extraction_sees_sources_pages_and_both_kinds_of_letters():
    assert {
        "Please check the marked fields.",
        "Message from %(name)s",
        "What happens next",
        "This mail was sent automatically.",
        "Reply to this mail to answer %(name)s.",
    } <= extracted()


@pytest.mark.parametrize("path", [LOCALES / "pillarbox.pot", *CATALOGUES], ids=lambda path: path.name)
def test_a_catalogue_holds_exactly_the_sentences_that_we_say(path):
    assert {message.id for message in catalogue(path) if message.id} == extracted(), "run make languages"


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
def test_every_sentence_is_translated_and_none_is_a_guess(path):
    messages = [message for message in catalogue(path) if message.id]
    assert [message.id for message in messages if not message.string] == []
    assert [message.id for message in messages if message.fuzzy] == []
    assert not catalogue(path).obsolete


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
def test_a_translation_has_the_same_places_the_same_end_and_no_stray_percent_sign(path):
    for message in catalogue(path):
        if message.id:
            assert sorted(PLACE.findall(message.string)) == sorted(PLACE.findall(message.id)), message.id
            assert "%" not in PLACE.sub("", message.string), message.id
            assert message.string == message.string.strip()
            assert message.string[-1:] in ".!?:" or message.id[-1:] not in ".!?:", message.id


@pytest.mark.parametrize("language", wording.languages()[1:])
def test_the_compiled_catalogue_is_the_written_one(language):
    written = catalogue(LOCALES / language / "LC_MESSAGES/pillarbox.po")
    for message in written:
        if message.id:
            assert wording.translate(language, message.id) == message.string, "run make languages"


@pytest.mark.parametrize("language", wording.languages()[1:])
def test_every_error_title_thanks_and_label_is_said_in_every_language(language):
    said = sentences_of_errors() | set(answering.TITLES.values()) | {answering.THANKS}
    translated = {sentence: wording.translate(language, sentence) for sentence in said}
    assert [sentence for sentence, found in translated.items() if sentence == found] == []
    assert {field.label for field in CONTACT_FIELDS} <= extracted()


class Said(HTMLParser):
    """What a visitor can read or hear of a page: its text, and the attributes that are shown or read out."""

    ATTRIBUTES = ("alt", "aria-label", "placeholder", "title")
    UNSEEN = ("style", "script")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.language = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        for name, value in attrs:
            if name in self.ATTRIBUTES or (name.startswith("data-") and name != "data-css-inline"):
                self.texts.append(value or "")
            if tag == "html" and name == "lang":
                self.language = value or ""

    def handle_data(self, data: str) -> None:
        if self._inside not in self.UNSEEN:
            self.texts.append(data)


def german() -> set[str]:
    """Return every word of the German catalogue, and those of a German date."""
    said = " ".join(str(message.string) for message in catalogue(LOCALES / "de/LC_MESSAGES/pillarbox.po") if message.id)
    dates = " ".join(wording.moment(at, "de", "Europe/Berlin") for at in range(0, 366 * 86_400, 27 * 86_400))
    return set(WORD.findall(PLACE.sub("", f"{said} {dates}")))


def foreign(texts: list[str], *known: str) -> set[str]:
    """Return the words that are neither German nor known; message numbers have no words."""
    said = re.sub(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}\b", " ", " ".join(texts))
    for text in known:
        said = said.replace(text, " ")
    return set(WORD.findall(said)) - german()


def page(pillarbox: Pillarbox, path: str, form: dict[str, str] | None = None) -> Said:
    """Ask as a German browser does, and follow where it leads."""
    body = urllib.parse.urlencode(form).encode() if form is not None else None
    headers = {"Accept": "text/html", "Accept-Language": "de-AT, de;q=0.9, en;q=0.1"}
    try:
        with urllib.request.urlopen(urllib.request.Request(pillarbox.url + path, body, headers), timeout=30) as answer:
            return Said(answer.read().decode())
    except urllib.error.HTTPError as refused:
        return Said(refused.read().decode())


def letters(pillarbox: Pillarbox) -> Iterator[tuple[str, list[str]]]:
    """Yield the subject and all bodies of every letter that arrived."""
    for content in pillarbox.mails():
        mail = message_from_bytes(content, policy=policy.default)
        html = mail.get_body(("html",)).get_content()
        assert Said(html).language == "de"
        yield mail["Subject"], [mail["Subject"], *Said(html).texts, mail.get_body(("plain",)).get_content()]


def test_a_german_visitor_and_a_german_owner_read_no_word_of_english(pillarbox):
    pillarbox.serve(SITE_NAME="Adas Buchladen", DEFAULT_LANGUAGE="de", TIMEZONE="Europe/Berlin")
    pages = {
        "form": page(pillarbox, "/"),
        "wrong": page(pillarbox, "/send-message", {"email": "bob", "message": " "}),
        "too long": page(pillarbox, "/send-message", BOB | {"message": "x" * 300_000}),
        "strange": page(pillarbox, "/api/contact", {"email": "bob"}),
        "nowhere": page(pillarbox, "/nowhere"),
        "method": page(pillarbox, "/thanks", {}),
        "thanks": page(pillarbox, "/send-message", BOB),
    }
    typed = [*BOB.values(), "bob", "x" * 60]
    for name, found in pages.items():
        assert found.language == "de", name
        texts = [re.sub(r"x{20,}", " ", text) for text in found.texts]
        assert foreign(texts, "Adas Buchladen", *typed) == set(), name
    until(lambda: len(pillarbox.mails()) == 2)
    arrived = dict(letters(pillarbox))
    assert sorted(arrived) == ["Ihre Nachricht an Adas Buchladen ist angekommen", "[Adas Buchladen] Nachricht von Bob"]
    for subject, texts in arrived.items():
        assert foreign(texts, "Adas Buchladen", *typed) == set(), subject


def test_a_program_is_answered_in_the_language_it_asks_for(pillarbox):
    pillarbox.serve()
    _status, thanked = pillarbox.post(BOB | {"_language": "de"})
    _status, refused = pillarbox.post({"_language": "de"})
    assert thanked["message"] == "Vielen Dank für Ihre Nachricht!"
    assert refused["message"] == "Bitte prüfen Sie die markierten Felder."
    assert {fault["message"] for fault in refused["errors"]} == {"Bitte füllen Sie dieses Feld aus."}
