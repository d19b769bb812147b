"""The queues: how each is filled with the same mails, and the command of its worker."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from tests.servers.postgresql import Postgresql

from bench.contestants import OUR_SETTINGS
from bench.processes import LOAD_CORE, ROOT, SERVER_CORE, Process, free_port, running, wait_for_port

OPPONENTS = ROOT / ".venv" / "bench" / "bin"
"""Where `make opponents` puts what is measured against: nothing of it reaches the environment of Pillarbox."""
FILL_SECONDS = 300
OURS_ON_POSTGRESQL = OUR_SETTINGS | {
    "SECRET_KEY": "of this benchmark alone " * 2,
    "RETRY_SCHEDULE": ",".join(["1s"] * 20),
    "DIGEST_ABOVE": "off",
}


@dataclass(frozen=True, slots=True)
class Worker:
    """The command of a worker and its environment."""

    command: tuple[str, ...]
    folder: Path
    settings: Mapping[str, str]

    @contextmanager
    def at_work(self, name: str = "worker") -> Iterator[Process]:
        """Run one on the servers' core while the block runs; then it is killed."""
        env = dict(self.settings)
        with running(name, list(self.command), core=SERVER_CORE, folder=self.folder, env=env) as process:
            yield process


def ours(url: str, *, mail_port: int = 9) -> dict[str, str]:
    """Return our settings for a database and a mail server; who only keeps asks none."""
    return {**OURS_ON_POSTGRESQL, "DATABASE_URL": url, "SMTP_SERVER": "127.0.0.1", "SMTP_PORT": str(mail_port)}


def run(*words: str, folder: Path, settings: Mapping[str, str] | None = None) -> str:
    """Run a program of this checkout to its end on the servers' core and return what it printed."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}",
           "LANG": "C.UTF-8", **(settings or {})}  # fmt: skip
    pinned = ["taskset", "-c", str(SERVER_CORE), "setpriv", "--pdeathsig", "KILL", *words]
    done = subprocess.run(
        pinned, cwd=folder, env=env, capture_output=True, text=True, timeout=FILL_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr[-2_000:]}")
    return done.stdout


class Engine(Protocol):
    """A queue that can be filled with work and has workers."""

    name: ClassVar[str]

    def fill(self, submissions: int, folder: Path) -> None:
        """Put the mails of so many messages into the queue."""

    def worker(self, folder: Path, *, mail_port: int) -> Worker:
        """Return the worker that sends what is queued to a loopback port."""


@dataclass(frozen=True, slots=True)
class Pillarbox:
    """Ours: messages kept as the front door keeps them, letters sent by `pillarbox worker`."""

    name: ClassVar[str] = "pillarbox"
    url: str

    def fill(self, submissions: int, folder: Path) -> None:
        """Keep so many messages."""
        keeping = ("-m", "bench.queues.keeping", "--count", str(submissions))
        run(sys.executable, *keeping, folder=folder, settings=ours(self.url))

    def worker(self, folder: Path, *, mail_port: int) -> Worker:
        """Return `pillarbox worker` with its usual four connections."""
        return Worker((sys.executable, "-m", "pillarbox", "worker"), folder, ours(self.url, mail_port=mail_port))


@dataclass(frozen=True, slots=True)
class PgQueuer:
    """PgQueuer on PostgreSQL."""

    name: ClassVar[str] = "PgQueuer 1.6"
    url: str
    batch: int = 100

    def fill(self, submissions: int, folder: Path) -> None:
        """Enqueue the mails of so many messages."""
        module = ("-m", "bench.opponents.pgqueuer_worker", "fill")
        run(str(OPPONENTS / "python"), *module, "--url", self.url, "--count", str(submissions), folder=folder)

    def worker(self, folder: Path, *, mail_port: int) -> Worker:
        """Return a worker with four connections to the mail server."""
        command = (str(OPPONENTS / "python"), "-m", "bench.opponents.pgqueuer_worker", "work", "--url", self.url,
                   "--mail-port", str(mail_port), "--batch", str(self.batch))  # fmt: skip
        return Worker(command, folder, {})


@dataclass(frozen=True, slots=True)
class Celery:
    """Celery on a Redis of its own."""

    name: ClassVar[str] = "Celery 5.7 on Redis"
    redis_port: int
    pool: str = "prefork"

    def fill(self, submissions: int, folder: Path) -> None:
        """Enqueue the mails of so many messages."""
        module = ("-m", "bench.opponents.celery_worker", str(submissions))
        settings = {"REDIS_PORT": str(self.redis_port)}
        run(str(OPPONENTS / "python"), *module, folder=folder, settings=settings)

    def worker(self, folder: Path, *, mail_port: int) -> Worker:
        """Return a worker with four processes, each with a connection of its own to the mail server."""
        command = (str(OPPONENTS / "celery"), "--app", "bench.opponents.celery_worker", "worker", "--loglevel", "ERROR",
                   "--pool", self.pool, "--concurrency", "4", "--without-gossip", "--without-mingle")  # fmt: skip
        settings = {"REDIS_PORT": str(self.redis_port), "MAIL_PORT": str(mail_port), "C_FORCE_ROOT": "1"}
        return Worker(command, folder, settings)


ENGINES = (Pillarbox, PgQueuer, Celery)


@contextmanager
def empty(kind: type[Pillarbox | PgQueuer | Celery], postgresql: Postgresql, folder: Path) -> Iterator[Engine]:
    """Give an engine that holds nothing: with a database of its own, or a Redis of its own."""
    if kind is Pillarbox or kind is PgQueuer:
        yield kind(postgresql.create())
        return
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes",
               "--appendfsync", "everysec", "--dir", str(folder)]  # fmt: skip
    with running("redis", command, core=LOAD_CORE, folder=folder) as process:
        wait_for_port(process, port)
        yield Celery(port)
