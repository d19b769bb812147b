"""How the store itself is doing: how safely it writes, its newest message, and the letters that do not get away."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, text

from pillarbox.core.delivery import State
from pillarbox.store import held
from pillarbox.store.statements import is_postgresql
from pillarbox.store.tables import deliveries, submissions


@dataclass(frozen=True, slots=True)
class Server:
    """A database server as we meet it. Connections are counted over all its databases."""

    version: str
    most: int
    used: int
    ours: int
    """Of those in use: Pillarbox's, of all machines."""
    room: int
    """How many Pillarbox could have, those that it has included."""
    each: int
    """How many one process of ours opens at most."""
    commits: str
    """synchronous_commit, as it would hold if we asked for nothing else."""
    is_pooled: bool
    """Whether a pooler stands between."""
    is_here: bool
    """Whether it is reached without a network: on this machine's loopback, or by a socket file."""
    is_encrypted: bool
    """Whether what we say to it is (TLS, or GSSAPI)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What the store says of itself. Times are seconds since the epoch, None where there is nothing."""

    weaknesses: tuple[str, ...]
    """What a power cut could take that was thanked for, in the database's own words; empty: nothing."""
    newest_at: float | None
    waiting: int
    waiting_since: float | None
    failed: int
    held: int = 0
    """Messages with signs of spam that nobody has judged yet."""
    server: Server | None = None


def look(connection: Connection) -> Condition:
    """Return how the store is doing at this moment."""
    letters = select(func.count(), func.min(deliveries.c.created_at))
    waiting, since = connection.execute(letters.where(deliveries.c.state == State.WAITING)).one()
    failed, _ = connection.execute(letters.where(deliveries.c.state == State.FAILED)).one()
    return Condition(
        weaknesses=weaknesses(connection),
        newest_at=connection.execute(select(func.max(submissions.c.received_at))).scalar_one(),
        waiting=waiting,
        waiting_since=since,
        failed=failed,
        held=held.count(connection),
        server=_server(connection) if is_postgresql(connection) else None,
    )


def weaknesses(connection: Connection) -> tuple[str, ...]:
    """Return what a power cut could take that was thanked for, in the database's own words.

    PostgreSQL's synchronous_commit is none of it: our transactions ask for it themselves.
    """
    return _weaknesses_of_postgresql(connection) if is_postgresql(connection) else _weaknesses_of_sqlite(connection)


def _weaknesses_of_sqlite(connection: Connection) -> tuple[str, ...]:
    journal = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()).lower()
    synchronous = int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())
    return () if journal == "wal" and synchronous >= 2 else (f"journal {journal}", f"synchronous {synchronous}")


def _weaknesses_of_postgresql(connection: Connection) -> tuple[str, ...]:
    found = connection.execute(_WEAK_SETTINGS).all()
    return tuple(f"{name} = {value}" for name, value in found)


_WEAK_SETTINGS = text("""
    SELECT name, setting FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name
""")


def _server(connection: Connection) -> Server:
    from pillarbox.store.postgresql import MOST_CONNECTIONS, is_here, is_pooled  # noqa: PLC0415 - not with SQLite

    row = connection.execute(_SERVER).one()
    limits = [limit for limit in (row.for_user, row.for_database) if limit >= 0]  # -1 is none
    room = min(row.most - row.reserved - (row.used - row.ours), *limits, row.most)
    raw: Any = connection.connection.driver_connection
    return Server(
        version=row.version,
        most=row.most,
        used=row.used,
        ours=row.ours,
        room=max(room, 0),
        each=MOST_CONNECTIONS,
        commits=row.commits,
        is_pooled=is_pooled(raw),
        is_here=is_here(raw.info.hostaddr),
        # Asked on our side: behind a pooler the server knows of its connection to that one only.
        is_encrypted=bool(raw.pgconn.ssl_in_use) or row.by_gssapi,
    )


# What others do is not for every user to see, but how many they are: pg_stat_database counts them.
_SERVER = text("""
    SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
        (SELECT CAST(sum(numbackends) AS int) FROM pg_stat_database) AS used,
        (SELECT CAST(count(*) AS int) FROM pg_stat_activity WHERE application_name = 'pillarbox') AS ours,
        CAST(current_setting('max_connections') AS int) AS most,
        CAST(current_setting('superuser_reserved_connections') AS int)
            + CAST(coalesce(current_setting('reserved_connections', true), '0') AS int) AS reserved,
        (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS for_user,
        (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS for_database,
        current_setting('synchronous_commit') AS commits,
        coalesce((SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()), false) AS by_gssapi
""")
