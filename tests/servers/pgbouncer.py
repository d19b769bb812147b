"""A private PgBouncer on loopback, in transaction mode before a private PostgreSQL; ended by its own pid."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.running import free_port, until
from tests.servers import require
from tests.servers.postgresql import Postgresql

_SETTINGS = """
[databases]
* = host={host} port={behind}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {home}/users
pool_mode = transaction
default_pool_size = {connections}
server_login_retry = 1
logfile = {home}/log
pidfile =
"""


@contextmanager
def running_pgbouncer(behind: Postgresql, *, connections: int = 3) -> Iterator[int]:
    """Run a pooler while the block runs and give its port; all its clients share so many connections a database."""
    program = require("pgbouncer")
    home = Path(tempfile.mkdtemp(prefix="pillarbox-pgbouncer-", dir="/tmp"))
    port = free_port()
    (home / "users").write_text('"pillarbox" ""\n')
    (home / "settings").write_text(
        _SETTINGS.format(host=behind.host, behind=behind.port, port=port, home=home, connections=connections)
    )
    as_nobody: dict[str, object] = {"user": "nobody", "group": "nogroup"} if os.getuid() == 0 else {}
    if as_nobody:
        shutil.chown(home, "nobody", "nogroup")
    with (home / "said").open("wb") as said:
        process = subprocess.Popen([program, home / "settings"], cwd=home, stdout=said, stderr=said, **as_nobody)  # type: ignore[call-overload]

    def answers() -> bool:
        assert process.poll() is None, (home / "said").read_text()
        try:
            psycopg.connect(f"postgresql://pillarbox@127.0.0.1:{port}/postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        until(answers)
        yield port
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(home)
