"""What a letter looks like: our templates, a form's look and a submission become words, then a letter."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import css_inline
from jinja2 import Environment, Template
from markupsafe import Markup, escape

from pillarbox import wording
from pillarbox.core import letter
from pillarbox.core.delivery import Purpose
from pillarbox.core.errors import N_
from pillarbox.core.form import Form, Kind
from pillarbox.core.letter import MAX_DIGEST, Letter, Preface, Words
from pillarbox.core.submission import Submission

_HERE = Path(__file__).parent / "letters"
_LONG = 200  # characters in one value from which it reads better over the whole width
_MAX_NAME = 60
_MAX_PREVIEW = 120
_MAX_BRIEF = 80
_MAX_REASON = 300
_ID = "0000-0000-0000"
"""Stands for the id in what is rendered once for many; no message has it, since its letters would all be zero bits."""
_LINK = f"unsubscribe:{_ID[5:]}"
"""Stands for the link there."""
_UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202d\u202e]")
"""Control characters, and the two that make a text read backwards, which no script needs."""


class Stationery:
    """Composes letters; holds the templates, made ready once for each look and language."""

    def __init__(self, unsubscribe_link: Callable[[str], str] = lambda _submission_id: "") -> None:
        """Make ready; `unsubscribe_link` returns, for a message's id, the link in its confirmation by which its reader
        asks for no other one (in ASCII, always the same), or an empty text for none.
        """
        self._unsubscribe_link = unsubscribe_link
        self._printed = lru_cache(maxsize=256)(_print)
        self._confirming = lru_cache(maxsize=256)(self._blank_confirmation)

    def compose(
        self,
        submission: Submission,
        form: Form,
        *,
        delivery_id: int,
        purpose: Purpose,
        recipient: str,
        preface: Preface | None = None,
    ) -> Letter:
        """Return the letter to this recipient: the same bytes at every call.

        The notification is in the form's language and begins with the preface; the confirmation is in the visitor's
        and has none. Raises ValueError for an address that no mail can carry.
        """
        if purpose is Purpose.NOTIFICATION:
            words = self.words(submission, form, purpose, preface=preface)
            return letter.notification(submission, form, delivery_id=delivery_id, recipient=recipient, words=words)
        link = self._unsubscribe_link(submission.id)
        words = self.words(submission, form, purpose, link=link)
        return letter.confirmation(
            submission, form, delivery_id=delivery_id, recipient=recipient, words=words, unsubscribe=link
        )

    def digest(
        self,
        submissions: Sequence[Submission],
        form: Form,
        *,
        delivery_id: int,
        recipient: str,
        preface: Preface | None = None,
    ) -> Letter:
        """Return one letter with the messages (2 to 100 of this form), each complete: the same bytes at every call.

        The oldest stands first, whatever order they come in. Raises ValueError for another number of messages, and for
        an address that no mail can carry.
        """
        if not 2 <= len(submissions) <= MAX_DIGEST:
            raise ValueError(f"a digest holds 2 to {MAX_DIGEST} messages, not {len(submissions)}")
        in_order = sorted(submissions, key=lambda one: (one.received_at, one.id))
        subject, values = _digest(in_order, form)
        values |= _before(preface, form)
        words = _filled(self._printed("digest", form.language, form.accent), subject, values)
        return letter.digest(in_order, form, delivery_id=delivery_id, recipient=recipient, words=words)

    def words(
        self, submission: Submission, form: Form, purpose: Purpose, *, preface: Preface | None = None, link: str = ""
    ) -> Words:
        """Return what the letter says, in its reader's language; the confirmation, also the link to unsubscribe."""
        if purpose is Purpose.CONFIRMATION:
            received = wording.moment(submission.received_at, submission.language, form.timezone)
            look = (form.site_name, form.logo_url, form.accent)
            blank = self._confirming(submission.language, *look, received, _LINK if link else "")
            text = blank.text.replace(_ID, submission.id).replace(_LINK, link)
            return Words(blank.subject, text, blank.html.replace(_ID, submission.id).replace(_LINK, str(escape(link))))
        subject, values = _notification(submission, form)
        if preface:
            values |= _before(preface, form)
        return _filled(self._printed(purpose, form.language, form.accent), subject, values)

    def _blank_confirmation(
        self, language: str, site_name: str, logo_url: str, accent: str, received: str, link: str
    ) -> Words:
        """Return the confirmation, in which nothing but id and link differs between visitors of the same minute."""
        site = letter.one_line(site_name, _MAX_NAME)
        values = {
            "title": wording.translate(language, N_("Thank you for your message")),
            "preview": wording.translate(language, N_("Reference %(id)s"), id=_ID),
            "received": received,
            "site": letter.one_line(site_name, 200),
            "logo": logo_url,
            "preface": None,
            "id": _ID,
            "link": link,
        }
        subject = wording.translate(language, N_("Your message to %(site)s has arrived"), site=site)
        return _filled(self._printed(Purpose.CONFIRMATION, language, accent), subject, values)


