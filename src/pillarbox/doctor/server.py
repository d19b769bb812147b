"""The database server, where there is one: how safely it writes, and whether our connections fit."""

from pillarbox.doctor import Finding
from pillarbox.store.condition import Server

_MAKE_ROOM = (
    "Raise max_connections (or the user's or database's CONNECTION LIMIT), lower WORKERS, or put PgBouncer between, in "
    "transaction mode."
)

_IN_THE_CLEAR = "what visitors write crosses the network to the server without TLS: who listens there can read it"
_ENCRYPT = (
    "Turn TLS on at the server (ssl = on), then add ?sslmode=verify-full&sslrootcert=… to DATABASE_URL, with the file "
    "of the authority that signed its certificate."
)


def examine_server(server: Server, *, processes: int) -> list[Finding]:
    """Find out how a server is set, and whether so many processes of this machine can have the connections they want.

    Behind a pooler the connections are its own affair.
    """
    found = [_pooled(server) if server.is_pooled else _connections(server, processes)]
    if not (server.is_here or server.is_encrypted):
        found.append(Finding("server", "warn", _IN_THE_CLEAR, _ENCRYPT))
    if server.commits in {"off", "local"}:
        seen = f"synchronous_commit = {server.commits}: messages are safe, since Pillarbox asks for `on` itself"
        advice = "Set it to on, unless it is meant so: what other programs wrote last may be lost in a power cut."
        found.append(Finding("server", "warn", seen, advice))
    return found


def _pooled(server: Server) -> Finding:
    seen = f"PostgreSQL {server.version} behind a pooler: what other processes keep is found by asking every second"
    return Finding("server", "ok", seen)


def _connections(server: Server, processes: int) -> Finding:
    in_use = f"{server.used} of {server.most} connections are in use, {server.ours} by Pillarbox"
    seen, wanted = f"PostgreSQL {server.version}; {in_use}", processes * server.each
    if wanted <= server.room:
        return Finding("server", "ok", f"{seen}, which may have {server.room}")
    asks = "1 process here wants" if processes == 1 else f"{processes} processes here want"
    return Finding("server", "warn", f"{seen}; {asks} up to {wanted}, and there is room for {server.room}", _MAKE_ROOM)
