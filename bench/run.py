"""The benchmark: every contestant in turn, round after round, then medians and ratios as one page.

python -m bench.run            the whole of it, about ten minutes
python -m bench.run --quick    about a minute, for a first impression
"""

import argparse
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from bench.contestants import BARE, DESIGN_A, DESIGN_B, KEEPS_NOTHING, OURS, OURS_ACCEPTING, Contestant
from bench.load import CONNECTIONS
from bench.measures import Cost, Memory, Speed, measure_cost, measure_memory, measure_speed
from bench.processes import LOAD_CORE, ROOT, check_tools
from bench.promises import Results, judge
from bench.report import machine, page

PARTS = ("instant", "slow", "cost", "memory")
SLOW_MS = 200
Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: rounds, seconds of load in one, messages."""

    rounds: int
    instant_seconds: float
    slow_seconds: float
    cost_messages: int
    few: int
    many: int


FULL = Size(rounds=5, instant_seconds=5, slow_seconds=8, cost_messages=20_000, few=10_000, many=100_000)
QUICK = Size(rounds=1, instant_seconds=2, slow_seconds=4, cost_messages=6_000, few=3_000, many=15_000)


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def interleave(
    contestants: Sequence[Contestant], rounds: int, measure: Callable[[Contestant], Seen]
) -> dict[str, list[Seen]]:
    """Measure all contestants once, then all again: a noisy minute of the machine hits them alike."""
    seen: dict[str, list[Seen]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            seen[contestant.name].append(measure(contestant))
            say(f"  round {number + 1}: {contestant.name}: {describe(seen[contestant.name][-1])}")
    return seen


def describe(seen: object) -> str:
    """Return one look in a few words."""
    match seen:
        case Speed(accepted, mails, missing, disturbed, load):
            mailed = "" if mails is None else f", {mails:.0f} mails/s, {missing} missing"
            bad = f"{load.others} not 200, {load.lost} lost, others on the core {disturbed:.0%}"
            return f"{accepted:.1f} accepted/s, p99 {load.p99:.1f} ms{mailed}, {bad}"
        case Cost(microseconds, accepted, disturbed, load):
            bad = f"{load.others + load.lost} not accepted, others on the core {disturbed:.0%}"
            return f"{microseconds:.0f} µs, {accepted:.0f} accepted/s, {bad}"
        case _:
            return str(seen)


def measure_all(size: Size, *, parts: Sequence[str], contestants: Sequence[Contestant], scratch: Path) -> Results:
    """Measure the parts asked for."""
    instant: dict[str, list[Speed]] = {}
    slow: dict[str, list[Speed]] = {}
    costs: dict[str, list[Cost]] = {}
    memory: Memory | None = None
    say("ceiling of uvicorn and load generator")
    ceiling = measure_speed(BARE, seconds=2, delay_ms=0, scratch=scratch).accepted
    if "instant" in parts:
        say("instant mail server")
        instant = interleave(contestants, size.rounds, lambda each: measure_speed(
            each, seconds=size.instant_seconds, delay_ms=0, scratch=scratch))  # fmt: skip
    if "slow" in parts:
        say(f"{SLOW_MS} ms a mail")
        slow = interleave(contestants, size.rounds, lambda each: measure_speed(
            each, seconds=size.slow_seconds, delay_ms=SLOW_MS, scratch=scratch))  # fmt: skip
    if "cost" in parts:
        say("processor time a message")
        pair = (KEEPS_NOTHING, OURS_ACCEPTING) if OURS in contestants else (KEEPS_NOTHING,)
        costs = interleave(pair, size.rounds, lambda each: measure_cost(
            each, count=size.cost_messages, scratch=scratch))  # fmt: skip
    if "memory" in parts and OURS in contestants:
        say(f"memory after {size.few:,} and {size.many:,} messages")
        memory = measure_memory(OURS, few=size.few, many=size.many, scratch=scratch)
    return Results(instant, slow, costs, memory, ceiling)


def read_arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round of everything, about a minute")
    parser.add_argument("--name", help="name of the page in bench/results (default: speed, or speed-quick)")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part (can be repeated)")
    parser.add_argument("--opponents", action="store_true", help="leave Pillarbox out, measure the opponents alone")
    parser.add_argument("--rounds", type=int, choices=range(1, 21), metavar="1–20", help="other than usual")
    parser.add_argument("--scratch", type=Path, help="where databases lie meanwhile: a real disk, not tmpfs")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark; the exit status is 1 when a promise does not hold."""
    given = read_arguments()
    check_tools()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped on the way out
    os.sched_setaffinity(0, {LOAD_CORE})
    size = QUICK if given.quick else FULL
    size = replace(size, rounds=given.rounds or size.rounds)
    contestants = (DESIGN_A, DESIGN_B) if given.opponents else (DESIGN_A, DESIGN_B, OURS)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pillarbox-bench-", dir=given.scratch) as scratch:
        about = machine(Path(scratch))
        results = measure_all(size, parts=given.only or PARTS, contestants=contestants, scratch=Path(scratch))
    facts = (
        f"Date: {time.strftime('%Y-%m-%d %H:%M %Z')}, {time.monotonic() - began:.0f} s in all",
        f"Machine: {about}; server on core 0, load and mail server on core 1",
        f"Command: `{shlex.join(['python', '-m', 'bench.run', *sys.argv[1:]])}`",
        f"{CONNECTIONS} connections, {size.rounds} interleaved rounds, medians"
        + ("; a quick run, for a first impression only" if given.quick else ""),
    )
    text = page(results, heading="How fast", facts=facts)
    name = given.name or ("speed-quick" if given.quick else "speed")
    (ROOT / "bench" / "results" / f"{Path(name).name}.md").write_text(text, encoding="utf-8")
    print(text)
    sys.exit(not all(promise.holds for promise in judge(results)))


if __name__ == "__main__":
    main()
