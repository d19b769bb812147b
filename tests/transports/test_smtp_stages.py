"""Every stage's answer, cut and silence, as a real server gives it."""

import asyncio
import socket
from dataclasses import replace

import pytest
from tests.servers.scripted_smtp import DROP, SILENCE, Answer, ScriptedSmtp
from tests.transports.letters import PLAIN_LETTER, letter, until, way_to

from pillarbox.core.delivery import Blocked, Deferred, Refused, Sent
from pillarbox.transports.smtp import SmtpServer, SmtpTransport
from pillarbox.transports.smtp_session import in_words

pytestmark = pytest.mark.anyio

MEGABYTE = Answer(b"250-", endless=b"x" * 65_536)
LINES_WITHOUT_END = Answer(b"", endless=b"250-more\r\n" * 1_000)


async def outcome_of(server, **script):
    server.script(**script)
    way = way_to(server)
    try:
        return await way.send(PLAIN_LETTER)
    finally:
        await way.close()


async def test_a_letter_arrives_byte_for_byte(mail_server):
    outcome = await outcome_of(mail_server)
    assert outcome == Sent("250 2.0.0 OK queued as 1")
    [arrived] = mail_server.accepted
    assert arrived.content == PLAIN_LETTER.content
    assert (arrived.mail_from, arrived.recipients) == ("forms@pillarbox.example", ["ada@example.org"])


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: x\n\nbare\n.\nMAIL FROM:<evil@example.org>\n",
        b"Subject: x\r\n\r\nend\r.\r\nand\r\n.\rmore",
        b".\r\n.\r\n",
    ],
)
async def test_no_line_end_in_a_letter_ends_it_early(mail_server, content):
    way = way_to(mail_server)
    assert isinstance(await way.send(letter(content=content)), Sent)
    await way.close()
    [arrived] = mail_server.accepted
    assert arrived.content.splitlines() == content.splitlines()
    assert arrived.content.count(b"\r\n") == arrived.content.count(b"\n") == arrived.content.count(b"\r")
    assert mail_server.verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("reply", ["421 4.3.2 busy", "450 later", "554 no", SILENCE, DROP, "hello there", MEGABYTE])
async def test_a_bad_greeting_blocks_the_way(mail_server, reply):
    mail_server.script(CONNECT=reply)
    way = way_to(mail_server, command_seconds=0.3)
    assert isinstance(await way.send(PLAIN_LETTER), Blocked)
    await way.close()


@pytest.mark.parametrize("reply", ["421 bye", "550 not you", DROP, LINES_WITHOUT_END])
async def test_a_refused_ehlo_blocks_the_way(mail_server, reply):
    assert isinstance(await outcome_of(mail_server, EHLO=reply), Blocked)


async def test_a_server_without_ehlo_is_greeted_with_helo(mail_server):
    assert isinstance(await outcome_of(mail_server, EHLO=["502 5.5.1 what"]), Sent)
    assert mail_server.verbs()[:3] == ["EHLO", "HELO", "MAIL"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"MAIL": "451 4.3.0 later"}, Deferred),
        ({"MAIL": "421 4.7.0 closing"}, Blocked),
        ({"MAIL": "550 5.1.8 sender"}, Blocked),
        ({"MAIL": "552 Message size exceeds maximum permitted"}, Refused),
        ({"MAIL": DROP}, Deferred),
        ({"RCPT": "450 4.2.0 Greylisted"}, Deferred),
        ({"RCPT": "550 5.1.1 no such user"}, Refused),
        ({"RCPT": "550 5.4.5 Daily user sending limit exceeded"}, Blocked),
        ({"RCPT": DROP}, Deferred),
        ({"DATA": "452 4.3.1 full"}, Deferred),
        ({"DATA": "421 4.3.1 closing"}, Blocked),
        ({"DATA": "554 5.5.1 no"}, Refused),
        ({"DATA": DROP}, Deferred),
        ({"DOT": "451 4.7.1 later"}, Deferred),
        ({"DOT": "421 4.7.1 closing"}, Blocked),
        ({"DOT": "550 5.7.1 spam"}, Refused),
        ({"DOT": "554 5.7.60 send as"}, Blocked),
        ({"DOT": DROP}, Deferred),
        ({"QUIT": SILENCE}, Sent),
        ({"QUIT": DROP}, Sent),
    ],
    ids=str,
)
async def test_the_servers_answer_decides(mail_server, script, expected):
    assert isinstance(await outcome_of(mail_server, **script), expected)


