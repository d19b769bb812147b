"""Every URL, on one screen."""

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pillarbox.core.errors import PillarboxError
from pillarbox.web import openapi
from pillarbox.web.assets import Assets
from pillarbox.web.front import Front
from pillarbox.web.guards import LastCatch
from pillarbox.web.health import Health
from pillarbox.web.mailbox import Mailbox


def make(front: Front, health: Health, *, assets: Assets, mailbox: Mailbox | None, lifespan: Any) -> Starlette:
    """Return the web application; without a mailbox there is no /mail."""
    routes = [
        Route("/send-message", front.submit, methods=["POST"]),
        Route("/api/contact", front.submit, methods=["POST"]),
        Route("/health", health.show),
        Route("/openapi.json", _described(openapi.document(front.form))),
        Route("/", front.show),
        Route("/thanks", front.thanks),
        Route("/static/{name}", assets.serve),
    ]
    if mailbox:
        routes += [
            Route("/mail", mailbox.list),
            Route("/mail/{name}", mailbox.show),
            Route("/mail/{name}/html", mailbox.html),
            Route("/mail/{name}/source", mailbox.source),
        ]
    web = Starlette(
        routes=routes,
        lifespan=lifespan,
        # Within the framework's own last catch, which would answer in plain text.
        middleware=[Middleware(LastCatch, refuse=front.answers.refuse)],
        exception_handlers={PillarboxError: front.answers.refuse, HTTPException: front.answers.refuse},
    )
    web.router.redirect_slashes = False
    return web


def _described(document: dict[str, Any]) -> Any:
    async def describe(_request: Request) -> Response:
        return JSONResponse(document)

    return describe
