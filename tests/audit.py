"""`python -m tests.audit`: whether anything we install has a known hole, as far as the data can be had.

Ends with 1 when there is one. Data that can't be reached is no fault of this tree: then one line says so, and it ends
with 0.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements.lock"
MOST_SECONDS = 60
ANSWER_SECONDS = 3
"""How long one answer may take: where nothing is reached, the whole is over after the first."""


def ask(lock: Path, *options: str) -> tuple[str, str]:
    """Return what pip-audit prints about a lock file: (its JSON or "", why there is none)."""
    command = [Path(sys.executable).with_name("pip-audit"), "--requirement", lock, "--disable-pip", "--require-hashes"]
    manner = ["--format", "json", "--progress-spinner", "off", "--timeout", str(ANSWER_SECONDS), *options]
    try:
        done = subprocess.run(
            [*command, *manner], capture_output=True, text=True, timeout=MOST_SECONDS, check=False, cwd=lock.parent
        )
    except subprocess.TimeoutExpired:
        return "", f"no whole answer within {MOST_SECONDS} s"
    except OSError as error:
        return "", f"pip-audit can't be run: {error.strerror}"
    if done.stdout.lstrip().startswith("{"):
        return done.stdout, ""
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return "", f"the advisories can't be reached ({last.partition(':')[0].rpartition('.')[2][:100]})"


def judge(found: str, why_not: str) -> tuple[str, int]:
    """Return what to print about the answer, and the exit status."""
    if why_not:
        return f"not audited: {why_not}", 0
    packages = json.loads(found)["dependencies"]
    holes = list(_holes(packages))
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    if holes:
        return "\n".join(("Known holes in what we install:", *holes)), 1
    if unknown:
        told = f"the advisories have nothing on {len(unknown)} of {len(packages)} packages from here"
        return f"not audited: {told} ({', '.join(unknown[:3])}{' …' if len(unknown) > 3 else ''})", 0
    return f"No known hole in {len(packages)} packages.", 0


def _holes(packages: list[dict[str, Any]]) -> Iterator[str]:
    for one in packages:
        for hole in one.get("vulns", ()):
            mended = f"mended in {', '.join(hole['fix_versions'])}" if hole["fix_versions"] else "not mended yet"
            names = ", ".join((hole["id"], *hole.get("aliases", ())))
            yield f"  {one['name']} {one['version']}: {names} ({mended})"


def main() -> int:
    """Audit what we install, with the advisories of whichever service knows all of it."""
    for service in ("pypi", "osv"):
        sentence, status = judge(*ask(LOCK, "--vulnerability-service", service))
        if not sentence.startswith("not audited"):
            break
    print(sentence)  # noqa: T201 - this is a command
    return status


if __name__ == "__main__":
    sys.exit(main())
