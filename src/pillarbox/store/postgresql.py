"""PostgreSQL: how it is reached, what each transaction asks of it, and what tells us of others' messages.

Nothing here outlives a transaction on the server's side, so that a pooler may stand between (PgBouncer, transaction
mode): no session's settings, no session's locks, no prepared statements. Only LISTEN needs a connection of its own, and
where that is not had, polling finds what it would have told.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from ipaddress import ip_address
from itertools import zip_longest
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pillarbox.core.errors import NotKept
from pillarbox.store import clocks
from pillarbox.store.engine import READ_ONLY, Right, Store, Watch, driver_error
from pillarbox.store.statements import CHANNEL

CONNECTIONS = 4
MORE_CONNECTIONS = 6
"""Beyond those that stay open, for a crowd of readers."""
MOST_CONNECTIONS = CONNECTIONS + MORE_CONNECTIONS + 1
"""Of one process, with the one that listens."""
OLDEST = 13
"""The oldest server that is supported, by the first number of its version."""
CONNECT_WITHIN = 5
"""Seconds; libpq takes whole ones, and at least 2."""
SILENCE_MS = 15_000
"""How long what was sent may stay unacknowledged before the network counts as cut."""
LOOK_AT_THE_CLOCK_EVERY = 10.0
A_LONG_LOOK = 1.0
"""Seconds; when in them the server told its time nobody knows, so that it may be wrong by so much."""
CONNECT_AGAIN_AFTER = 1.0
LOOK_FOR_A_POOLER_EVERY = 60.0

# In one round trip: begin, and what holds in this transaction alone. Whoever is cut off in the middle of one, or
# stopped, loses its locks after ten seconds. A server that asks for more than its own disk (remote_apply) is obeyed.
# Whether it may be written to is the server's word (default_transaction_read_only): so is one fenced off that was the
# primary. Who only looks is in nobody's way but a migration's, and may take minutes over it, as an export into a pager.
_BOUNDS = "SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL lock_timeout = 5000"
_BEGIN = {
    "writing": f"""
        BEGIN ISOLATION LEVEL READ COMMITTED; {_BOUNDS.format(10_000)};
        SELECT set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') IN ('off', 'local')
    """,
    "looking": f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_BOUNDS.format(600_000)}",
}


_OURS: Mapping[str, Any] = {
    "connect_timeout": CONNECT_WITHIN,
    "application_name": "pillarbox",
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": SILENCE_MS,
}
"""What an address may say otherwise."""
_OURS_ALONE: Mapping[str, Any] = {
    "autocommit": True,  # the "begin" event begins
    "prepare_threshold": None,
    "client_encoding": "UTF8",
}


class Unfit(Exception):
    """A server, or a database of one, that nothing can be kept in; its text says why, and what would do."""


class PostgresqlStore(Store):
    """A database of a PostgreSQL server, shared by any number of processes and machines."""

    is_shared = True

    def __init__(self, url: str) -> None:
        """Make ready for an address as libpq takes it, or with postgresql+psycopg:// before.

        Raises NotKept when the server can't be reached, since its clock is needed, and when it can't be used at all.
        """
        asked = _as_asked(url)
        self.place = _place_of(asked)
        self._engine = create_engine(
            "postgresql+psycopg://",
            pool_size=CONNECTIONS,
            max_overflow=MORE_CONNECTIONS,
            pool_timeout=CONNECT_WITHIN,
            pool_use_lifo=True,
            hide_parameters=True,
            use_native_hstore=False,
            connect_args={**_OURS, **asked, **_OURS_ALONE},
        )
        event.listen(self._engine, "begin", _begin)
        event.listen(self._engine, "connect", self._meet)
        self._ahead: float | None = None
        """The server's time at zero of elapsed(); None until it was asked for."""
        self._look_again_at = 0.0
        try:
            with self._begun("looking") as connection:
                self._look_at_the_clock(connection)
                _look_at_the_server(connection)
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise NotKept from error

    @property
    def engine(self) -> Engine:
        """The engine, for migrations."""
        return self._engine

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction that may write; on leaving, the server has it on disk."""
        try:
            with self._begun("writing") as connection:
                if clocks.elapsed() >= self._look_again_at:
                    self._look_at_the_clock(connection)
                yield connection
        except DBAPIError as error:
            if getattr(driver_error(error), "sqlstate", None) == READ_ONLY:
                self._engine.dispose()  # another may have become the primary: the next connection will find it
            raise

    @contextmanager
    def _looking(self) -> Iterator[Connection]:
        with self._begun("looking") as connection:
            yield connection

    def clock(self) -> float:
        """Return the server's time, as ours went on since the last look at it, whatever our clock is set to."""
        return clocks.elapsed() + (self._ahead or 0.0)

    def watch(self) -> Watch:
        """Return what hears of others' messages."""
        return Notifications(self._engine)

    def right_to_dispatch(self) -> Right:
        """Return what everybody has here."""
        return _Everybodys()

    def alone(self) -> nullcontext[None]:
        """Nothing: a migration takes its lock in its own transaction."""
        return nullcontext()

    def copy_aside(self) -> None:
        """Nothing: the server's own backups and a migration in one transaction stand for it."""

    def drop_copy(self, *, before: float) -> bool:  # noqa: ARG002
        """There is none."""
        return False

    def erase_traces(self) -> bool:
        """Nothing: when the server writes over what was erased is its own affair (VACUUM)."""
        return True

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _begun(self, how: str) -> Iterator[Connection]:
        with self._beginning(how) as connection:
            try:
                yield connection
            except BaseException:
                with suppress(SQLAlchemyError):
                    connection.rollback()
                raise
            connection.commit()

    def _beginning(self, how: str) -> Connection:
        """Return a connection that has begun; one that died in the pool is found out here, before anything was done."""
        for is_last in (False, True):
            connection = self._engine.connect().execution_options(begins=how)
            try:
                connection.begin()
            except DBAPIError as error:
                connection.close()
                if is_last or not error.connection_invalidated:
                    raise
            else:
                break
        return connection

    def _meet(self, *_: object) -> None:
        """Look at the clock with the next transaction that writes: a new connection may lead to another server."""
        self._look_again_at = 0.0

    def _look_at_the_clock(self, connection: Connection) -> None:
        before = clocks.elapsed()
        now = float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
        after = clocks.elapsed()
        took_long = after - before > A_LONG_LOOK
        if self._ahead is None or not took_long:
            self._ahead = now - (before + after) / 2
        self._look_again_at = after + (A_LONG_LOOK if took_long else LOOK_AT_THE_CLOCK_EVERY)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(_BEGIN[connection.get_execution_options().get("begins", "writing")])


