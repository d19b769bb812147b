"""What one run measures: how much, in which order, and the results."""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench.processes import SERVER_CORE, busy_seconds
from bench.queues.drains import Drain, Killed, Kind, Table, drain, kill, share
from bench.queues.engines import ENGINES, OPPONENTS, ours, run
from bench.queues.million import LIMIT, Look

PARTS = ("keep", "drain", "killed", "two", "million")
KEEPERS = ("pillarbox", "pillarbox, with keys", "asyncpg, BEGIN … COMMIT", "asyncpg, one statement")
KEEPING = ("-m", "bench.queues.keeping")
WARM = 256
Name = TypeVar("Name")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. Engines that are an order slower get fewer messages: what is compared are rates."""

    rounds: int
    kept: int
    kept_one_by_one: int
    drained: int
    drained_by_celery: int
    killed: int
    shared: int
    letters: int
    turns: int


FULL = Size(rounds=3, kept=20_000, kept_one_by_one=8_000, drained=10_000, drained_by_celery=2_000, killed=1_000,
            shared=500, letters=1_000_000, turns=60)  # fmt: skip
QUICK = Size(rounds=1, kept=6_000, kept_one_by_one=2_000, drained=2_000, drained_by_celery=300, killed=300,
             shared=150, letters=100_000, turns=20)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeptSeen:
    """Messages kept a second, milliseconds of processor each (start included), the share of the core others took."""

    rate: float
    processor: float
    disturbed: float


@dataclass(frozen=True, slots=True)
class Filled:
    """What a full store costs beside an empty one: milliseconds of each round, by store and work; a claim's plans."""

    letters: int
    rounds: dict[str, dict[str, list[float]]]
    looks: list[Look]
    limit: int = LIMIT


@dataclass(slots=True)
class Results:
    """Everything one run measured, rounds by name; what was not asked for is empty."""

    kept: dict[str, list[KeptSeen]] = field(default_factory=dict)
    drains: dict[str, list[Drain]] = field(default_factory=dict)
    killed: dict[str, list[Killed]] = field(default_factory=dict)
    shared: dict[int, list[Drain]] = field(default_factory=dict)
    filled: Filled | None = None


REPLY_MS = 20.0


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def interleave(names: Sequence[Name], rounds: int, measure: Callable[[Name], Result]) -> dict[Name, list[Result]]:
    """Measure all once, then all again: a noisy minute of the machine hits them alike."""
    seen: dict[Name, list[Result]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            seen[name].append(measure(name))
            say(f"  round {number + 1}: {getattr(name, 'name', name)}: {seen[name][-1]}")
    return seen


def keep(table: Table, who: str, size: Size) -> KeptSeen:
    """Let 64 callers keep messages in a database of its own."""
    url = table.postgresql.create()
    with tempfile.TemporaryDirectory(dir=table.scratch) as name:
        folder = Path(name)
        run(sys.executable, *KEEPING, "--count", "0", folder=folder, settings=ours(url))  # makes the tables
        if who.startswith("pillarbox"):
            count, keys = size.kept, ("--keys",) if "keys" in who else ()
            words = (sys.executable, *KEEPING, "--count", str(count), "--warm", str(WARM), *keys)
            return watched(count, lambda: run(*words, folder=folder, settings=ours(url)))
        count, form = size.kept_one_by_one, "one" if "one" in who else "begin"
        words = (str(OPPONENTS / "python"), "-m", "bench.opponents.asyncpg_keep", "--url", url, "--count", str(count),
                 "--form", form)  # fmt: skip
        return watched(count, lambda: run(*words, folder=folder))


def watched(count: int, work: Callable[[], str]) -> KeptSeen:
    """Run a program that prints how many seconds it took for so many messages, with an eye on the core."""
    began, busy, own = time.monotonic(), busy_seconds(SERVER_CORE), children_seconds()
    seconds = float(work())
    spent = children_seconds() - own
    others = (busy_seconds(SERVER_CORE) - busy - spent) / (time.monotonic() - began)
    return KeptSeen(count / seconds, 1_000 * spent / count, max(0.0, others))


def children_seconds() -> float:
    """Return user and system time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fill_one(table: Table, size: Size) -> Filled:
    """Fill one database with waiting letters and compare it with an empty one."""
    full, empty = table.postgresql.create(), table.postgresql.create()
    with tempfile.TemporaryDirectory(dir=table.scratch) as name:
        words = ("-m", "bench.queues.million", "--empty", empty, "--letters", str(size.letters),
                 "--rounds", str(size.turns), "--log", str(table.postgresql.home / "log"))  # fmt: skip
        seen = json.loads(run(sys.executable, *words, folder=Path(name), settings=ours(full)))
    looks = [Look(**look | {"indexes": tuple(look["indexes"]), "sequential": tuple(look["sequential"])})
             for look in seen["looks"]]  # fmt: skip
    return Filled(size.letters, seen["rounds"], looks)


def measure_all(table: Table, size: Size, parts: Sequence[str]) -> Results:
    """Measure the parts asked for."""
    results = Results()
    if "keep" in parts:
        say("keep() alone")
        results.kept = interleave(KEEPERS, size.rounds, lambda who: keep(table, who, size))
    if "drain" in parts:
        say("one worker drains")
        results.drains = by_name(interleave(ENGINES, size.rounds, lambda kind: drain(table, kind, drained(kind, size))))
    if "killed" in parts:
        say("the worker is killed")
        results.killed = by_name(interleave(ENGINES, size.rounds, lambda kind: kill(table, kind, size.killed)))
    if "two" in parts:
        say(f"one worker and two, {REPLY_MS:.0f} ms a reply")
        results.shared = interleave(
            (1, 2), size.rounds, lambda workers: share(table, size.shared, workers=workers, reply_ms=REPLY_MS)
        )
    if "million" in parts:
        say(f"{size.letters:,} waiting letters")
        results.filled = fill_one(table, size)
    return results


def drained(kind: Kind, size: Size) -> int:
    """Return how many messages an engine is filled with."""
    return size.drained if kind in ENGINES[:2] else size.drained_by_celery


def by_name(seen: dict[Kind, list[Result]]) -> dict[str, list[Result]]:
    """Return the results under the engines' names."""
    return {kind.name: rounds for kind, rounds in seen.items()}
