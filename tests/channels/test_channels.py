"""What each channel says to real servers, and what it makes of their answers."""

import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from tests.channels.news import NEWS
from tests.house import until
from tests.running import free_port
from tests.servers.http_sink import GARBAGE, LOOPBACK, SILENCE, HttpSink

from pillarbox.channels import Channel, Outlet, make
from pillarbox.channels.apprise import AppriseChannel
from pillarbox.core.alarm import Event
from pillarbox.core.delivery import Outcome, Sent
from pillarbox.core.letter import Letter
from pillarbox.fetching import Fetcher

pytestmark = pytest.mark.anyio


async def nowhere(_letter: Letter) -> Outcome:
    return Sent("taken")


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink().running() as running:
        yield running


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher(connect_seconds=2, total_seconds=2, private=LOOPBACK)
    yield made
    await made.close()


def channel(url: str, fetcher: Fetcher) -> Channel:
    outlet = Outlet(nowhere, "forms@pillarbox.example")
    return make(url, fetcher=fetcher, outlets={"default": outlet, "backup": outlet}, site_name="Site")


async def test_a_webhook_posts_everything_as_json(sink: HttpSink, fetcher: Fetcher):
    assert await channel(f"{sink.url}/hook?token=t0p", fetcher).tell(NEWS) is None
    (asked,) = sink.asked
    assert (asked.method, asked.target) == ("POST", "/hook?token=t0p")
    assert asked.headers["content-type"] == "application/json"
    assert asked.said == {
        "id": "0123abcd",
        "event": "opened",
        "kind": "way_shut",
        "subject": "default",
        "title": NEWS.title,
        "text": NEWS.text,
        "since": "2027-01-15T08:00:00+00:00",
        "note": "535 no",
    }


@pytest.mark.parametrize("scheme", ["http", "ntfy"])
@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_every_good_status_is_taken(sink: HttpSink, fetcher: Fetcher, scheme: str, status: int):
    sink.answer = status
    assert await channel(f"{scheme}://{sink.address}/topic", fetcher).tell(NEWS) is None


@pytest.mark.parametrize("scheme", ["http", "ntfy"])
@pytest.mark.parametrize("status", [302, 404, 500])
async def test_no_other_status_is_taken(sink: HttpSink, fetcher: Fetcher, scheme: str, status: int):
    sink.answer = status
    assert await channel(f"{scheme}://{sink.address}/topic", fetcher).tell(NEWS) == f"it answered {status}"
    assert len(sink.asked) == 1


@pytest.mark.parametrize("scheme", ["http", "ntfy"])
async def test_who_is_not_there_or_speaks_no_http_did_not_take_it(sink: HttpSink, fetcher: Fetcher, scheme: str):
    sink.answer = GARBAGE
    assert "no HTTP" in str(await channel(f"{scheme}://{sink.address}/topic", fetcher).tell(NEWS))
    assert await channel(f"{scheme}://127.0.0.1:{free_port()}/topic", fetcher).tell(NEWS) == "connection refused"


@pytest.mark.parametrize(
    ("event", "priority", "tag"),
    [(Event.OPENED, 4, "rotating_light"), (Event.STILL, 4, "rotating_light"), (Event.WELL, 3, "white_check_mark")],
)
async def test_ntfy_gets_the_whole_title_and_how_urgent_it_is(
    sink: HttpSink, fetcher: Fetcher, event: Event, priority: int, tag: str
):
    assert await channel(f"ntfy://{sink.address}/ada-alarms", fetcher).tell(replace(NEWS, event=event)) is None
    (asked,) = sink.asked
    assert (asked.method, asked.target) == ("POST", "/")
    assert "authorization" not in asked.headers
    assert asked.said == {
        "topic": "ada-alarms",
        "title": NEWS.title,
        "message": NEWS.text,
        "priority": priority,
        "tags": [tag],
    }


async def test_ntfy_logs_in_by_token_or_by_password(sink: HttpSink, fetcher: Fetcher):
    await channel(f"ntfy://{sink.address}/topic?auth=tk_abc", fetcher).tell(NEWS)
    await channel(f"ntfy://ada:p%40ss@{sink.address}/topic", fetcher).tell(NEWS)
    token, password = sink.asked
    assert token.headers["authorization"] == "Bearer tk_abc"
    assert password.login == "ada:p@ss"
    assert token.target == password.target == "/"
    sink.answer = 403
    assert await channel(f"ntfy://{sink.address}/topic", fetcher).tell(NEWS) == "it refused the login"


