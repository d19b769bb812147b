"""PgQueuer at the same work: a job for each mail, in PostgreSQL, and a worker as its documentation advises.

    python -m bench.opponents.pgqueuer_worker fill --url postgresql://… --count 10000
    python -m bench.opponents.pgqueuer_worker work --url postgresql://… --mail-port 2525

Tuned by its own page on performance: its tables durable, its autovacuum settings, one connection of its own for the
manager, larger batches than the usual 10. A 451 asks for a retry by the database, which is its way across restarts.
"""

import argparse
import json
import time
from datetime import timedelta
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.errors import RetryRequested
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.opponents.mail_pool import Later, MailPool
from bench.opponents.work import RETRY_SECONDS, compose, jobs, recipient

AT_ONCE = 1_000
HEARTBEAT = timedelta(seconds=30)
"""After which a dead worker's jobs are taken over: its usual 30 seconds, as long as our lease."""


async def fill(url: str, count: int) -> None:
    """Make PgQueuer's tables and enqueue the mails of so many submissions."""
    connection = await asyncpg.connect(url)
    queries = Queries.from_asyncpg_connection(connection)
    await queries.install()
    await queries.optimize_autovacuum()
    waiting = [json.dumps(job).encode() for job in jobs(count, f"{time.time_ns():x}")]
    for begin in range(0, len(waiting), AT_ONCE):
        some: list[Any] = waiting[begin : begin + AT_ONCE]
        await queries.enqueue(["mail"] * len(some), some, [0] * len(some))
    await connection.execute("ANALYZE")
    await connection.close()


async def work(url: str, pool: MailPool, batch: int, connections: int) -> None:
    """Send what is enqueued until ended."""
    if connections:
        queue = PgQueuer.from_asyncpg_pool(await asyncpg.create_pool(url, min_size=connections, max_size=connections))
    else:
        queue = PgQueuer.from_asyncpg_connection(await asyncpg.connect(url))

    @queue.entrypoint("mail")
    async def send(job: Job) -> None:
        mail = json.loads(job.payload or b"{}")
        try:
            await pool.send(recipient(mail), compose(mail))
        except Later as later:
            raise RetryRequested(delay=timedelta(seconds=RETRY_SECONDS), reason=str(later)) from later

    print("ready", flush=True)
    await queue.run(batch_size=batch, max_concurrent_tasks=2 * batch, heartbeat_timeout=HEARTBEAT)


def main() -> None:
    """Fill or work."""
    parser = argparse.ArgumentParser(prog="python -m bench.opponents.pgqueuer_worker")
    parser.add_argument("task", choices=("fill", "work"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--mail-port", type=int, default=0)
    parser.add_argument("--mail-connections", type=int, default=4)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--pool", type=int, default=0, help="connections to PostgreSQL; 0 is one of the manager's own")
    given = parser.parse_args()
    if given.task == "fill":
        uvloop.run(fill(given.url, given.count))
    else:
        uvloop.run(run_worker(given))


async def run_worker(given: argparse.Namespace) -> None:
    """Work with a pool of connections to the mail server."""
    await work(given.url, MailPool(given.mail_port, given.mail_connections), given.batch, given.pool)


if __name__ == "__main__":
    main()
