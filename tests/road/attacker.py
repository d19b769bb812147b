"""A process that posts at a fixed rate, answered or not: `python -m tests.road.attacker PORT RATE SECONDS`.

With a fourth word, each post comes from another address of this machine. Prints, as JSON, how many posts got which
status; "none" stands for those without any answer.
"""

import asyncio
import json
import sys
from collections import Counter

PATIENCE = 20.0
"""Seconds that a post waits for its answer."""


def address(number: int) -> str:
    """Return one of a million addresses of this machine."""
    return f"127.{100 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


async def post(port: int, number: int, source: str) -> str:
    """Post one message on a connection of its own and return the answer's status, or "none"."""
    fields = {"name": "Mallory", "email": f"victim-{number}@example.net", "message": f"Buy number {number}."}
    body = json.dumps(fields).encode()
    head = "POST /api/contact HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            try:
                writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                answer = await reader.read()
            finally:
                writer.close()
    except OSError:
        return "none"
    return answer[9:12].decode() or "none"


async def attack(port: int, rate: float, seconds: float, *, from_many: bool) -> Counter[str]:
    """Begin `rate` posts a second and return how many got which status."""
    clock = asyncio.get_running_loop().time
    begin = clock()
    posts = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(begin + number / rate - clock())
        posts.append(asyncio.create_task(post(port, number, address(number if from_many else 0))))
    return Counter(await asyncio.gather(*posts))


if __name__ == "__main__":
    port, rate, seconds, *many = sys.argv[1:]
    counted = asyncio.run(attack(int(port), float(rate), float(seconds), from_many=bool(many)))
    json.dump(counted, sys.stdout)
