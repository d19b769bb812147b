"""All that is kept, as rows for a backup and out of one."""

import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, collate, delete, func, inspect, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import Text

from pillarbox.archiving import Advance, Archive, Lines, Unusable, Writer
from pillarbox.core.delivery import State
from pillarbox.core.errors import NotKept
from pillarbox.store.engine import Store
from pillarbox.store.migrating import Schema, newest, upgrade
from pillarbox.store.statements import is_postgresql, notify
from pillarbox.store.tables import deliveries, metadata, submissions

OF_THE_MOMENT = frozenset({"pulse", "arrivals"})
"""Tables that no backup holds: what they say is true for a moment."""
OF_ANY_START = frozenset({"alarms", "counts", "ways"})
"""Tables in which a start alone leaves rows: a restore puts the backup's in their place."""
CALLED_OFF = "called off when a backup was restored"
"""The note of a letter that waited in a backup and was not to leave."""

_KEPT = {table.name: table for table in metadata.sorted_tables if table.name not in OF_THE_MOMENT}
_PORTION = 250
_TO_CLOSE = (0.1, 0.3, 0.6, 1.0)
"""Seconds between looks: the server takes a moment to see that a process has ended."""
# Ten seconds, as other transactions have, are few where a disk or a network between stalls.
_PATIENCE = "SET LOCAL idle_in_transaction_session_timeout = '10min'"
_LOCK = f"LOCK TABLE {', '.join(_KEPT)} IN SHARE ROW EXCLUSIVE MODE"


class NotEmpty(Exception):
    """There are messages, or what belongs to some, where a backup was to be restored."""


@dataclass(frozen=True, slots=True)
class Content:
    """A table as it is in the database: the columns that are known here, and how many rows."""

    name: str
    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Restored:
    """How many messages and letters there are now, and how many of these waited when the backup was made."""

    messages: int
    letters: int
    waiting: int


def find_contents(connection: Connection) -> list[Content]:
    """Return the tables that are there, those first to whose rows others refer; an older schema has fewer."""
    seen = inspect(connection)
    there = [table for table in _KEPT.values() if seen.has_table(table.name)]
    return [
        Content(
            table.name,
            _names(table, {column["name"] for column in seen.get_columns(table.name)}),
            connection.execute(select(func.count()).select_from(table)).scalar_one(),
        )
        for table in there
    ]


def _names(table: Table, among: Container[str]) -> tuple[str, ...]:
    return tuple(column.name for column in table.c if column.name in among)


def dump(connection: Connection, contents: Sequence[Content], writer: Writer, *, advance: Advance) -> None:
    """Write these tables as this connection's transaction sees them. Raises OSError, and NotKept as reading() does."""
    if is_postgresql(connection):
        connection.exec_driver_sql(_PATIENCE)
    for content in contents:
        writer.add(content.name, content.columns, _portions(connection, content.name, content.columns, advance))


def _portions(
    connection: Connection, name: str, columns: Sequence[str], advance: Advance
) -> Iterator[Sequence[Sequence[Any]]]:
    """Yield a table's rows in the order of its primary key, which is the same in both databases."""
    table = _KEPT[name]
    in_order = [_by_bytes(connection, column) for column in table.primary_key]
    query = select(*(table.c[column] for column in columns)).order_by(*in_order)
    for rows in connection.execute(query, execution_options={"yield_per": _PORTION}).partitions():
        yield rows
        advance(len(rows))


def _by_bytes(connection: Connection, column: Any) -> Any:
    return collate(column, "C") if is_postgresql(connection) and isinstance(column.type, Text) else column


def fits(archive: Archive) -> bool:
    """Tell whether this program knows all that a backup holds: it was made by this version or an older one."""
    manifest = archive.manifest
    return manifest.origin.revision <= newest() and all(
        name in _KEPT and len(_names(_KEPT[name], part.columns)) == len(part.columns)
        for name, part in manifest.parts.items()
    )


def count_others(store: Store) -> int:
    """Return how many connections of other Pillarbox processes there are to this PostgreSQL database.

    0 on SQLite, where the right to dispatch tells, and behind a pooler, whose connections stay open under the name of
    whoever had them last. One that was closed a moment ago is not counted. Raises NotKept.
    """
    if not store.is_shared:
        return 0
    for pause in (*_TO_CLOSE, 0.0):
        with store.reading() as connection:  # each transaction sees one moment of this
            found = _count_others(connection)
        if not found:
            break
        time.sleep(pause)
    return found