async def test_apprise_is_told_in_a_thread(sink: HttpSink, fetcher: Fetcher):
    assert await channel(f"json://{sink.address}/hook", fetcher).tell(NEWS) is None
    (asked,) = sink.asked
    assert (asked.said["title"], asked.said["message"]) == (NEWS.title, NEWS.text)
    assert asked.said["type"] == "failure"
    sink.answer = 500
    assert "did not take it" in str(await channel(f"json://{sink.address}/hook", fetcher).tell(NEWS))


async def test_a_redirect_leads_apprise_nowhere(sink: HttpSink, fetcher: Fetcher):
    sink.answer = 307
    assert "did not take it" in str(await channel(f"json://{sink.address}/hook", fetcher).tell(NEWS))
    assert len(sink.asked) == 1


@pytest.mark.parametrize("scheme", ["http", "ntfy"])
async def test_a_channel_inside_says_what_to_set(sink: HttpSink, scheme: str):
    said = await channel(f"{scheme}://{sink.address}/topic", Fetcher()).tell(NEWS)
    assert said == "its address is a private one; list it in PRIVATE_HOSTS if that is meant"
    assert sink.asked == []


async def test_what_apprise_does_not_know_is_said_when_it_is_used(fetcher: Fetcher):
    assert "does not know" in str(await channel("carrierpigeon://loft", fetcher).tell(NEWS))


async def test_nobody_waits_long_for_apprise_and_one_that_hangs_is_not_joined_by_more(sink: HttpSink):
    sink.answer = SILENCE
    hanging = AppriseChannel(f"json://{sink.address}/hook", tell_within=0.05)
    assert await hanging.tell(NEWS) == "Apprise did not end within 0.05 seconds"
    assert await hanging.tell(NEWS) == "Apprise is still busy with the news before"
    await until(lambda: len(sink.asked) == 1)


async def test_without_apprise_its_channels_say_what_to_install(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch):
    made = channel("json://127.0.0.1/hook", fetcher)
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert "pip install 'pillarbox[apprise]'" in str(await made.tell(NEWS))
    with pytest.raises(ValueError, match=r"pip install 'pillarbox\[apprise\]'"):
        channel("json://127.0.0.1/hook", fetcher)


def test_the_rehearsal_of_an_alarm_says_what_to_set_for_a_channel_inside(pillarbox, sink: HttpSink):
    refused = pillarbox.run("doctor", "--test-alarm", ALARM_TO=f"{sink.url}/s3cret")
    assert "list it in PRIVATE_HOSTS" in refused.stdout + refused.stderr
    assert "s3cret" not in refused.stdout + refused.stderr
    assert sink.asked == []
    pillarbox.run("doctor", "--test-alarm", ALARM_TO=f"{sink.url}/s3cret", PRIVATE_HOSTS="127.0.0.0/8")
    assert [asked.target for asked in sink.asked] == ["/s3cret"]


@pytest.mark.parametrize(
    ("url", "name", "transport"),
    [
        ("https://ada:s3cret@hooks.example.org:8443/T0K3N?key=s3cret", "https://hooks.example.org", None),
        ("HTTPS://hooks.example.org/", "https://hooks.example.org", None),
        ("ntfys://ada:s3cret@ntfy.example.org/s3cret?auth=tk_s3cret", "ntfys://ntfy.example.org", None),
        ("mailto:ada+alarm@example.org?transport=backup", "mailto:…?transport=backup", "backup"),
        ("mailto:ada@example.org", "mailto:…?transport=default", "default"),
        ("tgram://1234:s3cret/chat", "tgram://", None),
    ],
)
def test_a_channels_name_tells_no_secret(url: str, name: str, transport: str | None):
    made = channel(url, Fetcher())
    assert (made.name, made.transport) == (name, transport)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "with its kind, like https"),
        ("ada@example.org", "with its kind, like https"),
        ("https://[::1/hook", "with its kind, like https"),
        ("https://example.org/a b", "with its kind, like https"),
        ("https:///hook", "a webhook is an address like"),
        ("ntfys://ntfy.example.org", "an ntfy address is written"),
        ("ntfy://ntfy.example.org/two/parts", "an ntfy address is written"),
        ("mailto:ada@example.org?transport=elsewhere", "no way out named elsewhere; there are backup, default"),
        ("mailto:ada?transport=backup", "a mail's address is written like"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_with_a_sentence(url: str, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        channel(url, Fetcher())
