"""How much is too much: one client is refused for a while, a form's flood is only held.

Counted in this process's memory; of several processes each counts for itself.
"""

import time
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pillarbox.core.errors import TooMany
from pillarbox.core.form import Form
from pillarbox.core.quota import Rate, admit
from pillarbox.web.guards import ClientAddress

Endpoint = Callable[[Request], Awaitable[Response]] | Callable[[Request], Response]
"""As in the framework: one that does not await runs in a thread."""


class Limiter:
    """Counts what clients ask for, in a bounded amount of memory."""

    MOST_CLIENTS = 50_000

    def __init__(self, rate: Rate | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._arrivals: dict[str, float] = {}

    def admit(self, client: str) -> None:
        """Count one; raises TooMany when this client has to wait."""
        rate = self._rate
        if rate is None:
            return
        now = self._clock()
        arrival, wait = admit(self._arrivals.get(client), rate, now)
        if wait > 0:
            raise TooMany(max(1, int(wait + 0.999)), rate.count, int(rate.period))
        if len(self._arrivals) >= self.MOST_CLIENTS:
            self._forget(now)
        self._arrivals[client] = arrival

    def _forget(self, now: float) -> None:
        """Drop who may send freely again; if that is nobody, the oldest half."""
        kept = {client: arrival for client, arrival in self._arrivals.items() if arrival > now}
        if len(kept) >= self.MOST_CLIENTS:
            kept = dict(list(kept.items())[len(kept) // 2 :])
        self._arrivals = kept


class Flood:
    """Counts messages by form and over all forms. It refuses nobody: that would be an attacker's off switch."""

    def __init__(self, form: Rate | None, site: Rate | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._form = form
        self._site = site
        self._clock = clock
        self._arrivals: dict[str, float] = {}

    def __call__(self, form: Form) -> bool:
        """Count one message and tell whether it came above a rate."""
        is_above_the_forms = self._is_above(form.slug, self._form)
        return self._is_above("", self._site) or is_above_the_forms

    def _is_above(self, whose: str, rate: Rate | None) -> bool:
        if rate is None:
            return False
        self._arrivals[whose], wait = admit(self._arrivals.get(whose), rate, self._clock())
        return wait > 0


class Gate:
    """Stands before whatever is only looked at: each address has a limit of its own for each client."""

    def __init__(self, rate: Rate | None, client_address: ClientAddress) -> None:
        self._limiter = Limiter(rate)
        self._client_address = client_address

    def __call__(self, path: str, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint behind the limit."""

        async def limited(request: Request) -> Response:
            self._limiter.admit(f"{path} {self._client_address(request)}")
            if iscoroutinefunction(endpoint):
                return cast(Response, await endpoint(request))
            return await run_in_threadpool(cast(Callable[[Request], Response], endpoint), request)

        return limited
