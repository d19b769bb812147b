"""The second half of the road: whatever a way out does, every letter ends as it should, and ends once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pillarbox.core.delivery import Schedule, State
from pillarbox.core.letter import Letter
from pillarbox.dispatch import Dispatcher, Way
from pillarbox.store import claims, ways
from pillarbox.store.claims import Claimed
from pillarbox.store.keeper import Keeper
from pillarbox.store.ways import Shut
from tests.house import ADA, WAY, keep, keeping, on_both, rows, to_ada, to_bob, until
from tests.servers.scripted_smtp import SILENCE, Answer, ScriptedSmtp
from tests.transports.letters import way_to

pytestmark = pytest.mark.anyio

AN_HOUR = 3_600.0


class Clock:
    """The time of day, which the tests turn forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def compose(claimed: Claimed) -> Letter:
    """Compose a plain letter; one whose message says `poison` can't be."""
    if "poison" in claimed.submission.id:
        raise RuntimeError("this can't be composed")
    delivery = claimed.delivery
    message_id = f"<{delivery.submission_id}.{delivery.purpose}@pillarbox.example>"
    content = f"Message-ID: {message_id}\r\nSubject: {delivery.purpose}\r\n\r\nHello\r\n".encode()
    return Letter(str(delivery.id), message_id, "forms@pillarbox.example", delivery.recipient, content)


@dataclass
class House:
    """A dispatcher that runs, its keeper and its mail server."""

    keeper: Keeper
    mail: ScriptedSmtp
    dispatcher: Dispatcher
    clock: Clock
    loop: "asyncio.Task[None] | None" = None

    def begin(self) -> None:
        """Let the dispatcher run."""
        self.loop = asyncio.create_task(self.dispatcher.run())

    async def keep(self, *letters: object, **about: object) -> str:
        """Keep a message and wake the dispatcher."""
        identifier = await keep(self.keeper, *letters, **about)
        self.dispatcher.wake()
        return identifier

    async def states(self) -> list[str]:
        """Return the letters' states in the order in which they were kept."""
        return [row[0] for row in await rows(self.keeper, "SELECT state FROM deliveries ORDER BY id")]

    async def all_are(self, *states: str) -> bool:
        """Whether no letter is in any other state."""
        return set(await self.states()) <= set(states)

    @property
    def recipients(self) -> list[str]:
        """Who got a letter, in order."""
        return [taken.recipients[0] for taken in self.mail.accepted]


@asynccontextmanager
async def house(folder: Path, **options: object) -> AsyncIterator[House]:
    """Run a dispatcher over a new store and a scripted mail server, with polling set to an hour.

    With begins=False it waits until it is told to begin.
    """
    clock = Clock()
    async with ScriptedSmtp() as mail, keeping(folder) as keeper:
        usual = {
            "connections": 4,
            "probe": 0.1,
            "delays": (0.05, 0.05),
            "per_hour": None,
            "lease": 30.0,
            "begins": True,
        }
        with_defaults = usual | options
        way = Way(
            name=WAY,
            transport=way_to(mail),
            connections=with_defaults["connections"],
            schedule=Schedule(with_defaults["delays"], with_defaults["probe"]),
            poll=AN_HOUR,
            confirmations_per_hour=with_defaults["per_hour"],
        )
        dispatcher = Dispatcher(way, keeper=keeper, compose=compose, clock=clock, lease=with_defaults["lease"])
        made = House(keeper, mail, dispatcher, clock)
        if with_defaults["begins"]:
            made.begin()
        try:
            yield made
        finally:
            await dispatcher.stop()
            assert made.loop
            await made.loop


