"""How much is too much: one client is refused for a while, a form's flood is only held.

Counted in this process's memory, and what passes there over all processes where they share a store that can count.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from inspect import iscoroutinefunction
from math import ceil
from secrets import token_hex
from typing import Generic, NoReturn, TypeVar, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pillarbox.core import stamp
from pillarbox.core.errors import NotKept, TooMany
from pillarbox.core.form import Form
from pillarbox.core.keys import Keys
from pillarbox.core.quota import Rate, admit, give_back
from pillarbox.core.screening import Signal
from pillarbox.web.guards import ClientAddress

T = TypeVar("T")

MOST_CLIENTS = 50_000
"""So many clients are remembered at most, in about 7 MB; so many that were refused as well."""

PATIENCE = Rate(20, 60.0)
"""So many refusals of one client are worth reading what it sent, so that a person sees the text again."""

PATIENCE_SECONDS, REST_SECONDS = 1.0, 5.0
"""How long a visitor waits for a count over all processes, and for how long nobody asks when it did not come."""

Count = Callable[[str, Rate, int], Awaitable[float]]
"""Counts so many more by a name over all processes, or takes one back with -1; returns the seconds to wait, 0 when
there is room. Raises NotKept."""

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


class Everywhere:
    """Counts over all processes. While that can't be done it finds room for everybody: nobody is refused for it."""

    def __init__(
        self, count: Count, *, patience: float = PATIENCE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = count
        self._patience = patience
        self._clock = clock
        self._not_before = clock()

    async def wait(self, name: str, rate: Rate) -> float:
        """Count one and return the seconds to wait, 0 when there is room."""
        return await self._ask(name, rate, 1)

    async def give_back(self, name: str, rate: Rate) -> None:
        """Take back one that was counted."""
        await self._ask(name, rate, -1)

    async def _ask(self, name: str, rate: Rate, number: int) -> float:
        if self._clock() < self._not_before:
            return 0.0
        try:
            async with asyncio.timeout(self._patience):
                return await self._count(name, rate, number)
        except (NotKept, TimeoutError):
            self._not_before = self._clock() + REST_SECONDS
            return 0.0


class Limiter:
    """Counts what clients ask for. A client that is refused loses nothing by having asked."""

    def __init__(
        self,
        rate: Rate | None,
        *,
        everywhere: Everywhere | None = None,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST_CLIENTS,
    ) -> None:
        self._rate = rate
        self._everywhere = everywhere
        self._clock = clock
        self._arrivals: Recent[float] = Recent(most)
        self._refusals: Recent[float] = Recent(most)

    def admit(self, client: str) -> None:
        """Count one; raises TooMany when this client has to wait, and says if it goes on as no person would."""
        rate = self._rate
        if rate is None:
            return
        arrival, wait = admit(self._arrivals.get(client), rate, self._clock())
        if wait > 0:
            self._refuse(client, rate, wait)
        self._arrivals.note(client, arrival)

    async def admit_anywhere(self, client: str) -> None:
        """Count one as admit() does, and then over all processes: of each client it is the same whom it asks."""
        self.admit(client)
        if self._rate is None or self._everywhere is None:
            return
        if wait := await self._everywhere.wait(f"post {client}", self._rate):
            # Until then it is refused here, without asking anybody.
            self._arrivals.note(client, self._clock() + wait + self._rate.period - self._rate.period / self._rate.count)
            self._refuse(client, self._rate, wait)

    def _refuse(self, client: str, rate: Rate, wait: float) -> NoReturn:
        refusal, patience = admit(self._refusals.get(client), PATIENCE, self._clock())
        self._refusals.note(client, refusal)
        raise TooMany(ceil(wait), rate.count, int(rate.period), is_flooding=patience > 0)


class Flood:
    """Counts messages by form and over all forms. It refuses nobody: that would be an attacker's off switch."""

    def __init__(
        self,
        form: Rate | None,
        site: Rate | None,
        *,
        everywhere: Everywhere | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._form = form
        self._site = site
        self._everywhere = everywhere
        self._clock = clock
        self._arrivals: dict[str, float] = {}

    async def count(self, form: Form) -> bool:
        """Count one message and tell whether it came above a rate."""
        waits = [self._wait(name, rate) for name, rate in self._rates(form)]
        if self._everywhere and not any(waits):
            waits = await asyncio.gather(*(self._everywhere.wait(name, rate) for name, rate in self._rates(form)))
        return any(waits)

    async def give_back(self, form: Form) -> None:
        """Take back a message that was counted and did not come above a rate."""
        for name, rate in self._rates(form):
            self._arrivals[name] = give_back(self._arrivals[name], rate)
        if self._everywhere:
            await asyncio.gather(*(self._everywhere.give_back(name, rate) for name, rate in self._rates(form)))

    def _rates(self, form: Form) -> Iterator[tuple[str, Rate]]:
        if self._form:
            yield f"form {form.slug}", self._form
        if self._site:
            yield "site", self._site

    def _wait(self, name: str, rate: Rate) -> float:
        self._arrivals[name], wait = admit(self._arrivals.get(name), rate, self._clock())
        return wait


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

    def page(self, sent: Sequence[object]) -> str:
        """Return what is signed in a stamp of ours, which names the page that it was on; empty for any other."""
        only = sent[0] if len(sent) == 1 else None
        return (stamp.verified(self._keys, only) or "") if isinstance(only, str) else ""

    def judge(self, sent: Sequence[object], page: str) -> Signal | None:
        """Count a use of the page and return the sign of spam that it is, if any.

        `page` is what page() found in what was sent. None sent at all is no sign: programs have no page.
        """
        if not any(sent):
            return None
        uses = self._uses.get(page) or 0
        if page:
            self._uses.note(page, uses + 1)
        return stamp.judge(page or None, now=self._clock(), uses=uses)

    def give_back(self, page: str) -> None:
        """Take back a use that made no message: whoever tries again, or sends it twice, is no robot for it."""
        if uses := self._uses.get(page):
            self._uses.note(page, uses - 1)
