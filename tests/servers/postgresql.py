"""A private PostgreSQL on loopback: its own cluster in one folder, ended by its own pid."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

from tests.running import free_port, until
from tests.servers import missing

UNSAFE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""Settings for tests that end no server: nothing is waited for."""

_numbers = count(1)


def _binaries() -> Path:
    """Return the folder of the newest server's programs, which Debian keeps out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        missing("postgresql is not installed")
        raise AssertionError
    return Path(initdb).resolve().parent


class Postgresql:
    """A cluster that can be started, restarted and killed; it listens on one address and trusts everybody there."""

    def __init__(self, home: Path, *, host: str = "127.0.0.1", **settings: str) -> None:
        self.home, self.port, self.settings = home, free_port(), settings
        self.host = host
        self._binaries = _binaries()
        # initdb and the server refuse to be root.
        self._as: dict[str, object] = {"user": "nobody", "group": "nogroup"} if os.getuid() == 0 else {}
        self._process: subprocess.Popen[bytes] | None = None
        if self._as:
            shutil.chown(home, "nobody", "nogroup")
        self._run("initdb", "--pgdata", str(home / "data"), "--username", "pillarbox", "--auth", "trust",
                  "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")  # fmt: skip
        with (home / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database, as DATABASE_URL takes it."""
        return f"postgresql://pillarbox@{self.host}:{self.port}/{database}"

    @property
    def log(self) -> str:
        """What the server wrote down."""
        return (self.home / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start the server and return once it takes connections."""
        options = {"port": str(self.port), "listen_addresses": self.host, "unix_socket_directories": ""} | self.settings
        command = [self._binaries / "postgres", "-D", self.home / "data"]
        command += [f"--{key}={value}" for key, value in options.items()]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.home, stdout=log, stderr=log, start_new_session=True, **self._as
            )  # type: ignore[call-overload]
        until(self._answers)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT breaks connections off and closes well, SIGQUIT is as a power cut; all wait for it."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(30)

    def create(self) -> str:
        """Make an empty database and return its address."""
        name = f"pillarbox_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / program, *arguments], check=True, capture_output=True, cwd=self.home, **self._as
        )  # type: ignore[call-overload]


@contextmanager
def fast_clock(url: str) -> Iterator[Callable[..., str]]:
    """Make a database's clock so many hours fast, slow to tell by so many seconds; gives an address with that clock."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA fast")

        def fast(hours: float, *, slow: float = 0.0) -> str:
            connection.execute(
                "CREATE OR REPLACE FUNCTION fast.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
                f"$$ SELECT pg_catalog.clock_timestamp() + interval '{hours} hours' FROM pg_sleep({slow}) $$"
            )
            return f"{url}?options=-csearch_path%3Dfast,pg_catalog,public"

        try:
            yield fast
        finally:
            connection.execute("DROP SCHEMA fast CASCADE")


@contextmanager
def running_postgresql(*, host: str = "127.0.0.1", **settings: str) -> Iterator[Postgresql]:
    """Run a server on this address while the block runs; settings as in postgresql.conf."""
    home = Path(tempfile.mkdtemp(prefix="pillarbox-postgresql-", dir="/tmp"))
    server = Postgresql(home, host=host, **settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home)
