"""Parts that every proof of the road uses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.road.mail_process import MailProcess
from tests.running import Pillarbox


@pytest.fixture
def mail_server(tmp_path: Path) -> Iterator[MailProcess]:
    """A mail server in its own process, that takes every letter at once."""
    server = MailProcess(tmp_path)
    yield server
    server.end()


@pytest.fixture
def mailing(pillarbox: Pillarbox, mail_server: MailProcess) -> Pillarbox:
    """An installation that sends through that mail server; not started yet."""
    pillarbox.settings |= mail_server.settings
    return pillarbox
