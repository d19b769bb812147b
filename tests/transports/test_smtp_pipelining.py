"""A letter's commands in one go (RFC 2920): the replies stay with their commands, and the outcomes what they were."""

import pytest
from tests.servers.scripted_smtp import Answer
from tests.servers.smtp_verbatim import Turn, verbatim_smtp
from tests.transports.letters import PLAIN_LETTER, letter, until, way_to

from pillarbox.core.delivery import Blocked, Deferred, Refused, Sent
from pillarbox.transports.smtp import SmtpServer, SmtpTransport

pytestmark = pytest.mark.anyio

TAKEN = Turn(b"250 2.1.0 OK\r\n250 2.1.5 OK\r\n354 go on\r\n")


def way_to_verbatim(server):
    limits = {"connections": 1, "command_seconds": 2.0, "dot_seconds": 2.0, "goodbye_seconds": 0.2}
    return SmtpTransport(SmtpServer("127.0.0.1", server.port, "plain", **limits))


async def outcomes_of(server, *letters):
    way = way_to_verbatim(server)
    try:
        return [await way.send(each) for each in letters]
    finally:
        await way.close()


async def test_a_server_that_pipelines_has_all_commands_before_it_answers_one():
    async with verbatim_smtp([TAKEN, TAKEN]) as server:
        assert await outcomes_of(server, PLAIN_LETTER, PLAIN_LETTER) == [Sent("250 2.0.0 queued")] * 2
        envelope = [b"MAIL FROM:<forms@pillarbox.example>\r\n", b"RCPT TO:<ada@example.org>\r\n", b"DATA\r\n"]
        assert server.commands == [envelope, envelope]
        assert server.connections == 1


async def test_the_reset_goes_with_the_next_letters_commands():
    refused = Turn(b"250 OK\r\n550 5.1.1 no such user\r\n554 5.5.1 no valid recipients\r\n")
    again = Turn(b"250 reset\r\n" + TAKEN.to_data)
    async with verbatim_smtp([refused, again]) as server:
        outcomes = await outcomes_of(server, PLAIN_LETTER, PLAIN_LETTER)
        assert outcomes == [Refused("550 5.1.1 no such user (to RCPT)"), Sent("250 2.0.0 queued")]
        assert [command[:4] for command in server.commands[1]] == [b"RSET", b"MAIL", b"RCPT", b"DATA"]
        assert server.connections == 1


