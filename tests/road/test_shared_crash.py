"""Web processes and workers of one installation are killed at any moment: who was thanked is heard, and once."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import psycopg
import pytest
from tests.road.crowd import Crowd
from tests.road.fleet import Books, Fleet, Member, on_postgresql, repeats, settled, times_kept, unexcused
from tests.road.insistent import Insistent
from tests.road.mail_process import MailProcess
from tests.road.results import write_table
from tests.running import BOB, Pillarbox, free_port, until
from tests.servers.postgresql import Postgresql


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(mailing: Pillarbox, request: pytest.FixtureRequest) -> Pillarbox:
    """An installation that sends through the mail server, on each of the databases; not started yet."""
    mailing.settings["LOG_LEVEL"] = "warning"
    if request.param == "sqlite":
        return mailing
    return on_postgresql(mailing, request.getfixturevalue("postgresql").create())


@dataclass(frozen=True)
class Size:
    """How large a proof is; leases last for `lease` seconds (0: the usual), visitors rest for `pause` seconds."""

    webs: int
    workers: int
    kills: int
    messages: int
    pause: float
    lease: float = 0.0


UNWRITTEN = 0.2, 1.0
"""Seconds in which an outcome is written down, and in which it is on a machine with much else to do."""

SMALL = Size(webs=2, workers=2, kills=3, messages=200, pause=0.15, lease=3.0)
FULL = Size(webs=3, workers=3, kills=20, messages=20_000, pause=0.02)


@pytest.mark.alone  # a letter's outcome is given some time to be written down
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(SMALL, id="small"),
        pytest.param(FULL, id="full", marks=[pytest.mark.full, pytest.mark.timeout(1800)]),
    ],
)
def test_whoever_is_killed_among_many_who_was_thanked_is_heard_and_a_key_makes_one_message(
    shared: Pillarbox, mail_server: MailProcess, size: Size
) -> None:
    fleet = Fleet.of(shared, webs=size.webs, workers=size.workers, lease=size.lease)
    insistent = Insistent(0, size.pause, 9_000_000, clients=8, ports=tuple(web.port for web in fleet.webs))
    plain = [Crowd(web.port, size.pause, 1_000_000 * place, clients=8) for place, web in enumerate(fleet.webs)]
    with fleet.visited(insistent, *plain):
        fleet.live_through(kills=size.kills, messages=size.messages)
    settled(shared, within=300)
    again = repeats(mail_server)
    late, very_late = (unexcused(again, fleet.ends, unwritten=seconds) for seconds in UNWRITTEN)
    kept = times_kept(shared)
    not_once = [number for number in insistent.thanked if kept[number] != 1]
    if size is FULL:
        counts = {
            "web processes, workers": f"{size.webs}, {size.workers}",
            "processes killed": len(fleet.ends),
            "thanked": fleet.thanked,
            "thanked, owner's letter missing": len(fleet.ids - mail_server.reached()),
            "thanked, confirmation missing": len(fleet.ids - mail_server.reached("confirmation")),
            "posts cut off by a kill": sum(crowd.cut_off for crowd in fleet.crowds),
            "posts refused": sum(len(crowd.refused) for crowd in fleet.crowds),
            "messages sent twice at once under one key": len(insistent.thanked),
            "of these kept more or less than once, or thanked with two ids": len({*not_once, *insistent.torn}),
            "letters taken by the mail server": len(mail_server.by_letter()),
            "letters sent again, all with the Message-ID of the first": len(again),
            "of these answered 200 ms or more before a kill": len(late),
        }
        database = "PostgreSQL" if "DATABASE_URL" in shared.settings else "SQLite"
        title = f"Any of six processes on one {database} killed under load (SIGKILL)"
        write_table(f"shared-crash-{database.lower()}", title, counts, test="tests/road/test_shared_crash.py")
    assert not fleet.ids - mail_server.reached()
    assert not fleet.ids - mail_server.reached("confirmation")
    assert very_late == []
    assert not_once == insistent.torn == insistent.refused == []
    assert [crowd.refused for crowd in plain] == [[]] * len(plain)


def test_a_copy_whose_process_is_killed_before_its_commit_is_no_message_and_the_other_copy_is(
    mailing: Pillarbox, postgresql: Postgresql
) -> None:
    on_postgresql(mailing, postgresql.create())
    first, second = (Member(mailing, port) for port in (mailing.port, free_port()))
    until(lambda: first.answers and second.answers)
    blocked = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with (
        closing(Books(mailing)) as books,
        psycopg.connect(mailing.settings["DATABASE_URL"]) as other,
        ThreadPoolExecutor(2) as visitors,
    ):
        other.execute("LOCK TABLE submissions IN EXCLUSIVE MODE")
        lost = visitors.submit(mailing.post, BOB, **{"Idempotency-Key": "K"})
        until(lambda: books.count(blocked) == 1)
        mailing.url = f"http://127.0.0.1:{second.port}"
        heard = visitors.submit(mailing.post, BOB, **{"Idempotency-Key": "K"})
        until(lambda: books.count(blocked) == 2)
        first.process.kill()
        other.rollback()
        status, answer = heard.result()
        assert isinstance(lost.exception(), OSError)
        assert status == 200
        assert books.ask("SELECT id FROM submissions") == [(answer["id"],)]
