"""A connection is held for a request, not for a promise of one."""

import asyncio
import json
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from select import select

import pytest
import uvicorn
from tests import house
from tests.asking import JSON, read_answer
from tests.running import BOB, until

from pillarbox.web import protocol
from pillarbox.web.protocol import Peers, bounded

WHOLE = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"


async def slow_app(scope, receive, send):
    """Answer with the body that came, after three times as long as a head may take."""
    body = (await receive())["body"]
    late = asyncio.Event()
    asyncio.get_running_loop().call_later(protocol.MAX_HEAD_SECONDS * 3, late.set)
    await late.wait()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": body})


async def hasty_app(scope, receive, send):
    """Answer at once with as many bytes as the path says, whatever comes of the body."""
    size = int(scope["path"].strip("/") or 2)
    length = (b"content-length", b"%d" % size)
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": b"x" * size})


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_HEAD_SECONDS", 0.1)


@asynccontextmanager
async def serving(app, *trusted: str):
    """Serve, and yield the address and the set of connections; what is written piles up on our side early."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        config = uvicorn.Config(
            app,
            http=bounded(tuple(map(ip_network, trusted))),
            log_config=None,
            lifespan="off",
            access_log=False,
            timeout_keep_alive=1,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield listening.getsockname(), server.server_state.connections
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def connected(*trusted: str, app=slow_app):
    async with serving(app, *trusted) as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        try:
            yield reader, writer
        finally:
            writer.close()


@pytest.mark.parametrize("begun", [b"", b"POST", b"POST / HTTP/1.1\r\nHost: x\r\n", WHOLE + WHOLE[:20]])
async def test_a_request_that_does_not_come_is_not_waited_for(begun):
    async with connected() as (reader, writer):
        writer.write(begun)
        received = await asyncio.wait_for(reader.read(), 10)
        assert received.count(b"HTTP/1.1 200") == begun.count(b"hi")


async def test_an_answer_may_take_longer_than_a_head_and_the_connection_is_used_again():
    async with connected() as (reader, writer):
        for _ in range(2):
            writer.write(WHOLE)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert b" 200 " in head
            assert await reader.readexactly(2) == b"hi"


async def test_a_second_request_has_to_come_as_swiftly_as_the_first():
    async with connected() as (reader, writer):
        writer.write(WHOLE)
        await asyncio.wait_for(reader.readuntil(b"hi"), 10)
        writer.write(WHOLE[:20])
        assert await asyncio.wait_for(reader.read(), 10) == b""


BEGUN = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
SHORT = BEGUN.replace(b"100000", b"3")
CHUNKS = BEGUN.replace(b"Content-Length: 100000", b"Transfer-Encoding: chunked")

ANSWERED_EARLY = {
    "nothing more": (BEGUN, b""),
    "a byte more": (BEGUN, b"x"),
    "a chunk more": (CHUNKS, b"1\r\nx\r\n"),
    "a chunk's size": (CHUNKS, b"1"),
    "a chunk extension": (CHUNKS, b"1;x="),
    "a trailer": (CHUNKS, b"0\r\nX: "),
    "no chunk": (CHUNKS, b"nonsense\r\n"),
    "the rest": (SHORT, b"xyz"),
    "the rest, and a head begun": (SHORT, b"xyzPOST /"),
}


@pytest.mark.parametrize("case", ANSWERED_EARLY)
async def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(monkeypatch, case):
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.1)
    begun, more = ANSWERED_EARLY[case]
    async with connected(app=hasty_app) as (reader, writer):
        writer.write(begun)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\nxx"), 10)
        writer.write(more)
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_body_that_nobody_reads_is_thrown_away_only_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_LINGER_BYTES", 50_000)
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 1_000)
    async with connected(app=hasty_app) as (reader, writer):
        writer.write(BEGUN)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\nxx"), 10)
        writer.write(b"x" * 99_999)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_body_that_comes_after_its_answer_leaves_the_connection_to_the_next_request():
    async with connected(app=hasty_app) as (reader, writer):
        for _ in range(3):
            writer.write(SHORT)
            assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\nxx"), 10)
            writer.write(b"xyz")


ASKING = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSING = ASKING.replace(b"Host: x", b"Host: x\r\nConnection: close")
LITTLE, MUCH = 50_000, 3_000_000
"""More than the kernel takes, and less or more than what uvicorn writes before it waits."""

NEVER_TAKEN_IN = {
    "a long answer": ASKING % MUCH,
    "many long answers": ASKING % MUCH * 10,
    "a long answer, then the end": CLOSING % MUCH,
    "a short answer": ASKING % LITTLE,
    "a short answer, then the end": CLOSING % LITTLE,
    "a short answer, then half a head": ASKING % LITTLE + b"GET",
    "a short answer, then nonsense": ASKING % LITTLE + b"nonsense\r\n\r\n",
    "a short answer to a request without its body": BEGUN.replace(b" / ", b" /%d " % LITTLE),
}


@pytest.mark.parametrize("case", NEVER_TAKEN_IN)
@pytest.mark.parametrize("hangs_up", [False, True])
async def test_who_never_takes_in_an_answer_is_cut(monkeypatch, case, hangs_up):
    monkeypatch.setattr(protocol, "MAX_WRITE_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.1)
    answered = []

    async def app(scope, receive, send):
        await hasty_app(scope, receive, send)
        answered.append(scope["path"])

    async with serving(app) as (address, connections):
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            deaf.connect(address)
            deaf.sendall(NEVER_TAKEN_IN[case])
            await house.until(lambda: answered)
            if hangs_up:
                deaf.shutdown(socket.SHUT_WR)
            await house.until(lambda: not connections)


@asynccontextmanager
async def narrow(address) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect so that hardly more is sent than what is read."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        connection.connect(address)
        reader, writer = await asyncio.open_connection(sock=connection, limit=1_000)
        try:
            yield reader, writer
        finally:
            writer.close()


async def test_who_took_in_an_answer_late_is_not_cut_afterwards(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_WRITE_SECONDS", 1)
    monkeypatch.setattr(protocol, "MAX_HEAD_SECONDS", 100)
    async with serving(hasty_app) as (address, connections), narrow(address) as (reader, writer):
        writer.write(ASKING % 100_000)
        await house.until(lambda: any(one.flow.write_paused for one in connections))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert await asyncio.wait_for(reader.readexactly(100_000), 10) == b"x" * 100_000
        writer.write(b"GET")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), protocol.MAX_WRITE_SECONDS * 1.2)
        writer.write((CLOSING % LITTLE)[3:])
        assert (await asyncio.wait_for(reader.read(-1), 10)).endswith(b"x" * LITTLE)


async def test_who_stops_taking_in_the_end_of_a_last_answer_is_cut(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_WRITE_SECONDS", 1)
    async with serving(hasty_app) as (address, connections), narrow(address) as (reader, writer):
        writer.write(CLOSING % 100_000)
        await house.until(lambda: any(one.flow.write_paused for one in connections))
        while any(one.flow.write_paused for one in connections):
            await asyncio.wait_for(reader.read(500), 10)
        await house.until(lambda: not connections)


async def test_only_so_many_requests_wait_on_one_connection_and_those_are_answered():
    async with connected(app=hasty_app) as (reader, writer):
        writer.write(WHOLE * 40)
        received = await asyncio.wait_for(reader.read(), 10)
        assert received.count(b"HTTP/1.1 200") == received.count(b"HTTP/1.1 ") == 1 + protocol.MAX_WAITING
        assert received.count(b"connection: close") == 1


async def test_a_body_that_is_none_is_told_so_behind_the_answers_to_what_came_before():
    async with connected(app=hasty_app) as (reader, writer):
        writer.write(WHOLE * 2 + CHUNKS + b"nonsense\r\n")
        received = await asyncio.wait_for(reader.read(), 10)
    statuses = [line.split()[1] for line in received.splitlines() if b"HTTP/1.1 " in line]
    assert statuses == [b"200", b"200", b"400"]


async def answer_of_another(first: asyncio.StreamWriter, host: str) -> bytes:
    """Connect from another loopback address, ask, and return what is answered."""
    reader, second = await asyncio.open_connection(*first.get_extra_info("peername"), local_addr=(host, 0))
    try:
        second.write(WHOLE.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        second.close()


async def test_one_connection_too_many_is_told_to_come_again(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 1)
    async with connected() as (_, first):
        answer = await answer_of_another(first, "127.0.0.2")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1" in head
    assert b"\r\ncontent-type: application/json\r\n" in head
    assert b"\r\nconnection: close" in head
    assert b"\r\ncontent-length: %d\r\n" % len(body) in head
    told = json.loads(body)
    assert list(told) == ["success", "ok", "message", "error", "code", "errors"]
    assert told["code"] == "NOT_KEPT"


async def test_one_address_gets_half_of_the_connections_and_the_others_the_rest(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 2)
    async with connected() as (_, first):
        assert (await answer_of_another(first, "127.0.0.1")).startswith(b"HTTP/1.1 503 ")
        assert (await answer_of_another(first, "127.0.0.2")).startswith(b"HTTP/1.1 200 ")
        assert (await answer_of_another(first, "127.0.0.2")).startswith(b"HTTP/1.1 200 ")  # what it held, it gave back


async def test_a_trusted_proxy_gets_them_all(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 2)
    async with connected("127.0.0.0/24") as (_, first):
        assert (await answer_of_another(first, "127.0.0.1")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("hosts", "are_one"),
    [
        (("192.0.2.1", "192.0.2.1"), True),
        (("192.0.2.1", "192.0.2.2"), False),
        (("192.0.2.1", "::ffff:192.0.2.1"), True),
        (("2001:db8::1", "2001:db8::ffff:2"), True),
        (("2001:db8::1", "2001:db8:0:1::1"), False),
        (("fe80::1%eth0", "fe80::2%eth1"), True),
        (("10.0.0.1", "10.0.0.1"), False),
        (("::ffff:10.0.0.1", "::ffff:10.0.0.1"), False),
        (("", ""), False),
    ],
)
def test_connections_count_by_whose_they_are(monkeypatch, hosts, are_one):
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 2)
    peers = Peers((ip_network("10.0.0.0/8"),))
    first, second = hosts
    held = peers.admit(first)
    assert held is not None
    assert (peers.admit(second) is None) == are_one
    peers.give_back(held)
    assert peers.admit(first) is not None


def hold(port: int, host: str, count: int) -> list[socket.socket]:
    """Take so many connections from this address, with half a request on each."""
    held: list[socket.socket] = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), 10, source_address=(host, 0))
        connection.sendall(b"POST /api/contact HTTP/1.1\r\n")
        held.append(connection)
    return held


def test_whoever_takes_all_connections_that_an_address_may_have_leaves_the_others_theirs(pillarbox):
    pillarbox.start("serve", wrapper=("sh", "-c", 'ulimit -n 64 && exec "$@"', "sh"))
    until(pillarbox.answers)
    held = hold(pillarbox.port, "127.0.0.2", 30)
    try:
        until(lambda: thanks_from(pillarbox.port, "127.0.0.3"))
        answered = select(held, [], [], 0)[0]
    finally:
        for connection in held:
            connection.close()
    assert answered == held[64 // 2 // 2 :]
    until(lambda: thanks_from(pillarbox.port, "127.0.0.2"))


def thanks_from(port: int, host: str) -> bool:
    """Post an honest message from this address and tell whether it was thanked for."""
    body = json.dumps(BOB).encode()
    head = f"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 10, source_address=(host, 0)) as connection:
        connection.sendall(head.encode() + body)
        return read_answer(connection).status == 200


@pytest.mark.parametrize(
    ("allowed", "most"), [(64, 32), (1_024, 896), (1_000_000, 8_192), (resource.RLIM_INFINITY, 8_192)]
)
def test_visitors_leave_files_and_memory_for_the_store_and_the_mail(allowed, most):
    assert protocol.most_connections(allowed) == most