@pytest.mark.parametrize("mail_server", [("8BITMIME",)], indirect=True, ids=["one-by-one"])
async def test_a_server_that_does_not_pipeline_is_asked_one_by_one(mail_server):
    mail_server.script(MAIL="451 4.3.0 later")
    way = way_to(mail_server)
    assert isinstance(await way.send(PLAIN_LETTER), Deferred)
    await way.close()
    assert mail_server.verbs() == ["EHLO", "MAIL", "QUIT"]


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (b"250 OK\r\n550 5.1.1 no such user\r\n354 go on\r\n", Refused("550 5.1.1 no such user (to RCPT)")),
        (b"250 OK\r\n450 4.2.0 Greylisted\r\n354 go on\r\n", Deferred("450 4.2.0 Greylisted (to RCPT)")),
        (b"451 4.3.0 later\r\n503 MAIL first\r\n354 go on\r\n", Deferred("451 4.3.0 later (to MAIL)")),
        (b"451 4.3.0 later\r\n250 OK\r\n354 go on\r\n", Deferred("451 4.3.0 later (to MAIL)")),
    ],
    ids=str,
)
async def test_nothing_is_handed_to_a_server_that_goes_on_with_a_refused_letter(replies, expected):
    async with verbatim_smtp([TAKEN, Turn(replies), TAKEN]) as server:
        outcomes = await outcomes_of(server, PLAIN_LETTER, letter(id="18"), PLAIN_LETTER)
        assert outcomes == [Sent("250 2.0.0 queued"), expected, Sent("250 2.0.0 queued")]
        # The refusal was about the letter, so the end of the connection is no reason to try it again at once.
        assert server.connections == 2
        assert server.contents[1] == b""


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (b"421 4.7.0 closing\r\n", Blocked("421 4.7.0 closing (to MAIL)")),
        (b"250 OK\r\n421 4.7.0 closing\r\n", Blocked("421 4.7.0 closing (to RCPT)", at_recipient=True)),
        (b"250 OK\r\n250 OK\r\n421 4.7.0 closing\r\n", Blocked("421 4.7.0 closing (to DATA)")),
        (b"250 OK\r\n550 5.1.1 who\r\n421 4.7.0 closing\r\n", Refused("550 5.1.1 who (to RCPT)")),
        (b"250 OK\r\n550 5.1.1 who\r\n", Refused("550 5.1.1 who (to RCPT)")),
        (b"250 OK\r\n550 5.1.1 who\r\nwhat?\r\n", Refused("550 5.1.1 who (to RCPT)")),
    ],
    ids=str,
)
@pytest.mark.parametrize("stays", [True, False], ids=["stays", "closes"])
async def test_a_goodbye_among_the_replies_ends_the_connection_and_the_first_refusal_decides(replies, expected, stays):
    async with verbatim_smtp([Turn(replies, b"250 2.0.0 queued\r\n" if stays else b""), TAKEN]) as server:
        outcomes = await outcomes_of(server, PLAIN_LETTER, PLAIN_LETTER)
        assert outcomes == [expected, Sent("250 2.0.0 queued")]
        assert server.connections == 2


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (b"", Deferred("the connection was cut (at MAIL)")),
        (b"250 OK\r\n", Deferred("the connection was cut (at RCPT)")),
        (b"250 OK\r\n250 O", Deferred("the connection was cut (at RCPT)")),
        (b"250 OK\r\n250 OK\r\n", Deferred("the connection was cut (at DATA)")),
        (b"250 OK\r\n250 OK\r\n354 go on\r\n", Deferred("the connection was cut (at the letter)")),
    ],
    ids=str,
)
async def test_an_end_among_the_replies_counts_for_the_first_that_is_missing(replies, expected):
    async with verbatim_smtp([Turn(replies, b""), TAKEN]) as server:
        outcomes = await outcomes_of(server, PLAIN_LETTER, PLAIN_LETTER)
        assert outcomes == [expected, Sent("250 2.0.0 queued")]
        assert server.connections == 2


async def test_a_server_may_take_nearly_the_limit_for_every_command(mail_server):
    mail_server.script(**dict.fromkeys(("MAIL", "RCPT", "DATA"), Answer(after=0.3)))
    way = way_to(mail_server, command_seconds=0.7)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()


async def test_a_reply_too_many_is_never_taken_for_the_answer_to_the_letter():
    async with verbatim_smtp([Turn(TAKEN.to_data + b"250 2.0.0 queued\r\n354 x\r\n"), TAKEN]) as server:
        outcomes = await outcomes_of(server, PLAIN_LETTER, PLAIN_LETTER)
        spoke = "the server spoke without being asked, so the connection was closed (at the letter)"
        assert outcomes == [Deferred(spoke), Sent("250 2.0.0 queued")]
        assert server.contents[0] == b""


async def test_a_reply_too_many_behind_a_refusal_ends_the_connection():
    many = Turn(b"250 OK\r\n550 5.1.1 who\r\n554 none\r\n250 2.0.0 queued\r\n")
    async with verbatim_smtp([many, TAKEN]) as server:
        outcomes = await outcomes_of(server, PLAIN_LETTER, PLAIN_LETTER)
        assert outcomes == [Refused("550 5.1.1 who (to RCPT)"), Sent("250 2.0.0 queued")]
        assert server.connections == 2


async def test_a_reply_too_many_at_mail_shifts_no_later_one_into_a_delivery():
    shifted = Turn(b"250 OK\r\n250 once more\r\n250 OK\r\n354 go on\r\n")
    async with verbatim_smtp([shifted, TAKEN]) as server:
        outcomes = await outcomes_of(server, PLAIN_LETTER, PLAIN_LETTER)
        assert outcomes == [Blocked("250 OK (to DATA)"), Sent("250 2.0.0 queued")]
        assert server.contents[0] == b""


async def test_a_second_answer_to_the_dot_is_not_taken_for_the_next_letters():
    async with verbatim_smtp([Turn(TAKEN.to_data, b"250 queued\r\n250 queued twice\r\n"), TAKEN]) as server:
        assert await outcomes_of(server, PLAIN_LETTER, PLAIN_LETTER) == [
            Sent("250 queued"),
            Sent("250 2.0.0 queued"),
        ]
        await until(lambda: server.connections == 2)
