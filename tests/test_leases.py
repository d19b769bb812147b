"""A letter is sent by who holds its lease, whatever loops stand still, machines sleep and clocks are set."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from pillarbox.chores import Chores
from pillarbox.core.delivery import Schedule
from pillarbox.dispatch import Dispatcher, Way
from pillarbox.store import claims, clocks, postgresql
from pillarbox.store.claims import Wish
from pillarbox.store.engine import Store, open_store
from pillarbox.store.keeper import Keeper
from pillarbox.worker import Worker
from tests.house import ELSEWHERE, WAY, keep, on_both, rows, to_ada, until
from tests.servers.postgresql import fast_clock
from tests.servers.scripted_smtp import Answer, ScriptedSmtp
from tests.test_dispatch import compose, house
from tests.town import _is_busy
from tests.transports.letters import way_to

pytestmark = pytest.mark.anyio

HOUR = 3_600.0


@pytest.fixture
def wake_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let decades go by as while a machine sleeps, so that its timers know nothing of them."""

    def wake_up() -> None:
        monkeypatch.setattr(clocks, "GOES_ON", 0)  # the time of day in place of the time since the system's start

    return wake_up


@pytest.fixture
def server_clock(empty_postgresql: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], str]]:
    """Set the server's clock so many hours ahead; gives an address under which it is. Each transaction looks at it."""
    monkeypatch.setattr(postgresql, "LOOK_AT_THE_CLOCK_EVERY", 0.0)
    with fast_clock(empty_postgresql) as set_to:
        yield set_to


@dataclass
class Machine:
    """One that dispatches from a PostgreSQL, and its mail server."""

    store: Store
    keeper: Keeper
    mail: ScriptedSmtp
    worker: Worker
    dispatcher: Dispatcher


@asynccontextmanager
async def machine(url: str) -> AsyncIterator[Machine]:
    """Run a worker over this store, which polls once an hour."""
    with closing(open_store(url)) as store:
        keeper = Keeper(store)
        keeper.start()
        async with ScriptedSmtp() as mail:
            way = Way(WAY, way_to(mail), 1, Schedule((1.0,), 1.0), HOUR, None)
            dispatcher = Dispatcher(way, keeper=keeper, compose=compose, clock=store.clock)
            worker = Worker(store, keeper=keeper, dispatchers=[dispatcher], chores=Chores(keeper))
            worker.start()
            try:
                yield Machine(store, keeper, mail, worker, dispatcher)
            finally:
                await worker.stop()
                await keeper.close()


def wish(limit: int = 9, *, at: float, **more: bool) -> Wish:
    """Ask for letters for 30 s, as another machine does."""
    return Wish(WAY, limit, at, 30.0, None, **more)


@on_both
async def test_a_letter_that_another_has_claimed_meanwhile_is_not_begun_after_a_renewal_in_vain(tmp_path: Path) -> None:
    async with house(tmp_path, lease=0.6, connections=1) as ours:
        ours.mail.script(DOT=[Answer(once=(thought := asyncio.Event()))])
        for _ in range(2):
            await ours.keep(to_ada())
        await until(lambda: ours.mail.transactions and len(ours.dispatcher._in_hand) == 2)
        # Ours had ended, since our loop stood still.
        await rows(ours.keeper, "UPDATE deliveries SET claim = claim + 1, due_at = ?", ours.clock() + HOUR)
        renewed = list(ours.dispatcher._in_hand.values())
        await until(lambda: all(held.leased_until == 0.0 for held in renewed))
        thought.set()
        await until(lambda: not ours.dispatcher._in_hand)
        assert len(ours.mail.transactions) == 1  # what was on the wire went on


async def test_what_was_in_hand_before_the_machine_slept_is_claimed_anew_before_it_is_begun(
    tmp_path: Path, wake_up: Callable[[], None]
) -> None:
    async with house(tmp_path, connections=1) as ours:
        ours.mail.script(DOT=[Answer(once=(thought := asyncio.Event()))])
        for _ in range(2):
            await ours.keep(to_ada())
        await until(lambda: ours.mail.transactions and len(ours.dispatcher._in_hand) == 2)
        wake_up()
        thought.set()
        await until(lambda: not ours.dispatcher._in_hand)
        assert await ours.states() == ["sent", "waiting"]
        assert await rows(ours.keeper, "SELECT count(*) FROM attempts") == [(1,)]
        ours.clock.ahead += 31.0
        ours.dispatcher.wake()
        await until(lambda: ours.all_are("sent"))