async def test_a_multiline_refusal_is_noted_in_one_line(mail_server):
    outcome = await outcome_of(mail_server, RCPT=b"550-5.1.1 no such user\r\n550 5.1.1 try another\r\n")
    assert outcome == Refused("550 5.1.1 no such user 5.1.1 try another (to RCPT)")


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "DOT"])
async def test_silence_within_a_letter_is_a_later_and_the_connection_is_thrown_away(mail_server, stage):
    mail_server.script(**{stage: [SILENCE]})
    way = way_to(mail_server, command_seconds=0.5, dot_seconds=0.5)
    assert isinstance(await way.send(PLAIN_LETTER), Deferred)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()
    assert mail_server.connections == 2


async def test_an_answer_that_comes_too_late_is_never_taken_for_the_next_letter(mail_server):
    mail_server.script(DOT=[Answer("250 late", once=(too_late := asyncio.Event())), "550 5.7.1 spam"])
    way = way_to(mail_server, dot_seconds=0.3)
    assert isinstance(await way.send(PLAIN_LETTER), Deferred)
    too_late.set()
    assert isinstance(await way.send(PLAIN_LETTER), Refused)
    await way.close()


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize(
    "reply", ["199 odd", "700 odd", "garbage", b"\0\0\0\0\r\n", MEGABYTE, LINES_WITHOUT_END], ids=str
)
async def test_what_is_no_smtp_reply_blocks_the_way_and_ends_the_connection(mail_server, stage, reply):
    mail_server.script(**{stage: [reply]})
    way = way_to(mail_server)
    assert isinstance(await way.send(PLAIN_LETTER), Blocked)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()
    assert mail_server.connections == 2


async def test_a_letter_cut_before_its_dot_is_a_later(mail_server):
    mail_server.script(BODY=[DROP])
    way = way_to(mail_server)
    big = letter(content=b"Subject: big\r\n\r\n" + b"x" * 70 * 100_000 + b"\r\n")
    assert isinstance(await way.send(big), Deferred)
    assert mail_server.transactions == []
    await way.close()


async def test_nobody_at_the_door_is_said_in_plain_words():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        way = SmtpTransport(SmtpServer("127.0.0.1", port, "plain"))
        assert await way.send(PLAIN_LETTER) == Blocked(f"could not connect to 127.0.0.1:{port}: connection refused")


async def test_several_refused_addresses_are_said_in_plain_words():
    both = OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 25), [Errno 111] Connect call failed")
    assert in_words(both) == "connection refused"


async def test_an_unknown_name_is_said_in_plain_words():
    outcome = await SmtpTransport(SmtpServer("no-such-host.invalid", 25, "plain")).send(PLAIN_LETTER)
    assert isinstance(outcome, Blocked)
    assert outcome.note.startswith("could not connect to no-such-host.invalid:25: the name was not found")


async def test_a_slow_server_gets_its_letter_in_the_end(mail_server):
    slow = Answer(after=0.05)
    script = dict.fromkeys(("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"), slow)
    assert isinstance(await outcome_of(mail_server, **script), Sent)


async def test_a_refused_null_sender_is_replaced_at_once_and_not_tried_again(mail_server):
    mail_server.script(MAIL=lambda moment: "550 5.7.1 who?" if "<>" in moment.line else None)
    way = way_to(mail_server)
    reply = letter(sender="", fallback_sender="forms@pillarbox.example")
    assert [type(await way.send(reply)) for _ in range(2)] == [Sent, Sent]
    await way.close()
    assert [line.split(" SIZE")[0] for _, line in mail_server.lines if line.startswith("MAIL")] == [
        "MAIL FROM:<>",
        "MAIL FROM:<forms@pillarbox.example>",
        "MAIL FROM:<forms@pillarbox.example>",
    ]


