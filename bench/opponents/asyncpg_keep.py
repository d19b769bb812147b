"""A transaction a call with asyncpg: what keeping a message costs when no call shares anything with another.

    python -m bench.opponents.asyncpg_keep --url postgresql://… --count 20000 --form begin

Writes the same rows into the same tables as Pillarbox. `begin` is how it is usually written (BEGIN, an INSERT of the
message, one of its two letters, COMMIT), `one` puts both INSERTs into one statement, which is its own transaction.
"""

import argparse
import asyncio
import json
import time

import asyncpg
import uvloop

from bench.message import visitor
from bench.opponents.work import OWNER

CALLERS = 64
POOL = 16
WARM = 256
"""Messages that are kept before and not measured."""
Row = tuple[str, float, str, str, str]
FIELDS = ("name", "email", "company", "message")

MESSAGE = """
    INSERT INTO submissions (id, form, received_at, language, answers, held_for, client)
    VALUES ($1, 'contact', $2, 'en', $3, '[]', $4)
"""
LETTERS = """
    INSERT INTO deliveries (submission_id, form, purpose, recipient, mailbox, way, state, note, created_at, due_at,
                            attempts, claim, unanswered)
    VALUES ($1, 'contact', 'notification', $2, $2, 'default', 'waiting', '', $4, $4, 0, 0, 0),
           ($1, 'contact', 'confirmation', $3, $3, 'default', 'waiting', '', $4, $4, 0, 0, 0)
"""
BOTH = """
    WITH message AS (
        INSERT INTO submissions (id, form, received_at, language, answers, held_for, client)
        VALUES ($1, 'contact', $2, 'en', $3, '[]', $4) RETURNING id, received_at)
    INSERT INTO deliveries (submission_id, form, purpose, recipient, mailbox, way, state, note, created_at, due_at,
                            attempts, claim, unanswered)
    SELECT id, 'contact', purpose, recipient, recipient, 'default', 'waiting', '', received_at, received_at, 0, 0, 0
    FROM message, (VALUES ('notification', $5::text), ('confirmation', $6::text)) AS letters (purpose, recipient)
"""


def row(number: int, run: str) -> Row:
    """Return (id, when it came, answers, client, the visitor's address)."""
    fields = visitor(number, run)
    answers = json.dumps([[name, name.capitalize(), [fields[name]]] for name in FIELDS], ensure_ascii=False)
    return f"{run}-{number}", time.time(), answers, f"client-{number % 997}", fields["email"]


async def keep_beginning(pool: asyncpg.Pool, message: Row) -> None:
    """Put one message and its letters on disk: BEGIN, two statements, COMMIT."""
    identifier, now, answers, client, email = message
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(MESSAGE, identifier, now, answers, client)
        await connection.execute(LETTERS, identifier, OWNER, email, now)


async def keep_in_one(pool: asyncpg.Pool, message: Row) -> None:
    """Put one message and its letters on disk by one statement."""
    identifier, now, answers, client, email = message
    await pool.execute(BOTH, identifier, now, answers, client, OWNER, email)


async def measure(url: str, count: int, form: str) -> float:
    """Keep so many messages from 64 callers and return the seconds."""
    keep = {"begin": keep_beginning, "one": keep_in_one}[form]
    run = f"{time.time_ns():x}"
    messages = [row(number, run) for number in range(WARM + count)]
    waiting = iter(messages[WARM:])

    async def call() -> None:
        for message in waiting:
            await keep(pool, message)

    async with asyncpg.create_pool(url, min_size=POOL, max_size=POOL) as pool:
        await asyncio.gather(*(keep(pool, message) for message in messages[:WARM]))
        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        return time.perf_counter() - began


def main() -> None:
    """Measure and print the seconds."""
    parser = argparse.ArgumentParser(prog="python -m bench.opponents.asyncpg_keep")
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--form", choices=("begin", "one"), default="begin")
    given = parser.parse_args()
    print(uvloop.run(measure(given.url, given.count, given.form)))


if __name__ == "__main__":
    main()
