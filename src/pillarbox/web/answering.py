"""A receipt or an error becomes a page, a redirect or JSON: the only place that chooses."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from pillarbox.core import errors
from pillarbox.core.errors import N_, InvalidFields, PillarboxError, TooMany, UnknownHost
from pillarbox.core.form import Form
from pillarbox.intake import Receipt
from pillarbox.web.pages import Pages
from pillarbox.web.reading import JSON, MULTIPART, URLENCODED, Body, Fields, read_body, read_leniently
from pillarbox.wording import accepted_languages, choose_language, translate

THANKS = N_("Thank you for your message!")
RETRY_AFTER_SECONDS = 5

STATUS: Mapping[type[PillarboxError], int] = {
    errors.InvalidFields: 400,
    errors.Unreadable: 400,
    errors.TooManyFields: 400,
    errors.NoFileUploads: 400,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.UnknownHost: 421,
    errors.TooMany: 429,
    errors.Unexpected: 500,
    errors.NotKept: 503,
}
TITLES: Mapping[int, str] = {
    400: N_("That could not be read"),
    404: N_("Nothing here"),
    405: N_("Not like this"),
    413: N_("Too much at once"),
    415: N_("Not in this form"),
    421: N_("Not this site"),
    429: N_("One moment, please"),
    500: N_("Not sent"),
    503: N_("Not sent"),
}
NOT_KEPT_IS_500 = "/send-message"
"""Design A's clients know 500 for "could not be kept"; everywhere else it is 503."""


class Answers:
    """How this form's visitors are answered."""

    def __init__(self, form: Form, pages: Pages, *, public_url: str = "") -> None:
        self._form = form
        self._pages = pages
        self._public_url = public_url

    def language(self, request: Request, fields: Mapping[str, object] | None = None) -> str:
        """Return the visitor's language: `_language` if sent, for a page what the browser accepts, else the form's."""
        asked = (fields or {}).get("_language")
        wanted = [value for value in (asked if isinstance(asked, tuple) else ()) if isinstance(value, str)]
        if not wanted and not wants_json(request):
            wanted = accepted_languages(request.headers.get("accept-language", ""))
        return choose_language([tag[:35] for tag in wanted], self._form.language)

    def thank(self, request: Request, receipt: Receipt, fields: Fields, language: str) -> Response:
        """Say that the message is kept."""
        if not wants_json(request):
            # Relative, so that it also holds below a prefix that a proxy takes away.
            thanks_page = "../" * (request.url.path.count("/") - 1) + f"thanks?id={quote(receipt.id)}"
            return RedirectResponse(self._next(fields) or thanks_page, 303)
        target = self._next(fields) or f"{self._public_url}/thanks?id={quote(receipt.id)}"
        sentence = translate(language, THANKS)
        return _json(200, {"success": True, "ok": True, "message": sentence, "id": receipt.id, "next": target})

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Say what is wrong, in the one JSON shape or as a page that shows the visitor's text again."""
        known = error if isinstance(error, PillarboxError) else _of_the_framework(error)
        status = STATUS[type(known)]
        if status == 503 and request.url.path == NOT_KEPT_IS_500:
            status = 500
        body = await _body_of(request)
        written = read_leniently(body) if body else []
        language = self.language(request, {name: (value,) for name, value in _control_fields(body)})
        headers = _headers(known, error)
        if wants_json(request):
            return _json(status, _failure(known, language), headers)
        return HTMLResponse(self._page(request, known, language, status, written), status, headers)

    def _page(
        self, request: Request, error: PillarboxError, language: str, status: int, written: list[tuple[str, str]]
    ) -> str:
        sentence = translate(language, error.sentence, **error.values)
        own = {field.name for field in self._form.fields}
        if request.url.path == "/send-message" and written and all(name in own for name, _ in written):
            faults = {fault.field: _fault_sentence(fault, language) for fault in _field_errors(error)}
            return self._pages.form(
                language, values=dict(written), errors=faults, alert=sentence, path=request.url.path
            )
        labels = {field.name: translate(language, field.label) for field in self._form.fields}
        return self._pages.failure(
            language,
            title=translate(language, TITLES[status]),
            sentence=sentence,
            written=[(labels.get(name, name), value) for name, value in written],
            path=request.url.path,
        )

    def _next(self, fields: Fields) -> str:
        """Return where the form asks us to go, or an empty text when it may not, or does not."""
        asked = next((value for value in fields.get("_next", ()) if isinstance(value, str)), "")
        return asked if self._may_go_to(asked) else ""

    def _may_go_to(self, target: str) -> bool:
        r"""Tell whether a redirect stays with us or goes to an allowed origin; `//`, `\` and controls never do."""
        if (
            not target
            or len(target) > 2_000
            or "\\" in target
            or not target.isascii()
            or not target.isprintable()
            or " " in target
        ):
            return False
        if target.startswith("/"):
            return not target.startswith("//")
        try:
            parts = urlsplit(target)
        except ValueError:
            return False
        return f"{parts.scheme}://{parts.netloc}" in self._form.origins


