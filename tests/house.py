"""The inner parts put together without web and settings: a store, its keeper, and what Bob wrote."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pillarbox.core.confirming import fold
from pillarbox.core.delivery import Purpose, State
from pillarbox.core.submission import Answer, Submission
from pillarbox.intake import new_id
from pillarbox.store import engine, migrating, submissions
from pillarbox.store.keeper import Keeper
from pillarbox.store.statements import is_postgresql
from pillarbox.store.submissions import Kept, NewDelivery

WAY = "default"
ADA = "ada@example.org"

on_both = pytest.mark.usefixtures("database")
"""Marks a test that is to be true of the store in a file and of the one in PostgreSQL."""

ELSEWHERE: dict[Path, str] = {}
"""Where the stores of some folders lie instead: the DATABASE_URL of each."""


def open_store(folder: Path) -> Any:
    """Return the store of the folder, with its schema: a file in it, or the database that stands for the folder."""
    store = engine.open_store(ELSEWHERE.get(folder) or f"sqlite:///{folder}/pillarbox.db")
    migrating.upgrade(store)
    return store


@asynccontextmanager
async def keeping(folder: Path) -> AsyncIterator[Keeper]:
    """Keep in a new store while the block runs."""
    store = open_store(folder)
    keeper = Keeper(store)
    keeper.start()
    try:
        yield keeper
    finally:
        await keeper.close()
        store.close()


def message(number: int = 1, *, at: float | None = None, identifier: str = "", form: str = "contact") -> Submission:
    """Return what Bob wrote, the n-th time."""
    answers = (Answer("name", "Name", ("Bob",)), Answer("message", "Message", (f"This is message {number}.",)))
    return Submission(identifier or new_id(), form, time.time() if at is None else at, "en", answers)


def to_ada(state: State = State.WAITING) -> NewDelivery:
    """Return an owner's letter."""
    return NewDelivery(Purpose.NOTIFICATION, ADA, ADA, WAY, state)


def to_bob(address: str = "bob@example.net") -> NewDelivery:
    """Return a confirmation to this address."""
    return NewDelivery(Purpose.CONFIRMATION, address, fold(address), WAY)


async def keep(keeper: Keeper, *letters: NewDelivery, **about: Any) -> str:
    """Keep one message with these letters and return its id."""
    kept = Kept(message(**about), letters or (to_ada(),))
    await keeper.run(submissions.keep, kept, size=1_000)
    return kept.submission.id


async def rows(keeper: Keeper, question: str, *values: object) -> list[tuple[Any, ...]]:
    """Return what a query finds, in the keeper's order."""

    def ask(connection: Any, items: Sequence[None]) -> list[Any]:
        said = question.replace("%", "%%").replace("?", "%s") if is_postgresql(connection) else question
        found = [connection.exec_driver_sql(said, values) for _ in items]
        return [[tuple(row) for row in one] if one.returns_rows else [] for one in found]

    return list(await keeper.run(ask, None))


async def until(holds: Any, within: float = 20.0) -> None:
    """Return as soon as it holds (a function, or one that returns an awaitable); fails after so many seconds."""
    deadline = time.monotonic() + within
    while True:
        found = holds()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)
