"""Statements in the words of both databases: one text, the few words that differ, and many rows in one go.

A batch's rows are one JSON text on SQLite, since a statement a row would hand Python's lock back and forth with the
event loop at each, and one array a column on PostgreSQL (unnest).
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from string import Template
from typing import Any

from sqlalchemy import ColumnElement, Connection, CursorResult, TextClause, func, text

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
        self._postgresql = text(Template(_ALL.sub(r"\1", written)).substitute(_POSTGRESQL, rows=self._from_arrays()))

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
        if is_postgresql(connection):
            columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(self._columns)
            arrays = {
                f"rows_{name}": [_AS_SENT.get(kind, _as_it_is)(value) for value in column]
                for (name, kind), column in zip(self._columns, columns, strict=True)
            }
            return self._postgresql, {**arrays, "ids": list(ids)}
        # Written as it is: a lone surrogate is refused here, where as an escape it would be kept and never read again.
        batch = {"rows": json.dumps(rows, ensure_ascii=False)} if self._columns else {}
        return self._sqlite, {**batch, "ids": ids if isinstance(ids, str) else json.dumps(list(ids))}

    def _from_json(self) -> str:
        cells = (
            f"value {'->' if kind == 'json' else '->>'} {place} AS {name}"
            for place, (name, kind) in enumerate(self._columns)
        )
        return f"(SELECT {', '.join(cells)} FROM json_each(:rows))"  # noqa: S608 - our own words

    def _from_arrays(self) -> str:
        arrays = (f"CAST(:rows_{name} AS {'text' if kind == 'json' else kind}[])" for name, kind in self._columns)
        names = ", ".join(name for name, _kind in self._columns)
        return f"(SELECT * FROM unnest({', '.join(arrays)}) AS batch ({names}))"  # noqa: S608


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


def _as_it_is(value: Any) -> Any:
    return value


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _as_float(value: float | None) -> float | None:
    return None if value is None else float(value)  # an array holds one type


_AS_SENT: Mapping[str, Callable[[Any], Any]] = {"json": _as_json, "float8": _as_float}
