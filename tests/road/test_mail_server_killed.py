"""The mail server is killed again and again while visitors write: nothing is lost, and the way opens by itself."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.road import ledger
from tests.road.crowd import Crowd
from tests.road.mail_process import MailProcess
from tests.road.results import write_table
from tests.road.test_crash import broken_off, repeats
from tests.running import Pillarbox, free_port, until

SLOW = ("--delay-dot", "0.02")
"""Letters are under way at any moment: some dots have come and are not answered when the blow falls."""


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[MailProcess]:
    """A mail server on a port of its own, so that it comes back where it was."""
    server = MailProcess(tmp_path, "--port", str(free_port()), *SLOW)
    yield server
    server.end()


def kill_and_restart(mailing: Pillarbox, mail_server: MailProcess, *, times: int, lull: float) -> list[float]:
    """Kill the mail server so often under load, each time after some letters; return the moments (wall clock)."""
    ends = []
    for _ in range(times):
        before, opened = len(mail_server.dots()), mailing.log.read_text().count("way_opened")
        until(lambda before=before: len(mail_server.dots()) > before + 20)
        time.sleep(random.uniform(0, lull))  # the moment of the blow is meant to be any
        ends.append(mail_server.kill())
        until(lambda: ledger.ask(mailing.database, "SELECT 1 FROM ways WHERE shut_since IS NOT NULL"))
        mail_server.start(*SLOW)
        until(lambda opened=opened: mailing.log.read_text().count("way_opened") > opened, within=30)
    return ends


@pytest.mark.parametrize(
    ("times", "pause", "lull"),
    [
        pytest.param(3, 0.3, 0.2, id="small"),
        pytest.param(20, 0.1, 2.0, id="full", marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
)
def test_a_mail_server_killed_under_load_loses_nothing_and_is_found_again_each_time(
    pillarbox: Pillarbox, mortal: MailProcess, request: pytest.FixtureRequest, times: int, pause: float, lull: float
) -> None:
    pillarbox.settings |= mortal.settings | {"PROBE_INTERVAL": "0.1s", "RETRY_SCHEDULE": ",".join(["0.5s"] * 40)}
    process = pillarbox.serve()
    with Crowd(pillarbox.port, pause).posting() as crowd:
        ends = kill_and_restart(pillarbox, mortal, times=times, lull=lull)
    until(lambda: ledger.waiting(pillarbox.database) == 0, within=120)
    thanked, again = set(crowd.thanked.values()), repeats(mortal)
    late = [dot for dot in again if not broken_off(dot, ends)]
    if "full" in request.node.callspec.id:
        counts = {
            "clients": crowd.clients,
            "times the mail server was killed": len(ends),
            "thanked": len(thanked),
            "posts refused or cut off": len(crowd.refused) + crowd.cut_off,
            "thanked, owner's letter missing": len(thanked - mortal.reached()),
            "thanked, confirmation missing": len(thanked - mortal.reached("confirmation")),
            "letters taken by the mail server": len(mortal.by_letter()),
            "letters sent again": len(again),
            "of these answered 200 ms or more before an end": len(late),
        }
        title = "The mail server killed under load (SIGKILL)"
        write_table("mail-server-killed", title, counts, test="tests/road/test_mail_server_killed.py")
    assert not thanked - mortal.reached()
    assert not thanked - mortal.reached("confirmation")
    assert late == []
    assert crowd.refused == []
    assert process.poll() is None
