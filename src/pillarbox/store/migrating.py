"""Bringing the schema up to date: under a lock, after copying the file aside, once among many processes."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import Enum
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from pillarbox.core.errors import NotKept
from pillarbox.store.engine import Store


class Schema(Enum):
    """How the schema in the database stands to this program."""

    CURRENT = "current"
    BEHIND = "behind"
    NEWER = "newer"


def standing(store: Store) -> Schema:
    """Tell whether the schema is current, behind, or made by a newer Pillarbox (which this one can still use).

    Raises NotKept when the database can't be read.
    """
    scripts = ScriptDirectory.from_config(_config())
    with store.reading() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    if found == scripts.get_current_head():
        return Schema.CURRENT
    return Schema.NEWER if found and found not in known else Schema.BEHIND


def upgrade(store: Store) -> Schema:
    """Bring a schema that is behind up to date and return how it stood; a current or newer one is left alone.

    Raises NotKept when the database can't be read or written.
    """
    try:
        return _upgrade(store)
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise NotKept from error


def _upgrade(store: Store) -> Schema:
    # Alone from the first look on: SQLite waits for nobody while another connection turns a fresh file's WAL mode on.
    with _alone(store.lock_path.with_suffix(".migrating")):
        if (before := standing(store)) is not Schema.BEHIND:
            return before
        _copy_aside(store.path)
        config = _config()
        with store.writing() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return before


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "pillarbox.store:migrations")
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        path.chmod(0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".before-upgrade")


def drop_copy(store: Store, *, before: float) -> bool:
    """Take away what an upgrade before the given time copied aside, since messages lie in it; tell if there was any."""
    aside = _aside(store.path)
    try:
        if aside.stat().st_mtime >= before:
            return False
        aside.unlink()
    except OSError:  # it is not there, or not ours to take away
        return False
    return True


def _copy_aside(path: Path) -> None:
    """Copy a database that holds anything to `<name>.before-upgrade`, consistent even while others write."""
    with closing(sqlite3.connect(path)) as source:
        if not source.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return
        aside = _aside(path)
        aside.touch(mode=0o600)
        with closing(sqlite3.connect(aside)) as target:
            source.backup(target)
