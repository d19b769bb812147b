"""With 64 file descriptors and 200 visitors at once: who was thanked is heard, meanwhile and afterwards."""

import os
import re
from pathlib import Path

import pytest
from tests.road import ledger
from tests.road.crowd import Crowd
from tests.road.mail_process import MailProcess
from tests.road.results import write_table
from tests.road.test_crash import repeats
from tests.running import BOB, Pillarbox, until

DESCRIPTORS = 64
VISITORS = 200


def with_few_descriptors(mailing: Pillarbox) -> int:
    """Start an installation that may have 64 files open at once, and return its process's number."""
    process = mailing.start("serve", wrapper=("sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "sh"))
    until(mailing.answers)
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert re.search(rf"Max open files +{DESCRIPTORS} +{DESCRIPTORS} ", limits)
    return process.pid


def seconds_of_processor(process: int) -> float:
    """Return how much of the processor a process has used so far."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("messages", "pause"),
    [
        pytest.param(100, 0.3, id="small"),
        pytest.param(10_000, 0.05, id="full", marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
)
def test_with_64_file_descriptors_200_visitors_at_once_cost_no_letter_and_hold_none_up(
    mailing: Pillarbox, mail_server: MailProcess, request: pytest.FixtureRequest, messages: int, pause: float
) -> None:
    process = with_few_descriptors(mailing)
    with Crowd(mailing.port, pause, clients=VISITORS, patience=1.0).posting() as crowd:
        until(lambda: len(crowd.thanked) >= messages and crowd.cut_off > VISITORS, within=600)
        # Letters leave while the crowd is there: it doesn't take what they need.
        sent = len(mail_server.reached())
        until(lambda: len(mail_server.reached()) > sent + 20)
    used = seconds_of_processor(process)
    status, answer = mailing.post(BOB)
    until(lambda: ledger.waiting(mailing.database) == 0)
    thanked = {*crowd.thanked.values(), answer["id"]}
    if "full" in request.node.callspec.id:
        counts = {
            "file descriptors": DESCRIPTORS,
            "visitors at once": VISITORS,
            "thanked": len(thanked),
            "connections cut off": crowd.cut_off,
            "processor seconds for each thousand thanked": f"{1000 * used / len(thanked):.1f}",
            "thanked, owner's letter missing": len(thanked - mail_server.reached()),
            "thanked, confirmation missing": len(thanked - mail_server.reached("confirmation")),
            "letters sent again": len(repeats(mail_server)),
        }
        write_table("descriptors", "64 file descriptors, 200 visitors", counts, test="tests/road/test_scarcity.py")
    assert status == 200
    assert not thanked - mail_server.reached()
    assert not thanked - mail_server.reached("confirmation")
    assert repeats(mail_server) == []
    assert "error" not in mailing.log.read_text()
