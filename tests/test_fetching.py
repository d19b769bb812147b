"""Asking other servers over HTTP: bounded, and every failure said in words that hold no address."""

import ast
import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pillarbox.fetching import Fetcher, Reply, Unreachable
from tests.house import until
from tests.running import free_port
from tests.servers.certificates import make_certificates
from tests.servers.http_sink import ENDLESS, GARBAGE, HANG_UP, LOOPBACK, SILENCE, Flood, HttpSink

pytestmark = pytest.mark.anyio


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink().running() as running:
        yield running


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher(connect_seconds=2, total_seconds=2, private=LOOPBACK)
    yield made
    await made.close()


def open_files() -> int:
    """How many files and sockets this process has open, the sink's included."""
    return len(list(Path("/proc/self/fd").iterdir()))


def sockets_to(sink: HttpSink) -> list[str]:
    """Return the connections to the sink that are open at our end, as the kernel lists them."""
    to = f"0100007F:{sink.port:04X}"
    return [line for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[2:4] == [to, "01"]]


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


async def test_where_a_redirect_leads_is_told(sink: HttpSink, fetcher: Fetcher):
    sink.answer, sink.location = 302, "http://169.254.169.254/latest/meta-data/"
    reply = await fetcher.fetch("GET", sink.url)
    assert (reply.status, reply.headers["location"]) == (302, "http://169.254.169.254/latest/meta-data/")
    assert len(sink.asked) == 1


async def test_the_first_of_several_headers_counts_and_no_cookie_is_kept(sink: HttpSink, fetcher: Fetcher):
    sink.answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-Say: one\r\nx-say: two\r\nContent-Length: 0\r\n\r\n"
    assert (await fetcher.fetch("GET", sink.url)).headers["x-say"] == "one"
    await fetcher.fetch("GET", sink.url)
    assert "cookie" not in sink.asked[1].headers


async def test_a_user_and_password_in_the_address_log_in(sink: HttpSink, fetcher: Fetcher):
    await fetcher.fetch("POST", sink.url.replace("://", "://ada:p%40ss@"))
    (asked,) = sink.asked
    assert (asked.login, asked.headers["host"], asked.headers["content-length"]) == ("ada:p@ss", sink.address, "0")


async def test_what_is_packed_is_not_unpacked(sink: HttpSink, fetcher: Fetcher):
    packed = gzip.compress(bytes(10_000_000))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
    sink.answer = head.encode() + packed
    assert (await fetcher.fetch("GET", sink.url)).body == packed
    assert sink.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "flood",
    [
        Flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500),
        Flood(b"HTTP/1.1 200 OK\r\n", b"X-Say: more\r\n" * 500),
        Flood(b"HTTP/1.1 200 OK\r\nX-Say: ", b"more" * 500),
        Flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 9_000 + b"\r\nx\r\n"),
        Flood(b"", b"x" * 10_000),
    ],
    ids=["1xx", "headers", "one header", "chunks' frames", "no HTTP"],
)
async def test_an_answer_without_end_is_left_after_little(sink: HttpSink, flood: Flood):
    sink.answer = flood
    patient = Fetcher(total_seconds=60, private=LOOPBACK)
    assert await why_not(patient, sink.url) in {"its answer does not end", "it hung up, or what it said was no HTTP"}
    assert sink.written < 20_000_000


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_an_answer_that_drips_is_left_in_time(sink: HttpSink, beginning: bytes):
    sink.answer = Flood(beginning, b"x", pause=0.01)
    assert await why_not(Fetcher(total_seconds=0.2, private=LOOPBACK), sink.url) == "no answer within 0.2 seconds"


async def test_after_many_questions_nothing_is_left_open(sink: HttpSink):
    hasty = Fetcher(total_seconds=0.3, private=LOOPBACK)
    await hasty.fetch("GET", sink.url)
    await until(lambda: not sockets_to(sink))
    begun = open_files()
    for answer in (200, 302, HANG_UP, GARBAGE, ENDLESS, Flood(b"", b"x", pause=0.01), b"HTTP/1.1 200 OK\r\n\r\n"):
        sink.answer = answer
        await asyncio.gather(*(hasty.fetch("GET", sink.url) for _ in range(30)), return_exceptions=True)
    await until(lambda: open_files() <= begun)
    await hasty.close()


async def test_who_stops_waiting_leaves_nothing_open(sink: HttpSink, fetcher: Fetcher):
    sink.answer = SILENCE
    asking = asyncio.create_task(fetcher.fetch("GET", sink.url))
    await until(lambda: sink.asked)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not sockets_to(sink)


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
    assert await why_not(Fetcher(total_seconds=0.1, private=LOOPBACK), sink.url) == "no answer within 0.1 seconds"


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


SOURCE = Path(__file__).parents[1] / "src" / "pillarbox"
CLIENTS = {
    *("aiohttp", "apprise", "http.client", "httpcore", "httpcore2", "httpx", "httpx2", "pycurl", "requests"),
    *("urllib.request", "urllib3"),
}


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_nothing_else_asks_by_http():
    asking = {path.relative_to(SOURCE).as_posix(): imported(path) & CLIENTS for path in SOURCE.rglob("*.py")}
    assert {path for path, clients in asking.items() if clients} == {
        "fetching/connecting.py",
        "fetching/wire.py",
        "channels/apprise.py",  # a library of other people's that asks by itself; its channel says so
    }
