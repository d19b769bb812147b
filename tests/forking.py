"""Processes that have read Pillarbox before they begin: one that has imported it all forks one for each command.

Most of what a command costs in a test is Python reading the same modules once more. A forked process is a process as
any other: it has an id, memory, files, signals and an exit status of its own, it is our child, and its interpreter
ends as usual. Only what is settled before the first line runs is not its own (what /proc shows as its command line and
environment, the loader's and the interpreter's variables): a test of that starts a real one.
"""

import ctypes
import gc
import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

ROOT = Path(__file__).parents[1]
READ_BEFORE = (
    *("pillarbox.app", "pillarbox.cli", "pillarbox.doctor.mail", "pillarbox.doctor.rounds", "pillarbox.exporting"),
    *("uvicorn.lifespan.on", "uvicorn.loops.uvloop", "uvicorn.protocols.http.httptools_impl", "uvicorn.supervisors"),
    *("alembic.command", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg", "psycopg"),
    "tests.servers.smtp_connection",
)
"""What is imported sooner or later by those who are forked; none of it starts a thread."""
OF_THE_INTERPRETER = ("PYTHON", "LD_", "LC_", "TZ", "MALLOC_", "TERM", "COLUMNS")
"""How variables begin that are looked at before, or while, modules are read."""
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_LONGEST = 200_000


def _network() -> int:
    return Path("/proc/thread-self/ns/net").stat().st_ino


_OURS = _network()


def begin(command: Sequence[str], *, env: Mapping[str, str], really: bool = False, **how: Any) -> subprocess.Popen[Any]:
    """Begin `python -m` and this command as Popen does: by a fork where that is the same, else by a start.

    Not the same: where variables say how the interpreter begins, and in a thread that is in another network than we.
    """
    if really or not can_take(env) or _network() != _OURS:
        return subprocess.Popen([sys.executable, "-m", *command], env=env, **how)
    return Forked(command, env=env, **how)


def can_take(environment: Mapping[str, str]) -> bool:
    """Whether a process that is forked behaves in this environment as one that is started."""
    return not any(name.startswith(OF_THE_INTERPRETER) for name in environment.keys() - {"PYTHONPATH"})


class Forked(subprocess.Popen[Any]):
    """A forked process. Its arguments are a module and what follows it on the command line; `env` has to be given.

    Of Popen's options `cwd`, the streams and how to decode them are heeded.
    """

    def _execute_child(self, args: Any, *given: Any) -> None:
        cwd, env = given[4:6]
        pipes = given[9:15]  # for each of the three streams: its end, and ours
        ends = [end if end != -1 else number for number, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        order = {"arguments": [str(one) for one in args], "cwd": str(cwd or Path.cwd()), "environment": dict(env)}
        self.pid = _parent().fork(json.dumps(order).encode(), ends)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class _Parent:
    """Whom we ask. Orphans below us become our children, so those that are forked twice are ours."""

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._asking, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = Lock()
        with told:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(told.fileno())],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
                pass_fds=[told.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def fork(self, order: bytes, streams: list[int]) -> int:
        """Return the id of a new process."""
        with self._lock:
            socket.send_fds(self._asking, [order], streams)
            return int(self._asking.recv(20))


@cache
def _parent() -> _Parent:
    return _Parent()


def _fork_when_asked(asked: socket.socket) -> dict[str, Any] | None:
    """Return in every forked process its order, and None when nobody asks any more."""
    while True:
        order, streams, _flags, _address = socket.recv_fds(asked, _LONGEST, 3)
        if not order or not (forked := _fork_twice()):
            break
        asked.send(str(forked).encode())
        for stream in streams:
            os.close(stream)
    asked.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    return json.loads(order) if order else None


def _open_streams() -> None:
    """Make Python's streams anew: those that are there know whether the first process's were files or terminals."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, f"__{name}__")
        by_line = number == 2 or os.isatty(number)
        new = open(number, old.mode, 1 if by_line else -1, old.encoding, old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def _fork_twice() -> int:
    """Return the id of the forked process, whose parent has ended, and 0 there."""
    read, write = os.pipe()
    if between := os.fork():
        os.waitpid(between, 0)
    elif forked := os.fork():
        os.write(write, str(forked).encode())
        os._exit(0)
    said = os.read(read, 20) if between else b"0"
    os.close(read)
    os.close(write)
    return int(said)


def main() -> None:
    """Read everything, then fork for whoever holds the other end of the socket that is given."""
    for module in READ_BEFORE:
        import_module(module)
    gc.collect()
    gc.freeze()
    if order := _fork_when_asked(socket.socket(fileno=int(sys.argv[1]))):
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["cwd"])
        _open_streams()
        module, *sys.argv[1:] = order["arguments"]
        sys.path[0] = order["cwd"]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
