"""The command: measure, print the page, write it to bench/results."""

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psycopg
from tests.servers.postgresql import running_postgresql

from bench.processes import LOAD_CORE, ROOT
from bench.queues.drains import Table
from bench.queues.engines import OPPONENTS
from bench.queues.measures import FULL, PARTS, QUICK, measure_all
from bench.queues.report import judge, page
from bench.report import machine


def read_arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.queues", description="PostgreSQL as the queue.")
    parser.add_argument("--quick", action="store_true", help="one small round of everything, about three minutes")
    parser.add_argument("--name", help="name of the page in bench/results (default: queue, or queue-quick)")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part (can be repeated)")
    parser.add_argument("--rounds", type=int, choices=range(1, 21), metavar="1–20", help="other than usual")
    return parser.parse_args()


def check_tools() -> None:
    """Stop with a plain sentence when the machine lacks what this stands on."""
    missing = [tool for tool in ("taskset", "setpriv", "redis-server") if not shutil.which(tool)]
    if missing:
        sys.exit(f"Missing: {', '.join(missing)}. On Debian: apt-get install postgresql redis-server util-linux")
    if not (OPPONENTS / "celery").exists():
        sys.exit("The opponents are not installed: make opponents")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("Two processor cores are needed: one for the workers, one for database and mail server.")


def main() -> None:
    """Measure; the exit status is 1 when a promise does not hold."""
    given = read_arguments()
    check_tools()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped on the way out
    os.sched_setaffinity(0, {LOAD_CORE})  # PostgreSQL, the mail server and Redis inherit it
    size = QUICK if given.quick else FULL
    size = replace(size, rounds=given.rounds or size.rounds)
    began = time.monotonic()
    with running_postgresql() as postgresql, tempfile.TemporaryDirectory(prefix="pillarbox-bench-") as scratch:
        with psycopg.connect(postgresql.url()) as connection:
            version = connection.info.parameter_status("server_version")
        about = machine(postgresql.home)
        results = measure_all(Table(postgresql, Path(scratch)), size, given.only or PARTS)
    facts = (
        f"Date: {time.strftime('%Y-%m-%d %H:%M %Z')}, {time.monotonic() - began:.0f} s in all",
        f"Machine: {about}, PostgreSQL {version}",
        f"Command: `{shlex.join(['python', '-m', 'bench.queues', *sys.argv[1:]])}`",
        f"{size.rounds} interleaved rounds, medians"
        + ("; a quick run, for a first impression only" if given.quick else ""),
    )
    text = page(results, facts=facts)
    name = given.name or ("queue-quick" if given.quick else "queue")
    (ROOT / "bench" / "results" / f"{Path(name).name}.md").write_text(text, encoding="utf-8")
    print(text)
    sys.exit(not all(promise.holds for promise in judge(results)))


if __name__ == "__main__":
    main()
