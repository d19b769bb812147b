"""Real servers on loopback that the tests and the benchmarks talk to."""

import os
import shutil

import pytest


def require(program: str) -> str:
    """Return the program's path; without it skip the test, or fail it where CI promises that nothing is missing."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        missing(f"{program} is not installed")
    return path


def missing(reason: str) -> None:
    """Skip the test for this reason, or fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
