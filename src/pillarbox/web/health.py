"""Whether messages can be kept, cheaply and truly, and what is known of the way out."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pillarbox.core.errors import NotKept

PROBE_AT_MOST_EVERY = 5.0


class Health:
    """`beat` proves that the store can be written to, raising NotKept; `mail_is_failing` asks the store."""

    def __init__(self, beat: Callable[[], Awaitable[None]], mail_is_failing: Callable[[], bool]) -> None:
        self._beat = beat
        self._mail_is_failing = mail_is_failing
        self._asked_at = float("-inf")
        self._mail: str | None = None
        self._asking = asyncio.Lock()

    async def show(self, _request: Request) -> Response:
        """Answer 200 while messages can be kept; looked at anew at most every 5 s. Raises NotKept while they can't."""
        async with self._asking:
            if time.monotonic() - self._asked_at > PROBE_AT_MOST_EVERY:
                self._mail = await self._look()
                self._asked_at = time.monotonic()
            mail = self._mail
        if mail is None:
            raise NotKept
        return JSONResponse(
            {"success": True, "ok": True, "store": "ok", "mail": mail}, headers={"Cache-Control": "no-store"}
        )

    async def _look(self) -> str | None:
        """Return how the mail goes, or None when nothing can be kept."""
        try:
            await self._beat()
            return "failing" if await asyncio.to_thread(self._mail_is_failing) else "ok"
        except NotKept:
            return None
