"""A backup or a restore that is killed in the middle, and others who write while one is made."""

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pillarbox import archiving
from pillarbox.archiving import Unusable
from pillarbox.store.engine import Store
from tests.backups import ask, back_up, fill, restore
from tests.house import ELSEWHERE, open_store
from tests.running import until


def in_another_process(do: Callable[[Callable[[int], None]], object]) -> None:
    """Run this in a process of its own, and kill that one with -9 at the first row that is done."""

    def killed(ready: Any) -> None:
        def stand_still(_rows: int) -> None:
            ready.set()
            signal.pause()

        do(stand_still)
        os._exit(1)

    forking = multiprocessing.get_context("fork")
    ready = forking.Event()
    process = forking.Process(target=killed, args=(ready,))
    process.start()
    assert ready.wait(30)
    process.kill()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL


def test_killed_in_mid_backup_it_leaves_the_one_before_and_nothing_that_looks_like_one(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    back_up(store, tmp_path / "a.zip")
    before = (tmp_path / "a.zip").read_bytes()
    fill(store)
    store.close()
    in_another_process(lambda stop: back_up(open_store(tmp_path), tmp_path / "a.zip", advance=stop))
    assert (tmp_path / "a.zip").read_bytes() == before
    (left,) = [path for path in tmp_path.iterdir() if not path.name.startswith(("a.zip", "pillarbox.db"))]
    assert (left.name[0], left.suffix, left.stat().st_mode & 0o777) == (".", ".part", 0o600)
    with pytest.raises(Unusable), archiving.opened(left):
        pass
    assert back_up(open_store(tmp_path), tmp_path / "a.zip").rows > 10


def backed_up(folder: Path) -> Path:
    """Return a backup with something in every table."""
    (folder / "source").mkdir()
    source = open_store(folder / "source")
    fill(source)
    back_up(source, folder / "a.zip")
    source.close()
    return folder / "a.zip"


@pytest.mark.usefixtures("database")
def test_killed_in_mid_restore_it_leaves_an_empty_database(tmp_path: Path) -> None:
    made = backed_up(tmp_path)
    in_another_process(lambda stop: restore(open_store(tmp_path), made, advance=stop))
    if tmp_path in ELSEWHERE:
        until(lambda: is_alone(ELSEWHERE[tmp_path]))  # the server has noticed
    target = open_store(tmp_path)
    assert ask(target, "SELECT count(*) FROM attempts") == [(0,)]
    assert restore(target, made).messages == 4
    target.close()


def is_alone(url: str) -> bool:
    """Tell whether nobody else has locked anything in this database."""
    locks = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock'"
    with psycopg.connect(url) as connection:
        return connection.execute(locks).fetchone() == (0,)


@pytest.mark.usefixtures("database")
def test_nobody_writes_between_the_first_row_of_a_restore_and_its_last(tmp_path: Path) -> None:
    made, target = backed_up(tmp_path), open_store(tmp_path)
    refused: list[Exception] = []

    def write_meanwhile(_rows: int) -> None:
        if not refused:
            refused.append(_refusal(target, tmp_path))

    restore(target, made, advance=write_meanwhile)
    assert len(refused) == 1
    assert ask(target, "SELECT count(*) FROM suppressions") == [(1,)]
    target.close()


def _refusal(store: Store, folder: Path) -> Exception:
    """Return with what a writer that does not wait is refused."""
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.LockNotAvailable)) as refused:
        (_write_to_postgresql if store.is_shared else _write_to_sqlite)(store, folder)
    return refused.value


_WRITE = "INSERT INTO suppressions (mailbox, reason, since, note) VALUES ('z@z', 'asked', 1, '')"


def _write_to_postgresql(store: Store, _folder: Path) -> None:
    with closing(store.engine.raw_connection()) as raw:
        raw.cursor().execute(f"BEGIN; SET LOCAL lock_timeout = 1; {_WRITE}")


def _write_to_sqlite(_store: Store, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "pillarbox.db", timeout=0)) as connection:
        connection.execute(_WRITE)
