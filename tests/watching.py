"""A store, and who looks after it: for the tests of alarms and pings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pillarbox.alarms import Alarms, Wording
from pillarbox.channels import Channel
from pillarbox.channels.webhook import WebhookChannel
from pillarbox.core.alarm import Bounds
from pillarbox.fetching import Fetcher
from pillarbox.store.keeper import Keeper
from pillarbox.store.sqlite_file import SqliteStore
from tests.house import WAY, keep, open_store, rows
from tests.servers.http_sink import LOOPBACK, HttpSink

NOON = 1_800_000_000.0
BOUNDS = Bounds(after=900.0)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class House:
    """A store with a keeper, and who looks after it: one sink hears the alarms by webhook."""

    def __init__(self, store: SqliteStore, keeper: Keeper, sink: HttpSink) -> None:
        self.store, self.keeper, self.sink = store, keeper, sink
        self.clock = Clock()
        self.fetcher = Fetcher(connect_seconds=2, total_seconds=2, private=LOOPBACK)
        self.hook = WebhookChannel(f"{sink.url}/hook", fetcher=self.fetcher)
        self.alarms = self.looking(self.hook)

    def looking(self, *channels: Channel, keeper: Keeper | None = None, bounds: Bounds = BOUNDS) -> Alarms:
        """Return somebody who looks for trouble, and tells it through these channels."""
        wording = Wording("Ada's shop", {WAY: "smtp.example.org"})
        made = keeper or self.keeper
        return Alarms(made, self.store, channels=channels, bounds=bounds, wording=wording, clock=self.clock)

    async def look(self, *, after: float = 0.0) -> list[str]:
        """Look so many seconds later; return what the sink heard by it."""
        self.clock.now += after
        before = len(self.sink.asked)
        await self.alarms.look()
        return [f"{asked.said['event']} {asked.said['kind']}" for asked in self.sink.asked[before:]]

    async def shut(self, *, since: float, note: str = "535 5.7.8 bad credentials") -> None:
        """Have the way out shut since then."""
        await self.open()
        await rows(self.keeper, "INSERT INTO ways (name, shut_since, note) VALUES (?, ?, ?)", WAY, since, note)

    async def open(self) -> None:
        """Have the way out open."""
        await rows(self.keeper, "DELETE FROM ways")

    async def letter(self, *, age: float, state: str = "waiting", outcome: str | None = None, note: str = "") -> None:
        """Have an owner's letter of this age, in this state."""
        identifier = await keep(self.keeper, at=self.clock.now - age)
        settled_at = None if state == "waiting" else self.clock.now
        change = "UPDATE deliveries SET state = ?, outcome = ?, note = ?, settled_at = ? WHERE submission_id = ?"
        await rows(self.keeper, change, state, outcome, note, settled_at, identifier)

    async def settle_all(self) -> None:
        """Have every letter sent long ago."""
        await rows(self.keeper, "UPDATE deliveries SET state = 'sent', outcome = 'sent', settled_at = 1")

    async def alarm_rows(self) -> list[tuple[object, ...]]:
        """Return what the store knows of alarms."""
        return await rows(self.keeper, "SELECT key, told FROM alarms ORDER BY key")


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[House]:
    """Give a house over a new store in the folder while the block runs."""
    store = open_store(folder)
    keeper = Keeper(store)
    keeper.start()
    with HttpSink().running() as sink:
        made = House(store, keeper, sink)
        yield made
        await made.fetcher.close()
    await keeper.close()
    store.close()
