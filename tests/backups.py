"""Backups in tests: a store with something in every table, backed up and restored."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pillarbox import archiving
from pillarbox.archiving import Manifest, Origin
from pillarbox.store import archive, submissions
from pillarbox.store.archive import Restored
from pillarbox.store.engine import Store
from pillarbox.store.submissions import Kept
from tests.house import message, to_ada, to_bob

ORIGIN = Origin("2026-11-23T06:50:16+00:00", "0.1.0", "0004")
NOW = 1_764_000_000.25


def nothing(_rows: int) -> None:
    """Show no progress."""


def back_up(
    store: Store, target: Path, *, advance: Callable[[int], object] = nothing, revision: str = ORIGIN.revision
) -> Manifest:
    """Write a backup of a store."""
    with archiving.writing(target) as writer:
        with store.reading() as connection:
            archive.dump(connection, archive.find_contents(connection), writer, advance=advance)
        return writer.finish(replace(ORIGIN, revision=revision))


def restore(store: Store, target: Path, *, waits: bool = True, advance: Callable[[int], object] = nothing) -> Restored:
    """Restore a backup into a store."""
    with archiving.opened(target) as opened:
        assert archive.fits(opened)
        return archive.restore(store, opened, now=NOW, waits=waits, advance=advance)


def keep(store: Store, *letters: Any, **about: Any) -> str:
    """Keep one message and return its id."""
    kept = Kept(message(**about), letters or (to_ada(), to_bob()))
    with store.writing() as connection:
        submissions.keep(connection, [kept])
    return kept.submission.id


def keep_many(store: Store, count: int) -> set[str]:
    """Keep so many messages at once and return their ids."""
    kept = [Kept(message(number), (to_ada(), to_bob())) for number in range(count)]
    with store.writing() as connection:
        submissions.keep(connection, kept)
    return {one.submission.id for one in kept}


def change(store: Store, *statements: str) -> None:
    """Change a store past Pillarbox."""
    with store.writing() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def ask(store: Store, question: str) -> list[tuple[Any, ...]]:
    """Return what a query finds."""
    with store.reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(question)]


def fill(store: Store, *, at: float = NOW) -> None:
    """Keep something in every table: letters 1 to 8, of which the first is sent, the third held, the seventh in 5."""
    for number in range(4):
        keep(store, to_ada(), to_bob(f"bob{number}@example.net"), number=number, at=at + number)
    change(
        store,
        "UPDATE deliveries SET state = 'sent', outcome = 'sent', settled_at = 1764000000.1, note = '250' WHERE id = 1",
        "UPDATE deliveries SET state = 'held' WHERE id = 3",
        "UPDATE deliveries SET digest_id = 5 WHERE id = 5",
        "UPDATE deliveries SET digest_id = 5, state = 'digested' WHERE id = 7",
        "INSERT INTO attempts (delivery_id, way, begun_at, seconds, outcome, note) VALUES (1, 'w', 1, 1, 'sent', '😀')",
        "INSERT INTO confirmations (form, mailbox, delivery_id, confirmed_at) VALUES ('contact', 'bob@x', 2, 1e9)",
        "INSERT INTO suppressions (mailbox, reason, since, note) VALUES ('x@x', 'asked', 1e9, '')",
        "INSERT INTO idempotency_keys (form, key, digest, submission_id, kept_until) VALUES ('f', 'k', 'd', 's', 1)",
        "INSERT INTO ways (name, shut_since, note) VALUES ('w', 1e9, '421')",
        "INSERT INTO alarms (key, kind, subject, note, opened_at, told, tell_at) VALUES ('a', 'k', 's', 'n', 1, 1, 2)",
        "INSERT INTO counts (name, labels, value) VALUES ('n', '[]', 1e-300)",
        "INSERT INTO pulse (id, at) VALUES (1, 1)",
        "INSERT INTO arrivals (name, at) VALUES ('n', 1)",
    )
