"""The front door: reads like the road."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pillarbox.core.errors import NotFound
from pillarbox.core.form import Form
from pillarbox.core.keys import Keys
from pillarbox.core.submission import Incoming
from pillarbox.intake import Intake, Receipt
from pillarbox.telemetry import ACCEPTING, SIGNS, tallies, tell
from pillarbox.web.answering import Answers, path_of
from pillarbox.web.guards import ClientAddress
from pillarbox.web.limits import Limiter
from pillarbox.web.pages import Pages
from pillarbox.web.reading import read_body, read_fields


@dataclass(frozen=True, slots=True)
class Front:
    """What a visitor meets."""

    form: Form
    pages: Pages
    answers: Answers
    limiter: Limiter
    client_address: ClientAddress
    intake: Intake
    keys: Keys
    clock: Callable[[], float] = time.time

    async def show(self, request: Request) -> Response:
        """Show the form."""
        return HTMLResponse(self.pages.form(self.answers.language(request)), headers=_CACHED_BY_LANGUAGE)

    async def submit(self, request: Request) -> Response:
        """Take a message and thank for it once it is on disk."""
        began = time.perf_counter()
        client = self.client_address(request)
        await read_body(request)
        self.limiter.admit(client)
        fields = await read_fields(request)
        language = self.answers.language(request, fields)
        incoming = Incoming(fields, self.keys.fingerprint(client), language)
        receipt = await self.intake.accept(incoming, self.form, now=self.clock())
        self._tell(receipt)
        response = self.answers.thank(request, receipt, fields, language)
        tallies.observe(ACCEPTING, time.perf_counter() - began)
        return response

    async def thanks(self, request: Request) -> Response:
        """Thank without JavaScript, at an address that can be loaded again without sending again."""
        submission_id = request.query_params.get("id", "")
        if not _looks_like_an_id(submission_id):
            raise NotFound
        page = self.pages.thanks(self.answers.language(request), submission_id, path=path_of(request))
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    def _tell(self, receipt: Receipt) -> None:
        if receipt.held_for:
            tell("held", level="warning", id=receipt.id, form=self.form.slug, reasons=",".join(receipt.held_for))
            for sign in receipt.held_for:
                tallies.count(SIGNS, sign)
        else:
            tell("accepted", id=receipt.id, form=self.form.slug)


_CACHED_BY_LANGUAGE = {"Cache-Control": "no-cache", "Vary": "Accept-Language"}


def _looks_like_an_id(text: str) -> bool:
    return len(text) == 14 and text.isascii() and text.replace("-", "").isalnum() and text.count("-") == 2
