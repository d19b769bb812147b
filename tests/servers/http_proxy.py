"""A real proxy on loopback that opens tunnels (CONNECT, RFC 9110 section 9.3.6), all of them to one place."""

import asyncio
from contextlib import suppress


class HttpProxy:
    """An async context manager. Whatever is asked for, the tunnel leads to port `to` of this machine.

    `asked` holds each request's lines; `answer` is said instead of opening a tunnel while it is not empty.
    """

    def __init__(self, to: int) -> None:
        self.asked: list[list[str]] = []
        self.answer = b""
        self._to = to
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Where it listens, as host:port."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def __aenter__(self) -> "HttpProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.asked.append(head.rstrip().split("\r\n"))
            if self.answer:
                writer.write(self.answer)
            else:
                await self._tunnel(reader, writer)
        writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while said := await reader.read(65_536):
            writer.write(said)
            await writer.drain()
    writer.close()
