"""Several ways out over one store, each with its own scripted mail server, under a clock that the tests turn."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pillarbox.core.confirming import fold
from pillarbox.core.delivery import Purpose, Schedule
from pillarbox.core.letter import Letter
from pillarbox.dispatch import Dispatcher, Way
from pillarbox.store import submissions
from pillarbox.store.claims import Claimed
from pillarbox.store.keeper import Keeper
from pillarbox.store.submissions import Kept, NewDelivery
from tests.house import ADA, keeping, message, rows
from tests.servers.scripted_smtp import ScriptedSmtp
from tests.transports.letters import way_to

AN_HOUR = 3_600.0
A_DAY = 24 * AN_HOUR


class Clock:
    """The time of day, which stands still until a test turns it."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def compose(claimed: Claimed) -> Letter:
    """Compose a plain letter that says what a digest carries and what a preface tells; `broken` can't be composed."""
    messages = [one.id for one in claimed.submissions]
    if any(one.startswith("broken") for one in messages):
        raise RuntimeError("this can't be composed")
    delivery = claimed.delivery
    message_id = f"<{delivery.submission_id}.{delivery.purpose}@pillarbox.example>"
    preface = f"Preface: {claimed.preface[1]}\r\n" if claimed.preface else ""
    content = f"Message-ID: {message_id}\r\n{preface}Carries: {','.join(messages)}\r\n\r\nHello\r\n".encode()
    return Letter(str(delivery.id), message_id, "forms@pillarbox.example", delivery.recipient, content)


@dataclass
class Town:
    """Dispatchers that run, one a way, and their mail servers."""

    keeper: Keeper
    clock: Clock
    mail: dict[str, ScriptedSmtp] = field(default_factory=dict)
    dispatchers: dict[str, Dispatcher] = field(default_factory=dict)
    loops: "list[asyncio.Task[None]]" = field(default_factory=list)

    async def keep(self, way: str, *, form: str = "contact", number: int = 1, to: str = ADA, **about: Any) -> str:
        """Keep one message whose owner's letter (a confirmation for anybody but Ada) names this way."""
        purpose = Purpose.NOTIFICATION if to == ADA else Purpose.CONFIRMATION
        letter = NewDelivery(purpose, to, fold(to), way)
        kept = Kept(message(number, at=self.clock(), form=form, **about), (letter,))
        await self.keeper.run(submissions.keep, kept, size=1)
        return kept.submission.id

    async def keep_many(self, way: str, count: int, *, form: str = "contact", each: float = 0.0) -> None:
        """Keep so many messages, each so many seconds younger than the one before."""

        def kept(number: int) -> Kept:
            letter = NewDelivery(Purpose.NOTIFICATION, ADA, ADA, way)
            return Kept(message(number, at=self.clock() + number * each, form=form), (letter,))

        jobs = [self.keeper.run(submissions.keep, kept(number)) for number in range(count)]
        await asyncio.gather(*jobs)

    async def turn(self, seconds: float = 0.0) -> None:
        """Turn the clock and return once every dispatcher has done what was then to be done."""
        self.clock.now += seconds
        for dispatcher in self.dispatchers.values():
            dispatcher.wake()
        await self.rest()

    async def rest(self) -> None:
        """Return once no dispatcher has anything in hand or to look for."""
        deadline = time.monotonic() + 60
        while any(_is_busy(one) for one in self.dispatchers.values()):
            assert time.monotonic() < deadline, "they never came to rest"
            await asyncio.sleep(0.0005)

    async def ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        return await rows(self.keeper, question, *values)

    def begin(self, name: str) -> None:
        """Let this way's dispatcher run."""
        self.loops.append(asyncio.create_task(self.dispatchers[name].run()))


def _is_busy(dispatcher: Dispatcher) -> bool:
    return bool(dispatcher._tasks or dispatcher._wake.is_set() or dispatcher._claiming.locked())


def way(name: str, mail: ScriptedSmtp | None, **options: Any) -> Way:
    """Return a way out to a scripted server, or to a port where nothing listens."""
    made = Way(
        name=name,
        transport=way_to(mail) if mail else way_to(ScriptedSmtp(port=1)),
        connections=2,
        schedule=Schedule((10.0, 60.0, 300.0), 60.0),
        poll=AN_HOUR,
        confirmations_per_hour=None,
    )
    return replace(made, **options)


@asynccontextmanager
async def town(
    folder: Path, ways: dict[str, dict[str, Any]], *, jitter: Callable[[], float] = lambda: 1.0, begins: bool = True
) -> AsyncIterator[Town]:
    """Run a dispatcher for each of these ways (their options by their names) over one new store."""
    async with AsyncExitStack() as stack:
        keeper = await stack.enter_async_context(keeping(folder))
        made = Town(keeper, Clock())
        for name, options in ways.items():
            mail = made.mail[name] = await stack.enter_async_context(ScriptedSmtp())
            made.dispatchers[name] = Dispatcher(
                way(name, mail, **options), keeper=keeper, compose=compose, clock=made.clock, jitter=jitter
            )
            if begins:
                made.begin(name)
        try:
            yield made
        finally:
            await asyncio.gather(*(dispatcher.stop() for dispatcher in made.dispatchers.values()))
            await asyncio.gather(*made.loops)


def tries(mail: ScriptedSmtp) -> int:
    """How many letters a server was offered."""
    return len([line for _, line in mail.lines if line.startswith("MAIL")])


def carried(mail: ScriptedSmtp) -> list[Sequence[str]]:
    """Return the messages that each accepted letter was about, in order."""
    return [_field(one.content, b"Carries: ").split(",") for one in mail.accepted]


def prefaces(mail: ScriptedSmtp) -> list[str]:
    """Return what each accepted letter told of an outage; an empty text for those that told nothing."""
    return [_field(one.content, b"Preface: ") for one in mail.accepted]


def _field(content: bytes, name: bytes) -> str:
    return content.partition(name)[2].partition(b"\r\n")[0].decode() if name in content else ""