def _filled(templates: tuple[Template, Template], subject: str, values: Mapping[str, object]) -> Words:
    html, text = templates
    return Words(subject, text.render(values), _mostly_ascii(html.render(values)))


def _mostly_ascii(html: str) -> str:
    """Return the markup with character references, so that it travels as it is, unless that made it much longer."""
    referenced = html.encode("ascii", "xmlcharrefreplace")
    return referenced.decode() if len(referenced) < len(html) * 1.1 else html


def _notification(submission: Submission, form: Form) -> tuple[str, dict[str, object]]:
    """Return the subject (without the site's name) and the template's values."""
    language, email = form.language, letter.one_line(submission.email, 254)
    received = wording.moment(submission.received_at, language, form.timezone)
    name = letter.one_line(submission.value("name"), _MAX_NAME) or email
    if name:
        title = wording.translate(language, N_("Message from %(name)s"), name=name)
    else:
        title = wording.translate(language, N_("New message"))
    return submission.value("subject").strip() or title, {
        "title": title,
        "preview": letter.one_line(submission.value("message"), _MAX_PREVIEW),
        "rows": list(_rows(submission, form)),
        "hint": _hint(name, email, language),
        "received": wording.translate(language, N_("Received %(time)s"), time=received),
        "reference": wording.translate(language, N_("Reference %(id)s"), id=submission.id),
        **_letterhead(form),
    }


def _digest(submissions: Sequence[Submission], form: Form) -> tuple[str, dict[str, object]]:
    """Return the subject (without the site's name) and the template's values."""
    # At least two: a language with several plurals says it without one.
    title = wording.translate(form.language, N_("%(count)s messages from your form"), count=len(submissions))
    entries = [_entry(submission, form) for submission in submissions]
    names = ", ".join(dict.fromkeys(str(entry["name"]) for entry in entries))
    return title, {
        "title": title,
        "preview": letter.one_line(names, _MAX_PREVIEW),
        "entries": entries,
        **_letterhead(form),
    }


def _entry(submission: Submission, form: Form) -> dict[str, object]:
    """Return what the digest's template says of one message."""
    language, email = form.language, letter.one_line(submission.email, 254)
    name = letter.one_line(submission.value("name"), _MAX_NAME) or email
    received = wording.moment(submission.received_at, language, form.timezone)
    return {
        "name": name or wording.translate(language, N_("New message")),
        "brief": letter.one_line(_gist(submission), _MAX_BRIEF),
        "rows": list(_rows(submission, form)),
        "link": letter.mailto(email, f"Re: {_about(submission, form)}"),
        "answer": wording.translate(language, N_("Answer %(name)s"), name=name),
        "hint": _way_back(email, language),
        "received": wording.translate(language, N_("Received %(time)s"), time=received),
        "reference": wording.translate(language, N_("Reference %(id)s"), id=submission.id),
    }


def _gist(submission: Submission) -> str:
    """Return what a message is about: its subject, else its text, else whatever it says first."""
    others = (answer.text for answer in submission.answers if answer.name not in ("name", "email"))
    return submission.value("subject").strip() or submission.value("message").strip() or next(others, "")


def _about(submission: Submission, form: Form) -> str:
    """Return the visitor's subject, or one in the visitor's language, for the answer to carry."""
    if subject := letter.one_line(submission.value("subject"), 200):
        return subject
    site = letter.one_line(form.site_name, _MAX_NAME)
    return wording.translate(submission.language, N_("Your message to %(site)s"), site=site)


def _way_back(email: str, language: str) -> str:
    """Say where a visitor whose message came with others can be answered."""
    if email:
        return wording.translate(language, N_("To answer, write to %(email)s."), email=email)
    return wording.translate(language, N_("The visitor left no address to answer to."))


def _letterhead(form: Form) -> dict[str, object]:
    return {"site": letter.one_line(form.site_name, 200), "logo": form.logo_url, "preface": None}


