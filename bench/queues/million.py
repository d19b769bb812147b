"""What a million waiting letters cost those who come next: accept and claim on a full store and on an empty one.

    DATABASE_URL=postgresql://…/full python -m bench.queues.million --empty postgresql://…/empty --letters 1000000 \
        --rounds 40 --log …/log

Both stores take turns, round by round. Prints one JSON object: milliseconds of each round, and what the server's own
plans (auto_explain, since claims bind their parameters) say about the statements of a claim.
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvloop
from sqlalchemy import text

from bench.queues.keeping import CALLERS, message
from pillarbox.app import Parts, assemble
from pillarbox.core.delivery import State
from pillarbox.settings import load
from pillarbox.store import claims
from pillarbox.store.claims import Claims, Settlement, Wish

LIMIT = 64
"""Letters a claim asks for: what a way out with four connections takes at once."""
LEASE = 30.0
EXPLAINED = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_nested_statements": "on",
}
MESSAGES = text("""
    INSERT INTO submissions (id, form, received_at, language, answers, held_for)
    SELECT 'old-' || n, 'contact', :now - n * 0.01, 'en',
           '[["name", "Name", ["Visitor"]], ["message", "Message", ["' || repeat('Is it blue? ', 25) || '"]]]',
           '[]'
    FROM generate_series(1, :messages) AS n
""")
LETTERS = text("""
    INSERT INTO deliveries (submission_id, form, purpose, recipient, mailbox, way, state, note, created_at, due_at,
                            attempts, claim, unanswered)
    SELECT 'old-' || n, 'contact', purpose, recipient, recipient, 'default', 'waiting', '', :now - n * 0.01,
           :now - n * 0.01, 0, 0, 0
    FROM generate_series(1, :messages) AS n,
         LATERAL (VALUES ('notification', 'owner@example.org'),
                         ('confirmation', 'visitor-' || n || '@example.net')) AS letters (purpose, recipient)
""")
SCANS = re.compile(r"Scan$")


@dataclass(frozen=True, slots=True)
class Look:
    """One statement of a claim as the server carried it out: its beginning, the indexes it used, rows and pages.

    `rows` are those read from tables and indexes, the ones that a filter then left out included.
    """

    statement: str
    indexes: tuple[str, ...]
    sequential: tuple[str, ...]
    rows: int
    pages: int


def fill(parts: Parts, messages: int) -> None:
    """Put twice as many waiting letters into the store as messages, each due since it came."""
    with parts.store.writing() as connection:
        values = {"now": time.time() - 1.0, "messages": messages}
        connection.execute(MESSAGES, values)
        connection.execute(LETTERS, values)


def tidy(parts: Parts) -> None:
    """Do what autovacuum does by itself a minute later."""
    with parts.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.connection.driver_connection.execute("VACUUM ANALYZE")  # type: ignore[union-attr]


async def accept(parts: Parts, first: int, run: str) -> float:
    """Keep a message for each of 64 callers and return the milliseconds."""
    kept = [message(parts, first + number, run) for number in range(CALLERS)]
    began = time.perf_counter()
    await asyncio.gather(*map(parts.keep, kept))
    return 1_000 * (time.perf_counter() - began)


async def claim(parts: Parts) -> tuple[Claims, float]:
    """Claim 64 letters; return them and the milliseconds."""
    wish = Wish("default", LIMIT, parts.store.clock(), LEASE, confirmations_per_hour=None)
    began = time.perf_counter()
    found = await parts.clerk.run(claims.claim, wish)
    return found, 1_000 * (time.perf_counter() - began)


async def settle(parts: Parts, found: Claims) -> None:
    """Write down that all were sent."""
    now = parts.store.clock()
    for letter in found.letters:
        sent = replace(letter.delivery, state=State.SENT, note="250 ok")
        parts_of_it = Settlement(sent, letter.claim, settled_at=now, outcome="sent")
        await parts.clerk.run(claims.settle, parts_of_it)


async def take_turns(stores: dict[str, Parts], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return milliseconds of accept and claim, by store; whoever begins changes from round to round."""
    seen: dict[str, dict[str, list[float]]] = {name: {"accept": [], "claim": []} for name in stores}
    run = f"{time.time_ns():x}"
    for number in range(rounds):
        for name in sorted(stores, reverse=bool(number % 2)):
            parts = stores[name]
            seen[name]["accept"].append(await accept(parts, number * CALLERS, run))
            found, took = await claim(parts)
            assert len(found.letters) == LIMIT, f"{len(found.letters)} letters claimed from the {name} store"
            seen[name]["claim"].append(took)
            await settle(parts, found)
    return seen


def plans(log: str) -> Iterator[dict[str, Any]]:
    """Yield the plans that a server wrote into its log."""
    for piece in log.split("plan:\n")[1:]:
        lines = []
        for line in piece.splitlines():
            if not line.startswith("\t"):
                break
            lines.append(line)
        yield json.loads("\n".join(lines))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a plan's nodes."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def look(plan: dict[str, Any]) -> Look:
    """Return what one plan tells."""
    scans = [node for node in nodes(plan["Plan"]) if SCANS.search(node["Node Type"]) and node["Actual Loops"]]
    tables = [node for node in scans if "Relation Name" in node or "Index Name" in node]
    left_out = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return Look(
        statement=" ".join(plan["Query Text"].split())[:60],
        indexes=tuple(sorted({node["Index Name"] for node in tables if "Index Name" in node})),
        sequential=tuple(sorted({node["Relation Name"] for node in tables if node["Node Type"] == "Seq Scan"})),
        rows=sum((node["Actual Rows"] + sum(node.get(key, 0) for key in left_out)) * node["Actual Loops"]
                 for node in tables),
        pages=plan["Plan"].get("Shared Hit Blocks", 0) + plan["Plan"].get("Shared Read Blocks", 0),
    )  # fmt: skip


async def explained(url: str, log: Path) -> list[Look]:
    """Claim once on connections that write every plan into the server's log; return what it says."""
    options = quote(" ".join(f"-c {name}={value}" for name, value in EXPLAINED.items()), safe="")
    parts = assemble(load().model_copy(update={"database_url": f"{url}?options={options}"}))
    async with parts.running(dispatching=False):
        before = len(log.read_text(errors="replace"))
        found, _ = await claim(parts)
        written = log.read_text(errors="replace")[before:]
        await settle(parts, found)
    return [look(plan) for plan in plans(written)]


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Fill one store, measure both, look at the plans of one claim on the full one."""
    settings = load()
    full, empty = assemble(settings), assemble(settings.model_copy(update={"database_url": given.empty}))
    began = time.perf_counter()
    fill(full, given.letters // 2)
    filled = time.perf_counter() - began
    tidy(full)
    tidy(empty)
    async with AsyncExitStack() as both:
        for parts in (full, empty):
            await both.enter_async_context(parts.running(dispatching=False))
        await take_turns({"full": full, "empty": empty}, 3)  # caches, plans, connections
        seen = await take_turns({"full": full, "empty": empty}, given.rounds)
    looks = await explained(settings.database_url, given.log)
    return {"filled": filled, "rounds": seen, "looks": [asdict(one) for one in looks]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.queues.million")
    parser.add_argument("--empty", required=True, help="the address of an empty database")
    parser.add_argument("--letters", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--log", type=Path, required=True, help="the server's log")
    print(json.dumps(uvloop.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
