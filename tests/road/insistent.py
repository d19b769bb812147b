"""Visitors who send each message twice at once under one key, to two processes, and again until they are thanked."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle

from tests.road.crowd import GONE, Crowd, message, read_answer

BUSY = 503


@dataclass
class Insistent(Crowd):
    """`ports` are the processes that they know. `torn` are the numbers whose copies were thanked with two ids."""

    ports: tuple[int, ...] = ()
    torn: list[int] = field(default_factory=list)

    async def _client(self) -> None:
        while not self.going_home:
            self.posted += 1
            number = self.begins_at + self.posted
            ports = random.sample(self.ports, 2)
            ids = set(await asyncio.gather(*(self._insist(number, port) for port in ports)))
            if len(ids) > 1:
                self.torn.append(number)
            self.thanked[number] = ids.pop()
            await asyncio.sleep(self.pause)

    async def _insist(self, number: int, first: int) -> str:
        """Send the message until somebody thanks for it, to another process each time; return its id."""
        place = self.ports.index(first)
        for port in cycle(self.ports[place:] + self.ports[:place]):
            try:
                status, answer = await asyncio.wait_for(_send(number, port), self.patience)
            except GONE:
                self.cut_off += 1
            else:
                if status != BUSY:
                    if status != 200:
                        self.refused.append(status)
                    return answer.get("id", "")
            await asyncio.sleep(0.02)
        raise AssertionError


async def _send(number: int, port: int) -> tuple[int, dict[str, str]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(message(number, f"Idempotency-Key: message-{number}"))
        await writer.drain()
        return await read_answer(reader)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
