"""Two scanners of the trade let loose on a running server: what they find is written down, and nothing breaks."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from tests.asking import ask, resident_bytes
from tests.road.results import write_table
from tests.running import BOB, Pillarbox

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
MODULES = (
    "backup,blindsql,buster,cookieflags,crlf,csp,csrf,exec,file,htaccess,http_headers,methods,permanentxss,redirect,"
    "shellshock,sql,xss"
)
"""Wapiti's, without those that need a server of its makers to call back to (ssrf, xxe) or lists from the network."""
WAPITI_SECONDS, MODULE_SECONDS, SQLMAP_SECONDS = 60, 12, 45
FORM = "name=Bob&email=bob%40example.org&subject=Hi&message=Hello"
TARGETS = {
    "/send-message": ["--data", FORM],
    "/api/contact": ["--data", '{"name":"Bob","email":"bob@example.org","message":"Hello"}'],
    "/thanks?id=7K3M-9QXP-2AFD": [],
}


INJECTABLE = re.compile(r"\b(is|are|appears to be|might be) (vulnerable|injectable)|identified the following injection")


def need(program: str) -> str:
    """Return where a scanner is; without it the proof is skipped with the reason, and on CI it fails."""
    if found := shutil.which(program):
        return found
    reason = f"{program} is missing: apt-get install {program}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def run(command: list[str], folder: Path, seconds: float) -> str:
    """Return what a scanner says until it ends, or is ended after so many seconds."""
    quiet = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()} | {"HOME": str(folder)}
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(command, cwd=folder, env=quiet, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        said.seek(0)
        return said.read()


def wapiti(url: str, folder: Path) -> dict[str, int]:
    """Return how often Wapiti found each kind of thing."""
    report = folder / "report.json"
    bounds = ["--max-scan-time", str(WAPITI_SECONDS), "--max-attack-time", str(MODULE_SECONDS), "-t", "5", "-d", "5"]
    starts = [word for path in ("/mail", "/thanks?id=7K3M-9QXP-2AFD", "/health") for word in ("-s", url + path)]
    said = run(
        [
            need("wapiti"),
            "-u",
            f"{url}/",
            *starts,
            "--scope",
            "folder",
            "-m",
            MODULES,
            *bounds,
            "--no-bugreport",
            "--flush-session",
            "-f",
            "json",
            "-o",
            str(report),
        ],
        folder,
        WAPITI_SECONDS + len(MODULES.split(",")) * MODULE_SECONDS + 30,
    )
    assert report.exists(), said[-2_000:]
    found = json.loads(report.read_text())
    return {
        kind: len(findings)
        for chapter in ("vulnerabilities", "anomalies", "additionals")
        for kind, findings in found.get(chapter, {}).items()
        if findings
    }


def sqlmap(url: str, options: list[str], folder: Path) -> str:
    """Return what sqlmap says of every parameter, header and cookie of a request."""
    manner = ["--batch", "--disable-coloring", "--flush-session", "--output-dir", str(folder / "out")]
    depth = ["--level", "3", "--risk", "2", "--dbms", "sqlite", "--time-sec", "1", "--timeout", "5", "--retries", "0"]
    return run([need("sqlmap"), "-u", url, *options, *manner, *depth, "--ignore-code", "400"], folder, SQLMAP_SECONDS)


def explained() -> set[str]:
    """Return the kinds of findings that SECURITY.md explains."""
    chapter = SECURITY.read_text(encoding="utf-8").partition("## What scanners say")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| ([^|]+?) \|", chapter, re.M)) - {"finding", "---"}


def test_scanners_break_nothing_and_what_they_find_is_explained(pillarbox: Pillarbox, tmp_path: Path):
    need("sqlmap")
    process = pillarbox.serve(LOG_LEVEL="debug")
    pillarbox.post(BOB)
    before, began = resident_bytes(process.pid), time.monotonic()
    found = wapiti(pillarbox.url, tmp_path)
    verdicts = {path: sqlmap(pillarbox.url + path, options, tmp_path) for path, options in TARGETS.items()}
    took, grown = time.monotonic() - began, resident_bytes(process.pid) - before
    status, _ = pillarbox.post(BOB | {"message": "And an honest one."})
    metrics = ask(pillarbox.port, "GET", "/metrics").text
    log = pillarbox.log.read_text()
    pillarbox.stop()
    with sqlite3.connect(pillarbox.database) as connection:
        (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
        (kept,) = connection.execute("SELECT count(*) FROM submissions").fetchone()
    faults = len(re.findall(r"request_failed|Traceback|not_kept", log))
    injectable = {path: said[-500:] for path, said in verdicts.items() if INJECTABLE.search(said)}
    rows: dict[str, object] = {f"Wapiti: {kind}": number for kind, number in sorted(found.items())}
    for path in TARGETS:
        rows[f"sqlmap: parameters of `{path.partition('?')[0]}` that take SQL"] = int(path in injectable)
    rows |= {
        "seconds": round(took),
        "messages kept meanwhile": kept,
        "requests that failed, tracebacks in the log": faults,
        "memory that the server grew by, MB": round(grown / 1e6),
        "the database afterwards": sound,
    }
    write_table("scanners", "Wapiti and sqlmap against a running server", rows, test="tests/road/test_scanners.py")
    assert (status, faults, sound, process.returncode) == (200, 0, "ok", 0)
    assert 'code="UNEXPECTED"' not in metrics
    assert kept > 100
    assert injectable == {}
    assert [path for path, said in verdicts.items() if "testing connection to the target URL" not in said] == []
    assert found.keys() - explained() == set()