def wants_json(request: Request) -> bool:
    """Tell whether a program asked: a JSON body, an Accept that prefers JSON, or a script's request headers."""
    headers = request.headers
    if headers.get("content-type", "").partition(";")[0].strip().lower() == JSON:
        return True
    if headers.get("x-requested-with") or headers.get("sec-fetch-mode") == "cors":
        return True
    accept = headers.get("accept", "")[:1_000].lower()
    if "text/html" in accept:
        return 0 <= accept.find("application/json") < accept.find("text/html")
    posted_by_a_form = headers.get("content-type", "").lower().startswith((URLENCODED, MULTIPART))
    return "json" in accept or not posted_by_a_form


def _json(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(content, ensure_ascii=False).encode(), status, headers, "application/json")


def _failure(error: PillarboxError, language: str) -> dict[str, Any]:
    sentence = translate(language, error.sentence, **error.values)
    failure: dict[str, Any] = {
        "success": False,
        "ok": False,
        "message": sentence,
        "error": sentence,
        "code": error.code,
        "errors": [
            {"field": fault.field, "code": fault.code, "message": _fault_sentence(fault, language)}
            for fault in _field_errors(error)
        ],
    }
    if isinstance(error, InvalidFields):
        failure["code"] = error.errors[0].code
    return failure


def _field_errors(error: PillarboxError) -> tuple[errors.FieldError, ...]:
    return error.errors if isinstance(error, InvalidFields) else ()


def _fault_sentence(fault: errors.FieldError, language: str) -> str:
    return translate(language, fault.sentence, **fault.values)


def _headers(error: PillarboxError, cause: Exception) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, errors.NotKept):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    elif isinstance(cause, HTTPException) and cause.headers and "Allow" in cause.headers:
        headers["Allow"] = cause.headers["Allow"]
    return headers


def _of_the_framework(error: Exception) -> PillarboxError:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return {404: errors.NotFound, 405: errors.MethodNotAllowed, 400: errors.Unreadable, 421: UnknownHost}.get(
        status, errors.Unexpected
    )()


async def _body_of(request: Request) -> Body | None:
    """Return what a plain form sent, for the page that shows it again; None for everybody else."""
    if request.method != "POST" or wants_json(request):
        known: Body | None = getattr(request.state, "body", None)
        return known
    try:
        return await read_body(request)
    except PillarboxError:
        return None


def _control_fields(body: Body | None) -> list[tuple[str, str]]:
    """Return `_language`, however the body says it, without believing anything else of it."""
    if body is None or b"_language" not in body.content:
        return []
    try:
        if body.media_type == JSON:
            found = json.loads(body.content)
            asked = found.get("_language") if isinstance(found, dict) else None
        else:
            asked = body.content.split(b"_language=")[1].split(b"&")[0].decode()
    except (ValueError, IndexError, RecursionError):
        return []
    return [("_language", asked)] if isinstance(asked, str) else []
