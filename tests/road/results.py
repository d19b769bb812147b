"""The tables of the proofs at full size, printed and written to bench/results."""

import os
import platform
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "bench" / "results"


def write_table(name: str, title: str, rows: Mapping[str, object], *, test: str) -> None:
    """Print what was counted and write it to bench/results/<name>.md, with date, command and machine."""
    now = datetime.now(UTC)
    machine = (
        f"{os.cpu_count()} processors, Linux {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; shared with other work while this ran"
    )
    lines = [
        f"# {title}",
        "",
        f"- Date: {now:%Y-%m-%d %H:%M} UTC",
        f"- Machine: {machine}",
        f"- Command: `pytest -m full {test}`",
        "",
        "| what | counted |",
        "|---|---|",
        *(f"| {what} | {counted} |" for what, counted in rows.items()),
    ]
    print("\n".join(lines))  # noqa: T201 - the proof shows what it counted
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")
