"""Our keep() alone: 64 callers put messages on disk as the front door does, nobody posts and nobody sends.

    DATABASE_URL=postgresql://… python -m bench.queues.keeping --count 20000

With `--keys` every message has the key by which a repeat would be known, as at the front door. Prints the seconds.
Settings come from the environment, as for `pillarbox serve`.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence

import uvloop

from bench.message import visitor
from pillarbox.app import Parts, assemble
from pillarbox.core.once import key_of
from pillarbox.core.submission import Answer, Incoming, Submission
from pillarbox.intake import letters, new_id
from pillarbox.settings import load
from pillarbox.store.submissions import Kept

CALLERS = 64


def message(parts: Parts, number: int, run: str, *, keys: bool = False) -> Kept:
    """Return what a visitor's message puts on disk."""
    fields, now = visitor(number, run), time.time()
    answers = tuple(Answer(name, name.capitalize(), (value,)) for name, value in fields.items())
    client = f"client-{number % 997}"
    submission = Submission(new_id(), parts.form.slug, now, parts.form.language, answers, client=client)
    key = key_of(Incoming({}, client, parts.form.language), answers, now=now) if keys else None
    return Kept(submission, letters(submission, parts.form), key)


async def keep(parts: Parts, messages: Sequence[Kept]) -> float:
    """Keep these messages from 64 callers and return the seconds."""
    waiting = iter(messages)

    async def call() -> None:
        for one in waiting:
            await parts.keep(one)

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    return time.perf_counter() - began


async def measure(count: int, warm: int, *, keys: bool) -> float:
    """Start as a serving process does, keep `warm` messages that are not measured, measure."""
    parts = assemble(load())
    async with parts.running(dispatching=False):
        run = f"{time.time_ns():x}"
        messages = [message(parts, number, run, keys=keys) for number in range(warm + count)]
        await keep(parts, messages[:warm])
        return await keep(parts, messages[warm:])


def main() -> None:
    """Measure and print the seconds."""
    parser = argparse.ArgumentParser(prog="python -m bench.queues.keeping")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--warm", type=int, default=0, help="so many before")
    parser.add_argument("--keys", action="store_true", help="each message with a key of its own")
    given = parser.parse_args()
    print(uvloop.run(measure(given.count, given.warm, keys=given.keys)))


if __name__ == "__main__":
    main()