def _count_others(connection: Connection) -> int:
    from pillarbox.store.postgresql import is_pooled  # noqa: PLC0415 - not to load it with SQLite

    raw: Any = connection.connection.driver_connection
    return 0 if is_pooled(raw) else int(connection.execute(_OTHERS).scalar_one())


# An address may give another name (?application_name=…): ours then has that, too.
_OTHERS = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND application_name IN ('pillarbox', current_setting('application_name'))
""")


def restore(store: Store, archive: Archive, *, now: float, waits: bool, advance: Advance) -> Restored:
    """Put a backup that fits into an empty store, in one transaction: all of it is there, or nothing but the tables.

    What was written is read back and has to be what the manifest says. Letters that wait are called off unless `waits`.
    `advance` is told of every row twice. Raises NotEmpty, Unusable and NotKept.
    """
    with store.reading() as connection:
        _refuse_messages(connection)  # before an older schema of theirs is touched
    if upgrade(store) is Schema.NEWER:
        raise Unusable("A newer Pillarbox made the database that this was to go into: restore with that version.")
    try:
        with store.writing() as connection:
            _keep_others_out(connection)
            for name in (found := [name for name in _KEPT if name in archive.manifest.parts]):
                _load(connection, _KEPT[name], archive, advance)
            for name in found:
                _verify(connection, name, archive, advance)
            restored = _count(connection)
            if not waits:
                connection.execute(_call_off(now))
            notify(connection)
            return restored
    except SQLAlchemyError as error:
        raise NotKept from error


def _keep_others_out(connection: Connection) -> None:
    """See that nobody else writes until this transaction ends, and that nothing is there but what a start leaves."""
    if is_postgresql(connection):
        connection.exec_driver_sql(_PATIENCE)
        connection.exec_driver_sql(_LOCK)
    _refuse_messages(connection)
    for name in OF_ANY_START:
        connection.execute(delete(_KEPT[name]))


def _refuse_messages(connection: Connection) -> None:
    seen = inspect(connection)
    for table in _KEPT.values():
        first = select(*table.primary_key).limit(1)
        if table.name not in OF_ANY_START and seen.has_table(table.name) and connection.execute(first).first():
            raise NotEmpty


def _load(connection: Connection, table: Table, archive: Archive, advance: Advance) -> None:
    columns = archive.manifest.parts[table.name].columns
    insert = _copy_in if is_postgresql(connection) else _insert
    for rows in archive.rows(table.name):
        insert(connection, table, columns, rows)
        advance(len(rows))
    counted = table.autoincrement_column
    if counted is not None and is_postgresql(connection):
        highest = func.max(counted)
        sequence = func.pg_get_serial_sequence(table.name, counted.name)
        connection.execute(select(func.setval(sequence, highest)).having(highest.is_not(None)))


def _insert(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    places = ", ".join("?" for _ in columns)
    into = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - names that we know
    connection.exec_driver_sql(into, list(rows))


def _copy_in(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert as PostgreSQL does it fastest."""
    raw: Any = connection.connection.driver_connection
    try:
        with raw.cursor() as cursor, cursor.copy(f"COPY {table.name} ({', '.join(columns)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:
        raise NotKept from error


def _verify(connection: Connection, name: str, archive: Archive, advance: Advance) -> None:
    """Read a table back; raises Unusable when it is not what the backup holds."""
    part = archive.manifest.parts[name]
    lines = Lines(part.columns)
    for rows in _portions(connection, name, part.columns, advance):
        lines.add(rows)
    if lines.part != part:
        raise Unusable(f"What was read back of {name} is not what the backup holds.")


_WAITS = deliveries.c.state.in_([State.WAITING, State.DIGESTED])


def _count(connection: Connection) -> Restored:
    counts = (
        connection.execute(select(func.count()).select_from(submissions)),
        connection.execute(select(func.count()).select_from(deliveries)),
        connection.execute(select(func.count()).select_from(deliveries).where(_WAITS)),
    )
    return Restored(*(int(found.scalar_one()) for found in counts))


def _call_off(now: float) -> Any:
    return (
        update(deliveries)
        .where(_WAITS)
        .values(state=State.CANCELLED, note=CALLED_OFF, settled_at=now, digest_id=None, unanswered=0)
    )
