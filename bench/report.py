"""What was measured as a page: the ratios that were promised, the figures behind them, the commands."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.contestants import BARE, DESIGN_A, DESIGN_B, KEEPS_NOTHING, OURS, OURS_ACCEPTING
from bench.measures import Cost, Memory, Speed
from bench.promises import MEBIBYTE, Results, judge, middle


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table and an empty line."""
    return [
        f"| {' | '.join(headings)} |",
        "|---" * len(headings) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def promise_table(results: Results) -> list[str]:
    """Return every promise with its figure and its target, or nothing when no promise was looked at."""
    rows = [
        (each.what, f"{each.value:.2f}", f"{each.sign} {each.target:g}", "holds" if each.holds else "**fails**",
         each.detail)
        for each in judge(results)
    ]  # fmt: skip
    return table(("promise", "ratio", "target", "", "medians"), rows) if rows else []


def speed_table(speeds: dict[str, list[Speed]], *, title: str, part: str) -> list[str]:
    """Return the absolute figures of one mail server: medians, and the rounds they come from."""
    if not speeds:
        return []
    headings = (
        "",
        "accepted/s",
        "rounds",
        "mails/s",
        "p50 ms",
        "p99 ms",
        "not 200",
        "no answer",
        "mails missing",
        "others on the core",
    )
    rows = [
        (
            name,
            f"{middle(rounds, 'accepted'):.1f}",
            " ".join(f"{speed.accepted:.0f}" for speed in rounds),
            f"{middle(rounds, 'mails'):.0f}" if rounds[0].mails is not None else "–",
            f"{middle(rounds, 'p50'):.1f}",
            f"{middle(rounds, 'p99'):.1f}",
            str(sum(speed.load.others for speed in rounds)),
            str(sum(speed.load.lost for speed in rounds)),
            str(sum(speed.missing for speed in rounds)) if rounds[0].mails is not None else "–",
            f"{median(speed.disturbed for speed in rounds):.0%}",
        )
        for name, rounds in speeds.items()
    ]
    return [f"## {title}", "", f"`python -m bench.run --only {part}`", "", *table(headings, rows)]


def cost_table(costs: dict[str, list[Cost]]) -> list[str]:
    """Return the processor time a message took."""
    if not costs:
        return []
    headings = ("", "µs a message", "rounds", "accepted/s", "not accepted", "others on the core")
    rows = [
        (
            name,
            f"{median(cost.microseconds for cost in rounds):.0f}",
            " ".join(f"{cost.microseconds:.0f}" for cost in rounds),
            f"{median(cost.accepted for cost in rounds):.0f}",
            str(sum(cost.load.others + cost.load.lost for cost in rounds)),
            f"{median(cost.disturbed for cost in rounds):.0%}",
        )
        for name, rounds in costs.items()
    ]
    title = "## Processor time an accepted message (user and system, the whole server)"
    return [title, "", "`python -m bench.run --only cost`", "", *table(headings, rows)]


def memory_table(memory: Memory | None) -> list[str]:
    """Return how the memory went."""
    if memory is None:
        return []
    rows = [
        (f"{memory.few:,}", f"{memory.resident_few / MEBIBYTE:.1f}"),
        (f"{memory.many:,}", f"{memory.resident_many / MEBIBYTE:.1f}"),
    ]
    title = "## Resident memory, every mail delivered"
    return [title, "", "`python -m bench.run --only memory`", "", *table(("messages", "MiB"), rows)]


def command_list() -> list[str]:
    """Return what was run, word for word but for ports and folders."""
    return [
        "## Commands",
        "",
        *(f"- {each.name}: `{each.shown}`" for each in (OURS, OURS_ACCEPTING, DESIGN_A, DESIGN_B, KEEPS_NOTHING, BARE)),
        "- load: `taskset -c 1 python -m bench.load URL --seconds S --lead 1`, or with `--count N`",
        "- mail server, instant: `taskset -c 1 smtp-sink -c 127.0.0.1:PORT 512`",
        "- mail server, 200 ms a mail: `taskset -c 1 python -m bench.sinks.slow --port PORT --delay-ms 200`",
        "",
    ]


def page(results: Results, *, heading: str, facts: Sequence[str]) -> str:
    """Return the whole page in Markdown."""
    ceiling = f"{results.ceiling:.0f} answers a second: uvicorn and load generator alone, on a bare ASGI answer"
    lines = [
        f"# {heading}",
        "",
        *(f"- {fact}" for fact in (*facts, ceiling)),
        "",
        *promise_table(results),
        *speed_table(results.instant, title="Instant mail server (smtp-sink)", part="instant"),
        *speed_table(results.slow, title="A mail server that takes 200 ms a mail", part="slow"),
        *cost_table(results.costs),
        *memory_table(results.memory),
        *command_list(),
    ]
    return "\n".join(lines)


def machine(scratch: Path) -> str:
    """Return one line about processor, system, Python and the disk that the database lies on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, {system}, database on {filesystem(scratch)}"


def filesystem(folder: Path) -> str:
    """Return the type of the file system that holds a folder; on tmpfs an fsync costs nothing."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]))[1]
