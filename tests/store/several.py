"""Several who use one PostgreSQL at once: what they ask, keep and claim, and threads that begin together."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection
from tests.house import WAY, message, to_ada, to_bob
from tests.running import until

from pillarbox.store import claims, submissions
from pillarbox.store.claims import Wish
from pillarbox.store.engine import Store
from pillarbox.store.keeper import Batch
from pillarbox.store.submissions import Kept, NewDelivery

NOW = 1_900_000_000.0
HOUR = 3_600.0


def write(store: Store, function: Batch[Any, Any], *items: Any) -> Sequence[Any]:
    with store.writing() as connection:
        return function(connection, items)


def ask(store: Store, question: str) -> list[tuple[Any, ...]]:
    with store.reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(question)]


def keep(store: Store, number: int, *letters: NewDelivery, **about: Any) -> None:
    """Keep so many messages with these letters."""
    about = {"at": NOW} | about
    write(store, submissions.keep, *(Kept(message(**about), letters or (to_ada(),)) for _ in range(number)))


def keep_for_many(store: Store, number: int) -> None:
    """Keep so many messages, each with a confirmation to somebody else."""
    letters = [to_bob(f"bob-{one}@example.net") for one in range(number)]
    write(store, submissions.keep, *(Kept(message(at=NOW), (letter,)) for letter in letters))


def wish(limit: int = 100, **more: Any) -> Wish:
    return replace(Wish(WAY, limit, NOW, 30.0, None), **more)


def claim(store: Store, wanted: Wish) -> list[int]:
    """Claim, and return the numbers of the letters."""
    (found,) = write(store, claims.claim, wanted)
    return [letter.delivery.id for letter in found.letters]


def at_once(number: int, do: Callable[[int], Any]) -> list[Any]:
    """Return what so many threads bring that begin together."""
    gate = threading.Barrier(number)

    def begin(which: int) -> Any:
        gate.wait(20)
        return do(which)

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(begin, range(number)))


def begun_within(store: Store, change: Callable[[Connection], Any], function: Batch[Any, Any], item: Any) -> Any:
    """Return the function's result, which began within somebody's transaction that ended when the function waited."""
    with ThreadPoolExecutor(1) as another:
        with store.writing() as connection:
            change(connection)
            begun = another.submit(write, store, function, item)
            until(lambda: begun.done() or ask(store, "SELECT 1 FROM pg_locks WHERE NOT granted"))
        return begun.result(20)[0]
