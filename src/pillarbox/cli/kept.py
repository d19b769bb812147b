"""What commands that look into the store share."""

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pillarbox.terminal import WRONG_SETTINGS, give_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pillarbox.settings import Settings
    from pillarbox.store.engine import Store

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

NOBODY_IS_TOLD = "Nobody is told when mail can't leave: set ALARM_TO."


def moment(at: float | None) -> str | None:
    """Return a moment (seconds since the epoch) as programs read it: ISO 8601, in UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


@contextmanager
def opened(settings: "Settings") -> "Iterator[Store]":
    """Give the store as it is; ends the command in plain words when there is none, or when it can't be used."""
    from pillarbox.core.errors import NotKept
    from pillarbox.store.engine import complaint, open_store

    _look_for_the_file(settings)
    try:
        store = open_store(settings.database_url)
    except NotKept as error:
        give_up(f"DATABASE_URL: the database can't be used: {complaint(error)}", WRONG_SETTINGS)
    try:
        yield store
    except NotKept as error:
        if _is_behind(store):
            give_up("The database is behind this version: run `pillarbox upgrade` first.", WRONG_SETTINGS)
        give_up(f"DATABASE_URL: {store.place} can't be used: {complaint(error)}", WRONG_SETTINGS)
    finally:
        store.close()


def _look_for_the_file(settings: "Settings") -> None:
    """End the command in plain words where there is no file: opening the store would make an empty one."""
    from pillarbox.store.engine import is_postgresql
    from pillarbox.store.sqlite_file import sqlite_path

    if is_postgresql(settings.database_url):
        return
    path = sqlite_path(settings.database_url)
    try:
        path.stat()
    except FileNotFoundError:
        give_up(f"There are no messages yet: {path} does not exist. Is this the folder that Pillarbox runs in?")
    except OSError as error:
        give_up(f"DATABASE_URL: {error.filename} can't be opened: {error.strerror}.", WRONG_SETTINGS)


def _is_behind(store: "Store") -> bool:
    from pillarbox.core.errors import NotKept
    from pillarbox.store.migrating import Schema, standing

    try:
        return standing(store) is Schema.BEHIND
    except NotKept:
        return False


@contextmanager
def reading(settings: "Settings") -> "Iterator[Any]":
    """Give a connection that reads what is kept; ends the command as opened() does."""
    with opened(settings) as store, store.reading() as connection:
        yield connection
