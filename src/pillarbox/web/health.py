"""Whether messages can be kept, cheaply and truly, and whether mail gets through."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pillarbox.core.delivery import Purpose, State
from pillarbox.core.errors import MailFailing, NotFound, NotKept
from pillarbox.store.counts import Standing
from pillarbox.web.guards import ClientAddress
from pillarbox.web.mailbox import refuse_strangers

PROBE_AT_MOST_EVERY = 5.0
_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Insiders:
    """Who may see what is for operators: a program on this machine, or whoever shows the token (none while empty)."""

    token: str

    def refuse_others(self, request: Request) -> None:
        """Raise NotFound for anybody else. Who shows a token is judged by it alone, wherever it comes from."""
        shown = request.headers.get("authorization")
        if shown is None:
            if any(name == "via" or name.startswith("x-forwarded-") for name in request.headers):
                raise NotFound
            refuse_strangers(request)
        else:
            scheme, _, token = shown.partition(" ")
            ours = self.token.encode()
            # A header's bytes come as Latin-1, whatever they were.
            if scheme.lower() != "bearer" or not ours or not compare_digest(token.strip().encode("latin-1"), ours):
                raise NotFound

    def have(self, request: Request) -> bool:
        """Whether the request is an insider's."""
        try:
            self.refuse_others(request)
        except NotFound:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Mail:
    """How the mail goes, in owners' letters: how many wait, how old the oldest is (seconds), how many failed for good.

    `troubled` says that somebody has to look.
    """

    waiting: int
    oldest_seconds: float
    failed: int
    troubled: bool


def judge(standing: Standing, *, now: float, alarm_after: float) -> Mail:
    """Say how the mail goes at this time.

    It is in trouble while a way out is shut, while an owner's letter waits for longer than `alarm_after` seconds, and
    while one that failed for good is neither tried again nor called off.
    """
    owners = [pile for pile in standing.letters if pile.purpose == Purpose.NOTIFICATION]
    waiting = [pile for pile in owners if pile.state == State.WAITING]
    oldest = max((now - pile.oldest_at for pile in waiting), default=0.0)
    failed = sum(pile.number for pile in owners if pile.state == State.FAILED)
    return Mail(
        waiting=sum(pile.number for pile in waiting),
        oldest_seconds=round(max(oldest, 0.0), 1),
        failed=failed,
        troubled=bool(standing.shut or failed or oldest > alarm_after),
    )


class Health:
    """`beat` proves that the store can be written to, `survey` says how things stand; both raise NotKept.

    The store is looked at anew at most every 5 s, however many ask.
    """

    def __init__(
        self,
        beat: Callable[[], Awaitable[None]],
        survey: Callable[[], Standing],
        *,
        client_address: ClientAddress,
        insiders: Insiders,
        alarm_after: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._beat = beat
        self._survey = survey
        self._client_address = client_address
        self.insiders = insiders
        self._alarm_after = alarm_after
        self._asked_at = float("-inf")
        self._standing: Standing | None = None
        self._clock = clock
        self._asking = asyncio.Lock()

    async def show(self, request: Request) -> Response:
        """Answer 200 while messages can be kept. Raises NotKept while they can't.

        `you` is the client as the rate limit sees it, which shows whether TRUSTED_PROXIES is right.
        """
        mail = self._judge(await self._look())
        told = {"store": "ok", "mail": "failing" if mail.troubled else "ok", "you": self._client_address(request)}
        return JSONResponse({"success": True, "ok": True} | told, headers=_NO_STORE)

    async def show_mail(self, request: Request) -> Response:
        """Answer 200 while mail gets through. Raises MailFailing while it doesn't, NotKept while nobody can tell."""
        standing = await self._look()
        mail = self._judge(standing)
        told: dict[str, Any] = {
            "mail": "failing" if mail.troubled else "ok",
            "waiting": mail.waiting,
            "oldest_seconds": mail.oldest_seconds,
            "failed": mail.failed,
        }
        if self.insiders.have(request):
            told["ways"] = [{"name": way.name, "shut_since": way.since, "note": way.note} for way in standing.shut]
        if mail.troubled:
            raise MailFailing(told)
        return JSONResponse({"success": True, "ok": True} | told, headers=_NO_STORE)

    async def keeps(self) -> bool:
        """Whether messages can be kept."""
        try:
            await self._look()
        except NotKept:
            return False
        return True

    def _judge(self, standing: Standing) -> Mail:
        return judge(standing, now=self._clock(), alarm_after=self._alarm_after)

    async def _look(self) -> Standing:
        async with self._asking:
            if time.monotonic() - self._asked_at > PROBE_AT_MOST_EVERY:
                self._standing = await self._ask()
                self._asked_at = time.monotonic()
            if self._standing is None:
                raise NotKept
            return self._standing

    async def _ask(self) -> Standing | None:
        """Return how things stand, or None when nothing can be kept."""
        try:
            await self._beat()
            return await asyncio.to_thread(self._survey)
        except NotKept:
            return None