def _as_asked(url: str) -> dict[str, Any]:
    """Return what an address says; raises NotKept without a word of it, since one may be the password."""
    try:
        return dict(conninfo_to_dict(f"postgresql://{url.partition('://')[2]}"))
    except psycopg.Error:
        raise NotKept from Unfit("it is no address, or has an invalid connection option")


def place(url: str) -> str:
    """Return an address without its password and options. Raises NotKept when it is none."""
    return _place_of(_as_asked(url))


def _place_of(asked: Mapping[str, Any]) -> str:
    user = f"{asked['user']}@" if "user" in asked else ""
    hosts, ports = (str(asked.get(name, "")).split(",") for name in ("host", "port"))
    named = ",".join(f"{host}:{port}" if port else host for host, port in zip_longest(hosts, ports, fillvalue=""))
    return f"postgresql://{user}{named}/{asked.get('dbname', '')}"


def _look_at_the_server(connection: Connection) -> None:
    """Raise NotKept when the server is too old, or the database can't hold every character."""
    asked = "SELECT current_setting('server_version_num'), current_setting('server_encoding')"
    number, encoding = connection.exec_driver_sql(asked).one()
    if why := unfit(int(number), encoding):
        raise NotKept from Unfit(why)


def unfit(number: int, encoding: str) -> str | None:
    """Return why a server can't be used, or a database in this encoding; None when it can.

    `number` is its server_version_num: 150018 for 15.18, 90624 for 9.6.24.
    """
    if number < OLDEST * 10_000:
        return f"PostgreSQL {number // 10_000} is too old: Pillarbox needs {OLDEST} or newer."
    if encoding != "UTF8":
        return (
            f"the database is in {encoding}, which can't hold what every visitor writes: make one with "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
        )
    return None


def is_pooled(connection: psycopg.Connection) -> bool:
    """Tell whether a pooler stands between: then the process that answers is not the one that we were told of."""
    answers = connection.execute("SELECT pg_backend_pid()").fetchone()
    return answers is not None and answers[0] != connection.info.backend_pid


def is_here(address: str) -> bool:
    """Tell whether nobody on a network hears what is said to this address; an empty one is a socket file's."""
    return not address or ip_address(address).is_loopback


class Notifications:
    """Hears that somebody kept something (LISTEN). A hint: who is deaf, as behind a pooler, finds it by polling."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: psycopg.Connection | None = None
        self._connect_at = 0.0

    def changed(self) -> bool:
        """Tell whether anything was heard since the last call, or might have been missed: nothing is asked for."""
        try:
            if self._connection is None:
                return self._listen()
            heard = False
            self._connection.pgconn.consume_input()
            while self._connection.pgconn.notifies():
                heard = True
        except (psycopg.Error, SQLAlchemyError):
            self.close()
            self._connect_at = time.monotonic() + CONNECT_AGAIN_AFTER
            return False
        return heard

    def _listen(self) -> bool:
        if time.monotonic() < self._connect_at:
            return False
        raw = self._engine.raw_connection()
        connection = raw.driver_connection
        assert isinstance(connection, psycopg.Connection)  # noqa: S101 - it is what the engine was made for
        raw.detach()  # it is nobody else's from now on, and goes when we close it
        self._connection = connection
        if is_pooled(connection):
            # To listen would be in vain: it would make one of the pooler's connections to the server hear it all, and
            # whoever is lent that one would gather what nobody reads.
            self.close()
            self._connect_at = time.monotonic() + LOOK_FOR_A_POOLER_EVERY
            return False
        connection.execute(f"LISTEN {CHANNEL}")
        return True  # what came before nobody told us

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None


class _Everybodys:
    """The right to dispatch where letters are shared out by their rows."""

    def acquire(self) -> bool:
        """Tell that it is ours."""
        return True

    def release(self) -> None:
        """Nothing to give back."""
