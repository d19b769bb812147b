"""A mail server that answers a letter's commands in one go, byte for byte as a test has it, whatever it was asked."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Turn:
    """What is said once DATA came, and after a final dot. An empty `to_the_dot`: hang up after `to_data`."""

    to_data: bytes
    to_the_dot: bytes = b"250 2.0.0 queued\r\n"


@dataclass
class Verbatim:
    """What came: `commands` up to each DATA, all that followed them in `contents`; `ended` connections."""

    port: int = 0
    connections: int = 0
    ended: int = 0
    commands: list[list[bytes]] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def verbatim_smtp(turns: Sequence[Turn]) -> AsyncIterator[Verbatim]:
    """Serve the turns in order, over as many connections as the client makes of them; it offers PIPELINING."""
    seen, left = Verbatim(), list(turns)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        writer.write(b"220 verbatim.example ESMTP\r\n")
        await reader.readline()
        writer.write(b"250-verbatim.example\r\n250 PIPELINING\r\n")
        while left and await _take_turn(seen, left, reader, writer):
            pass
        writer.close()
        seen.ended += 1

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()


async def _take_turn(
    seen: Verbatim, left: list[Turn], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Serve one letter; False: the connection is at its end."""
    commands: list[bytes] = []
    while not commands or commands[-1] != b"DATA\r\n":
        line = await _read_until(reader, b"\r\n")
        if not line.endswith(b"\r\n"):
            return False
        commands.append(line)
    turn = left.pop(0)
    seen.commands.append(commands)
    writer.write(turn.to_data)
    if not turn.to_the_dot:
        return False
    if not turn.to_data.splitlines()[-1].startswith(b"354"):
        return True
    seen.contents.append(await _read_until(reader, b"\r\n.\r\n"))
    if seen.contents[-1].endswith(b"\r\n.\r\n"):
        writer.write(turn.to_the_dot)
        return True
    return False


async def _read_until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    """Return all up to this end, or what came before the connection ended."""
    try:
        return await reader.readuntil(end)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except ConnectionError:
        return b""
