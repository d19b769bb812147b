"""What a PostgreSQL server says when it can't be used, and what to do about it."""

import re
from typing import NamedTuple


class _Known(NamedTuple):
    """Words that are searched without regard to case, and what to do about them."""

    words: str
    advice: str


_KNOWN = (
    _Known(
        r"password authentication failed|no password supplied",
        "Mend user and password in DATABASE_URL; in a password, write % as %25, @ as %40, / as %2F, ? as %3F and "
        "# as %23.",
    ),
    _Known(
        r'role ".+" does not exist|not permitted to log in',
        "Mend the user in DATABASE_URL, or let the administrator make it: CREATE ROLE … LOGIN PASSWORD '…'.",
    ),
    _Known(
        r'database ".+" does not exist',
        "Mend the database's name in DATABASE_URL, or let the administrator make it: CREATE DATABASE … OWNER ….",
    ),
    _Known(
        r"pg_hba\.conf",
        "The server lets nobody in from here: have its administrator name this machine in pg_hba.conf, or add "
        "?sslmode=require to DATABASE_URL where it wants TLS.",
    ),
    _Known(
        r"does not support SSL|SSL was required",
        "Have the server's administrator turn TLS on (ssl = on), or take sslmode out of DATABASE_URL.",
    ),
    _Known(
        r"certificate",
        "Name the authority that signed the server's certificate in DATABASE_URL: ?sslmode=verify-full&sslrootcert=….",
    ),
    _Known(
        r"failed to resolve|could not translate host",
        "Mend the host in DATABASE_URL; if it is right, look at this machine's DNS.",
    ),
    _Known(
        r"too many (?:clients|connections)|connection slots|query_wait_timeout|no more connections",
        "Close what other programs hold open, raise max_connections, or put PgBouncer between.",
    ),
    _Known(
        r"starting up|shutting down|recovery mode|not yet accepting",
        "The server is on its way: try again in a moment.",
    ),
    _Known(
        r"read-only transaction|during recovery|not read-write|session is read-only",
        "This server is a standby, or was made read-only: name the one that takes changes in DATABASE_URL, or several "
        "hosts with ?target_session_attrs=read-write.",
    ),
    _Known(
        r"permission denied for schema|no schema has been selected",
        "Make the user the owner of the database; or let a role that may make tables run `pillarbox upgrade`, and set "
        "MIGRATE=off here.",
    ),
    _Known(
        r"permission denied for database",
        "Let the database's owner GRANT CONNECT ON DATABASE to the user in DATABASE_URL.",
    ),
    _Known(
        r"permission denied for|must be owner of",
        "Let the tables' owner GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES and USAGE, SELECT, UPDATE ON ALL "
        "SEQUENCES IN SCHEMA public to the user in DATABASE_URL; tables are changed by `pillarbox upgrade` as their "
        "owner.",
    ),
    _Known(
        r"invalid connection option|invalid \S+ value",
        "Mend what stands behind the ? in DATABASE_URL.",
    ),
    _Known(
        r"no space left|could not extend file|disk full",
        "Free the disk of the database server.",
    ),
    _Known(
        r"refused|no such file or directory|is the server running",
        "Start the server, or mend host and port in DATABASE_URL.",
    ),
    _Known(
        r"time(?:d )?-?out|no route to host|unreachable|server closed the connection|connection is closed",
        "See whether the server runs, and whether a firewall stands between.",
    ),
)
"""The first that is found counts."""


def what_to_do(words: str) -> str:
    """Return what to do about a server's words, in whole sentences; an empty text where they are not known."""
    return next((known.advice for known in _KNOWN if re.search(known.words, words, re.IGNORECASE)), "")
