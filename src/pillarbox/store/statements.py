"""Statements in the words of both databases: one text, the few words that differ, and many rows in one go.

A batch's rows are one JSON text: a statement a row would hand Python's lock back and forth with the event loop at each
row, and the driver's arrays (unnest) are made value by value in Python.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from string import Template
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Connection, CursorResult, TextClause, func, text

F = TypeVar("F", bound=Callable[[Connection, Sequence[Any]], Sequence[Any]])

CHANNEL = "pillarbox"
"""What PostgreSQL's NOTIFY says that something was kept."""

Ids = str | Sequence[int]
"""Numbers of rows, as a statement gave them or as a list."""

_SQLITE: Mapping[str, str] = {
    "in_ids": "IN (SELECT value FROM json_each(:ids))",
    "gather": "json_group_array",
    "skip_locked": "",
}
_POSTGRESQL: Mapping[str, str] = {
    "in_ids": "= ANY(CAST(:ids AS bigint[]))",
    "gather": "array_agg",
    "skip_locked": "FOR UPDATE SKIP LOCKED",
}
_ALL = re.compile(r"\$all\(([^()]*)\)")


class Statement:
    """A statement for both databases. Beside `:names` for values its text may say:

    `$in_ids`: is one of `ids` · `$gather(id)`: the numbers found, as another statement's `ids` · `$skip_locked`: leave
    out what somebody else has in hand · `$all(a, b)`: the columns of all rows, for find() · `$rows`: the batch as a
    table, whose columns `rows` names with their types (text, bigint, float8, or json for what is kept as JSON).
    """

    def __init__(self, written: str, *, rows: str = "") -> None:
        self._columns = tuple(column.split() for column in rows.split(",")) if rows else ()
        self._sqlite = text(
            Template(_ALL.sub(r"json_group_array(json_array(\1))", written)).substitute(_SQLITE, rows=self._from_json())
        )
        self._postgresql = text(Template(_ALL.sub(r"\1", written)).substitute(_POSTGRESQL, rows=self._from_records()))

    def run(
        self, connection: Connection, rows: Sequence[Sequence[Any]] = (), *, ids: Ids = (), **values: Any
    ) -> CursorResult[Any]:
        """Run it and return its result."""
        statement, batch = self._for(connection, rows, ids)
        return connection.execute(statement, batch | values)

    def find(self, connection: Connection, *, ids: Ids = (), **values: Any) -> list[Sequence[Any]]:
        """Return the rows of a statement that selects `$all(…)`."""
        found = self.run(connection, (), ids=ids, **values)
        return list(found) if is_postgresql(connection) else json.loads(found.scalar_one())

    def _for(
        self, connection: Connection, rows: Sequence[Sequence[Any]], ids: Ids
    ) -> tuple[TextClause, dict[str, object]]:
        # Written as it is: a lone surrogate is refused here, where as an escape it would be kept and never read again.
        if is_postgresql(connection):
            names = [name for name, _kind in self._columns]
            told = [dict(zip(names, row, strict=True)) for row in rows]
            batch = {"rows": json.dumps(told, ensure_ascii=False)} if self._columns else {}
            return self._postgresql, {**batch, "ids": list(ids)}
        batch = {"rows": json.dumps(rows, ensure_ascii=False)} if self._columns else {}
        return self._sqlite, {**batch, "ids": ids if isinstance(ids, str) else json.dumps(list(ids))}

    def _from_json(self) -> str:
        cells = (
            f"value {'->' if kind == 'json' else '->>'} {place} AS {name}"
            for place, (name, kind) in enumerate(self._columns)
        )
        return f"(SELECT {', '.join(cells)} FROM json_each(:rows))"  # noqa: S608 - our own words

    def _from_records(self) -> str:
        columns = ", ".join(f"{name} {kind}" for name, kind in self._columns)
        cells = ", ".join(f"CAST({name} AS text) AS {name}" if kind == "json" else name for name, kind in self._columns)
        return f"(SELECT {cells} FROM json_to_recordset(CAST(:rows AS json)) AS batch ({columns}))"  # noqa: S608


def hold(connection: Connection, what: int) -> None:
    """Let nobody else hold the same until this transaction ends; a writer of SQLite is alone in any case."""
    if is_postgresql(connection):
        connection.execute(_HOLD, {"what": what})


def hold_patiently(connection: Connection, what: int) -> None:
    """Hold as above, however long others do; what else the transaction locks is still waited for within bounds."""
    if is_postgresql(connection):
        bound = connection.exec_driver_sql("SHOW lock_timeout").scalar_one()
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        hold(connection, what)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{bound}'")


def give_way(connection: Connection) -> None:
    """Wait for nothing longer than a moment in this transaction, since all who come behind would wait as well."""
    if is_postgresql(connection):
        connection.exec_driver_sql("SET LOCAL lock_timeout = 500")  # half of what PostgreSQL takes to see a deadlock


def claiming(function: F) -> F:
    """Let a store function hold CLAIMING from its first statement on.

    The keeper puts such functions first in a transaction: who waits for it must not hold rows that its holder wants.
    """

    @wraps(function)
    def holding(connection: Connection, items: Sequence[Any]) -> Sequence[Any]:
        hold(connection, CLAIMING)
        return function(connection, items)

    holding.is_claiming = True  # type: ignore[attr-defined]
    return cast(F, holding)


CLAIMING, MIGRATING = 0x50_49_4C_01, 0x50_49_4C_02
"""What can be held: the right to change which letters leave next, and the schema."""
_HOLD = text("SELECT pg_advisory_xact_lock(CAST(:what AS bigint))")
_NOTIFY = text(f"NOTIFY {CHANNEL}")


def notify(connection: Connection) -> None:
    """Tell other processes, once this transaction is on disk, that there is something for them."""
    if is_postgresql(connection):
        connection.execute(_NOTIFY)


def utc_day(connection: Connection, moment: ColumnElement[float]) -> ColumnElement[str]:
    """Return the day in UTC (YYYY-MM-DD) of a moment in seconds since the epoch."""
    if is_postgresql(connection):
        return func.to_char(func.timezone("UTC", func.to_timestamp(moment)), "YYYY-MM-DD")
    return func.date(moment, "unixepoch")


def is_postgresql(connection: Connection) -> bool:
    """Tell which of the two databases this is."""
    return connection.dialect.name == "postgresql"
