"""How much is too much: one client is refused for a while, a form's flood is only held.

Counted in this process's memory; of several processes each counts for itself.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from inspect import iscoroutinefunction
from math import ceil
from secrets import token_hex
from typing import Generic, TypeVar, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pillarbox.core import stamp
from pillarbox.core.errors import TooMany
from pillarbox.core.form import Form
from pillarbox.core.keys import Keys
from pillarbox.core.quota import Rate, admit
from pillarbox.core.screening import Signal
from pillarbox.web.guards import ClientAddress

T = TypeVar("T")

MOST_CLIENTS = 50_000
"""So many clients are remembered at most, in about 7 MB; so many that were refused as well."""

PATIENCE = Rate(20, 60.0)
"""So many refusals of one client are worth reading what it sent, so that a person sees the text again."""

Endpoint = Callable[[Request], Awaitable[Response]] | Callable[[Request], Response]
"""As in the framework: one that does not await runs in a thread."""


class Recent(Generic[T]):
    """Remembers something by name, at least for the `most // 2` names noted last, and never for more than `most`.

    Of two halves the older is dropped at once when the newer is full: that takes no search, however many names come.
    """

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._newer: dict[str, T] = {}
        self._older: dict[str, T] = {}

    def get(self, name: str) -> T | None:
        """Return what was noted last by this name; None when it never was, or is forgotten."""
        return self._newer[name] if name in self._newer else self._older.get(name)

    def note(self, name: str, what: T) -> None:
        """Remember this by the name, in the place of what was before."""
        if len(self._newer) >= self._half and name not in self._newer:
            self._older, self._newer = self._newer, {}
        self._newer[name] = what

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)


class Limiter:
    """Counts what clients ask for. A client that is refused loses nothing by having asked."""

    def __init__(
        self, rate: Rate | None, *, clock: Callable[[], float] = time.monotonic, most: int = MOST_CLIENTS
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._arrivals: Recent[float] = Recent(most)
        self._refusals: Recent[float] = Recent(most)

    def admit(self, client: str) -> None:
        """Count one; raises TooMany when this client has to wait, and says if it goes on as no person would."""
        rate = self._rate
        if rate is None:
            return
        now = self._clock()
        arrival, wait = admit(self._arrivals.get(client), rate, now)
        if wait > 0:
            refusal, patience = admit(self._refusals.get(client), PATIENCE, now)
            self._refusals.note(client, refusal)
            raise TooMany(ceil(wait), rate.count, int(rate.period), is_flooding=patience > 0)
        self._arrivals.note(client, arrival)


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

    def __call__(self, path: str, endpoint: Endpoint, *, spares: Callable[[Request], bool] | None = None) -> Endpoint:
        """Return the endpoint behind the limit, which does not count for whom it `spares`."""

        async def limited(request: Request) -> Response:
            if not (spares and spares(request)):
                self._limiter.admit(f"{path} {self._client_address(request)}")
            if iscoroutinefunction(endpoint):
                return cast(Response, await endpoint(request))
            return await run_in_threadpool(cast(Callable[[Request], Response], endpoint), request)

        return limited


class Stamps:
    """Makes the stamps that pages carry, and judges those that come back by their age and how often they did."""

    def __init__(self, keys: Keys, *, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        self._uses: Recent[int] = Recent(MOST_CLIENTS)

    def renewed(self, sent: str) -> str:
        """Return the stamp that was sent if it is ours, so that who corrects a form is not too fast; else a new one."""
        if sent and stamp.verified(self._keys, sent) is not None:
            return sent
        return stamp.make(self._keys, token_hex(6), now=self._clock())

    def judge(self, sent: Sequence[object]) -> Signal | None:
        """Count a use and return the sign of spam that it is, if any. None at all is no sign: programs have no page."""
        if not any(sent):
            return None
        signed = self._signed(sent)
        uses = self._uses.get(signed) or 0 if signed else 0
        if signed:
            self._uses.note(signed, uses + 1)
        return stamp.judge(signed, now=self._clock(), uses=uses)

    def give_back(self, sent: Sequence[object]) -> None:
        """Take back a use that came to nothing: whoever tries again, because we failed, is no robot for it."""
        if (signed := self._signed(sent)) and (uses := self._uses.get(signed)):
            self._uses.note(signed, uses - 1)

    def page(self, sent: Sequence[object]) -> str:
        """Return what names the page that a stamp of ours was on; empty for any other."""
        return self._signed(sent) or ""

    def _signed(self, sent: Sequence[object]) -> str | None:
        only = sent[0] if len(sent) == 1 else None
        return stamp.verified(self._keys, only) if isinstance(only, str) else None
