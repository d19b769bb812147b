"""Bringing the schema up to date: under a lock, once among many processes."""

import sqlite3
import time
from enum import Enum
from pathlib import Path

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import SQLAlchemyError

from pillarbox.core.errors import NotKept
from pillarbox.store.engine import Store, gave_way
from pillarbox.store.statements import CLAIMING, MIGRATING, give_way, hold, hold_patiently

TRIES = 120
TRY_AGAIN_AFTER = 0.25
"""Seconds; with half a second for a lock, a start gives up after a minute and a half."""
_REVISIONS = Path(__file__).parent / "migrations" / "versions"


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
    known, found = _known(), fetch_revision(connection)
    if found == max(known):
        return Schema.CURRENT
    return Schema.NEWER if found and found not in known else Schema.BEHIND


def fetch_revision(connection: Connection) -> str | None:
    """Return the revision of the schema, None where there is none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def newest() -> str:
    """Return the newest revision of the schema that this program knows; their names are in their order."""
    return max(_known())


def _known() -> set[str]:
    # Alembic itself takes a tenth of a second to load, and every start asks this: its table and our names for its
    # files (0004_once.py) say as much.
    return {path.name.partition("_")[0] for path in _REVISIONS.glob("[0-9]*.py")}


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
        return _upgrade_between(store)


def _upgrade_between(store: Store) -> Schema:
    """Find a moment between the transactions of others, who go on meanwhile."""
    for is_last in (*[False] * (TRIES - 1), True):
        try:
            with store.writing() as connection:
                hold_patiently(connection, MIGRATING)
                before = _standing(connection)
                if before is Schema.BEHIND:  # of those that waited for the same, one was first
                    give_way(connection)
                    hold(connection, CLAIMING)  # who claims locks tables in another order than a revision may
                    _run(connection)
        except SQLAlchemyError as error:
            if is_last or not gave_way(error):
                raise
            time.sleep(TRY_AGAIN_AFTER)
        else:
            break
    return before


def _run(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "pillarbox.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
