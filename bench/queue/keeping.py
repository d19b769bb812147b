"""Our keep() alone: 64 callers put messages on disk as the front door does, nobody posts and nobody sends.

    DATABASE_URL=postgresql://… python -m bench.queue.keeping --count 20000

With `--keys` every message has the key by which a repeat would be known, as at the front door. Prints the seconds. Settings come from the environment, as for `pillarbox serve`.
"""

import argparse
import asyncio
import time
from collections.abc import Iterator

import uvloop

from bench.message import visitor
from pillarbox.app import Parts, assemble
from pillarbox.core.submission import Answer, Submission
from pillarbox.intake import letters, new_id
from pillarbox.settings import load
from pillarbox.store.submissions import Kept

CALLERS = 64


def message(parts: Parts, number: int, run: str) -> Kept:
    """Return what a visitor's message puts on disk."""
    answers = tuple(Answer(name, name.capitalize(), (value,)) for name, value in visitor(number, run).items())
    submission = Submission(
        new_id(), parts.form.slug, time.time(), parts.form.language, answers, client=f"client-{number % 997}"
    )
    return Kept(submission, letters(submission, parts.form))


async def keep(parts: Parts, count: int, run: str) -> float:
    """Keep so many messages from 64 callers and return the seconds."""
    numbers: Iterator[int] = iter(range(count))

    async def call() -> None:
        for number in numbers:
            await parts.keep(message(parts, number, run))

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    return time.perf_counter() - began


async def measure(count: int) -> float:
    """Start as a serving process does, warm up, measure."""
    parts = assemble(load())
    async with parts.running(dispatching=False):
        return await keep(parts, count, f"{time.time_ns():x}")


def main() -> None:
    """Measure and print the seconds."""
    parser = argparse.ArgumentParser(prog="python -m bench.queue.keeping")
    parser.add_argument("--count", type=int, required=True)
    print(uvloop.run(measure(parser.parse_args().count)))


if __name__ == "__main__":
    main()
