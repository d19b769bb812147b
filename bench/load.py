"""Posts numbered messages over kept connections as fast as they are answered, and says how fast that was.

    python -m bench.load http://127.0.0.1:8000/api/contact --seconds 5
    python -m bench.load http://127.0.0.1:8000/api/contact --count 10000

A closed loop: a connection posts its next message when the last one is answered. Loopback only, and always bounded.
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop

from bench.message import visitor

CONNECTIONS = 64
GRACE_SECONDS = 20.0
MOST_SECONDS = 300.0


@dataclass(slots=True)
class Tally:
    """What came back. Times are in seconds; `started` and `ended` are on CLOCK_MONOTONIC, the same in every process."""

    started: float = 0.0
    ended: float = 0.0
    accepted: int = 0
    lost: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    in_window: int = 0
    latencies: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Figures:
    """A finished run: rates a second, latencies in milliseconds, times on CLOCK_MONOTONIC.

    `accepted` counts every 200 that says success, `rate` only those that came inside the window; `others` are
    answers that were no such 200, `lost` posts that got no answer.
    """

    rate: float
    accepted: int
    others: int
    lost: int
    p50: float
    p99: float
    started: float
    ended: float
    statuses: dict[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to post: `count` messages or `seconds` of them, after a `lead` of seconds that is not measured."""

    host: str
    port: int
    path: str
    connections: int = CONNECTIONS
    count: int | None = None
    seconds: float | None = None
    lead: float = 0.0
    first: int = 0

    def numbers(self) -> Iterator[int]:
        """Return the numbers of the messages, none of them twice."""
        return itertools.count(self.first) if self.count is None else iter(range(self.first, self.first + self.count))


