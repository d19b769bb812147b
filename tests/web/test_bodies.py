"""Bodies in hand are counted as they come: neither one visitor nor a crowd fills the memory with them."""

import asyncio
import json
import socket
from contextlib import ExitStack, suppress

import pytest
from starlette.requests import Request
from tests.asking import BROWSER, FORM, JSON, Answer, assert_failure, assert_thanks, read_answer, resident_bytes
from tests.house import until
from tests.running import BOB
from tests.running import until as until_sync

from pillarbox.core.errors import NotKept, PillarboxError, TooMany
from pillarbox.web import bodies
from pillarbox.web.bodies import BodiesInHand
from pillarbox.web.guards import ClientAddress
from pillarbox.web.reading import read_body

HUNDRED = b"x" * 100


class Visitor:
    """Sends a body of hundreds piece by piece through the guard; `told` is what became of reading it."""

    def __init__(self, guard: BodiesInHand, host: str) -> None:
        self.told: object = None
        self.shown = b""
        self._pieces: asyncio.Queue[dict] = asyncio.Queue()
        self._over = asyncio.Event()
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "client": (host, 1), "visitor": self}
        self.request = asyncio.create_task(guard(scope, self._pieces.get, self._pieces.put))

    async def send(self, *, last: bool = False) -> None:
        self._pieces.put_nowait({"type": "http.request", "body": HUNDRED, "more_body": not last})
        await until(self._pieces.empty)

    async def send_last(self) -> object:
        """Send the last piece and return what became of the body."""
        await self.send(last=True)
        await until(lambda: self.told is not None)
        return self.told

    async def leave(self) -> None:
        self._over.set()
        await self.request

    async def read(self, request: Request) -> None:
        """Be the application: read the body, and hold it until the visitor leaves."""
        try:
            self.told = len((await read_body(request)).content)
        except PillarboxError as refusal:
            self.told = refusal
            self.shown = (await read_body(request)).content
        await self._over.wait()


@pytest.fixture
def bounds(monkeypatch):
    monkeypatch.setattr(bodies, "MAX_BYTES_OF_ONE", 300)
    monkeypatch.setattr(bodies, "MAX_BYTES_OF_ALL", 500)


@pytest.fixture
def guard(bounds):
    async def app(scope, receive, send):
        await scope["visitor"].read(Request(scope, receive))

    return BodiesInHand(app, ClientAddress(()))


async def whole(guard: BodiesInHand, host: str) -> object:
    """Return what becomes of one short body."""
    visitor = Visitor(guard, host)
    try:
        return await visitor.send_last()
    finally:
        await visitor.leave()


async def test_bytes_count_as_they_come_and_one_client_gets_its_part_alone(guard):
    slow = Visitor(guard, "192.0.2.1")
    await slow.send()
    await slow.send()
    assert await whole(guard, "192.0.2.1") == 100
    await slow.send()
    refused = await whole(guard, "192.0.2.1")
    assert isinstance(refused, TooMany)
    assert refused.retry_after == 30
    assert await whole(guard, "192.0.2.2") == 100
    assert await slow.send_last() is not None  # its own fourth piece is one too many as well
    assert isinstance(slow.told, TooMany)
    await slow.leave()
    assert await whole(guard, "192.0.2.1") == 100


async def test_what_comes_above_the_bound_is_read_but_not_kept_and_what_came_before_is_shown_again(guard):
    long = Visitor(guard, "192.0.2.1")
    for _ in range(20):
        await long.send()
    assert isinstance(await long.send_last(), TooMany)
    assert long.shown == HUNDRED * 3
    await long.leave()


async def test_an_ipv6_network_counts_as_one_client(guard):
    slow = Visitor(guard, "2001:db8::1")
    for _ in range(3):
        await slow.send()
    assert isinstance(await whole(guard, "2001:db8::2"), TooMany)
    assert await whole(guard, "2001:db8:0:1::2") == 100
    await slow.send_last()
    await slow.leave()


async def test_a_crowd_that_fills_the_total_is_told_that_nothing_can_be_kept_now(guard):
    crowd = [Visitor(guard, f"192.0.2.{number}") for number in range(5)]
    for one in crowd:
        await one.send()
    assert isinstance(await whole(guard, "192.0.2.9"), NotKept)
    crowd[0].request.cancel()
    with suppress(asyncio.CancelledError):
        await crowd[0].request
    assert await whole(guard, "192.0.2.9") == 100
    for one in crowd[1:]:
        one.request.cancel()
    await asyncio.gather(*(one.request for one in crowd), return_exceptions=True)


async def test_a_request_that_breaks_gives_back_what_it_had(bounds):
    async def app(scope, receive, send):
        await read_body(Request(scope, receive))
        raise ZeroDivisionError

    guard = BodiesInHand(app, ClientAddress(()))
    for _ in range(10):
        visitor = Visitor(guard, "192.0.2.1")
        await visitor.send(last=True)
        with pytest.raises(ZeroDivisionError):
            await visitor.request


def unfinished(port: int, path: str, host: str) -> socket.socket:
    """Send nearly all of a long body from this address."""
    lines = {"Host": "x", **BROWSER, "Content-Type": FORM, "Content-Length": "262000"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    connection = socket.create_connection(("127.0.0.1", port), 20, source_address=(host, 0))
    connection.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\nmessage=".encode() + b"a" * 261_000)
    return connection


def answer_to(port: int, fields: dict[str, str], host: str) -> Answer:
    """Post JSON from this address."""
    body = json.dumps(fields).encode()
    head = f"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 20, source_address=(host, 0)) as connection:
        connection.sendall(head.encode() + body)
        return read_answer(connection)


def test_one_visitor_with_many_unfinished_bodies_is_refused_and_the_others_are_served(pillarbox):
    process = pillarbox.serve()
    long = BOB | {"message": "a" * 240_000}
    before = resident_bytes(process.pid)
    with ExitStack() as held:
        for number in range(300):
            path = ("/send-message", "/api/contact", "/nowhere")[number % 3]
            held.enter_context(unfinished(pillarbox.port, path, "127.0.0.2"))
        refused = answer_to(pillarbox.port, long, "127.0.0.2")
        assert_thanks(answer_to(pillarbox.port, BOB, "127.0.0.3"))
        assert resident_bytes(process.pid) - before < 18 * 1024 * 1024
    assert_failure(refused, 429, "TOO_MANY_REQUESTS")
    assert refused.headers["retry-after"] == "30"
    until_sync(lambda: answer_to(pillarbox.port, long, "127.0.0.2").status != 429)