def _before(preface: Preface | None, form: Form) -> dict[str, object]:
    """Return what a preface changes in a template's values."""
    if preface is None:
        return {}
    since = wording.moment(preface.since, form.language, form.timezone)
    outage = wording.translate(form.language, N_("No mail could leave between %(since)s and now."), since=since)
    reason = letter.one_line(preface.reason, _MAX_REASON)
    said = wording.translate(form.language, N_("The reason was: “%(reason)s”."), reason=reason) if reason else ""
    return {"preview": outage, "preface": {"outage": outage, "reason": said}}


def _hint(name: str, email: str, language: str) -> str:
    """Say how the visitor can be answered."""
    if letter.answerable(email):
        return wording.translate(language, N_("Reply to this mail to answer %(name)s."), name=name)
    if email:
        sentence = N_("A reply to this mail does not reach the visitor. Please write to %(email)s instead.")
        return wording.translate(language, sentence, email=email)
    return wording.translate(language, N_("The visitor left no address to answer to."))


def _rows(submission: Submission, form: Form) -> Iterator[tuple[str, str, Markup, bool]]:
    """Yield label, text, the text as HTML, and whether it wants the whole width, of each answer that holds a text."""
    long_names = {field.name for field in form.fields if field.kind is Kind.LONG_TEXT}
    for answer in submission.answers:
        if text := _UNWANTED.sub("", answer.text).strip("\n"):
            is_long = answer.name in long_names or any(len(value) > _LONG or "\n" in value for value in answer.values)
            label = _label(answer.label, form.language) or answer.name
            yield label, text, Markup(str(escape(text)).replace("\n", "<br>")), is_long  # noqa: S704 - escaped just here


@lru_cache(maxsize=1_024)
def _label(label: str, language: str) -> str:
    # Catalogues answer an empty sentence with their own header.
    return letter.one_line(wording.translate(language, label), 200) if label else ""


def _print(paper: str, language: str, accent: str) -> tuple[Template, Template]:
    """Return the HTML and the text template of a letter (a purpose, or "digest"), ready to be filled in."""
    environment = wording.environment("letters", language)
    html = _html_environment(environment).from_string(_inlined(paper, accent))
    text = environment.get_template(f"{paper}.txt")
    for template in (html, text):
        template.globals = dict(template.globals)  # Jinja copies them at each render, and a ChainMap slowly
    return html, text


def _html_environment(environment: Environment) -> Environment:
    """Return the environment with blocks that are comments in HTML, so that the inliner leaves them in their places.

    In a table it would move any other text before the table, as browsers do.
    """
    made = environment.overlay(block_start_string="<!--%", block_end_string="%-->", autoescape=True)
    made.globals["start"] = "right" if made.globals["dir"] == "rtl" else "left"
    return made


def _inlined(paper: str, accent: str) -> str:
    """Return the source of a letter's HTML template with the stylesheet written into its elements."""
    stylesheet = _read("letter.css").replace("var(--accent)", accent).replace("var(--ink)", ink(accent))
    # What stands at the stylesheet's end under @media can't be written into elements and goes along as it is.
    everywhere, at, somewhere = stylesheet.partition("@media")
    content, _, foot = _read(f"{paper}.html").partition("<!-- foot -->")
    page = _read("frame.html").replace("[content]", content).replace("[foot]", foot)
    page = page.replace("[preface]\n", _read("preface.html")).replace("[rows]\n", _read("rows.html"))
    # Short lines, none of which begins with a dot or ends in a blank, travel through mail servers as they are.
    narrow = (f" {line.strip()}" for line in f"{at}{somewhere}".splitlines() if line.strip())
    page = page.replace("[media]", "\n".join(narrow))
    return css_inline.CSSInliner(extra_css=everywhere, minify_css=True, load_remote_stylesheets=False).inline(page)


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def ink(paper: str) -> str:
    """Return the colour, near black or white, that reads better on the paper (`#rrggbb`; WCAG 2.2, 1.4.3).

    Raises ValueError for another notation.
    """
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", paper):
        raise ValueError(f"not a colour like #0b5cad: {paper}")
    linear = [_linear(int(paper[start : start + 2], 16) / 255) for start in (1, 3, 5)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Contrast with white is 1.05 / (l + .05), with #101318 it is (l + .05) / .0563: they cross at l = .193.
    return "#ffffff" if luminance < 0.193 else "#101318"


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)
