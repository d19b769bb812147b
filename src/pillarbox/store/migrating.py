"""Bringing the schema up to date: under a lock, once among many processes."""

import sqlite3
from enum import Enum

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from pillarbox.core.errors import NotKept
from pillarbox.store.engine import Store
from pillarbox.store.statements import MIGRATING, hold


class Schema(Enum):
    """How the schema in the database stands to this program."""

    CURRENT = "current"
    BEHIND = "behind"
    NEWER = "newer"


def standing(store: Store) -> Schema:
    """Tell whether the schema is current, behind, or made by a newer Pillarbox (which this one can still use).

    Raises NotKept when the database can't be read.
    """
    with store.reading() as connection:
        return _standing(connection)


def _standing(connection: Connection) -> Schema:
    scripts = ScriptDirectory.from_config(_config())
    found = MigrationContext.configure(connection).get_current_revision()
    if found == scripts.get_current_head():
        return Schema.CURRENT
    known = {script.revision for script in scripts.walk_revisions()}
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
    with store.alone():
        if (before := standing(store)) is not Schema.BEHIND:
            return before
        store.copy_aside()
        with store.writing() as connection:
            hold(connection, MIGRATING)
            if (before := _standing(connection)) is Schema.BEHIND:  # where others waited for the same, one was first
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    return before


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "pillarbox.store:migrations")
    config.set_main_option("path_separator", "os")
    return config
