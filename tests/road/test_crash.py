"""The server is killed again and again while 32 visitors write: who was thanked is heard."""

import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from tests.road import ledger
from tests.road.crowd import CLIENTS, Crowd
from tests.road.mail_process import Dot, MailProcess
from tests.road.results import write_table
from tests.running import Pillarbox, until

MAY_BE_UNWRITTEN = 0.2
"""Seconds before a kill in which an answered letter may not have been written down yet: the dot rule."""


@dataclass
class Story:
    """What happened: the crowd's memory, the moments of the kills (wall clock), the processes' exit statuses."""

    crowd: Crowd
    ends: list[float]
    statuses: list[int]


def go_through(mailing: Pillarbox, how: signal.Signals, *, times: int, pause: float, lull: float) -> Story:
    """End the server `times` times after some `lull` seconds of visitors, start it again, let it finish."""
    mailing.settings["LOG_LEVEL"] = "warning"
    process = mailing.serve()
    ends, statuses = [], []
    with Crowd(mailing.port, pause).posting() as crowd:
        for _ in range(times):
            thanked = len(crowd.thanked)
            until(lambda thanked=thanked: len(crowd.thanked) > thanked + CLIENTS)
            time.sleep(random.uniform(lull / 2, lull))  # the moment of the blow is meant to be any
            ends.append(time.time())
            os.kill(process.pid, how)
            statuses.append(process.wait(40))
            process = mailing.serve()
        until(lambda: len(crowd.thanked) > thanked + CLIENTS)
    until(lambda: ledger.waiting(mailing.database) == 0, within=300)
    return Story(crowd, ends, statuses)


def broken_off(dot: Dot, ends: Sequence[float]) -> bool:
    """Whether a kill came between the letter's final dot and the 200 ms after its answer."""
    if dot.answered_at is None:
        return True
    return any(dot.received_at <= end + 0.1 and dot.answered_at >= end - MAY_BE_UNWRITTEN for end in ends)


def repeats(mail_server: MailProcess) -> list[Dot]:
    """Return each dot after which the same letter was sent once more."""
    return [dot for dots in mail_server.by_letter().values() for dot in dots[:-1]]


def counted(story: Story, mail_server: MailProcess) -> dict[str, object]:
    """Return what the full proof prints."""
    again = repeats(mail_server)
    gaps = [
        min((end - dot.answered_at for end in story.ends if end >= dot.answered_at), default=0.0)
        for dot in again
        if dot.answered_at
    ]
    late = sum(not broken_off(dot, story.ends) for dot in again)
    return {
        "clients": CLIENTS,
        "times ended under load": len(story.ends),
        "exit statuses": sorted(set(story.statuses)),
        "messages posted": story.crowd.posted,
        "thanked": len(story.crowd.thanked),
        "posts cut off by an end": story.crowd.cut_off,
        "thanked, owner's letter missing": len(set(story.crowd.thanked.values()) - mail_server.reached()),
        "thanked, confirmation missing": len(set(story.crowd.thanked.values()) - mail_server.reached("confirmation")),
        "letters taken by the mail server": len(mail_server.by_letter()),
        "letters sent again": len(again),
        "of these answered 200 ms or more before an end": late,
        "longest time from the answer to the end that made it a repeat": f"{1000 * max(gaps, default=0):.0f} ms",
    }


@pytest.mark.alone  # a letter's outcome is given 200 ms to be written down
@pytest.mark.parametrize(
    ("times", "pause", "lull"),
    [
        pytest.param(2, 0.1, 0.6, id="small"),
        pytest.param(10, 0.02, 2.0, id="full", marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
)
def test_who_was_thanked_is_heard_however_often_the_server_is_killed(
    mailing: Pillarbox, mail_server: MailProcess, request: pytest.FixtureRequest, times: int, pause: float, lull: float
) -> None:
    story = go_through(mailing, signal.SIGKILL, times=times, pause=pause, lull=lull)
    if "full" in request.node.callspec.id:
        write_table(
            "killed", "Killed under load (SIGKILL)", counted(story, mail_server), test="tests/road/test_crash.py"
        )
    thanked = set(story.crowd.thanked.values())
    assert not thanked - mail_server.reached("notification")
    assert not thanked - mail_server.reached("confirmation")
    assert [dot for dot in repeats(mail_server) if not broken_off(dot, story.ends)] == []
    assert story.crowd.refused == []


@pytest.mark.parametrize(
    ("times", "pause", "lull"),
    [
        pytest.param(2, 0.1, 0.4, id="small"),
        pytest.param(10, 0.02, 2.0, id="full", marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
)
def test_a_server_told_to_stop_loses_nothing_repeats_nothing_and_ends_well(
    mailing: Pillarbox, mail_server: MailProcess, request: pytest.FixtureRequest, times: int, pause: float, lull: float
) -> None:
    story = go_through(mailing, signal.SIGTERM, times=times, pause=pause, lull=lull)
    if "full" in request.node.callspec.id:
        write_table(
            "stopped", "Stopped under load (SIGTERM)", counted(story, mail_server), test="tests/road/test_crash.py"
        )
    thanked = set(story.crowd.thanked.values())
    assert not thanked - mail_server.reached("notification")
    assert not thanked - mail_server.reached("confirmation")
    assert repeats(mail_server) == []
    assert set(story.statuses) == {0}
