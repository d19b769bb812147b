"""What was promised of the speed, and whether a run bears it out."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.contestants import KEEPS_NOTHING, OURS, OURS_ACCEPTING
from bench.measures import Cost, Memory, Speed

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Results:
    """Everything one run measured, rounds by the contestant's name; a part not asked for is empty or None."""

    instant: dict[str, list[Speed]]
    slow: dict[str, list[Speed]]
    costs: dict[str, list[Cost]]
    memory: Memory | None
    ceiling: float


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A promise that a figure is no smaller than its target."""

    what: str
    value: float
    target: float
    detail: str
    sign: str = "≥"

    @property
    def holds(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.target


@dataclass(frozen=True, slots=True)
class AtMost:
    """A promise that a figure is no larger than its target."""

    what: str
    value: float
    target: float
    detail: str
    sign: str = "≤"

    @property
    def holds(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.target


Promise = AtLeast | AtMost


def middle(speeds: Sequence[Speed], figure: str) -> float:
    """Return the median over the rounds of `accepted`, `mails`, `p50` or `p99`."""
    return float(median(getattr(speed.load if figure in {"p50", "p99"} else speed, figure) for speed in speeds))


def promises_of_speed(speeds: dict[str, list[Speed]], *, label: str, target: float) -> list[Promise]:
    """Compare ours with the better opponent, in throughput and in the slowest hundredth of the answers."""
    if OURS.name not in speeds:
        return []
    theirs = [rounds for name, rounds in speeds.items() if name != OURS.name]
    best = max(middle(rounds, "accepted") for rounds in theirs)
    best_p99 = min(middle(rounds, "p99") for rounds in theirs)
    accepted, p99 = middle(speeds[OURS.name], "accepted"), middle(speeds[OURS.name], "p99")
    return [
        AtLeast(f"accepted a second, {label}", accepted / best, target, f"{accepted:.0f} against {best:.0f}"),
        AtMost(f"p99 of the answer, {label}", p99 / best_p99, 1, f"{p99:.1f} ms against {best_p99:.1f} ms"),
    ]


def promises_of_mails(speeds: dict[str, list[Speed]]) -> list[Promise]:
    """Compare the mails that left, from the first post until the last mail of the backlog."""
    if OURS.name not in speeds:
        return []
    ours = middle(speeds[OURS.name], "mails")
    best = max(middle(rounds, "mails") for name, rounds in speeds.items() if name != OURS.name)
    return [AtLeast("mails a second until the backlog is empty", ours / best, 2, f"{ours:.0f} against {best:.0f}")]


def promises_of_cost(costs: dict[str, list[Cost]]) -> list[Promise]:
    """Compare the processor time of a message with that of a route which keeps nothing."""
    if OURS_ACCEPTING.name not in costs:
        return []
    ours = median(cost.microseconds for cost in costs[OURS_ACCEPTING.name])
    least = median(cost.microseconds for cost in costs[KEEPS_NOTHING.name])
    return [AtMost("processor time an accepted message", ours / least, 2, f"{ours:.0f} µs against {least:.0f} µs")]


def promises_of_memory(memory: Memory | None) -> list[Promise]:
    """Compare the resident memory after many messages with that after few."""
    if memory is None:
        return []
    few, many = memory.resident_few / MEBIBYTE, memory.resident_many / MEBIBYTE
    what = f"resident memory after {memory.many:,} against {memory.few:,} messages"
    return [AtMost(what, many / few, 1.1, f"{many:.1f} MiB against {few:.1f} MiB")]


def promises_kept(results: Results) -> list[Promise]:
    """Count what a fast server might have dropped: posts of ours that were not accepted, mails that never came."""
    speeds = [*results.instant.get(OURS.name, []), *results.slow.get(OURS.name, [])]
    costs = results.costs.get(OURS_ACCEPTING.name, [])
    memory = results.memory
    loads = [speed.load for speed in speeds] + [cost.load for cost in costs]
    loads += memory.loads if memory else ()
    refused = sum(load.others + load.lost for load in loads)
    posts = AtMost("posts not accepted", refused, 0, f"of {sum(load.accepted for load in loads) + refused:,}")
    waited_for = [speed.missing for speed in speeds if speed.mails is not None] + ([memory.missing] if memory else [])
    mails = AtMost("mails missing or sent twice", sum(map(abs, waited_for)), 0, "wherever the backlog was waited for")
    return [*([posts] if loads else []), *([mails] if waited_for else [])]


def judge(results: Results) -> list[Promise]:
    """Return every promise that this run can judge."""
    return [
        *promises_of_speed(results.instant, label="instant mail server", target=4),
        *promises_of_mails(results.instant),
        *promises_of_speed(results.slow, label="200 ms a mail", target=15),
        *promises_of_cost(results.costs),
        *promises_of_memory(results.memory),
        *promises_kept(results),
    ]
