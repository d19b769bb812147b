"""A connection is held for a request, not for a promise of one."""

import asyncio
import resource
import socket
from contextlib import asynccontextmanager

import pytest
import uvicorn

from pillarbox.web import protocol
from pillarbox.web.protocol import BoundedProtocol

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
async def connected():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(slow_app, http=BoundedProtocol, log_config=None, lifespan="off", access_log=False)
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


async def test_one_connection_too_many_is_told_to_come_again(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 1)
    async with connected() as (_, first):
        reader, second = await asyncio.open_connection(*first.get_extra_info("peername"))
        answer = await asyncio.wait_for(reader.read(), 10)
        second.close()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer


@pytest.mark.parametrize(("allowed", "most"), [(64, 32), (1_024, 896), (resource.RLIM_INFINITY, 999_872)])
def test_visitors_leave_files_for_the_store_and_the_mail(allowed, most):
    assert protocol.most_connections(allowed) == most