async def test_a_null_sender_refused_at_the_dot_is_replaced_at_once(mail_server):
    mail_server.script(DOT=["554 5.7.60 cannot send as"])
    way = way_to(mail_server)
    assert isinstance(await way.send(letter(sender="", fallback_sender="forms@pillarbox.example")), Sent)
    await way.close()
    assert [arrived.mail_from for arrived in mail_server.accepted] == ["forms@pillarbox.example"]


async def test_a_refused_null_sender_without_another_is_about_that_letter(mail_server):
    mail_server.script(MAIL="550 5.7.1 who?")
    way = way_to(mail_server)
    assert isinstance(await way.send(letter(sender="")), Refused)
    await way.close()


async def test_a_null_sender_is_sent_where_it_is_taken(mail_server):
    way = way_to(mail_server)
    assert isinstance(await way.send(letter(sender="", fallback_sender="forms@pillarbox.example")), Sent)
    await way.close()
    assert [arrived.mail_from for arrived in mail_server.accepted] == [""]


async def test_an_internationalized_letter_says_so_in_the_envelope(mail_server):
    way = way_to(mail_server)
    assert isinstance(await way.send(letter(recipient="grüße@example.org", smtputf8=True)), Sent)
    await way.close()
    [arrived] = mail_server.accepted
    assert arrived.recipients == ["grüße@example.org"]
    assert arrived.mail_options.split()[1:] == ["SMTPUTF8", "BODY=8BITMIME"]


async def test_an_internationalized_letter_is_refused_where_the_server_takes_none():
    async with ScriptedSmtp(extensions=("8BITMIME",)) as server:
        way = way_to(server)
        outcome = await way.send(letter(recipient="grüße@example.org", smtputf8=True))
        assert isinstance(outcome, Refused)
        assert "SMTPUTF8" in outcome.note
        assert isinstance(await way.send(PLAIN_LETTER), Sent)
        await way.close()
        assert server.connections == 1


async def test_a_letter_whose_parameters_the_server_does_not_know_after_all_is_refused_alone(mail_server):
    mail_server.script(MAIL=lambda moment: "555 5.5.4 Unsupported option" if "SMTPUTF8" in moment.line else None)
    way = way_to(mail_server)
    assert isinstance(await way.send(letter(recipient="grüße@example.org", smtputf8=True)), Refused)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()
    assert mail_server.connections == 1


async def test_parameters_that_every_letter_of_ours_needs_are_about_the_way(mail_server):
    mail_server.script(MAIL="555 5.5.4 Unsupported option")
    way = way_to(mail_server)
    assert isinstance(await way.send(PLAIN_LETTER), Blocked)
    assert isinstance(await way.send(letter(sender="grüße@pillarbox.example", smtputf8=True)), Blocked)
    await way.close()


@pytest.mark.parametrize(
    "refusal", ["552 Message size exceeds maximum permitted", "555 5.5.4 Unsupported option"], ids=["size", "option"]
)
async def test_a_letter_that_is_refused_for_itself_says_nothing_about_null_senders(mail_server, refusal):
    mail_server.script(MAIL=lambda moment: refusal if "SMTPUTF8" in moment.line else None)
    way = way_to(mail_server)
    reply = letter(sender="", fallback_sender="forms@pillarbox.example")
    assert isinstance(await way.send(replace(reply, recipient="grüße@example.org", smtputf8=True)), Refused)
    assert isinstance(await way.send(reply), Sent)
    await way.close()
    assert [arrived.mail_from for arrived in mail_server.accepted] == [""]


@pytest.mark.parametrize(
    "recipient",
    ["a@b.example>\r\nRCPT TO:<c@d.example", "a b@c.example", "a@b.example> X", "ü@example.org", "\0@x.example"],
)
async def test_an_address_that_could_end_its_command_never_reaches_the_wire(mail_server, recipient):
    way = way_to(mail_server)
    assert isinstance(await way.send(letter(recipient=recipient)), Refused)
    await way.close()
    assert mail_server.verbs() == ["EHLO", "QUIT"]


async def test_a_cancelled_letter_takes_its_connection_with_it(mail_server):
    mail_server.script(DOT=[SILENCE])
    way = way_to(mail_server, connections=1)
    sending = asyncio.create_task(way.send(PLAIN_LETTER))
    await until(lambda: len(mail_server.transactions) == 1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await until(lambda: not mail_server.open_connections)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()
    assert mail_server.connections == 2
