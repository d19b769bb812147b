"""What the OpenAPI description says of bodies and answers that the routes read and write by themselves."""

from typing import Any

from pillarbox import __version__
from pillarbox.core.form import Form, Kind
from pillarbox.core.once import LONGEST_KEY

FAILURES = {
    400: "Something in the message is not as the form asks, or could not be read.",
    404: "There is nothing at this address.",
    405: "The address takes other methods.",
    408: "The body did not arrive within 30 seconds.",
    413: "More than the form takes.",
    415: "A media type or encoding that no form takes.",
    421: "A host that is not served here.",
    422: "The Idempotency-Key stands for another message.",
    429: "Too many messages from this client; Retry-After says when to come again.",
    431: "The request's head is over 64 KiB.",
    500: "A fault on our side; nothing was kept.",
    503: "The message could not be kept; Retry-After says when to try again.",
}

KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "What you call this message: however often it is sent under one key, it is kept and mailed once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[ -~]+$"},
}

_FIGURES: dict[str, Any] = {
    "waiting": {"type": "integer", "minimum": 0},
    "oldest_seconds": {"type": "number", "minimum": 0},
    "failed": {"type": "integer", "minimum": 0},
    "ways": {
        "type": "array",
        "description": "The ways out that are shut; only for this machine and for METRICS_TOKEN.",
        "items": {
            "type": "object",
            "required": ["name", "shut_since", "note"],
            "additionalProperties": False,
            "properties": {"name": {"type": "string"}, "shut_since": {"type": "number"}, "note": {"type": "string"}},
        },
    },
}
"""What is told of owners' letters, whether the mail goes well or not."""

SCHEMAS: dict[str, Any] = {
    "Success": {
        "type": "object",
        "required": ["success", "ok", "message", "id", "next"],
        "additionalProperties": False,
        "properties": {
            "success": {"const": True},
            "ok": {"const": True},
            "message": {"type": "string"},
            "id": {"type": "string", "pattern": "^[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}$"},
            "next": {"type": "string"},
        },
    },
    "Failure": {
        "type": "object",
        "required": ["success", "ok", "message", "error", "code", "errors"],
        "additionalProperties": False,
        "properties": {
            "success": {"const": False},
            "ok": {"const": False},
            "message": {"type": "string"},
            "error": {"type": "string"},
            "code": {"type": "string"},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "code", "message"],
                    "properties": {name: {"type": "string"} for name in ("field", "code", "message")},
                },
            },
        },
    },
    "Health": {
        "type": "object",
        "required": ["success", "ok", "store", "mail", "you"],
        "additionalProperties": False,
        "properties": {
            "success": {"const": True},
            "ok": {"const": True},
            "store": {"const": "ok"},
            "mail": {"enum": ["ok", "failing"]},
            "you": {"type": "string"},
        },
    },
    "MailHealth": {
        "type": "object",
        "required": ["success", "ok", "mail", "waiting", "oldest_seconds", "failed"],
        "additionalProperties": False,
        "properties": {"success": {"const": True}, "ok": {"const": True}, "mail": {"const": "ok"}} | _FIGURES,
    },
}
SCHEMAS["MailFailure"] = SCHEMAS["Failure"] | {
    "required": [*SCHEMAS["Failure"]["required"], "mail", "waiting", "oldest_seconds", "failed"],
    "properties": SCHEMAS["Failure"]["properties"] | {"mail": {"const": "failing"}} | _FIGURES,
}


def document(form: Form) -> dict[str, Any]:
    """Return the whole description (OpenAPI 3.1) of the API through which this form takes messages."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pillarbox", "version": __version__},
        "paths": {
            "/api/contact": {"post": {"summary": "Send a message"} | submission(form)},
            "/send-message": {"post": {"summary": "Send a message from the page"} | submission(form)},
            "/health": {"get": {"summary": "Say whether messages can be kept"} | health()},
            "/health/mail": {"get": {"summary": "Say whether mail gets through"} | mail_health()},
        },
        "components": {"schemas": SCHEMAS},
    }


def submission(form: Form) -> dict[str, Any]:
    """Return the description of a route that takes this form's messages."""
    schema = _body(form)
    answers = {"200": _answer("The message is kept.", "Success")}
    answers["303"] = {"description": "The same for a plain HTML form: on to the thanks page."}
    media_types = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
    return {
        "parameters": [KEY],
        "requestBody": {"required": True, "content": {media_type: {"schema": schema} for media_type in media_types}},
        "responses": answers | failures(),
    }


def health() -> dict[str, Any]:
    """Return the description of the health check."""
    answers = {"200": _answer("Messages can be kept.", "Health")}
    return {"responses": answers | failures(405, 421, 500, 503)}


def mail_health() -> dict[str, Any]:
    """Return the description of the check of the mail."""
    answers = {"200": _answer("Mail gets through.", "MailHealth")}
    broken = _answer("Mail does not get through (MAIL_FAILING), or nobody can tell (NOT_KEPT).", "Failure", pages=True)
    schemas = [{"$ref": f"#/components/schemas/{name}"} for name in ("MailFailure", "Failure")]
    broken["content"]["application/json"]["schema"] = {"oneOf": schemas}
    return {"responses": answers | failures(405, 421, 500) | {"503": broken}}


def failures(*codes: int) -> dict[str, Any]:
    """Return the descriptions of these failures, or of all."""
    return {
        str(code): _answer(text, "Failure", pages=True) for code, text in FAILURES.items() if not codes or code in codes
    }


def _answer(text: str, schema: str, *, pages: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    if pages:
        content["text/html"] = {"schema": {"type": "string"}}
    return {"description": text, "content": content}


def _body(form: Form) -> dict[str, Any]:
    texts = {"anyOf": [{"type": "string", "maxLength": 1_000}, {"type": "array", "items": {"type": "string"}}]}
    properties: dict[str, Any] = {}
    for field in form.fields:
        properties[field.name] = {"type": "string", "maxLength": field.max_length}
        if field.kind is Kind.EMAIL:
            properties[field.name]["format"] = "email"
        if field.required:
            properties[field.name]["minLength"] = 1
    return {
        "type": "object",
        "required": [field.name for field in form.fields if field.required],
        "properties": properties,
        "additionalProperties": texts,
    }
