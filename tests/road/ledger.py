"""What lies in a database, asked past Pillarbox."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def ask(database: Path, question: str, *values: object) -> list[tuple[Any, ...]]:
    """Return the rows that a query finds."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(question, values).fetchall()


def waiting(database: Path) -> int:
    """Return how many letters still wait or are in hand."""
    return int(ask(database, "SELECT count(*) FROM deliveries WHERE state = 'waiting'")[0][0])


def kept(database: Path) -> set[str]:
    """Return the ids of the messages that are on disk."""
    return {row[0] for row in ask(database, "SELECT id FROM submissions")}
