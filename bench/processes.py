"""Real processes, pinned to a core, looked at through /proc, and ended by their own id whatever happens."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER_CORE = 0
LOAD_CORE = 1
READY_SECONDS = 30.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """A running command, leader of its own process group, and the folder with its `NAME.out` and `NAME.err`."""

    name: str
    popen: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> Path:
        """What it wrote to standard output."""
        return self.folder / f"{self.name}.out"

    @property
    def err(self) -> Path:
        """What it wrote to standard error."""
        return self.folder / f"{self.name}.err"

    def family(self) -> list[int]:
        """Return the ids of the process and of everything below it."""
        parents = dict(read_parents())
        found = [self.popen.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def processor_seconds(self) -> float:
        """Return user and system time of the family so far, ended children included (proc(5): stat 14 to 17)."""
        return sum(sum(int(ticks) for ticks in stat[11:15]) for stat in map(read_stat, self.family()) if stat) / TICKS

    def resident_bytes(self) -> int:
        """Return what the family holds in memory; pages shared among its members count once a member."""
        return sum(read_resident(pid) for pid in self.family())


def read_stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the command's name, none for a process that is gone."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def read_resident(pid: int) -> int:
    """Return VmRSS in bytes, 0 for a process that is gone."""
    try:
        lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def read_parents() -> Iterator[tuple[int, int]]:
    """Yield (id, id of the parent) of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := read_stat(int(entry.name))):
            yield int(entry.name), int(stat[1])


def busy_seconds(core: int) -> float:
    """Return how long a core has been at work so far, for whomever, time stolen by the host included (proc(5))."""
    name = f"cpu{core} "
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(name))
    user, nice, system, _idle, _iowait, *rest = (int(ticks) for ticks in line.split()[1:9])
    return (user + nice + system + sum(rest)) / TICKS


def free_port() -> int:
    """Return a loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    name: str, command: list[str], *, core: int, folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run a command on one core until the block is left; then its whole group is killed.

    It also dies when this process dies (`setpriv --pdeathsig`), and it runs in `folder`, so that no `.env` or
    configuration of the checkout reaches it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wrapped = ["taskset", "-c", str(core), "setpriv", "--pdeathsig", "KILL", *command]
    path = f"{ROOT}{os.pathsep}{ROOT / 'src'}"
    with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("wb") as err:
        popen = subprocess.Popen(
            wrapped,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": path, "LANG": "C.UTF-8", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        yield Process(name, popen, folder)
    finally:
        stop(popen)


def stop(popen: subprocess.Popen[bytes]) -> None:
    """Kill the group that this process leads: nothing here has anything left to save."""
    with suppress(ProcessLookupError):
        os.killpg(popen.pid, signal.SIGKILL)
    popen.wait(timeout=10)


def wait_for_health(process: Process, port: int) -> None:
    """Return when GET /health answers 200; RuntimeError with the server's last words when it does not."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.popen.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
    words = "\n".join(path.read_text(errors="replace")[-1500:] for path in (process.out, process.err))
    raise RuntimeError(f"{process.name} did not become ready on port {port}:\n{words}")


def wait_for_port(process: Process, port: int) -> None:
    """Return when something accepts connections on a loopback port; RuntimeError when nothing does."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.popen.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.name} does not listen:\n{process.err.read_text(errors='replace')[-1500:]}")


def check_tools() -> None:
    """Stop with a plain sentence when the machine lacks what the benchmark stands on."""
    missing = [tool for tool in ("taskset", "setpriv", "smtp-sink") if not find_tool(tool)]
    if missing:
        sys.exit(f"Missing: {', '.join(missing)}. On Debian: apt-get install postfix util-linux")
    if not find_spec("flask"):
        sys.exit("Missing: Flask, which design A is written with. make dev")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("Two processor cores are needed: one for the server, one for load and mail server.")


def find_tool(name: str) -> str | None:
    """Return where a program is; sbin counts, wherever PATH points."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
