"""What a visitor sees: the form, the thanks and the failures, as HTML text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import escape

from pillarbox import wording
from pillarbox.core.captcha import ACTION, Widget
from pillarbox.core.errors import FIELD_SENTENCES, N_, REQUIRED_FIELD_EMPTY, TOO_LONG, TYPE_EMAIL
from pillarbox.core.form import Field, Form, Kind
from pillarbox.core.stamp import STAMP
from pillarbox.web.assets import Assets

_AUTOCOMPLETE = {"name": "name", "email": "email", "company": "organization"}
"""What browsers may fill in for whom (HTML, autofill field names): asked for by WCAG 2.2, criterion 1.3.5."""

_FIELD_LABELS = (N_("Name"), N_("Email"), N_("Company"), N_("Subject"), N_("Message"))
"""The default form's labels, for the catalogues."""

_NOTHING: Mapping[str, str] = {}

_STAMPED_HERE = "\0"
"""Stands in the place of a stamp while a page is kept to be shown again; no visitor's text has it on a page."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A page that says one thing: three English sentences with a place for the `%(site)s` in the second."""

    title: str
    sentence: str
    more: str
    is_good: bool = False


class Pages:
    """The pages of one form.

    `path` is always the address that the page answers at, as the request named it: links are relative to it, so that
    the site also works below a prefix that a proxy takes away.
    """

    def __init__(
        self,
        form: Form,
        assets: Assets,
        *,
        widget: Widget | None = None,
        policy: str = "",
        stamp: Callable[[str], str] | None = None,
    ) -> None:
        """Show this form, and with a captcha's `widget` that too, under the Content-Security-Policy that it needs.

        `stamp` returns what the page carries, from what came back with the form that it shows again (empty: nothing).
        """
        self._form = form
        self._assets = assets
        self._widget = widget
        self._stamp = stamp
        self._empty: dict[str, str] = {}
        self.form_headers: Mapping[str, str] = {"Content-Security-Policy": policy} if widget else {}
        """Headers of an answer that shows the form."""

    def form(
        self,
        language: str,
        *,
        values: Mapping[str, str] = _NOTHING,
        errors: Mapping[str, str] = _NOTHING,
        alert: str = "",
        path: str = "/",
    ) -> str:
        """Return the page with the form, stamped anew, or with the stamp among the values if that is ours.

        `values` and `errors` (finished sentences) go by field name; `alert` is a finished sentence on top.
        """
        if values or errors or alert or path.count("/") > 1:
            page = self._render_form(language, values, errors, alert=alert, path=path)
        else:
            if language not in self._empty:
                self._empty[language] = self._render_form(language, values, errors, alert="", path="/")
            page = self._empty[language]
        if not self._stamp:
            return page
        return page.replace(_STAMPED_HERE, str(escape(self._stamp(values.get(STAMP, "")))))

    def thanks(self, language: str, submission_id: str, *, path: str = "/") -> str:
        """Return the page that thanks for a message and shows its id to be read out."""
        return self._render("thanks.html", language, path=path, id=submission_id)

    def failure(
        self,
        language: str,
        *,
        title: str,
        sentence: str,
        written: Sequence[tuple[str, str]] = (),
        path: str = "/",
    ) -> str:
        """Return a page that says what went wrong and shows again what was `written` (translated label, text)."""
        shown = [(label, showable(text), rows(text)) for label, text in written]
        return self._render("failure.html", language, path=path, title=title, sentence=sentence, written=shown)

    def notice(self, language: str, notice: Notice, *, action: str = "", path: str = "/") -> str:
        """Return the notice's page; with an action (an address below our root), a button that posts there."""
        return self._render(
            "notice.html",
            language,
            path=path,
            title=wording.translate(language, notice.title),
            sentence=self.sentence(language, notice),
            more=wording.translate(language, notice.more),
            is_good=notice.is_good,
            action=action,
        )

    def sentence(self, language: str, notice: Notice) -> str:
        """Return the notice in one sentence."""
        return wording.translate(language, notice.sentence, site=self._form.site_name)

    def _render_form(
        self, language: str, values: Mapping[str, str], errors: Mapping[str, str], *, alert: str, path: str
    ) -> str:
        first_wrong = next((field.name for field in self._form.fields if field.name in errors), "")
        return self._render(
            "form.html",
            language,
            path=path,
            fields=[self._control(language, field) for field in self._form.fields],
            values={name: showable(value) for name, value in values.items()},
            errors=errors,
            alert=alert,
            first_wrong=first_wrong,
            honeypot=self._form.honeypot,
            captcha=self._captcha(language),
            stamp=(STAMP, _STAMPED_HERE) if self._stamp else None,
        )

    def _captcha(self, language: str) -> dict[str, object] | None:
        """Return what the template needs of the captcha; None without one."""
        if self._widget is None:
            return None
        kind = self._widget.kind
        return {
            "script": self._widget.script(language),
            "provider": kind.provider,
            "box": kind.box,
            "attributes": self._widget.attributes(language),
            "data": {"api": kind.api, "field": kind.field} | ({"action": ACTION} if kind.has_score else {}),
        }

    def _control(self, language: str, field: Field) -> dict[str, object]:
        """Return what the template needs of a field, with the sentences that the script shows beside it."""
        return {
            "name": field.name,
            "label": wording.translate(language, field.label),
            "kind": field.kind.value,
            "required": field.required,
            "max_length": field.max_length,
            "wide": field.kind is Kind.LONG_TEXT,
            "autocomplete": _AUTOCOMPLETE.get(field.name, ""),
            "missing": wording.translate(language, FIELD_SENTENCES[REQUIRED_FIELD_EMPTY]),
            "mistyped": wording.translate(language, FIELD_SENTENCES[TYPE_EMAIL]) if field.kind is Kind.EMAIL else "",
            "too_long": wording.translate(language, FIELD_SENTENCES[TOO_LONG], max_length=field.max_length),
        }

    def _render(self, template: str, language: str, *, path: str, **context: object) -> str:
        made = wording.environment("web/templates", language).get_template(template)
        root = "../" * (path.count("/") - 1) or "./"
        site = {"name": self._form.site_name, "logo_url": self._form.logo_url, "confirms": self._form.confirms}
        return made.render(root=root, asset=lambda name: root + self._assets.url(name)[1:], site=site, **context)


def showable(text: str) -> str:
    """Return the text as UTF-8 can carry it: a lone surrogate, which JSON lets through, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8").replace(_STAMPED_HERE, "\ufffd")


def rows(text: str) -> int:
    """Return how many lines (1 to 14) a box needs to show the text, at some 60 characters a line."""
    return min(14, sum(1 + len(line) // 60 for line in text[:2_000].split("\n")))
