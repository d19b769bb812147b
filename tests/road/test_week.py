"""A week in which one of two ways out is broken: the other's letters are not delayed, one alarm, and nothing is lost.

The clock is turned by hand; store, dispatchers, alarms and mail servers are real.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.road.results import write_table
from tests.servers.scripted_smtp import DROP, SILENCE, Answer, ScriptedSmtp
from tests.town import A_DAY, AN_HOUR, Town, carried, town, tries
from tests.transports.letters import way_to

from pillarbox.alarms import Alarms
from pillarbox.core.alarm import Bounds, Event, Kind, Message
from pillarbox.store.sqlite_file import SqliteStore

pytestmark = pytest.mark.anyio

A_TICK = AN_HOUR / 8
"""Half of the longest time between two probes, so that each of them falls into a tick of its own."""
A_PROBE = 60.0

Script = dict[str, Any]
MANNERS: dict[str, Script] = {
    "connection cut": {"CONNECT": lambda _: DROP},
    "greeting: 421": {"CONNECT": lambda _: "421 4.3.2 try later"},
    "greeting: 554": {"CONNECT": lambda _: "554 5.7.1 no service for you"},
    "greeting: silence": {"CONNECT": lambda _: SILENCE},
    "greeting: garbage": {"CONNECT": lambda _: b"\xff\xfe\x00 hello\r\n"},
    "greeting: an endless line": {"CONNECT": lambda _: Answer(b"", endless=b"2" * 4096)},
    "EHLO: 421": {"EHLO": lambda _: "421 4.3.2 closing"},
    "EHLO: 550": {"EHLO": lambda _: "550 5.7.1 go away"},
    "AUTH wanted: 530": {"MAIL": lambda _: "530 5.7.0 Authentication required"},
    "password: 535": {"MAIL": lambda _: "535 5.7.8 Username and Password not accepted"},
    "MAIL: 421": {"MAIL": lambda _: "421 4.7.0 too many connections"},
    "MAIL: sender refused": {"MAIL": lambda _: "550 5.1.8 sender rejected"},
    "RCPT: daily limit": {"RCPT": lambda _: "550 5.4.5 daily sending limit exceeded"},
    "RCPT: 421": {"RCPT": lambda _: "421 4.3.2 closing"},
    "DATA: account closed": {"DATA": lambda _: "554 5.7.139 account is disabled"},
    "dot: daily limit": {"DOT": lambda _: "550 5.4.5 daily sending limit exceeded"},
    "a reply of a megabyte": {"MAIL": lambda _: b"250-" + b"x" * 1_000_000},
    "a reply of NULs": {"MAIL": lambda _: b"\0" * 200 + b"\r\n"},
    "a foreign code": {"MAIL": lambda _: "199 what?"},
}
QUICK = ("password: 535", "dot: daily limit")


@dataclass
class Person:
    """Who is told of alarms."""

    name: str = "a person"
    transport: str | None = None
    heard: list[Message] = field(default_factory=list)

    async def tell(self, news: Message) -> str | None:
        """Hear it."""
        self.heard.append(news)
        return None


@asynccontextmanager
async def two_ways(folder: Path, script: Script, **broken: Any) -> AsyncIterator[tuple[Town, Alarms, Person]]:
    """Run a broken way and one that is well, with alarms that a person hears."""
    async with town(folder, {"broken": broken, "well": {}}, begins=False) as ours:
        ours.mail["broken"].script(**script)
        person = Person()
        store = SqliteStore(folder / "pillarbox.db")
        alarms = Alarms(ours.keeper, store, channels=[person], bounds=Bounds(900.0), clock=ours.clock)
        impatient = {"connect_seconds": 0.1, "command_seconds": 0.03, "dot_seconds": 0.03, "goodbye_seconds": 0.01}
        _give_transport(ours, "broken", way_to(ours.mail["broken"], **impatient))
        for name in ours.dispatchers:
            ours.begin(name)
        yield ours, alarms, person
        store.close()


def _give_transport(ours: Town, name: str, transport: Any) -> None:
    dispatcher = ours.dispatchers[name]
    dispatcher._way = replace(dispatcher._way, transport=transport)


def probes_of(mail: ScriptedSmtp) -> int:
    """How often a server was tried: by a connection, or by a letter on one that was kept."""
    return max(mail.connections, tries(mail))


async def live_through(ours: Town, alarms: Alarms, *, days: float) -> None:
    """Turn the clock in ticks; each hour a letter of the other way has to leave in the tick that it came in."""
    ticks = int(days * A_DAY / A_TICK)
    for tick in range(ticks):
        if tick % 8 == 0:
            await ours.keep("well", number=tick)
        before = probes_of(ours.mail["broken"])
        await ours.turn(A_TICK)
        assert probes_of(ours.mail["broken"]) - before <= 1, "more than one probe in a step"
        assert len(ours.mail["well"].accepted) == tick // 8 + 1, "the other way's letter was delayed"
        await alarms.look()


async def prove(folder: Path, manner: str, *, letters: int, days: int) -> str:
    """Break one way in this manner for so many days over so many letters; return the figures."""
    script = MANNERS[manner]
    async with two_ways(folder, script, digest_above=20, budget=((500, A_DAY),)) as (ours, alarms, person):
        for number in range(10):
            await ours.keep_many("broken", letters // 10, form=f"form-{number}", each=0.001)
        await ours.turn()
        for seconds in (60, 120, 240, 480):  # the first probes, at growing intervals
            before = probes_of(ours.mail["broken"])
            await ours.turn(seconds)
            assert probes_of(ours.mail["broken"]) - before <= 1
            await alarms.look()
        await live_through(ours, alarms, days=days)
        probes = probes_of(ours.mail["broken"])
        kinds = {message.kind for message in person.heard}
        events = [message.event for message in person.heard]
        assert kinds == {Kind.WAY_SHUT}
        assert events == [Event.OPENED, *[Event.STILL] * days]
        ours.mail["broken"].script(**dict.fromkeys(script))
        for _ in range(8):
            await ours.turn(A_TICK)
            await alarms.look()
        assert [message.event for message in person.heard][len(events) :] == [Event.WELL]
        states = dict(await ours.ask("SELECT state, count(*) FROM deliveries WHERE way = 'broken' GROUP BY state"))
        assert states == {"sent": letters}
        assert await ours.ask("SELECT max(attempts) FROM deliveries WHERE way = 'broken'") == [(0,)]
        arrived = [one for letter in carried(ours.mail["broken"]) for one in letter]
        assert sorted(arrived) == sorted(set(arrived)), "a message came twice"
        assert len(arrived) == letters
        return (
            f"{letters:,} letters, {letters - len(arrived)} lost, in {len(ours.mail['broken'].accepted)} mails; "
            f"{probes} probes; {len(person.heard)} alarms"
        )


@pytest.mark.parametrize("manner", QUICK)
async def test_a_way_that_is_broken_for_a_day_delays_nothing_else_and_tells_a_person_once_a_day(
    tmp_path: Path, manner: str
) -> None:
    await prove(tmp_path, manner, letters=300, days=1)


@pytest.mark.full
@pytest.mark.timeout(3_000)
async def test_whatever_breaks_a_way_for_a_week_nothing_is_lost_and_nothing_else_is_delayed(tmp_path: Path) -> None:
    figures: dict[str, object] = {}
    for number, manner in enumerate(MANNERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        figures[manner] = await prove(folder, manner, letters=10_000, days=7)
    figures["in order of age inside a budget of 2,000 a day"] = await drain(tmp_path, letters=10_000, budget=2_000)
    test = "tests/road/test_week.py"
    write_table("week", "A way out that is broken for a week", figures, test=test)


async def test_what_waited_leaves_in_the_order_of_age_inside_the_budget_once_the_way_is_back(tmp_path: Path) -> None:
    await drain(tmp_path, letters=150, budget=50)


async def drain(folder: Path, *, letters: int, budget: int) -> str:
    """Let so many letters wait for an hour and leave within a daily budget; return the figures."""
    async with two_ways(folder, MANNERS["greeting: 554"], budget=((budget, A_DAY),), connections=1) as world:
        ours, _alarms, _person = world
        await ours.keep_many("broken", letters, each=1.0)
        await ours.turn()
        await ours.turn(AN_HOUR)
        ours.mail["broken"].script(CONNECT=None)
        left_at: list[float] = []
        while len(left_at) < letters:
            await ours.turn(AN_HOUR)
            left_at += [ours.clock()] * (len(ours.mail["broken"].accepted) - len(left_at))
            assert ours.clock() - left_at[0] < A_DAY * (letters / budget + 1)
        assert all(later - earlier >= A_DAY for earlier, later in zip(left_at, left_at[budget:], strict=False))
        ages = dict(await ours.ask("SELECT id, received_at FROM submissions"))
        _probe, *others = [ages[one] for letter in carried(ours.mail["broken"]) for one in letter]
        # The letter that found the way shut lets the others try it first: it may be late by one probe's time.
        assert max(earlier - later for earlier, later in pairwise(others)) <= A_PROBE
        return f"{letters:,} letters in {(left_at[-1] - left_at[0]) / A_DAY:.1f} days"
