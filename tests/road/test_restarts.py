"""PostgreSQL is restarted under load, well and as by a power cut: nothing is lost, nothing of ours is restarted."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.road.crowd import Crowd
from tests.road.fleet import Fleet, on_postgresql, repeats, settled
from tests.road.insistent import Insistent
from tests.road.mail_process import MailProcess
from tests.road.results import write_table
from tests.running import Pillarbox, until
from tests.servers.postgresql import Postgresql, running_postgresql

FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT
"""How PostgreSQL ends (its manual, section 19.5): all connections cut off and written well; at once, as in a crash."""


@pytest.fixture
def durable() -> Iterator[Postgresql]:
    """A server that syncs, as an operator's does."""
    with running_postgresql() as server:
        yield server


@dataclass(frozen=True)
class Size:
    """How large a proof is: so many of each kind of process, so many messages between two restarts."""

    members: int
    pause: float
    ends: tuple[signal.Signals, ...]
    messages: int


SMALL = Size(members=1, pause=0.2, ends=(IMMEDIATE, FAST), messages=60)
FULL = Size(members=2, pause=0.05, ends=(FAST, IMMEDIATE) * 3, messages=1_000)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(SMALL, id="small"),
        pytest.param(FULL, id="full", marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
)
def test_a_database_that_is_restarted_under_load_loses_nothing_and_is_found_again(
    mailing: Pillarbox, mail_server: MailProcess, durable: Postgresql, size: Size
) -> None:
    on_postgresql(mailing, durable.create())
    fleet = Fleet.of(mailing, webs=size.members, workers=size.members)
    crowds = [Crowd(web.port, size.pause, 1_000_000 * place, clients=8) for place, web in enumerate(fleet.webs)]
    insistent = Insistent(0, size.pause, 9_000_000, clients=4, ports=tuple(web.port for web in fleet.webs) * 2)
    with fleet.visited(insistent, *crowds):
        for how in size.ends:
            before = fleet.thanked
            until(lambda before=before: fleet.thanked > before + size.messages, within=120)
            durable.stop(how)
            durable.start()
        before = fleet.thanked
        until(lambda: fleet.thanked > before + size.messages, within=120)
    settled(mailing, within=120)
    again = repeats(mail_server)
    if size is FULL:
        counts = {
            "web processes, workers": f"{size.members}, {size.members}",
            "PostgreSQL restarted (fast, immediate)": f"{size.ends.count(FAST)}, {size.ends.count(IMMEDIATE)}",
            "thanked": fleet.thanked,
            "told to come again (503)": sum(len(crowd.refused) for crowd in crowds),
            "thanked, owner's letter missing": len(fleet.ids - mail_server.reached()),
            "thanked, confirmation missing": len(fleet.ids - mail_server.reached("confirmation")),
            "messages sent twice at once under one key": len(insistent.thanked),
            "of these thanked with two ids": len(insistent.torn),
            "letters taken by the mail server": len(mail_server.by_letter()),
            "letters sent again": len(again),
        }
        write_table(
            "postgresql-restarts", "PostgreSQL restarted under load", counts, test="tests/road/test_restarts.py"
        )
    assert not fleet.ids - mail_server.reached()
    assert not fleet.ids - mail_server.reached("confirmation")
    assert again == []
    assert insistent.torn == insistent.refused == []
    assert {status for crowd in crowds for status in crowd.refused} <= {503}
    fleet.is_up()
