"""A receipt or an error becomes a page, a redirect or JSON: the only place that chooses."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from pillarbox.core import errors
from pillarbox.core.errors import N_, InvalidFields, PillarboxError, TooMany, UnknownHost
from pillarbox.core.form import Form
from pillarbox.core.stamp import STAMP
from pillarbox.core.submission import is_answer
from pillarbox.intake import Receipt
from pillarbox.telemetry import tell
from pillarbox.web.pages import Pages
from pillarbox.web.reading import JSON, MULTIPART, URLENCODED, Fields, has_read_body, media_type, read_leniently
from pillarbox.wording import accepted_languages, choose_language, translate

THANKS = N_("Thank you for your message!")
RETRY_AFTER_SECONDS = 5

STATUS: Mapping[type[PillarboxError], int] = {
    errors.InvalidFields: 400,
    errors.Unreadable: 400,
    errors.TooManyFields: 400,
    errors.NoFileUploads: 400,
    errors.CaptchaRefused: 400,
    errors.UnknownLink: 400,
    errors.UnusableKey: 400,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.TooSlow: 408,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.UnknownHost: 421,
    errors.KeyReused: 422,
    errors.TooMany: 429,
    errors.HeadTooLarge: 431,
    errors.Unexpected: 500,
    errors.NotKept: 503,
    errors.NotNoted: 503,
    errors.MailFailing: 503,
}
TITLES: Mapping[int, str] = {
    400: N_("Not sent yet"),
    404: N_("Nothing here"),
    405: N_("Not like this"),
    408: N_("Not sent"),
    413: N_("Too much at once"),
    415: N_("Not in this form"),
    421: N_("Not this site"),
    422: N_("Not sent yet"),
    429: N_("One moment, please"),
    431: N_("Too much at once"),
    500: N_("Not sent"),
    503: N_("Not sent"),
}
OWN_TITLES: Mapping[type[PillarboxError], str] = {
    errors.UnknownLink: N_("This link does not work"),
    errors.NotNoted: N_("Not done yet"),
}
"""For what has nothing to do with a message."""
SHOWING_THE_TEXT_AGAIN = frozenset({400, 404, 408, 413, 422, 429, 500, 503})
"""Statuses for which a plain form's body is worth reading, so that nothing typed is lost."""
OWN_FORM_POSTS_TO = "/send-message"
"""Here an error shows the whole form again, and "could not be kept" is the 500 that its clients know, not 503."""


class Answers:
    """How this form's visitors are answered."""

    def __init__(self, form: Form, pages: Pages, *, public_url: str = "") -> None:
        self._form = form
        self._pages = pages
        self._public_url = public_url

    def language(self, request: Request, fields: Fields | None = None) -> str:
        """Return the visitor's language: `_language` if sent, for a page what the browser accepts, else the form's."""
        wanted = [value for value in (fields or {}).get("_language", ()) if isinstance(value, str)]
        if not wanted and not wants_json(request):
            wanted = accepted_languages(request.headers.get("accept-language", ""))
        return choose_language([tag[:35] for tag in wanted], self._form.language)

    def thank(self, request: Request, receipt: Receipt, fields: Fields, language: str) -> Response:
        """Say that the message is kept."""
        thanks_page = f"thanks?id={quote(receipt.id)}"
        if not wants_json(request):
            # Relative, so that it also holds below a prefix that a proxy takes away.
            return RedirectResponse(self._next(fields) or "../" * (path_of(request).count("/") - 1) + thanks_page, 303)
        target = self._next(fields) or f"{self._public_url}/{thanks_page}"
        sentence = translate(language, THANKS)
        return _json(200, {"success": True, "ok": True, "message": sentence, "id": receipt.id, "next": target})

    def tell(self, request: Request, page: str, *, sentence: str, about: str) -> Response:
        """Say by the page, or to a program in a sentence, what was done about a message; to be kept by no cache."""
        headers = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex"}
        # A link is opened by a person, unless the request says otherwise.
        is_opened = request.method in {"GET", "HEAD"} and "json" not in request.headers.get("accept", "").lower()
        if is_opened or not wants_json(request):
            return HTMLResponse(page, headers=headers)
        told = {"success": True, "ok": True, "message": sentence, "id": about, "next": f"{self._public_url}/"}
        return _json(200, told, headers)

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Say what is wrong, in the one JSON shape or as a page that shows the visitor's text again."""
        known = error if isinstance(error, PillarboxError) else _of_the_framework(error)
        status = STATUS[type(known)]
        if request.method == "POST":
            tell("turned_away", level="debug", code=_code(known), form=self._form.slug)
        if status == 503 and path_of(request) == OWN_FORM_POSTS_TO:
            status = 500
        headers = _headers(known, error)
        fields = {} if isinstance(known, TooMany) and known.is_flooding else await _sent(request, status)
        language = self.language(request, fields)
        if wants_json(request):
            return _json(status, _failure(known, language), headers)
        page, more = self._page(request, known, language, status, fields)
        return HTMLResponse(page, status, {**headers, **more})

    def _page(
        self, request: Request, error: PillarboxError, language: str, status: int, fields: Fields
    ) -> tuple[str, Mapping[str, str]]:
        """Return the page, and the headers that it needs."""
        labels = {field.name: translate(language, field.label) for field in self._form.fields}
        written = [
            (name, value)
            for name, values in fields.items()
            for value in values
            if isinstance(value, str) and value and is_answer(name)
        ]
        path = path_of(request)
        sentence = translate(language, error.sentence, **error.values)
        faults = {fault.field: _fault_sentence(fault, language) for fault in _field_errors(error)}
        if path == OWN_FORM_POSTS_TO and (written or faults) and all(name in labels for name, _ in written):
            again = dict(written) | {STAMP: next((sent for sent in fields.get(STAMP, ()) if isinstance(sent, str)), "")}
            page = self._pages.form(language, values=again, errors=faults, alert=sentence, path=path)
            return page, self._pages.form_headers
        named = " ".join(f"{labels.get(name, name)}: {fault}" for name, fault in faults.items())
        page = self._pages.failure(
            language,
            title=translate(language, OWN_TITLES.get(type(error), TITLES[status])),
            sentence=named or sentence,
            written=[(labels.get(name, name), value) for name, value in written],
            path=path,
        )
        return page, {}

    def _next(self, fields: Fields) -> str:
        """Return where the form asks us to go, or an empty text when it may not, or does not."""
        asked = next((value for value in fields.get("_next", ()) if isinstance(value, str)), "")
        return asked if asked and self._may_go_to(asked) else ""

    def _may_go_to(self, target: str) -> bool:
        r"""Tell whether a redirect stays with us or goes to an allowed origin; `//`, `\` and controls never do."""
        if len(target) > 2_000 or not _PLAIN_URL.fullmatch(target):
            return False
        if target.startswith("/"):
            return not target.startswith("//")
        scheme, colon, rest = target.partition("://")
        return f"{scheme}{colon}{_AUTHORITY_ENDS.split(rest, maxsplit=1)[0]}" in self._form.origins


