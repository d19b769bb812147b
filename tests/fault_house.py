"""A house whose mail server, or the way to it, is broken and then mended, with a store that tells what came of it."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pillarbox.core.delivery import Schedule
from pillarbox.core.letter import Letter
from pillarbox.dispatch import Dispatcher, Way
from pillarbox.intake import new_id
from pillarbox.store.claims import Claimed
from pillarbox.store.keeper import Keeper
from pillarbox.store.submissions import NewDelivery
from pillarbox.transports.smtp import SmtpServer, SmtpTransport
from tests.house import WAY, keep, keeping, rows, until
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.scripted_smtp import ScriptedSmtp

HALF_AN_HOUR = 1_800.0
AN_HOUR = 3_600.0
PATIENCE = {"connect_seconds": 5.0, "command_seconds": 5.0, "dot_seconds": 5.0, "goodbye_seconds": 0.2}
HASTE = {"command_seconds": 0.5, "dot_seconds": 0.5}
"""Short enough to be waited for, and long enough for whatever is not meant to be late."""
ACCOUNT = {"username": "ada", "password": "a secret"}


@dataclass(frozen=True)
class Fault:
    """What is wrong, and how the first letter's first attempt ends: blocked, deferred, refused or sent.

    The server answers by `script` and is as `server` says until it is mended; `settings` are ours all the time,
    `wrong` only until then, as are the server's `certificate` and the authority that we trust. A `door` stands where
    the server will be. `before`: another letter leaves first, with this script, and its connection is kept. The
    letter's note holds these `words`; the connection is closed if it `discards`; the server may hold so many `copies`
    of the letter in the end.
    """

    name: str
    ends: str
    script: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    wrong: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    certificate: str = "good"
    trusts: str = "good"
    door: Callable[[], AbstractContextManager[int]] | None = None
    before: Mapping[str, Any] | None = None
    words: str = ""
    discards: bool = False
    copies: int = 1
    octets: int = 100
    lease: float = 30.0


@dataclass(frozen=True)
class Standing:
    """A letter in the store after an attempt, and whether its way out is shut."""

    state: str
    outcome: str | None
    attempts: int
    shut: bool


class Authorities:
    """The certificates by name: `good`, of `another name`, `expired`, `none`; made once, each of its own authority."""

    def __init__(self, folder: Path) -> None:
        names = {"good": (), "another name": ("mail.elsewhere.example",), "expired": ()}
        self._made: dict[str, Certificates] = {}
        for name, hosts in names.items():
            (folder / name).mkdir()
            ended = datetime(2020, 1, 1, tzinfo=UTC) if name == "expired" else None
            self._made[name] = make_certificates(folder / name, *hosts, not_after=ended)

    def context(self, name: str) -> ssl.SSLContext:
        """Return a server's context; that of `none` has no certificate, so that every handshake fails."""
        return self._made[name].context if name in self._made else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def file(self, name: str) -> Path | None:
        """Return the authority's file for a client; None trusts the system's store alone."""
        return self._made[name].ca_file if name in self._made else None


class Desk:
    """A store, one dispatcher at a time, and a clock that can be turned ahead."""

    def __init__(self, keeper: Keeper, *, lease: float = 30.0) -> None:
        self._keeper, self._lease = keeper, lease
        self._ahead = 0.0
        self._octets: dict[str, int] = {}
        self._message_ids: dict[int, str] = {}

    def open(self, server: SmtpServer) -> None:
        """Let letters out through this server: what is put off, or shut, is tried again half an hour later."""
        way = Way(
            name=WAY,
            transport=SmtpTransport(server),
            connections=server.connections,
            schedule=Schedule((HALF_AN_HOUR,) * 3, HALF_AN_HOUR),
            poll=AN_HOUR,
            confirmations_per_hour=None,
        )
        self._dispatcher = Dispatcher(
            way, keeper=self._keeper, compose=self._compose, clock=self._clock, lease=self._lease
        )
        self._loop = asyncio.create_task(self._dispatcher.run())

    async def close(self) -> None:
        """Let nothing out any more."""
        await self._dispatcher.stop()
        await self._loop

    def let_an_hour_pass(self) -> None:
        """Turn the clock ahead, so that whatever waits is due."""
        self._ahead += AN_HOUR
        self._dispatcher.wake()

    async def keep(self, *letters: NewDelivery, octets: int = 100) -> int:
        """Keep a message with one letter of this size and return that delivery's id."""
        identifier = new_id()
        self._octets[identifier] = octets
        await keep(self._keeper, *letters, at=self._clock(), identifier=identifier)
        [(delivery,)] = await self._ask("SELECT id FROM deliveries WHERE submission_id = ?", identifier)
        self._message_ids[delivery] = _message_id(identifier)
        self._dispatcher.wake()
        return int(delivery)

    def message_id(self, delivery: int) -> str:
        """Return the Message-ID under which the letter leaves."""
        return self._message_ids[delivery]

    async def standing(self, delivery: int) -> Standing:
        """Return where the letter stands."""
        question = "SELECT state, outcome, attempts FROM deliveries WHERE id = ?"
        [(state, outcome, attempts)] = await self._ask(question, delivery)
        shut = await self._ask("SELECT 1 FROM ways WHERE shut_since IS NOT NULL")
        return Standing(state, outcome, attempts, bool(shut))

    async def was_tried(self, delivery: int) -> bool:
        """Whether an attempt at the letter has ended."""
        return bool(await self.history(delivery))

    async def is_in(self, state: str, delivery: int) -> bool:
        """Whether the letter is in this state."""
        return (await self.standing(delivery)).state == state

    async def history(self, delivery: int) -> list[str]:
        """Return how the attempts at a letter ended, in order."""
        question = "SELECT outcome FROM attempts WHERE delivery_id = ? ORDER BY id"
        return [outcome for (outcome,) in await self._ask(question, delivery)]

    async def note(self, delivery: int) -> str:
        """Return what is written down about the last attempt."""
        [(note,)] = await self._ask("SELECT note FROM deliveries WHERE id = ?", delivery)
        return str(note)

    async def suppressed(self) -> list[str]:
        """Return the mailboxes that get no confirmation."""
        return [mailbox for (mailbox,) in await self._ask("SELECT mailbox FROM suppressions")]

    async def claims(self, delivery: int) -> int:
        """Return how often the letter was claimed."""
        [(claim,)] = await self._ask("SELECT claim FROM deliveries WHERE id = ?", delivery)
        return int(claim)

    def _clock(self) -> float:
        return time.time() + self._ahead

    async def _ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        return await rows(self._keeper, question, *values)

    def _compose(self, claimed: Claimed) -> Letter:
        delivery = claimed.delivery
        message_id, text = _message_id(delivery.submission_id), "x" * self._octets[delivery.submission_id]
        content = f"Message-ID: {message_id}\r\nSubject: {delivery.purpose}\r\n\r\n{text}\r\n".encode()
        return Letter(str(delivery.id), message_id, "forms@pillarbox.example", delivery.recipient, content)


