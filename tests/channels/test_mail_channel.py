"""News by mail: a correct letter through a real SMTP conversation."""

from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from tests.channels.news import NEWS
from tests.servers.scripted_smtp import ScriptedSmtp
from tests.transports.letters import way_to

from pillarbox.channels import Envelope, Outlet, make
from pillarbox.channels.mail import MailChannel
from pillarbox.core.delivery import Outcome
from pillarbox.core.letter import Letter
from pillarbox.fetching import Fetcher

pytestmark = pytest.mark.anyio

ADA = Envelope("forms@pillarbox.example", ("ada@example.org",), "Bücher & mehr")


def letters(server: ScriptedSmtp) -> list[EmailMessage]:
    return [message_from_bytes(taken.content, policy=policy.default) for taken in server.accepted]


async def test_the_letter_says_what_it_is_and_that_a_machine_wrote_it():
    async with ScriptedSmtp() as server:
        way = way_to(server)
        assert await MailChannel("backup", way.send, envelope=ADA).tell(NEWS) is None
        await way.close()
        (letter,) = letters(server)
    assert letter["Subject"] == NEWS.title
    assert letter["From"] == "Bücher & mehr <forms@pillarbox.example>"
    assert letter["To"] == "ada@example.org"
    assert letter["Date"].datetime.timestamp() == NEWS.at
    assert letter["Message-ID"] == "<0123abcd.alarm@pillarbox.example>"
    assert letter["Auto-Submitted"] == "auto-generated"
    plain, html = letter.get_body(("plain",)), letter.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().splitlines() == NEWS.text.splitlines()
    assert "<p>What to do: mend it.</p>" in html.get_content()
    assert not letter.defects


async def test_nothing_in_a_text_becomes_a_tag():
    async with ScriptedSmtp() as server:
        way = way_to(server)
        await MailChannel("backup", way.send, envelope=ADA).tell(replace(NEWS, text="550 <script>&amp;"))
        await way.close()
        html = letters(server)[0].get_body(("html",))
    assert html is not None
    assert "<p>550 &lt;script&gt;&amp;amp;</p>" in html.get_content()


async def test_one_letter_for_each_recipient_and_one_that_arrives_is_enough():
    async with ScriptedSmtp() as server:
        server.script(RCPT={1: "550 5.1.1 no"})
        way = way_to(server)
        both = replace(ADA, recipients=("gone@example.org", "ada@example.org"))
        assert await MailChannel("backup", way.send, envelope=both).tell(NEWS) is None
        await way.close()
        assert [taken.recipients for taken in server.accepted] == [["ada@example.org"]]


async def test_a_server_that_refuses_is_quoted():
    async with ScriptedSmtp() as server:
        server.script(RCPT="550 5.1.1 no such user")
        way = way_to(server)
        assert "no such user" in str(await MailChannel("backup", way.send, envelope=ADA).tell(NEWS))
        await way.close()


async def test_a_mail_leaves_by_the_way_that_its_address_names_and_from_that_ways_sender():
    async with ScriptedSmtp() as server:
        way = way_to(server)
        outlets = {"default": Outlet(_unused, "x@example.org"), "backup": Outlet(way.send, "forms@example.org")}
        url = "mailto:ada+alarm@example.org?transport=backup"
        made = make(url, fetcher=Fetcher(), outlets=outlets, site_name="Site")
        assert await made.tell(NEWS) is None
        await way.close()
        [taken] = server.accepted
        assert (taken.mail_from, taken.recipients) == ("forms@example.org", ["ada+alarm@example.org"])


async def _unused(_letter: Letter) -> Outcome:
    raise AssertionError