_PLAIN_URL = re.compile(r"[!-\[\]-~]+")
"""Visible ASCII without the backslash, which browsers take for a slash."""
_AUTHORITY_ENDS = re.compile("[/?#]")


def without_a_request(error: PillarboxError) -> tuple[int, bytes]:
    """Return status and JSON for a caller who sent nothing that can be read as a request: in English."""
    return STATUS[type(error)], json.dumps(_failure(error, "en")).encode()


def wants_json(request: Request) -> bool:
    """Tell whether a program asked: a JSON body, an Accept that prefers JSON, or a script's request headers."""
    headers = request.headers
    sent = media_type(headers)
    if sent == JSON or headers.get("x-requested-with") or headers.get("sec-fetch-mode") == "cors":
        return True
    for media_range in accepted_languages(headers.get("accept", "").lower()):  # the same grammar: names and weights
        if media_range.startswith(("text/html", "application/xhtml+xml")):
            return False
        if "json" in media_range:
            return True
    return sent not in {URLENCODED, MULTIPART}


def path_of(request: Request) -> str:
    """Return the path below our root as it was asked for, still escaped: a link relative to it counts its slashes."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.decode("latin-1").removeprefix(request.scope.get("root_path", ""))


def _json(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(content, ensure_ascii=False).encode(), status, headers, "application/json")


def _failure(error: PillarboxError, language: str) -> dict[str, Any]:
    sentence = translate(language, error.sentence, **error.values)
    failure: dict[str, Any] = {
        "success": False,
        "ok": False,
        "message": sentence,
        "error": sentence,
        "code": _code(error),
        "errors": [
            {"field": fault.field, "code": fault.code, "message": _fault_sentence(fault, language)}
            for fault in _field_errors(error)
        ],
    }
    return failure | dict(error.told) if isinstance(error, errors.MailFailing) else failure


def _code(error: PillarboxError) -> str:
    return error.errors[0].code if isinstance(error, InvalidFields) else error.code


def _field_errors(error: PillarboxError) -> tuple[errors.FieldError, ...]:
    return error.errors if isinstance(error, InvalidFields) else ()


def _fault_sentence(fault: errors.FieldError, language: str) -> str:
    return translate(language, fault.sentence, **fault.values)


def _headers(error: PillarboxError, cause: Exception) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(error.retry_after)
        headers |= {
            "RateLimit-Limit": str(error.limit),
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(error.retry_after),
            "RateLimit-Policy": f"{error.limit};w={error.period}",
        }
    elif isinstance(error, errors.NotKept | errors.NotNoted):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    elif isinstance(error, errors.TooLarge | errors.TooSlow):
        headers["Connection"] = "close"  # whatever else would come is not read
    elif isinstance(cause, HTTPException) and cause.headers and "Allow" in cause.headers:
        headers["Allow"] = cause.headers["Allow"]
    return headers


def _of_the_framework(error: Exception) -> PillarboxError:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return {404: errors.NotFound, 405: errors.MethodNotAllowed, 400: errors.Unreadable, 421: UnknownHost}.get(
        status, errors.Unexpected
    )()


async def _sent(request: Request, status: int) -> Fields:
    """Return what can be made out of the body, if it was read already or if a page will show it again."""
    may_be_shown = request.method == "POST" and status in SHOWING_THE_TEXT_AGAIN and not wants_json(request)
    return await read_leniently(request) if may_be_shown or has_read_body(request) else {}
