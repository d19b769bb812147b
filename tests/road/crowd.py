"""Many visitors at once, on raw sockets, who go on posting numbered messages while the server comes and goes."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CLIENTS = 32
GONE = (OSError, EOFError, ValueError)
"""What a client meets whose server dies: no connection, half an answer, none."""


@dataclass
class Crowd:
    """`thanked` maps a message's number to the id it was thanked with; `pause` (seconds) is a client's rest.

    Numbers count up from `begins_at`, so that several crowds share no visitor. A client that has no answer after
    `patience` seconds hangs up.
    """

    port: int
    pause: float
    begins_at: int = 0
    clients: int = CLIENTS
    patience: float = 30.0
    thanked: dict[int, str] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    cut_off: int = 0
    posted: int = 0
    going_home: bool = False

    @contextmanager
    def posting(self) -> Iterator["Crowd"]:
        """Post while the block runs; on leaving, every client has its answer or none to come."""
        thread = threading.Thread(target=lambda: asyncio.run(self._post_all()))
        thread.start()
        try:
            yield self
        finally:
            self.going_home = True
            thread.join(60)

    async def _post_all(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(self.clients)))

    async def _client(self) -> None:
        while not self.going_home:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.02)  # the server is away: knock again
                continue
            try:
                while not self.going_home:
                    await asyncio.wait_for(self._post(reader, writer), self.patience)
                    await asyncio.sleep(self.pause)
            except GONE:
                self.cut_off += 1
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.posted += 1
        number = self.begins_at + self.posted
        writer.write(message(number))
        await writer.drain()
        status, answer = await read_answer(reader)
        if status == 200:
            self.thanked[number] = answer["id"]
        else:
            self.refused.append(status)


def message(number: int, *headers: str) -> bytes:
    """Return the request that posts the message of this number."""
    fields = {"name": "Bob", "email": f"bob-{number}@example.net", "message": f"This is message {number}."}
    body = json.dumps(fields).encode()
    head = ["POST /api/contact HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Return the status of the answer that comes, and what it says. Raises what GONE names when none comes whole."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in head if line.lower().startswith("content-length:"))
    return int(head[0].split(" ")[1]), json.loads(await reader.readexactly(length))
