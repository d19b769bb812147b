"""The front door: reads like the road."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pillarbox.core.errors import NotFound
from pillarbox.core.form import Form
from pillarbox.core.keys import Keys
from pillarbox.core.screening import Signal, foreign_origin
from pillarbox.core.stamp import STAMP
from pillarbox.core.submission import Incoming
from pillarbox.intake import Intake, Receipt
from pillarbox.telemetry import ACCEPTING, SIGNS, tallies, tell
from pillarbox.web.answering import Answers, path_of
from pillarbox.web.guards import ClientAddress
from pillarbox.web.limits import Limiter, Stamps
from pillarbox.web.pages import Pages
from pillarbox.web.reading import read_body, read_fields, read_key


@dataclass(frozen=True, slots=True)
class Front:
    """What a visitor meets. Where `origins` are named, a browser that comes from elsewhere is a sign of spam."""

    form: Form
    pages: Pages
    answers: Answers
    limiter: Limiter
    client_address: ClientAddress
    intake: Intake
    keys: Keys
    stamps: Stamps
    origins: frozenset[str] = frozenset()
    clock: Callable[[], float] = time.time

    async def show(self, request: Request) -> Response:
        """Show the form."""
        page = self.pages.form(self.answers.language(request))
        return HTMLResponse(page, headers={**_NOT_CACHED, **self.pages.form_headers})

    async def submit(self, request: Request) -> Response:
        """Take a message and thank for it once it is on disk."""
        began = time.perf_counter()
        client = self.keys.fingerprint(self.client_address(request))
        await read_body(request)
        await self.limiter.admit_anywhere(client)
        key = read_key(request)
        fields = await read_fields(request)
        language = self.answers.language(request, fields)
        page = self.stamps.page(fields.get(STAMP, ()))
        incoming = Incoming(fields, client, language, key, page)
        receipt = await self._accept(incoming, self._noticed(request, incoming))
        self._tell(receipt)
        response = self.answers.thank(request, receipt, fields, language)
        if not receipt.is_repeat:
            tallies.observe(ACCEPTING, time.perf_counter() - began)
        return response

    async def _accept(self, incoming: Incoming, noticed: tuple[Signal, ...]) -> Receipt:
        """Return the receipt; what makes no new message uses no stamp up."""
        receipt = None
        try:
            receipt = await self.intake.accept(incoming, self.form, now=self.clock(), noticed=noticed)
        finally:
            if receipt is None or receipt.is_repeat:
                self.stamps.give_back(incoming.page)
        return receipt

    def _noticed(self, request: Request, incoming: Incoming) -> tuple[Signal, ...]:
        """Return the signs of spam in how a message came."""
        headers = request.headers
        signs = (
            self.stamps.judge(incoming.fields.get(STAMP, ()), incoming.page),
            foreign_origin(headers.get("origin"), self.origins, host=headers.get("host", "")) if self.origins else None,
        )
        return tuple(sign for sign in signs if sign)

    async def thanks(self, request: Request) -> Response:
        """Thank without JavaScript, at an address that can be loaded again without sending again."""
        submission_id = request.query_params.get("id", "")
        if not _looks_like_an_id(submission_id):
            raise NotFound
        page = self.pages.thanks(self.answers.language(request), submission_id, path=path_of(request))
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    def _tell(self, receipt: Receipt) -> None:
        if receipt.is_repeat:
            tell("repeated", id=receipt.id, form=self.form.slug)
        elif receipt.held_for:
            tell("held", level="warning", id=receipt.id, form=self.form.slug, reasons=",".join(receipt.held_for))
            for sign in receipt.held_for:
                tallies.count(SIGNS, sign)
        else:
            tell("accepted", id=receipt.id, form=self.form.slug)


_NOT_CACHED = {"Cache-Control": "no-store", "Vary": "Accept-Language"}
"""One visitor's stamp is no other's."""


def _looks_like_an_id(text: str) -> bool:
    return len(text) == 14 and text.isascii() and text.replace("-", "").isalnum() and text.count("-") == 2
