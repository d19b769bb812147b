"""A connection is held for a request, not for a promise of one."""

import asyncio
import json
import resource
import socket
from contextlib import asynccontextmanager
from ipaddress import ip_network
from select import select

import pytest
import uvicorn
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


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_HEAD_SECONDS", 0.1)


@asynccontextmanager
async def connected(*trusted: str):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        networks = tuple(map(ip_network, trusted))
        config = uvicorn.Config(slow_app, http=bounded(networks), log_config=None, lifespan="off", access_log=False)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            server.should_exit = True
            await serving


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


@pytest.mark.parametrize(("allowed", "most"), [(64, 32), (1_024, 896), (resource.RLIM_INFINITY, 999_872)])
def test_visitors_leave_files_for_the_store_and_the_mail(allowed, most):
    assert protocol.most_connections(allowed) == most
