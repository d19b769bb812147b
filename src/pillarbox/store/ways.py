"""The ways out as the store knows them, and the sign of life of the store itself."""

from collections.abc import Sequence

from sqlalchemy import Connection, select, text

from pillarbox.store.tables import ways

_SHUT = text("""
    INSERT INTO ways (name, shut_since, note) VALUES (:name, :now, :note)
    ON CONFLICT (name) DO UPDATE SET shut_since = coalesce(ways.shut_since, excluded.shut_since), note = excluded.note
""")
_OPEN = text("UPDATE ways SET shut_since = NULL, note = '' WHERE name = :name")
_BEAT = text("INSERT INTO pulse (id, at) VALUES (1, :now) ON CONFLICT (id) DO UPDATE SET at = excluded.at")


def shut(connection: Connection, items: Sequence[tuple[str, str, float]]) -> Sequence[None]:
    """Write down that a way out is shut: (name, reason, now) each; the first time of a row of failures stays."""
    for name, note, now in items:
        connection.execute(_SHUT, {"name": name, "note": note, "now": now})
    return [None] * len(items)


def reopen(connection: Connection, items: Sequence[str]) -> Sequence[None]:
    """Write down that ways out work again."""
    for name in items:
        connection.execute(_OPEN, {"name": name})
    return [None] * len(items)


def find_shut(connection: Connection) -> list[tuple[str, float, str]]:
    """Return (name, shut since, reason) of the ways out that are shut."""
    query = select(ways.c.name, ways.c.shut_since, ways.c.note).where(ways.c.shut_since.is_not(None))
    return [(str(name), float(since), str(note)) for name, since, note in connection.execute(query)]


def beat(connection: Connection, items: Sequence[float]) -> Sequence[None]:
    """Prove that the store can be written to at this time."""
    connection.execute(_BEAT, {"now": max(items)})
    return [None] * len(items)
