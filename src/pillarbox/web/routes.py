"""Every URL, on one screen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message

from pillarbox.core.errors import PillarboxError, Unexpected
from pillarbox.web import openapi, unsubscribing
from pillarbox.web.assets import Assets
from pillarbox.web.front import Front
from pillarbox.web.guards import LastCatch, Refuse
from pillarbox.web.health import Health
from pillarbox.web.limits import Endpoint, Gate
from pillarbox.web.mailbox import Mailbox
from pillarbox.web.metrics import Metrics
from pillarbox.web.unsubscribing import Unsubscribing


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that is served; without a mailbox there is no /mail."""

    front: Front
    health: Health
    metrics: Metrics
    assets: Assets
    gate: Gate
    unsubscribing: Unsubscribing
    mailbox: Mailbox | None = None


def make(site: Site, *, lifespan: Any, guards: Sequence[Middleware] = ()) -> Starlette:
    """Return the web application behind its guards, the outermost first."""
    front, health, mailbox = site.front, site.health, site.mailbox
    routes = [
        Route("/api/contact", front.submit, methods=["POST"]),
        Route("/send-message", front.submit, methods=["POST"]),
        Route(unsubscribing.PATH, site.unsubscribing.confirm, methods=["POST"]),
    ]
    # A crowd that comes through a proxy nobody told us of must not make this machine's own health checks fail.
    watched: list[tuple[str, Endpoint]] = [
        ("/health", health.show),
        ("/health/mail", health.show_mail),
        ("/metrics", site.metrics.show),
    ]
    routes += [Route(path, site.gate(path, endpoint, spares=health.insiders.have)) for path, endpoint in watched]
    looked_at: list[tuple[str, Endpoint]] = [
        ("/openapi.json", _described(openapi.document(front.form))),
        ("/", front.show),
        ("/thanks", front.thanks),
        (unsubscribing.PATH, site.unsubscribing.show),
        ("/static/{name}", site.assets.serve),
    ]
    if mailbox:
        looked_at += [
            ("/mail", mailbox.list),
            ("/mail/{name}", mailbox.show),
            ("/mail/{name}/html", mailbox.html),
            ("/mail/{name}/source", mailbox.source),
        ]
    routes += [Route(path, site.gate(path, endpoint)) for path, endpoint in looked_at]
    web = Starlette(
        routes=routes,
        lifespan=lifespan,
        # What breaks within the guards is answered through them, with their headers, and with the body at hand.
        middleware=[*guards, Middleware(LastCatch, refuse=front.answers.refuse)],
        exception_handlers={
            PillarboxError: front.answers.refuse,
            HTTPException: front.answers.refuse,
            Exception: _outside(front.answers.refuse),
        },
    )
    web.router.redirect_slashes = False
    return web


def _outside(refuse: Refuse) -> Refuse:
    """Return what answers when a guard itself breaks: the framework's outermost layer, which has no body to read."""

    async def answer(request: Request, _error: Exception) -> Response:
        return await refuse(Request(request.scope, _nothing), Unexpected())

    return answer


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _described(document: dict[str, Any]) -> Any:
    async def describe(_request: Request) -> Response:
        return JSONResponse(document)

    return describe
