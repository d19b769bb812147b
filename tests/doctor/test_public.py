"""What a visitor meets at PUBLIC_URL is told plainly: Pillarbox itself, or whatever is in its place."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from ipaddress import ip_network

import pytest
from tests.running import free_port
from tests.servers.certificates import make_certificates
from tests.servers.http_proxy import HttpProxy

from pillarbox.doctor.public import examine_public, judge_visitor

pytestmark = pytest.mark.anyio

WELL = {"success": True, "ok": True, "store": "ok", "mail": "ok"}


@asynccontextmanager
async def answering(raw: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Answer every request with these bytes, then close; gives the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def http(status, body=b"", **headers):
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


async def examined(url, **about):
    return await examine_public(url, **({"now": time.time()} | about))


async def seen_at(raw, **about):
    async with answering(raw) as port:
        return await examined(f"http://127.0.0.1:{port}", **about)


async def test_without_a_public_url_that_is_lightly_warned_of():
    (found,) = await examined("")
    assert (found.verdict, "PUBLIC_URL" in found.advice) == ("warn", True)


async def test_a_visitor_who_is_answered_is_well_and_the_clock_there_is_heard():
    heard = {}
    later = formatdate(time.time() + 7_200, usegmt=True)
    raw = http(200, json.dumps(WELL).encode(), date=later)
    (found,) = await seen_at(raw, hear=lambda whose, ahead: heard.update({whose: ahead}))
    assert (found.verdict, "answers" in found.seen) == ("ok", True)
    assert abs(heard["127.0.0.1"] - 7_200) < 60


async def test_pillarbox_under_a_name_that_it_does_not_serve_says_what_to_add(pillarbox):
    pillarbox.serve(ALLOWED_HOSTS="forms.ada.dev")
    (found,) = await examined(pillarbox.url)
    assert (found.verdict, "ALLOWED_HOSTS" in found.advice) == ("fail", True)


@pytest.mark.parametrize(
    ("raw", "verdict", "words", "advice"),
    [
        (http(301, location="https://www.ada.dev/health"), "warn", "redirects", "https://www.ada.dev/health"),
        (http(503, b'{"code": "NOT_KEPT"}'), "fail", "can't keep messages", "store"),
        (http(502, b"<h1>Bad Gateway</h1>"), "fail", "nothing behind it", "pillarbox serve"),
        (http(400, b"Bad Request"), "fail", "another name", "ALLOWED_HOSTS"),
        (http(421, b""), "fail", "another name", "ALLOWED_HOSTS"),
        (http(404, b"not found"), "fail", "something else", "proxy"),
        (http(200, b"<h1>Welcome to nginx</h1>"), "fail", "something else", "proxy"),
        (http(200, b"[]"), "fail", "something else", "proxy"),
        (http(200, b'{"status": "UP"}'), "fail", "something else", "proxy"),
        (b"220 mail.ada.dev ESMTP\r\n", "fail", "no web server", "listens"),
        (b"", "fail", "no web server", "listens"),
    ],
)
async def test_whatever_is_in_its_place_is_told_plainly(raw, verdict, words, advice):
    (found,) = await seen_at(raw)
    assert (found.verdict, words in found.seen, advice in found.advice) == (verdict, True, True), found


async def test_an_endless_answer_is_not_read_to_its_end():
    """It would never end: only who stops reading gets anywhere."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(http(200))
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()

    async with asyncio.timeout(20), await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        (found,) = await examined(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert "something else" in found.seen


async def test_nobody_there_is_told():
    (found,) = await examined(f"http://127.0.0.1:{free_port()}")
    assert (found.verdict, "nothing answers" in found.seen, "pillarbox serve" in found.advice) == ("fail", True, True)


async def test_a_proxy_that_lets_nobody_out_is_not_taken_for_the_visitors_trouble(monkeypatch):
    async with HttpProxy(to=free_port()) as proxy:
        proxy.answer = b"HTTP/1.1 403 Never\r\nContent-Length: 0\r\n\r\n"
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        (found,) = await examined("https://93.184.215.14")
    assert (found.verdict, "the proxy refused" in found.seen, "NO_PROXY" in found.advice) == ("warn", True, True)
    assert proxy.asked[0][0] == "CONNECT 93.184.215.14:443 HTTP/1.1"


async def test_a_name_that_is_not_there_is_told():
    (found,) = await examined("http://forms.ada.invalid")
    assert (found.verdict, "was not found" in found.seen) == ("fail", True)


async def test_a_certificate_that_nobody_vouches_for_is_told_and_one_that_is_known_is_well(tmp_path):
    own = make_certificates(tmp_path)
    trusting = ssl.create_default_context(cafile=own.ca_file)
    async with answering(http(200, json.dumps(WELL).encode()), own.context) as port:
        (warned,) = await examined(f"https://127.0.0.1:{port}")
        (well,) = await examined(f"https://127.0.0.1:{port}", context=trusting)
    assert (warned.verdict, "visitors are warned away" in warned.seen) == ("fail", True)
    assert "certificate" in warned.advice
    assert well.verdict == "ok"


async def test_a_certificate_of_another_name_is_told(tmp_path):
    other = make_certificates(tmp_path, "other.ada.dev")
    trusting = ssl.create_default_context(cafile=other.ca_file)
    async with answering(http(200, b"{}"), other.context) as port:
        (found,) = await examined(f"https://127.0.0.1:{port}", context=trusting)
    assert (found.verdict, "mismatch" in found.seen) == ("fail", True)


async def test_plain_http_where_https_is_promised_is_told():
    async with answering(http(200, json.dumps(WELL).encode())) as port:
        (found,) = await examined(f"https://127.0.0.1:{port}")
    assert (found.verdict, "does not speak HTTPS" in found.seen) == ("fail", True)


def health_of(you):
    return http(200, json.dumps(WELL | {"you": you}).encode())


async def test_a_visitor_who_is_taken_for_the_proxy_is_told():
    _, found = await seen_at(health_of("10.1.2.3"), trusted=(ip_network("10.0.0.0/8"),))
    assert (found.step, found.verdict, "10.1.2.3" in found.seen) == ("visitor", "warn", True)
    assert "X-Forwarded-For" in found.advice


async def test_a_visitor_from_this_machine_to_this_machine_is_well():
    _, found = await seen_at(health_of("127.0.0.1"))
    assert (found.verdict, found.seen) == ("ok", "you are seen as 127.0.0.1")


@pytest.mark.parametrize("you", [None, "", "somebody", 7, {"a": 1}])
async def test_an_answer_without_an_address_says_nothing_of_it(you):
    assert len(await seen_at(health_of(you))) == 1


async def test_a_network_counts_by_its_address():
    _, found = await seen_at(health_of("2a01:db8:1:2::/64"))
    assert found.seen == "you are seen as 2a01:db8:1:2::"


@pytest.mark.parametrize("you", ["127.0.0.1", "172.17.0.1", "::1", "fd00::1"])
def test_a_private_address_behind_a_public_name_wants_a_trusted_proxy(you):
    (found,) = judge_visitor({"you": you}, ["93.184.215.14"], ())
    assert (found.verdict, f"TRUSTED_PROXIES={you}" in found.advice) == ("warn", True)
    (well,) = judge_visitor({"you": "93.184.215.14"}, ["93.184.215.14"], ())
    assert well.verdict == "ok"
