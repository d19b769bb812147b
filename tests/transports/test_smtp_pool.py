"""Kept connections: how many, how long, and that the end of one is never a letter's fault."""

import asyncio

import pytest
from tests.servers.scripted_smtp import DROP, SILENCE, Answer
from tests.transports.letters import PLAIN_LETTER, letter, until, way_to

from pillarbox.core.delivery import Blocked, Deferred, Refused, Sent

pytestmark = pytest.mark.anyio


async def send_many(way, number):
    return await asyncio.gather(*(way.send(letter(id=str(index))) for index in range(number)))


async def test_a_connection_is_kept_for_the_next_letter(mail_server):
    way = way_to(mail_server)
    for _ in range(3):
        assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()
    assert mail_server.connections == 1
    assert mail_server.verbs() == ["EHLO", *["MAIL", "RCPT", "DATA"] * 3, "QUIT"]


async def test_no_more_connections_than_allowed_are_open_at_once(mail_server):
    most = 0

    def count(moment):
        nonlocal most
        most = max(most, len(mail_server.open_connections))
        return Answer(after=0.01)

    mail_server.script(DOT=count)
    way = way_to(mail_server, connections=3)
    assert all(isinstance(outcome, Sent) for outcome in await send_many(way, 20))
    await way.close()
    assert most == mail_server.connections == 3


async def test_a_connection_carries_only_so_many_letters(mail_server):
    way = way_to(mail_server, letters_per_connection=2, connections=1)
    assert all(isinstance(outcome, Sent) for outcome in await send_many(way, 5))
    await way.close()
    assert [transaction.connection for transaction in mail_server.transactions] == [1, 1, 2, 2, 3]
    assert mail_server.verbs().count("QUIT") == 3


async def test_an_idle_connection_says_goodbye_by_itself(mail_server):
    way = way_to(mail_server, idle_seconds=0.05)
    await send_many(way, 3)
    await until(lambda: mail_server.verbs().count("QUIT") == mail_server.connections > 1)
    await until(lambda: not mail_server.open_connections)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await until(lambda: not mail_server.open_connections)
    await way.close()


@pytest.mark.parametrize(
    "goodbye",
    [Answer(b"", drop=True), Answer("421 4.4.2 idle too long", drop=True), Answer("421 4.4.2 idle too long")],
    ids=["cut", "421 and cut", "421"],
)
async def test_a_connection_that_the_server_ended_while_idle_is_replaced(mail_server, goodbye):
    mail_server.script(IDLE=[goodbye])
    way = way_to(mail_server)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await until(lambda: not mail_server.open_connections)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()
    assert (len(mail_server.accepted), mail_server.connections) == (2, 2)


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("reply", ["421 4.4.2 closing", DROP, SILENCE, "503 5.5.1 out of step", "garbage"], ids=str)
async def test_a_kept_connection_that_ends_before_the_content_is_replaced_at_once(mail_server, stage, reply):
    way = way_to(mail_server, command_seconds=0.5)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    mail_server.script(**{stage: [reply]})
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()
    assert (len(mail_server.accepted), mail_server.connections) == (2, 2)


async def test_a_server_that_always_closes_is_asked_only_twice(mail_server):
    way = way_to(mail_server)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    mail_server.script(MAIL="421 4.7.0 not today")
    assert isinstance(await way.send(PLAIN_LETTER), Blocked)
    await way.close()
    assert mail_server.connections == 2


async def test_a_letter_whose_dot_was_cut_is_not_sent_again_at_once(mail_server):
    way = way_to(mail_server)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    mail_server.script(DOT=[DROP])
    assert isinstance(await way.send(PLAIN_LETTER), Deferred)
    await way.close()
    assert len(mail_server.transactions) == 2


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"RCPT": ["550 5.1.1 no such user"]}, Refused),
        ({"RCPT": ["450 4.2.0 Greylisted"]}, Deferred),
        ({"DATA": ["451 4.3.0 later"]}, Deferred),
        ({"DATA": ["554 5.5.1 no"]}, Refused),
        ({"DOT": ["550 5.7.1 spam"]}, Refused),
    ],
    ids=str,
)
async def test_a_broken_transaction_is_reset_before_the_next_letter(mail_server, script, expected):
    mail_server.script(**script)
    way = way_to(mail_server)
    assert isinstance(await way.send(PLAIN_LETTER), expected)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()
    assert mail_server.connections == 1
    assert mail_server.verbs()[-5:] == ["RSET", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("reply", ["421 closing", "500 what", "503 no", DROP, SILENCE], ids=str)
async def test_a_connection_that_can_not_be_reset_is_replaced(mail_server, reply):
    mail_server.script(RCPT=["550 5.1.1 no such user"], RSET=reply)
    way = way_to(mail_server, command_seconds=0.5)
    assert isinstance(await way.send(PLAIN_LETTER), Refused)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()
    assert mail_server.connections == 2


async def test_closing_leaves_no_connection_open_even_if_quit_is_never_answered(mail_server):
    mail_server.script(QUIT=SILENCE)
    way = way_to(mail_server)
    await send_many(way, 3)
    await way.close()
    await until(lambda: not mail_server.open_connections)


async def test_a_letter_under_way_while_closing_is_finished(mail_server):
    mail_server.script(DOT=Answer(once=(closed := asyncio.Event())))
    way = way_to(mail_server)
    sending = asyncio.create_task(way.send(PLAIN_LETTER))
    await until(lambda: len(mail_server.transactions) == 1)
    await way.close()
    closed.set()
    assert isinstance(await sending, Sent)
    await until(lambda: not mail_server.open_connections)
