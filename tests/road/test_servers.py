"""The ways of starting it that people know: gunicorn and uvicorn with app:app, and several workers of our own."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.asking import sent_until_cut
from tests.road import ledger
from tests.running import BOB, Pillarbox, until

ROOT = Path(__file__).parents[2]


def start_from_the_root(pillarbox: Pillarbox, *command: str) -> "subprocess.Popen[bytes]":
    """Start a server in a folder that holds what the repository's root holds for it, and return once it answers."""
    root = pillarbox.folder / "root"
    root.mkdir()
    for name in ("app.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, root)
    settings = {
        "DATABASE_URL": f"sqlite:///{pillarbox.database}",
        "MAILDIR": str(pillarbox.folder / "mail"),
    }
    with pillarbox.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=root, env=pillarbox.environment | settings, stdout=log, stderr=log
        )
    pillarbox.processes.append(process)
    until(lambda: pillarbox.answers() or process.poll() is not None)
    assert process.poll() is None, pillarbox.log.read_text()
    return process


def start_as_the_readme_says(pillarbox: Pillarbox, server: str) -> "subprocess.Popen[bytes]":
    """Start the server by its line in the README, but on a port of this test's own."""
    (line,) = re.findall(rf"^{server} .*app:app$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    own = {"gunicorn": ("--bind", f"127.0.0.1:{pillarbox.port}"), "uvicorn": ("--port", str(pillarbox.port))}
    return start_from_the_root(pillarbox, *line.split(), *own[server])


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_a_message_is_delivered_under_the_servers_that_are_told_app_app(pillarbox: Pillarbox, server: str) -> None:
    process = start_as_the_readme_says(pillarbox, server)
    status, answer = pillarbox.post(BOB)
    assert (status, answer["message"]) == (200, "Thank you for your message!")
    until(lambda: len(pillarbox.mails()) == 2)
    assert b"Do you have the blue one?" in b"".join(pillarbox.mails())
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert ledger.waiting(pillarbox.database) == 0


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_a_head_without_end_is_cut_under_the_servers_that_are_told_app_app(pillarbox: Pillarbox, server: str) -> None:
    start_as_the_readme_says(pillarbox, server)
    sent_until_cut(pillarbox.port, b"GET / HTTP/1.1\r\nX: ", b"a" * 65_536, most=32_000_000)


def test_two_workers_keep_and_one_of_them_sends_each_letter_once(pillarbox: Pillarbox) -> None:
    process = pillarbox.serve(WORKERS="2")
    for number in range(20):
        assert pillarbox.post(BOB | {"email": f"bob-{number}@example.net"})[0] == 200
    until(lambda: ledger.waiting(pillarbox.database) == 0)
    assert len(pillarbox.mails()) == 40
    assert len(_children(process.pid)) >= 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_worker_process_that_is_told_to_stop_ends_well(pillarbox: Pillarbox) -> None:
    pillarbox.serve("--no-worker")
    worker = pillarbox.start("worker")
    pillarbox.post(BOB)
    until(lambda: len(pillarbox.mails()) == 2)
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(30) == 0


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