def _message_id(submission: str) -> str:
    return f"<{submission}@pillarbox.example>"


class FaultHouse(Desk):
    """One fault: a desk whose settings are wrong before they are right, and its mail server."""

    def __init__(self, fault: Fault, authorities: Authorities, keeper: Keeper) -> None:
        super().__init__(keeper, lease=fault.lease)
        self._fault, self._authorities = fault, authorities
        self._door, self._servers = ExitStack(), AsyncExitStack()
        port = self._door.enter_context(fault.door()) if fault.door else 0
        self.mail = ScriptedSmtp(port=port, accounts={ACCOUNT["username"]: ACCOUNT["password"]})

    async def begin(self) -> None:
        """Let letters out into what is wrong, after the one that is to leave before."""
        fault = self._fault
        self._equip(fault.certificate, fault.server)
        if fault.door is None:
            await self._servers.enter_async_context(self.mail)
        self.open(self._server({"ca_file": self._authorities.file(fault.trusts), **fault.wrong}))
        if fault.before is not None:
            self.mail.script(**fault.before)
            one_before = await self.keep()
            await until(lambda: self.is_in("sent", one_before))
            await until(lambda: not self.mail.open_connections or "IDLE" not in self.mail.scripted)
        self.mail.script(**fault.script)

    async def mend(self) -> None:
        """Make the server well and our settings right, and let an hour pass."""
        fault = self._fault
        self.mail.heal()
        self._equip("good", {})
        if fault.door is not None:
            self._door.close()
            await self._servers.enter_async_context(self.mail)
        if fault.wrong or fault.trusts != "good":
            await self.close()
            self.open(self._server({}))
        self.let_an_hour_pass()

    async def end(self) -> None:
        """Stop everything."""
        await self.close()
        await self._servers.aclose()
        self._door.close()

    def copies(self, delivery: int) -> int:
        """Return how often the server had the letter whole and took it, or may have taken it, since it did not say."""
        came = [taken for taken in self.mail.transactions if taken.message_id == self.message_id(delivery)]
        return len([taken for taken in came if taken.accepted or not taken.answer[:1].isdigit()])

    def _equip(self, certificate: str, server: Mapping[str, Any]) -> None:
        well = {"auth": ("PLAIN", "LOGIN"), "context": self._authorities.context(certificate)}
        for name, value in {**well, **server}.items():
            setattr(self.mail, name, value)

    def _server(self, wrong: Mapping[str, Any]) -> SmtpServer:
        usual = {"host": self.mail.host, "port": self.mail.port, "security": "plain", "connections": 2, **PATIENCE}
        usual |= {"ca_file": self._authorities.file("good"), **self._fault.settings}
        return SmtpServer(**{**usual, **wrong})


@asynccontextmanager
async def troubled(fault: Fault, authorities: Authorities, *, folder: Path) -> AsyncIterator[FaultHouse]:
    """Run a house with this fault, over a new store in the folder."""
    async with keeping(folder) as keeper:
        house = FaultHouse(fault, authorities, keeper)
        await house.begin()
        try:
            yield house
        finally:
            await house.end()


@contextmanager
def nobody() -> Iterator[int]:
    """Yield a port at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def a_full_house() -> Iterator[int]:
    """Yield a port whose queue is full, so that the kernel answers nobody who comes."""
    with ExitStack() as open_sockets:
        listening, *callers = [open_sockets.enter_context(socket.socket()) for _ in range(4)]
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
