"""A letter that is another machine's by now is not sent, and what a dead network holds is not sent long after."""

import socket

import pytest
from tests.transports.letters import PLAIN_LETTER, way_to

from pillarbox.core.delivery import Deferred, Sent
from pillarbox.transports.smtp_session import UNACKNOWLEDGED_MS

pytestmark = pytest.mark.anyio


async def test_a_letter_that_is_ours_no_more_when_its_content_is_asked_for_is_not_sent(mail_server):
    way = way_to(mail_server)
    assert isinstance(await way.send(PLAIN_LETTER, lambda: "DATA" not in mail_server.verbs()), Deferred)
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()
    assert len(mail_server.accepted) == 1
    assert mail_server.connections == 2


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system can't be told")
async def test_the_system_gives_up_what_it_could_not_hand_over_before_an_unrenewed_lease_ends(mail_server):
    way = way_to(mail_server)
    await way.send(PLAIN_LETTER)
    [session] = way._idle
    found = session._line.transport.get_extra_info("socket")
    assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNACKNOWLEDGED_MS < 20_000
    await way.close()
