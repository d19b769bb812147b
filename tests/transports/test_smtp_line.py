"""Replies as they come off the wire, in whatever pieces, and a letter's content as it goes onto it."""

import asyncio
import functools
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiosmtplib.errors import SMTPReadTimeoutError, SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.response import SMTPResponse
from hypothesis import given
from hypothesis import strategies as st
from tests.transports.letters import until

from pillarbox.transports.smtp_line import Conversation, as_data

REPLIES = b"250 2.1.0 OK\r\n250-2.1.5 b\xc3\xbccher\r\n250 2.1.5 OK\r\n354 go\r\n"
MEANT = [SMTPResponse(250, "2.1.0 OK"), SMTPResponse(250, "2.1.5 bücher\n2.1.5 OK"), SMTPResponse(354, "go")]


class Heard(Conversation):
    """Counts what came, so that a test knows when a piece has arrived."""

    heard = 0

    def data_received(self, data: bytes) -> None:
        self.heard += len(data)
        super().data_received(data)

    def has_heard(self, octets: int) -> bool:
        return self.heard == octets


@asynccontextmanager
async def line() -> AsyncIterator[tuple[Heard, socket.socket]]:
    """A line that has been greeted, and the server's end of it."""
    ours, theirs = socket.socketpair()
    with theirs:
        _, conversation = await asyncio.get_running_loop().create_connection(Heard, sock=ours)
        theirs.send(b"220 hello\r\n")
        await conversation.read_response(5)
        try:
            yield conversation, theirs
        finally:
            conversation.hang_up()


async def say(theirs, conversation, *pieces):
    """Send the pieces so that each one arrives alone."""
    for piece in pieces:
        conversation.heard = 0
        theirs.send(piece)
        await until(functools.partial(conversation.has_heard, len(piece)))


@pytest.mark.anyio
@pytest.mark.parametrize("reads_first", [True, False], ids=["read while they come", "read when all are there"])
async def test_replies_stay_in_order_wherever_they_are_split(reads_first):
    async with line() as (conversation, theirs):
        for boundary in range(1, len(REPLIES)):
            conversation.ask(b"MAIL", b"RCPT", b"DATA")

            async def read_all():
                return [await conversation.read_response(5) for _ in MEANT]

            reading = asyncio.create_task(read_all()) if reads_first else None
            await say(theirs, conversation, REPLIES[:boundary], REPLIES[boundary:])
            assert await (reading or read_all()) == MEANT
        assert conversation.is_connected


@pytest.mark.anyio
async def test_replies_that_come_byte_by_byte_stay_in_order():
    async with line() as (conversation, theirs):
        conversation.ask(b"MAIL", b"RCPT", b"DATA")
        await say(theirs, conversation, *(bytes([byte]) for byte in REPLIES))
        assert [await conversation.read_response(5) for _ in MEANT] == MEANT


@pytest.mark.anyio
@pytest.mark.parametrize("surplus", [b"2", b"250 more\r\n", b"\r\n"])
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "in the same packet"])
async def test_one_byte_more_than_was_asked_for_ends_the_line_and_leaves_the_replies(surplus, apart):
    async with line() as (conversation, theirs):
        conversation.ask(b"MAIL", b"RCPT", b"DATA")
        await say(theirs, conversation, *((REPLIES, surplus) if apart else (REPLIES + surplus,)))
        assert [await conversation.read_response(5) for _ in MEANT] == MEANT
        assert conversation.spoke_unasked
        assert not conversation.is_connected
        conversation.ask(b"RSET")
        with pytest.raises(SMTPServerDisconnected):
            await conversation.read_response(5)


@pytest.mark.anyio
async def test_what_is_no_reply_ends_the_line_behind_the_replies_before_it():
    async with line() as (conversation, theirs):
        conversation.ask(b"MAIL", b"RCPT", b"DATA")
        await say(theirs, conversation, b"250 OK\r\nwhat?\r\n250 OK\r\n")
        assert await conversation.read_response(5) == SMTPResponse(250, "OK")
        with pytest.raises(SMTPResponseException, match="Malformed"):
            await conversation.read_response(5)
        assert not conversation.is_connected


@pytest.mark.anyio
async def test_a_reply_longer_than_any_is_none_even_if_it_ends():
    async with line() as (conversation, theirs):
        conversation.ask(b"MAIL")
        theirs.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(theirs, b"250-more\r\n" * 4_000 + b"250 end\r\n")
        with pytest.raises(SMTPResponseException, match="too long"):
            await conversation.read_response(5)
        assert not conversation.is_connected


@pytest.mark.anyio
async def test_a_shorter_limit_after_a_longer_one_is_kept():
    async with line() as (conversation, theirs):
        conversation.ask(b"MAIL")
        theirs.send(b"250 OK\r\n")
        await conversation.read_response(600)
        conversation.ask(b"QUIT")
        async with asyncio.timeout(10):
            with pytest.raises(SMTPReadTimeoutError):
                await conversation.read_response(0.01)


@pytest.mark.anyio
async def test_a_server_that_closes_and_reads_no_further_is_not_waited_for():
    async with line() as (conversation, theirs):
        conversation.hand_over(b"x" * 10_000_000)
        theirs.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(10):
            with pytest.raises(SMTPServerDisconnected):
                await conversation.read_response(600)


@pytest.mark.anyio
@pytest.mark.parametrize("command", [b"MAIL FROM:<a>\r\nRCPT TO:<b>", b"RSET\n", b"EHLO \0"])
async def test_a_command_that_could_hold_another_is_not_written(command):
    async with line() as (conversation, theirs):
        with pytest.raises(ValueError, match="control"):
            conversation.ask(b"RSET", command)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x", b"\x0b", b"\x85", "ü".encode()])).map(b"".join))
def test_every_content_ends_with_its_dot_and_nowhere_before(content):
    wire = as_data(content)
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", wire) is None
    assert (b"\r\n" + wire).index(b"\r\n.\r\n") == len(wire) - 3
    lines = wire.removesuffix(b".\r\n").removesuffix(b"\r\n").split(b"\r\n")
    meant = re.sub(rb"(\r\n|\r|\n)\Z", b"", content)
    assert [each.removeprefix(b".") for each in lines] == re.split(rb"\r\n|\r|\n", meant)
