"""GET /metrics: what all processes counted, and how things stand, as Prometheus and its kin read it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from pillarbox.core.errors import NotKept
from pillarbox.store.counts import Standing
from pillarbox.telemetry import Counts
from pillarbox.web.health import Health, Insiders

LOOK_AT_MOST_EVERY = 1.0
WAIT_AT_MOST = 3.0
"""Seconds that a scrape waits for the store to take what this process counted, and to say that it is well."""

Figures = tuple[Counts, Standing] | None
"""None while the store can't be read."""


class Books(Protocol):
    """Where counts and gauges are read."""

    async def flush(self) -> None:
        """Write down what this process counted."""

    def read(self) -> tuple[Counts, Standing]:
        """Return what was counted and how things stand. Raises NotKept when the store can't be read."""


class Metrics:
    """The page of figures; `ways` are the names of the ways out.

    Figures are read anew at most once a second, however many ask. What other processes counted may be ten seconds old.
    """

    def __init__(
        self,
        books: Books,
        health: Health,
        *,
        ways: Sequence[str],
        insiders: Insiders,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._books = books
        self._health = health
        self._ways = tuple(ways)
        self._insiders = insiders
        self._clock = clock
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._figures: Figures = None
        self._is_up = False
        self._flushing: asyncio.Task[None] | None = None

    async def show(self, request: Request) -> Response:
        """Answer with every figure, in the format that Accept asks for. Raises NotFound for all but insiders.

        While the store is away the page says that it is, and nothing else.
        """
        self._insiders.refuse_others(request)
        async with self._asking:
            if time.monotonic() - self._asked_at > LOOK_AT_MOST_EVERY:
                await self._look()
                self._asked_at = time.monotonic()
        content, media_type = await asyncio.to_thread(self._write, request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    async def _look(self) -> None:
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._books.flush())
        keeping = asyncio.create_task(self._health.keeps())
        # Neither is cancelled when it takes too long: what is on its way into the store is counted once it is there.
        await asyncio.wait([self._flushing, keeping], timeout=WAIT_AT_MOST)
        self._is_up = keeping.done() and keeping.result()
        self._figures = await asyncio.to_thread(self._read)

    def _read(self) -> Figures:
        try:
            return self._books.read()
        except NotKept:
            return None

    def _write(self, accept: str) -> tuple[bytes, str]:
        from pillarbox.web import exposition  # noqa: PLC0415 - a tenth of a second that a start has no use for

        if self._figures is None:
            return exposition.written(exposition.no_store(), accept)
        counts, standing = self._figures
        made = exposition.families(counts, standing, ways=self._ways, is_up=self._is_up, now=self._clock())
        return exposition.written(made, accept)
