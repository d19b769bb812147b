"""The way out against a real Postfix, down to the file it delivers."""

import pytest
from tests.transports.letters import PLAIN_LETTER, letter, until

from pillarbox.core.delivery import Blocked, Deferred, Refused, Sent
from pillarbox.transports.smtp import SmtpServer, SmtpTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
async def way(postfix):
    transport = SmtpTransport(SmtpServer(postfix.host, postfix.port, "starttls", ca_file=postfix.ca_file))
    yield transport
    await transport.close()
    postfix.forget()


async def arrived(postfix, message_id):
    """Return the one delivered letter with this Message-ID, as its file's bytes."""

    def found():
        return [content for content in postfix.contents() if message_id.encode() in content]

    await until(lambda: bool(found()))
    [content] = found()
    return content


async def test_a_letter_lies_byte_for_byte_in_postfixs_maildir(postfix, way):
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    content = await arrived(postfix, PLAIN_LETTER.message_id)
    assert content.endswith(b"\n" + PLAIN_LETTER.content.replace(b"\r\n", b"\n"))
    assert b"\nDelivered-To: ada@example.org\n" in content
    assert b"with ESMTPS" in content


async def test_an_internationalized_letter_lies_byte_for_byte_in_postfixs_maildir(postfix, way):
    text = "To: grüße@example.org\r\nMessage-ID: <utf8@pillarbox.example>\r\nFrom: a@b.example\r\nDate: x\r\n\r\nhi\r\n"
    international = letter(recipient="grüße@example.org", content=text.encode(), smtputf8=True)
    assert isinstance(await way.send(international), Sent)
    content = await arrived(postfix, "<utf8@pillarbox.example>")
    assert content.endswith(b"\n" + text.encode().replace(b"\r\n", b"\n"))
    assert "\nDelivered-To: grüße@example.org\n".encode() in content


async def test_postfix_says_later_never_and_not_you(way):
    assert isinstance(await way.send(letter(recipient="grey@example.org")), Deferred)
    assert isinstance(await way.send(letter(recipient="nobody@example.org")), Refused)
    assert isinstance(await way.send(letter(sender="banned@pillarbox.example")), Blocked)
    assert isinstance(await way.send(letter(content=b"Subject: big\r\n\r\n" + b"x\r\n" * 100_000)), Refused)


async def test_a_null_sender_passes_postfix(postfix, way):
    null = letter(sender="", content=b"Message-ID: <null@pillarbox.example>\r\n\r\nx\r\n")
    assert isinstance(await way.send(null), Sent)
    assert (await arrived(postfix, "<null@pillarbox.example>")).startswith(b"Return-Path: <>\n")


async def test_a_check_says_how_it_is_encrypted(way, postfix):
    outcome = await way.check()
    assert outcome == Sent(f"connected to 127.0.0.1:{postfix.port}, TLSv1.3, without login")


async def test_postfix_refuses_and_takes_pipelined_letters_over_one_connection(postfix):
    server = SmtpServer(postfix.host, postfix.port, "starttls", ca_file=postfix.ca_file, connections=1)
    way = SmtpTransport(server)
    before = len(postfix.log)
    recipients = ["grey@example.org", "ada@example.org", "nobody@example.org", "ada@example.org"]
    outcomes = [type(await way.send(letter(recipient=recipient))) for recipient in recipients]
    await way.close()
    assert outcomes == [Deferred, Sent, Refused, Sent]
    # Postfix counts good commands and all: DATA was there before RCPT had been refused.
    counts = "mail=4 rcpt=2/4 data=2/4 rset=2 quit=1"
    await until(lambda: counts in postfix.log[before:])
    assert postfix.log[before:].count(": connect from") == 1
    postfix.forget()
