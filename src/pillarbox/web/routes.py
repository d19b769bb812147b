"""Every URL, on one screen."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from pillarbox import __version__
from pillarbox.core.errors import PillarboxError
from pillarbox.web import openapi
from pillarbox.web.assets import Assets
from pillarbox.web.front import Front
from pillarbox.web.guards import LastCatch
from pillarbox.web.health import Health
from pillarbox.web.mailbox import Mailbox


def make(front: Front, health: Health, *, assets: Assets, mailbox: Mailbox | None, lifespan: Any) -> FastAPI:
    """Return the web application; without a mailbox there is no /mail."""
    web = FastAPI(
        title="Pillarbox",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    web.router.redirect_slashes = False

    def page(path: str, endpoint: Callable[..., Any]) -> None:
        web.add_api_route(path, endpoint, methods=["GET", "HEAD"], include_in_schema=False)

    def api(path: str, method: str, endpoint: Callable[..., Any], described: dict[str, Any]) -> None:
        web.add_api_route(path, endpoint, methods=[method], openapi_extra=described, response_model=None)

    api("/send-message", "POST", front.submit, openapi.submission(front.form))
    api("/api/contact", "POST", front.submit, openapi.submission(front.form))
    api("/health", "GET", health.show, openapi.health())
    web.add_api_route("/health", health.show, methods=["HEAD"], include_in_schema=False)

    page("/", front.show)
    page("/thanks", front.thanks)
    page("/static/{name}", assets.serve)
    if mailbox:
        page("/mail", mailbox.list)
        page("/mail/{name}", mailbox.show)
        page("/mail/{name}/html", mailbox.html)
        page("/mail/{name}/source", mailbox.source)

    web.add_exception_handler(PillarboxError, front.answers.refuse)
    web.add_exception_handler(HTTPException, front.answers.refuse)
    # Within the framework's own last catch, which would answer in plain text.
    web.add_middleware(LastCatch, refuse=front.answers.refuse)
    web.openapi = lambda: _described(web)  # type: ignore[method-assign]
    return web


def _described(web: FastAPI) -> dict[str, Any]:
    if not web.openapi_schema:
        described = get_openapi(title=web.title, version=web.version, routes=web.routes)
        for path in described["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # FastAPI's own; invalid input is 400 here
        described["components"] = {"schemas": openapi.SCHEMAS}
        web.openapi_schema = described
    return web.openapi_schema
