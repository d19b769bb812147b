"""Processes behind nginx are stopped and started one after the other: no visitor sees it, no letter leaves twice."""

import socket
from contextlib import suppress
from dataclasses import dataclass

import pytest
from tests.road.crowd import Crowd, message
from tests.road.fleet import Fleet, on_postgresql, repeats, settled, times_kept
from tests.road.mail_process import MailProcess
from tests.road.results import write_table
from tests.running import Pillarbox, until
from tests.servers.nginx import running_nginx
from tests.servers.postgresql import Postgresql


@dataclass(frozen=True)
class Size:
    """How large a proof is: so many processes, each stopped `rounds` times, always after so many messages."""

    webs: int
    workers: int
    rounds: int
    pause: float
    messages: int


SMALL = Size(webs=2, workers=1, rounds=1, pause=0.2, messages=40)
FULL = Size(webs=4, workers=2, rounds=5, pause=0.02, messages=200)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(SMALL, id="small"),
        pytest.param(FULL, id="full", marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
)
def test_processes_behind_nginx_that_are_restarted_one_by_one_fail_no_visitor_and_repeat_no_letter(
    mailing: Pillarbox, mail_server: MailProcess, postgresql: Postgresql, size: Size
) -> None:
    fleet = Fleet.of(on_postgresql(mailing, postgresql.create()), webs=size.webs, workers=size.workers)
    statuses = []
    with running_nginx([web.port for web in fleet.webs], server="max_fails=0") as nginx:
        crowd = Crowd(nginx.port, size.pause, clients=16)
        with fleet.visited(crowd):
            for member in (*fleet.webs, *fleet.workers) * size.rounds:
                before = fleet.thanked
                until(lambda before=before: fleet.thanked > before + size.messages, within=60)
                statuses.append(member.stop_and_start())
                fleet.is_up()
    settled(mailing)
    again = repeats(mail_server)
    if size is FULL:
        counts = {
            "web processes behind nginx, workers": f"{size.webs}, {size.workers}",
            "processes told to stop (SIGTERM) and started again": len(statuses),
            "exit statuses": sorted(set(statuses)),
            "messages posted": crowd.posted,
            "thanked": fleet.thanked,
            "requests that failed": len(crowd.refused) + crowd.cut_off,
            "messages on disk more or less than once": sum(times != 1 for times in times_kept(mailing).values()),
            "thanked, owner's letter missing": len(fleet.ids - mail_server.reached()),
            "thanked, confirmation missing": len(fleet.ids - mail_server.reached("confirmation")),
            "letters sent again": len(again),
        }
        write_table("rolling", "A rolling restart behind nginx (SIGTERM)", counts, test="tests/road/test_rolling.py")
    assert (crowd.refused, crowd.cut_off) == ([], 0), nginx.errors
    assert set(statuses) == {0}
    assert set(times_kept(mailing).values()) == {1}
    assert fleet.ids == mail_server.reached() == mail_server.reached("confirmation")
    assert again == []


def test_who_has_just_connected_to_a_process_that_is_told_to_stop_is_still_answered(pillarbox: Pillarbox) -> None:
    process = pillarbox.serve("--no-worker")
    with socket.create_connection(("127.0.0.1", pillarbox.port), timeout=20) as visitor:
        pillarbox.answers()  # who came before this one has been looked at, too
        process.terminate()
        until(lambda: _refuses(pillarbox.port))
        visitor.sendall(message(1))
        answer = b"".join(iter(lambda: visitor.recv(4_096), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert process.wait(20) == 0


def _refuses(port: int) -> bool:
    with suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return False
    return True