async def test_a_letter_that_is_claimed_again_while_its_outcome_is_written_down_is_sent_once(
    tmp_path: Path, wake_up: Callable[[], None]
) -> None:
    async with house(tmp_path, connections=1) as ours:
        ours.mail.script(DOT=[Answer(once=(thought := asyncio.Event()))])
        for _ in range(2):
            await ours.keep(to_ada())
        await until(lambda: ours.mail.transactions and len(ours.dispatcher._in_hand) == 2)
        wake_up()
        ours.clock.ahead += 31.0
        thought.set()  # the one that was not begun wakes the loop while the other's outcome is on its way to the store
        await until(lambda: ours.all_are("sent"))
        await until(lambda: not ours.dispatcher._in_hand)
        assert len(ours.mail.transactions) == 2


async def test_a_worker_looks_for_what_came_due_while_its_machine_slept(
    empty_postgresql: str, wake_up: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "CONNECT_AGAIN_AFTER", 3_600)
    async with machine(empty_postgresql) as ours:
        await keep(ours.keeper)
        await until(lambda: ours.mail.accepted and ours.worker._watch._connection)
        await until(lambda: _has_gone_deaf(ours))
        await keep(ours.keeper)  # nobody hears of it
        wake_up()
        await until(lambda: len(ours.mail.accepted) == 2)


async def _has_gone_deaf(ours: Machine) -> bool:
    await rows(ours.keeper, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    return ours.worker._watch._connection is None and not _is_busy(ours.dispatcher)


async def test_what_was_not_begun_is_given_back_in_one_go(tmp_path: Path, empty_postgresql: str) -> None:
    ELSEWHERE[tmp_path] = empty_postgresql
    async with house(tmp_path, connections=1, begins=False) as ours:
        ours.mail.script(DOT=[Answer(once=(told_to_stop := asyncio.Event()))])
        for _ in range(9):
            await ours.keep(to_ada())
        ours.begin()
        await until(lambda: ours.mail.transactions)
        asyncio.get_running_loop().call_soon(told_to_stop.set)
        await ours.dispatcher.stop()
        given_back = "SELECT count(*), count(DISTINCT xmin::text) FROM deliveries WHERE state = 'waiting'"
        [(letters, transactions)] = await rows(ours.keeper, given_back)
        assert letters == 8
        assert transactions <= 2  # the first to be given back may have been alone in its batch
    del ELSEWHERE[tmp_path]


async def test_letters_in_anothers_hand_are_left_there_when_the_servers_clock_is_set_forward_until_it_could_renew_them(
    server_clock: Callable[[float], str],
) -> None:
    async with machine(server_clock(0)) as ours:
        async with ours.dispatcher._claiming:
            await keep(ours.keeper)
            assert len((await ours.keeper.run(claims.claim, wish(at=ours.store.clock()))).letters) == 1
            server_clock(1)
            await keep(ours.keeper, at=time.time())  # this transaction sees it
        ours.worker.wake()
        await until(lambda: ours.mail.accepted)
        assert await rows(ours.keeper, "SELECT claim FROM deliveries ORDER BY id") == [(1,), (1,)]
        ours.dispatcher._careful_until = 0.0  # some seconds later
        ours.worker.wake()
        await until(lambda: len(ours.mail.accepted) == 2)


@on_both
async def test_who_has_not_seen_yet_that_the_servers_clock_was_set_back_takes_nothing_out_of_anothers_hand(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, begins=False) as ours:
        ours.begin()
        await ours.dispatcher.stop()
        now = time.time()
        await keep(ours.keeper, at=now)
        assert (await ours.keeper.run(claims.claim, wish(at=now, checked=True))).letters
        late = await ours.keeper.run(claims.claim, wish(at=now + HOUR, checked=True))
        assert len(late.letters) == (0 if tmp_path in ELSEWHERE else 1)  # a file's clock is ours: its lease is over
        await ours.keeper.run(claims.void_leases, now)
        assert len((await ours.keeper.run(claims.claim, wish(at=now, checked=True))).letters) == 1


async def test_what_a_late_process_kept_by_a_clock_that_was_set_back_is_brought_back_too(
    server_clock: Callable[[float], str],
) -> None:
    async with machine(server_clock(1)) as ours:
        await keep(ours.keeper, at=ours.store.clock())
        await until(lambda: len(ours.mail.accepted) == 1)
        server_clock(0)
        await rows(ours.keeper, "SELECT 1")  # this transaction sees it
        await until(lambda: abs(ours.store.clock() - clocks.elapsed() - ours.worker._ahead) < 1)  # the worker, too
        assert ours.worker._catch_up_at is not None
        await keep(ours.keeper, at=time.time() + HOUR)
        ours.worker._catch_up_at = 0.0  # some seconds later
        await until(lambda: len(ours.mail.accepted) == 2)
