"""The schema comes up to date once, under a lock, after a copy was laid aside."""

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from tests.house import message, open_store, to_ada
from tests.running import BOB, Pillarbox, until

from pillarbox.core.errors import NotKept
from pillarbox.store import migrating, submissions
from pillarbox.store.engine import reason
from pillarbox.store.migrating import Schema
from pillarbox.store.sqlite_file import SqliteStore
from pillarbox.store.submissions import Kept
from pillarbox.store.tables import metadata


def store_in(folder: Path) -> SqliteStore:
    """Return the folder's store, as it is."""
    return SqliteStore.open(f"sqlite:///{folder}/pillarbox.db")


def tables(path: Path) -> set[str]:
    """Return the tables of a file."""
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def write(folder: Path, statement: str) -> None:
    """Change the database past Pillarbox."""
    with closing(sqlite3.connect(folder / "pillarbox.db")) as connection, connection:
        connection.execute(statement)


def test_a_fresh_database_gets_every_table_and_is_current(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert migrating.standing(store) is Schema.BEHIND
    assert migrating.upgrade(store) is Schema.BEHIND
    assert migrating.standing(store) is Schema.CURRENT
    assert set(metadata.tables) <= tables(store.path)
    assert migrating.upgrade(store) is Schema.CURRENT
    assert not (tmp_path / "pillarbox.db.before-upgrade").exists()


def test_the_revisions_are_one_row_that_is_named_in_its_order_as_its_files_are() -> None:
    config = Config()
    config.set_main_option("script_location", "pillarbox.store:migrations")
    revisions = list(ScriptDirectory.from_config(config).walk_revisions())
    names = [script.revision for script in revisions]
    assert names == sorted(names, reverse=True)
    assert [script.down_revision for script in revisions] == [*names[1:], None]
    assert all(Path(script.path).name.startswith(f"{script.revision}_") for script in revisions)


def test_the_tables_and_the_migrations_tell_the_same_schema(tmp_path: Path) -> None:
    with open_store(tmp_path).reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_the_indexes_of_the_tables_and_of_the_migrations_hold_the_same_columns_and_conditions(tmp_path: Path) -> None:
    question = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
    with open_store(tmp_path).reading() as connection:
        migrated = list(connection.exec_driver_sql(question))
    (tmp_path / "fresh").mkdir()
    fresh = store_in(tmp_path / "fresh")
    with fresh.writing() as connection:
        metadata.create_all(connection)
        assert list(connection.exec_driver_sql(question)) == migrated


def test_a_copy_is_laid_aside_before_an_upgrade_and_holds_what_was_kept(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    write(tmp_path, "CREATE TABLE from_before (word TEXT)")
    write(tmp_path, "INSERT INTO from_before VALUES ('hello')")
    migrating.upgrade(store)
    aside = tmp_path / "pillarbox.db.before-upgrade"
    assert aside.stat().st_mode & 0o777 == 0o600
    assert tables(aside) == {"from_before"}
    with closing(sqlite3.connect(aside)) as connection:
        assert connection.execute("SELECT word FROM from_before").fetchall() == [("hello",)]


def test_a_migration_that_breaks_off_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    write(tmp_path, "CREATE TABLE ways (in_the_way TEXT)")
    with pytest.raises(NotKept) as refused:
        migrating.upgrade(store)
    assert reason(refused.value) == "table ways already exists"
    assert tables(store.path) == {"ways"}
    assert migrating.standing(store) is Schema.BEHIND


def _upgrade(folder: str, gate: "multiprocessing.synchronize.Barrier", told: "multiprocessing.Queue[str]") -> None:
    store = store_in(Path(folder))
    gate.wait(30)
    try:
        told.put(migrating.upgrade(store).value)
    except Exception as error:
        told.put(repr(error))


def test_of_ten_processes_that_start_at_once_one_migrates(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("fork")
    gate, told = spawning.Barrier(10), spawning.Queue()
    starters = [spawning.Process(target=_upgrade, args=(str(tmp_path), gate, told)) for _ in range(10)]
    for starter in starters:
        starter.start()
    stood = [told.get(timeout=60) for _ in starters]
    for starter in starters:
        starter.join(30)
    assert set(stood) <= {"behind", "current"}, stood
    assert stood.count("behind") == 1
    assert migrating.standing(store_in(tmp_path)) is Schema.CURRENT


def test_a_newer_schema_is_left_alone_and_used_as_far_as_it_is_known(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    write(tmp_path, "UPDATE alembic_version SET version_num = '9999'")
    write(tmp_path, "ALTER TABLE submissions ADD COLUMN mood TEXT")
    assert migrating.upgrade(store) is Schema.NEWER
    with store.writing() as connection:
        submissions.keep(connection, [Kept(message(), (to_ada(),))])
    with store.reading() as connection:
        assert [one.value("name") for one in submissions.find_newest(connection, limit=5)] == ["Bob"]


def test_a_server_that_meets_a_newer_schema_starts_says_so_and_keeps(pillarbox: Pillarbox) -> None:
    pillarbox.database.parent.mkdir()
    open_store(pillarbox.database.parent).close()
    write(pillarbox.database.parent, "UPDATE alembic_version SET version_num = '9999'")
    pillarbox.serve()
    assert pillarbox.post(BOB)[0] == 200
    until(lambda: len(pillarbox.mails()) == 2)
    assert "a newer Pillarbox made this database" in pillarbox.log.read_text()


def test_with_migrations_off_a_database_that_is_behind_is_refused_in_one_plain_sentence_until_it_is_upgraded(
    pillarbox: Pillarbox,
) -> None:
    pillarbox.settings["MIGRATE"] = "off"
    ended = pillarbox.run("serve")
    assert ended.returncode == 2
    assert ended.stderr == ("MIGRATE is off and the database is behind this version: run `pillarbox upgrade` first.\n")
    assert pillarbox.run("upgrade").returncode == 0
    pillarbox.serve()
    assert pillarbox.post(BOB)[0] == 200
