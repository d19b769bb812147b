"""Asking other servers over HTTP: bounded, and every failure said in words that hold no address."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from pillarbox.fetching import Fetcher, Reply, Unreachable
from tests.running import free_port
from tests.servers.certificates import make_certificates
from tests.servers.http_sink import ENDLESS, GARBAGE, HANG_UP, SILENCE, HttpSink

pytestmark = pytest.mark.anyio


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink().running() as running:
        yield running


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher(connect_seconds=2, total_seconds=2)
    yield made
    await made.close()


async def why_not(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(Unreachable) as caught:
        await fetcher.fetch("GET", url)
    assert caught.value.__cause__ is None  # a traceback's cause may hold the address
    return str(caught.value)


async def test_an_answer_comes_back_whatever_its_status(sink: HttpSink, fetcher: Fetcher):
    sink.answer = 418
    reply = await fetcher.fetch("POST", f"{sink.url}/a?b=c", headers={"X-Say": "hi"}, content=b"words")
    assert reply == Reply(418, b"OK")
    (asked,) = sink.asked
    assert (asked.method, asked.target, asked.headers["x-say"], asked.body) == ("POST", "/a?b=c", "hi", b"words")


async def test_a_redirect_is_an_answer_that_nobody_follows(sink: HttpSink, fetcher: Fetcher):
    sink.answer = 302
    assert (await fetcher.fetch("GET", sink.url)).status == 302
    assert len(sink.asked) == 1


async def test_of_an_endless_body_only_the_beginning_is_read(sink: HttpSink, fetcher: Fetcher):
    sink.answer = ENDLESS
    assert len((await fetcher.fetch("GET", sink.url)).body) == 64 * 1024
    assert sink.written < 20_000_000


@pytest.mark.parametrize("answer", [GARBAGE, HANG_UP])
async def test_what_is_no_http_is_said_so(sink: HttpSink, fetcher: Fetcher, answer: str):
    sink.answer = answer
    assert await why_not(fetcher, sink.url) == "it hung up, or what it said was no HTTP"


async def test_a_silent_server_is_left_in_time(sink: HttpSink):
    sink.answer = SILENCE
    assert await why_not(Fetcher(total_seconds=0.1), sink.url) == "no answer within 0.1 seconds"


async def test_where_nobody_listens_the_connection_is_refused(fetcher: Fetcher):
    assert await why_not(fetcher, f"http://127.0.0.1:{free_port()}/secret") == "connection refused"


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/x", "https://[::1", "http://127.0.0.1:99999", "http://"])
async def test_what_is_no_web_address_is_not_asked(fetcher: Fetcher, url: str):
    assert await why_not(fetcher, url) == "this is no web address"


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path, fetcher: Fetcher):
    sink = HttpSink(make_certificates(tmp_path).context)
    with sink.running():
        assert await why_not(fetcher, sink.url) == "its certificate is not to be trusted"
    assert sink.asked == []


async def test_the_proxy_of_the_environment_is_used(sink: HttpSink, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", sink.url)
    assert (await fetcher.fetch("GET", "http://ada.example/path")).status == 200
    assert sink.asked[0].target == "http://ada.example/path"


async def test_a_proxy_setting_that_cannot_be_used_is_said_so(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTPS_PROXY", "carrier-pigeon://loft")
    with pytest.raises(Unreachable, match="HTTPS_PROXY"):
        await fetcher.fetch("GET", "https://ada.example/")


async def test_at_the_usual_level_no_line_holds_an_address(
    sink: HttpSink, fetcher: Fetcher, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        await fetcher.fetch("GET", f"{sink.url}/secret")
        sink.answer = HANG_UP
        await why_not(fetcher, f"{sink.url}/secret")
    assert "secret" not in caplog.text