class Run:
    """One load: hands out requests until the plan is done, and keeps the tally."""

    def __init__(self, plan: Plan) -> None:
        """Prepare everything that is the same in every request."""
        self.plan = plan
        self.tally = Tally(started=time.monotonic())
        self.window_opens = self.tally.started + plan.lead
        span = MOST_SECONDS if plan.seconds is None else plan.seconds
        self.window_closes = self.window_opens + span
        self.numbers = plan.numbers()
        self.run_id = f"{time.time_ns():x}"
        self.head = (
            f"POST {plan.path} HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\nAccept: application/json\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        )

    def next_request(self) -> bytes | None:
        """Return the bytes of the next post, or None when the plan is done."""
        if time.monotonic() >= self.window_closes:
            return None
        number = next(self.numbers, None)
        if number is None:
            return None
        body = json.dumps(visitor(number, self.run_id), ensure_ascii=False, separators=(",", ":")).encode()
        return f"{self.head}{len(body)}\r\n\r\n".encode() + body

    def answered(self, begun: float, status: bytes, body: bytes) -> None:
        """Count one answer; it is an acceptance only when status and body both say so."""
        now = time.monotonic()
        good = status == b"200" and (b'"success":true' in body or b'"success": true' in body)
        self.tally.statuses[status.decode("ascii", "replace")] += 1
        self.tally.accepted += good
        self.tally.ended = now
        if now >= self.window_opens:
            self.tally.latencies.append(now - begun)
            self.tally.in_window += good and now < self.window_closes


class Visitor(asyncio.Protocol):
    """One connection: posts, reads the answer, posts again, until the plan is done or the server hangs up."""

    def __init__(self, run: Run, request: bytes, gone: asyncio.Future[None]) -> None:
        """Post `request` once connected; resolve `gone` when the connection is no more."""
        self.run, self.request, self.gone = run, request, gone
        self.begun = time.monotonic()
        self.buffer = b""
        self.waiting = True
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Post the first message."""
        self.transport = transport
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Take a complete answer and post the next message."""
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            return  # the end of the connection is the end of the answer
        size = int(head[at + 17 :].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + size:
            return
        self.take(head[9:12], self.buffer[end + 4 :])
        if b"\r\nconnection: close" in head:
            self.transport.close()
        else:
            self.post_again()

    def take(self, status: bytes, body: bytes) -> None:
        """Count the answer and be ready for the next."""
        self.waiting = False
        self.buffer = b""
        self.run.answered(self.begun, status, body)

    def post_again(self) -> None:
        """Post the next message, or hang up when there is none."""
        request = self.run.next_request()
        if request is None:
            self.transport.close()
            return
        self.waiting = True
        self.begun = time.monotonic()
        self.transport.write(request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a post without an answer as lost, one ended by the connection's end as answered."""
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if self.waiting and found and exc is None and b"content-length" not in head.lower():
            self.take(head[9:12], body)
        elif self.waiting:
            self.run.tally.lost += 1
        if not self.gone.done():
            self.gone.set_result(None)


async def keep_posting(run: Run) -> None:
    """Hold one connection after another until the plan is done."""
    loop = asyncio.get_running_loop()
    while (request := run.next_request()) is not None:
        gone: asyncio.Future[None] = loop.create_future()
        visitor = Visitor(run, request, gone)
        try:
            await loop.create_connection(lambda v=visitor: v, run.plan.host, run.plan.port)  # type: ignore[misc]
        except OSError:
            run.tally.lost += 1
            await asyncio.sleep(0.02)
            continue
        await gone


async def post_all(plan: Plan) -> Figures:
    """Carry the plan out and return its figures; posts unanswered 20 s after its end count as lost."""
    run = Run(plan)
    visitors = [asyncio.create_task(keep_posting(run)) for _ in range(plan.connections)]
    limit = run.window_closes - run.tally.started + GRACE_SECONDS
    _, late = await asyncio.wait(visitors, timeout=limit)
    for task in late:
        task.cancel()
    run.tally.lost += len(late)
    return figures(run)


def figures(run: Run) -> Figures:
    """Work out a run's figures; without any answer the latencies are infinite and the rate 0."""
    tally = run.tally
    closes = run.window_closes if run.plan.count is None else max(tally.ended, run.window_opens + 1e-9)
    ordered = sorted(tally.latencies) or [float("inf")]
    return Figures(
        rate=tally.in_window / (closes - run.window_opens),
        accepted=tally.accepted,
        others=sum(tally.statuses.values()) - tally.accepted,
        lost=tally.lost,
        p50=1000 * ordered[len(ordered) // 2],
        p99=1000 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        started=tally.started,
        ended=tally.ended,
        statuses=dict(tally.statuses),
    )


def read_plan(arguments: list[str]) -> tuple[Plan, bool]:
    """Return the plan, and whether the figures are for a machine; anything but loopback stops the program."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="A bounded load on loopback.")
    parser.add_argument("url", help="where to post, such as http://127.0.0.1:8000/api/contact")
    bound = parser.add_mutually_exclusive_group(required=True)
    bound.add_argument("--count", type=int, help="post so many messages")
    bound.add_argument("--seconds", type=float, help="post for so long")
    parser.add_argument("--lead", type=float, default=0.0, help="seconds before the measured ones")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--first", type=int, default=0, help="number of the first message")
    parser.add_argument("--json", action="store_true", help="figures as one JSON line")
    given = parser.parse_args(arguments)
    url = urlsplit(given.url)
    if url.hostname != "127.0.0.1" or url.scheme != "http" or url.port is None:
        parser.error("the address must be http://127.0.0.1:PORT/…: this is no tool for other people's machines")
    if given.seconds is not None and given.seconds + given.lead > MOST_SECONDS:
        parser.error(f"at most {MOST_SECONDS:.0f} seconds")
    plan = Plan(url.hostname, url.port, url.path or "/", given.connections, given.count, given.seconds,
                given.lead, given.first)  # fmt: skip
    return plan, given.json


def main() -> None:
    """Run one load from the command line; the exit status is 1 when any post was not accepted."""
    plan, for_machine = read_plan(sys.argv[1:])
    result = uvloop.run(post_all(plan))
    if for_machine:
        print(json.dumps(asdict(result)))
    else:
        print(f"accepted    {result.rate:10.1f} a second ({result.accepted} in all)")
        print(f"latency     {result.p50:10.2f} ms p50   {result.p99:.2f} ms p99")
        print(f"not 200     {result.others:10d}   {result.statuses}")
        print(f"no answer   {result.lost:10d}")
    raise SystemExit(bool(result.others or result.lost))


if __name__ == "__main__":
    main()
