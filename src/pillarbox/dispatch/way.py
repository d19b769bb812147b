"""A way out as its loop sees it: the transport, its schedule, its bounds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pillarbox.core.delivery import Outcome, Schedule
from pillarbox.core.letter import Letter, StillOurs, always
from pillarbox.store.claims import Claimed


class Transport(Protocol):
    """Takes letters out."""

    async def send(self, letter: Letter, still_ours: StillOurs = always) -> Outcome:
        """Send one letter and tell what became of it; failures of the outside are outcomes, not exceptions.

        `still_ours` is asked at the last moment in which the letter can be kept from leaving.
        """

    async def check(self) -> Outcome:
        """Tell whether the way is open, without sending anything."""

    async def close(self) -> None:
        """Let go of every connection."""


Compose = Callable[[Claimed], Letter]


@dataclass(frozen=True, slots=True)
class Way:
    """One way out: its name in the store, its transport, and how many letters that sends at once.

    `poll` (seconds) is how long the loop trusts that it would be woken. So many confirmations may leave within an hour,
    and so many to visitors of one network; None is no bound. `budget` is how many letters it may send in how many
    seconds. What waits while it is shut goes to `fallback`.
    More than `digest_above` letters of a form that have waited for long leave as one; None: never. After an outage of
    at least `tells` seconds the first owner's letter says what happened; None: it does not.
    """

    name: str
    transport: Transport
    connections: int
    schedule: Schedule
    poll: float
    confirmations_per_hour: int | None
    budget: tuple[tuple[int, float], ...] = ()
    fallback: str = ""
    digest_above: int | None = None
    tells: float | None = None
    confirmations_per_client: int | None = None