async def test_a_letter_that_cannot_be_composed_does_not_stop_the_next_ten(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await running.keep(to_ada(), identifier="poison")
        for number in range(10):
            await running.keep(to_ada(), number=number)
        await until(lambda: running.all_are("sent", "failed"))
        assert await running.states() == ["failed", *["sent"] * 10]
        [(note,)] = await rows(running.keeper, "SELECT note FROM deliveries WHERE state = 'failed'")
        assert note.startswith("could not be composed; the log says why under ")


async def test_a_message_that_cannot_be_read_does_not_stop_the_next_ten(tmp_path: Path) -> None:
    async with house(tmp_path, begins=False) as running:
        await running.keep(to_ada())
        await rows(running.keeper, "UPDATE submissions SET answers = '[broken'")
        for number in range(10):
            await running.keep(to_ada(), number=number)
        running.begin()
        await until(lambda: running.all_are("sent", "failed"))
        assert await running.states() == ["failed", *["sent"] * 10]
        [(note,)] = await rows(running.keeper, "SELECT note FROM deliveries WHERE state = 'failed'")
        assert note.startswith("could not be composed; the log says why under ")


async def test_a_letter_claimed_five_times_without_any_outcome_fails_unsent(tmp_path: Path) -> None:
    async with house(tmp_path, begins=False) as running:
        await running.keep(to_ada())
        await rows(running.keeper, "UPDATE deliveries SET unanswered = 5")
        await running.keep(to_ada())
        running.begin()
        await until(lambda: running.all_are("sent", "failed"))
        assert await running.states() == ["failed", "sent"]
        assert len(running.mail.transactions) == 1
        [(note,)] = await rows(running.keeper, "SELECT note FROM deliveries WHERE state = 'failed'")
        assert "claimed 5 times without any outcome" in note


async def test_a_letter_claimed_four_times_without_any_outcome_is_still_sent(tmp_path: Path) -> None:
    async with house(tmp_path, begins=False) as running:
        await running.keep(to_ada())
        await rows(running.keeper, "UPDATE deliveries SET unanswered = 4")
        running.begin()
        await until(lambda: running.all_are("sent", "failed"))
        assert await rows(running.keeper, "SELECT state, unanswered FROM deliveries") == [("sent", 0)]


@on_both
async def test_a_letter_that_kills_its_worker_each_time_takes_no_other_with_it(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        now = time.time()
        await keep(keeper, at=now, identifier="killer")
        for _ in range(20):
            await keep(keeper, at=now)
        for life in range(40):
            wish = claims.Wish(way=WAY, limit=64, now=now + life, lease=30.0, confirmations_per_hour=None)
            found = await keeper.run(claims.claim, wish)
            killers = [claimed for claimed in found.letters if claimed.submission.id == "killer"]
            if killers and killers[0].unanswered <= 5:  # this worker dies with all that it holds
                await keeper.run(claims.void_leases, now + life + 0.5)
                continue
            for claimed in found.letters:
                state = State.FAILED if claimed in killers else State.SENT
                settled = replace(claimed.delivery, state=state)
                await keeper.run(claims.settle, claims.Settlement(settled, claimed.claim, now))
        counted = await rows(keeper, "SELECT state, count(*) FROM deliveries GROUP BY state ORDER BY state")
        assert counted == [("failed", 1), ("sent", 20)]


async def test_a_way_that_opens_while_it_is_written_down_as_shut_is_open_in_the_end(tmp_path: Path) -> None:
    async with house(tmp_path, probe=0.05, begins=False) as ours:
        for _ in range(12):
            await ours.keep()
        ours.mail.script(DOT=["421 4.7.0 too many connections" if n % 3 == 2 else "250 ok" for n in range(9)])
        ours.begin()
        await until(lambda: ours.all_are("sent"))
        assert await rows(ours.keeper, "SELECT count(*) FROM ways WHERE shut_since IS NOT NULL") == [(0,)]


async def test_owners_letters_leave_before_confirmations(tmp_path: Path) -> None:
    async with house(tmp_path, connections=1, begins=False) as running:
        for number in range(20):
            await running.keep(to_bob(f"bob-{number}@example.net"), to_ada())
        running.begin()
        await until(lambda: running.all_are("sent"))
        assert running.recipients[:20] == [ADA] * 20


@pytest.mark.parametrize(
    ("reply", "owners", "confirmations"),
    [("451 4.3.0 later", "failed", "failed"), ("550 5.1.1 never", "failed", "failed")],
)
async def test_a_letter_that_is_always_put_off_or_refused_fails_in_the_end(
    tmp_path: Path, reply: str, owners: str, confirmations: str
) -> None:
    async with house(tmp_path) as running:
        running.mail.script(RCPT=lambda _: reply)
        await running.keep(to_ada(), to_bob())
        await until(lambda: running.all_are("sent", "failed"))
        assert await running.states() == [owners, confirmations]
        tried = len([line for _, line in running.mail.lines if line.startswith("RCPT TO:<ada")])
        assert tried == 3


async def test_a_confirmation_is_final_at_its_first_refusal_and_an_owners_letter_is_not(tmp_path: Path) -> None:
    async with house(tmp_path, delays=(AN_HOUR,)) as running:
        running.mail.script(RCPT=lambda _: "550 5.1.1 never")
        await running.keep(to_ada(), to_bob())
        await until(lambda: _settled(running, 2))
        assert await running.states() == ["waiting", "failed"]


async def _settled(running: House, number: int) -> bool:
    [(count,)] = await rows(running.keeper, "SELECT count(*) FROM deliveries WHERE note != '' AND unanswered = 0")
    return bool(count >= number)


async def test_a_way_that_is_shut_is_tried_by_one_letter_at_a_time_until_it_opens_and_then_all_leave(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, probe=0.2) as running:
        is_shut = True
        running.mail.script(MAIL=lambda moment: "421 4.3.2 closed" if is_shut else None)
        for number in range(40):
            await running.keep(to_ada(), number=number)
        await until(lambda: _is_shut(running))
        await until(lambda: not running.dispatcher._in_hand)  # what was claimed before it shut is back
        tried = _tries(running)
        for _ in range(3):
            before = _tries(running)
            await until(lambda before=before: _tries(running) > before)
            assert _tries(running) == before + 1
        assert tried < 40
        is_shut = False
        await until(lambda: running.all_are("sent"))
        assert len(running.mail.accepted) == 40
        assert await rows(running.keeper, "SELECT max(attempts) FROM deliveries") == [(0,)]
        assert not await _is_shut(running)


def _tries(running: House) -> int:
    return len([line for _, line in running.mail.lines if line.startswith("MAIL")])


async def _is_shut(running: House) -> bool:
    return bool(await rows(running.keeper, "SELECT 1 FROM ways WHERE shut_since IS NOT NULL"))


async def test_a_way_that_a_dead_process_wrote_down_as_shut_is_open_again_with_the_first_letter(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await running.keeper.run(ways.shut, Shut(WAY, time.time(), "the wrong password", 0, 0.0))
        await running.keep(to_ada())
        await until(lambda: running.all_are("sent"))
        await until(lambda: _is_open(running))


async def _is_open(running: House) -> bool:
    return not await _is_shut(running)


async def test_a_letter_that_cannot_be_composed_says_nothing_about_a_shut_way(tmp_path: Path) -> None:
    async with house(tmp_path, probe=0.05, delays=(0.01,) * 5) as running:
        running.mail.script(MAIL=lambda _: "421 4.3.2 closed")
        await running.keep(to_ada())
        await until(lambda: _is_shut(running))
        since = await rows(running.keeper, "SELECT shut_since FROM ways")
        await running.keep(to_ada(), identifier="poison")
        await until(lambda: _was_put_off(running, "poison"))
        before = _tries(running)
        await until(lambda: _tries(running) > before + 1)
        assert await rows(running.keeper, "SELECT shut_since FROM ways") == since


async def _was_put_off(running: House, message: str) -> bool:
    found = await rows(running.keeper, "SELECT 1 FROM deliveries WHERE submission_id = ? AND attempts > 0", message)
    return bool(found)


async def test_an_address_gets_one_confirmation_a_day_and_form_however_it_is_written_and_however_many_come_at_once(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as running:
        spellings = ["bob.b@gmail.com", "BobB@gmail.com", "b.o.b.b+news@googlemail.com"] * 5
        await asyncio.gather(*(running.keep(to_ada(), to_bob(address)) for address in spellings))
        await until(lambda: running.all_are("sent", "cancelled"))
        assert len([one for one in running.recipients if one != ADA]) == 1
        assert len([one for one in running.recipients if one == ADA]) == 15
        notes = await rows(running.keeper, "SELECT DISTINCT note FROM deliveries WHERE state = 'cancelled'")
        assert notes == [("this address had a confirmation within the last day",)]
        await running.keep(to_bob("bobb@gmail.com"), form="another")
        await until(lambda: len(running.recipients) == 17)
        running.clock.ahead = 25 * AN_HOUR
        await running.keep(to_bob("bobb@gmail.com"), at=running.clock())
        await until(lambda: len(running.recipients) == 18)


async def test_a_confirmation_that_is_put_off_is_not_cancelled_as_its_own_repeat(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        running.mail.script(RCPT=["451 4.7.1 Greylisted"])
        await running.keep(to_bob())
        await until(lambda: running.all_are("sent", "cancelled"))
        assert await running.states() == ["sent"]


async def test_no_more_confirmations_leave_in_an_hour_than_allowed_and_the_rest_wait_for_the_next(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, per_hour=3) as running:
        for number in range(7):
            await running.keep(to_ada(), to_bob(f"bob-{number}@example.net"))
        await until(lambda: len(running.recipients) == 10)
        assert sorted(await running.states()) == ["sent"] * 10 + ["waiting"] * 4
        for expected in (13, 14):
            running.clock.ahead += AN_HOUR + 1
            running.dispatcher.wake()
            await until(lambda expected=expected: len(running.recipients) == expected)
        await until(lambda: running.all_are("sent"))


async def test_what_waits_for_the_next_hour_leaves_by_itself_when_its_time_has_come(tmp_path: Path) -> None:
    async with house(tmp_path, per_hour=1) as running:
        await running.keep(to_bob("first@example.net"))
        await until(lambda: running.all_are("sent"))
        await rows(running.keeper, "UPDATE confirmations SET confirmed_at = confirmed_at - 3599")
        await running.keep(to_bob("second@example.net"))
        await until(lambda: running.all_are("sent"))


async def test_leases_are_renewed_while_a_slow_server_thinks(tmp_path: Path) -> None:
    async with house(tmp_path, lease=0.9, connections=1) as running:
        running.mail.script(DOT=[Answer(once=(thought := asyncio.Event()))])
        await running.keep(to_ada())
        await running.keep(to_ada())
        await until(lambda: running.mail.transactions)
        ended = time.time() + 0.9  # without being renewed
        await until(lambda: _finds(running, f"SELECT min(due_at) >= {ended + 0.9} FROM deliveries", True))
        thought.set()
        await until(lambda: running.all_are("sent"))
        assert len(running.mail.transactions) == 2
        assert await rows(running.keeper, "SELECT DISTINCT claim FROM deliveries") == [(1,)]


async def test_a_letter_that_is_claimed_again_while_it_is_still_in_our_own_hands_is_sent_once(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        running.mail.script(DOT=[Answer(once=(claimed_again := asyncio.Event()))])
        await running.keep(to_ada())
        await until(lambda: running.mail.transactions)
        # What is left after a sleep: the lease has run out, and nobody had the time to renew it.
        await running.keeper.run(claims.void_leases, running.clock())
        running.dispatcher.wake()
        await until(lambda: _finds(running, "SELECT claim FROM deliveries", 2))
        claimed_again.set()
        await until(lambda: running.all_are("sent"))
        assert len(running.mail.transactions) == 1


async def _finds(running: House, question: str, value: object) -> bool:
    return await rows(running.keeper, question) == [(value,)]


async def test_stopping_finishes_what_is_on_the_wire_and_gives_the_rest_back_as_if_it_had_not_been_claimed(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, connections=1, begins=False) as running:
        running.mail.script(DOT=[Answer(once=(told_to_stop := asyncio.Event()))])
        for number in range(3):
            await running.keep(to_ada(), number=number)
        running.begin()
        await until(lambda: running.mail.transactions)
        asyncio.get_running_loop().call_soon(told_to_stop.set)  # when it has been told
        await running.dispatcher.stop()
        assert await running.states() == ["sent", "waiting", "waiting"]
        given_back = "SELECT unanswered FROM deliveries WHERE state = 'waiting' AND due_at <= ?"
        assert await rows(running.keeper, given_back, time.time()) == [(0,), (0,)]
        assert len(running.mail.transactions) == 1


async def test_a_server_that_never_answers_the_dot_does_not_hold_up_the_other_connections(tmp_path: Path) -> None:
    async with house(tmp_path, connections=2) as running:
        running.mail.script(DOT=[SILENCE])
        for number in range(6):
            await running.keep(to_ada(), number=number)
        await until(lambda: len(running.mail.accepted) >= 5)
