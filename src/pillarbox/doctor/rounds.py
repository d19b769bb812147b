"""All the steps in their order: what takes the network goes on side by side, each within its bound."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pillarbox.core.delivery import Outcome
from pillarbox.core.errors import NotKept
from pillarbox.doctor import Finding, look
from pillarbox.doctor.clock import examine_clock
from pillarbox.doctor.mail import MailWay, examine_way
from pillarbox.doctor.names import NameServer, Sender, examine_names
from pillarbox.doctor.public import Network, examine_public
from pillarbox.doctor.server import examine_server
from pillarbox.doctor.setup import examine_alarms, examine_folder, examine_settings
from pillarbox.doctor.store import (
    MOUNTS,
    examine_disk,
    examine_durability,
    examine_letters,
    examine_store,
)
from pillarbox.store.condition import Condition

_STORE_SECONDS, _MAIL_SECONDS, _NAMES_SECONDS, _PUBLIC_SECONDS = 10.0, 45.0, 20.0, 20.0


@dataclass(frozen=True, slots=True)
class Store:
    """The database: `beat` keeps something and raises NotKept, `condition` reads and raises it too."""

    place: str
    beat: Callable[[], Awaitable[None]]
    condition: Callable[[], Condition]
    path: Path | None = None
    """The database's file; None where it lies on a server, whose disk we can't see."""
    is_durable: bool = False
    clock: Callable[[], float] = time.time
    """The time that rows are compared with: the server's, where there is one."""
    processes: int = 1
    """How many of this machine's want connections."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A way out that is a folder; `check` tells whether mail can be put there."""

    path: Path
    check: Callable[[], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything there is to look at, as plain values."""

    sender: str
    recipients: Sequence[str]
    ways: Sequence[MailWay | Folder]
    store: Store
    public_url: str = ""
    trusted_proxies: Sequence[Network] = ()
    name_server: tuple[str, int] | None = None
    alarm_channels: int = 0
    alarms_need_the_mail: bool = False


async def examine(all_of_it: Installation) -> list[Finding]:
    """Return what is well and what is not, step by step, about a minute later at the worst. Never raises."""
    ahead: dict[str, float] = {}
    store, mail, names, public = await asyncio.gather(
        look("store", lambda: _store(all_of_it.store), within=_STORE_SECONDS),
        _mail(all_of_it, ahead.__setitem__),
        look("spf", lambda: _names(all_of_it), within=_NAMES_SECONDS),
        look("public", lambda: _public(all_of_it, ahead.__setitem__), within=_PUBLIC_SECONDS),
    )
    clock = await look("clock", lambda: _clock(all_of_it.store, ahead), within=_STORE_SECONDS)
    settings = examine_settings(all_of_it.sender, all_of_it.recipients, [_named(way) for way in all_of_it.ways])
    alarm = examine_alarms(all_of_it.alarm_channels, need_the_mail=all_of_it.alarms_need_the_mail)
    return [settings, *store, *clock, *mail, *names, *public, alarm]


def _named(way: MailWay | Folder) -> str:
    return f"the folder {way.path}" if isinstance(way, Folder) else f"{way.server.host}:{way.server.port}"


async def _store(store: Store) -> list[Finding]:
    kept = await examine_store(store.beat, where=store.place)
    if kept.verdict == "fail":
        return [kept, *await asyncio.to_thread(_disk, store)]
    try:
        condition = await asyncio.to_thread(store.condition)
    except NotKept:
        unread = Finding("letters", "fail", "what is kept can't be read", "Look into the database's rights.")
        return [kept, *await asyncio.to_thread(_disk, store), unread]
    letters = examine_letters(condition, now=store.clock())
    server = examine_server(condition.server, processes=store.processes) if condition.server else []
    return [kept, *examine_durability(condition), *server, *await asyncio.to_thread(_disk, store), *letters]


def _disk(store: Store) -> list[Finding]:
    if store.path is None:
        return []
    mounts = MOUNTS.read_text(errors="replace") if MOUNTS.exists() else ""
    return examine_disk(store.path, mounts=mounts, is_durable=store.is_durable)


async def _clock(store: Store, ahead: dict[str, float]) -> list[Finding]:
    try:
        newest_at = (await asyncio.to_thread(store.condition)).newest_at
    except NotKept:
        newest_at = None
    if store.path is None:
        ahead["the database"] = store.clock() - time.time()
    return [examine_clock(time.time(), newest_at=newest_at, ahead=ahead)]


async def _mail(all_of_it: Installation, hear: Callable[[str, float], None]) -> Iterable[Finding]:
    looks = [look("mail", _look_at(way, hear), within=_MAIL_SECONDS) for way in all_of_it.ways]
    return [one for found in await asyncio.gather(*looks) for one in found]


def _look_at(way: MailWay | Folder, hear: Callable[[str, float], None]) -> Callable[[], Awaitable[list[Finding]]]:
    async def at_a_folder(folder: Folder) -> list[Finding]:
        return examine_folder(await folder.check(), folder.path)

    return lambda: at_a_folder(way) if isinstance(way, Folder) else examine_way(way, hear=hear)


async def _names(all_of_it: Installation) -> list[Finding]:
    """Look at each sender once, however many ways have it."""
    senders = {
        Sender(way.sender, way.server.username if way.server.password else "", way.server.host): None
        for way in all_of_it.ways
        if isinstance(way, MailWay)
    }
    names = NameServer(all_of_it.name_server)
    found = await asyncio.gather(*(examine_names(sender, names) for sender in senders))
    return list(dict.fromkeys(one for each in found for one in each))


async def _public(all_of_it: Installation, hear: Callable[[str, float], None]) -> list[Finding]:
    trusted = all_of_it.trusted_proxies
    return await examine_public(all_of_it.public_url, trusted=trusted, now=time.time(), hear=hear)
