"""Fixtures that every room's tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Pillarbox


@pytest.fixture
def anyio_backend() -> str:
    """Everything here runs on asyncio."""
    return "asyncio"


@pytest.fixture
def pillarbox(tmp_path: Path) -> Iterator[Pillarbox]:
    """An installation that is not started yet; whatever it starts is stopped."""
    made = Pillarbox(tmp_path)
    yield made
    made.stop()
