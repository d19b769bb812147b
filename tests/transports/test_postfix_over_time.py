"""Letters of a store on their way through a real Postfix: put off, refused, interrupted, and in the end there once."""

import pytest
from tests.fault_house import Desk, Standing
from tests.house import WAY, keeping, to_ada, to_bob, until
from tests.servers.postfix import Postfix

from pillarbox.core.delivery import Purpose
from pillarbox.store.submissions import NewDelivery
from pillarbox.transports.smtp import SmtpServer

pytestmark = pytest.mark.anyio

TOO_BIG = 300_000


@pytest.fixture
def anyio_backend() -> str:
    """One event loop is enough here: the other tests of this folder tell the two apart."""
    return "asyncio"


@pytest.fixture
async def desk(postfix: Postfix, tmp_path):
    async with keeping(tmp_path) as keeper:
        made = Desk(keeper)
        made.open(SmtpServer(postfix.host, postfix.port, "starttls", ca_file=postfix.ca_file, connections=1))
        try:
            yield made
        finally:
            await made.close()


def to_owner(address: str) -> NewDelivery:
    return NewDelivery(Purpose.NOTIFICATION, address, address, WAY)


def copies(postfix: Postfix, desk: Desk, delivery: int) -> int:
    """Return how many files hold the letter."""
    return sum(desk.message_id(delivery).encode() in content for content in postfix.contents())


async def arrives_once(postfix: Postfix, desk: Desk, delivery: int) -> bool:
    """Whether the letter is settled as sent, and lies in the Maildir exactly once after what followed it, too."""
    await until(lambda: desk.is_in("sent", delivery))
    after = await desk.keep(to_ada())
    await until(lambda: copies(postfix, desk, after))
    await until(lambda: copies(postfix, desk, delivery))
    return copies(postfix, desk, delivery) == copies(postfix, desk, after) == 1


@pytest.mark.parametrize("domain", ["grey450.example", "grey451.example"])
@pytest.mark.parametrize("to", [to_owner, to_bob])
async def test_a_greylisted_letter_arrives_once_after_its_wait(postfix, desk, domain, to):
    letter = await desk.keep(to(f"{to.__name__}@{domain}"))
    await until(lambda: desk.was_tried(letter))
    assert await desk.standing(letter) == Standing("waiting", "deferred", attempts=1, shut=False)
    desk.let_an_hour_pass()
    assert await arrives_once(postfix, desk, letter)
    assert await desk.history(letter) == ["deferred", "sent"]


async def test_a_greylisted_letter_arrives_once_though_postfix_was_reloaded_in_between(postfix, desk):
    letter = await desk.keep(to_owner("ada@grey450.example"))
    await until(lambda: desk.was_tried(letter))
    postfix.reload()
    desk.let_an_hour_pass()
    assert await arrives_once(postfix, desk, letter)
    assert await desk.history(letter) == ["deferred", "sent"]


async def test_a_postfix_that_is_gone_for_a_while_costs_no_attempt_and_the_letter_arrives_once(postfix, desk):
    before = await desk.keep(to_ada())
    await until(lambda: desk.is_in("sent", before))
    with postfix.away():
        letter = await desk.keep(to_ada())
        await until(lambda: desk.was_tried(letter))
        assert await desk.standing(letter) == Standing("waiting", "blocked", attempts=0, shut=True)
    desk.let_an_hour_pass()
    assert await arrives_once(postfix, desk, letter)
    assert await desk.history(letter) == ["blocked", "sent"]


async def test_a_letter_over_the_size_limit_is_refused_and_goes_on_and_the_next_is_not_touched(postfix, desk):
    big = await desk.keep(to_ada(), octets=TOO_BIG)
    await until(lambda: desk.was_tried(big))
    assert await desk.standing(big) == Standing("waiting", "refused", attempts=1, shut=False)
    assert (await desk.note(big)).startswith("552 5.3.4 ")
    after = await desk.keep(to_ada(), octets=TOO_BIG // 2)
    assert await arrives_once(postfix, desk, after)
    assert await desk.history(after) == ["sent"]
    assert copies(postfix, desk, big) == 0


@pytest.mark.parametrize(("to", "state"), [(to_owner, "waiting"), (to_bob, "failed")])
async def test_an_unknown_recipient_ends_a_confirmation_and_not_an_owners_letter(postfix, desk, to, state):
    letter = await desk.keep(to("nobody@example.org"))
    await until(lambda: desk.was_tried(letter))
    assert await desk.standing(letter) == Standing(state, "refused", attempts=1, shut=False)
    assert (await desk.note(letter)).startswith("550 5.1.1 ")
    desk.let_an_hour_pass()
    after = await desk.keep(to_ada())
    assert await arrives_once(postfix, desk, after)
    assert (await desk.history(letter))[1:] == ([] if state == "failed" else ["refused"])
