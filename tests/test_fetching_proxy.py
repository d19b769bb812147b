"""The proxies of the environment are used, and are no way around what must not be asked."""

import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pillarbox.fetching import Fetcher, Unreachable
from pillarbox.fetching.addresses import Resolve, find_addresses
from pillarbox.fetching.proxies import choose_proxy
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.http_proxy import HttpProxy
from tests.servers.http_sink import HttpSink

pytestmark = pytest.mark.anyio

PRIVATE = "its address is a private one; list it in PRIVATE_HOSTS if that is meant"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), "hooks.ada.example", "fd00::1")


@pytest.fixture
def sink(certificates: Certificates) -> Iterator[HttpSink]:
    with HttpSink(certificates.context).running() as running:
        yield running


def asking(certificates: Certificates, *private: str, resolve: Resolve = find_addresses) -> Fetcher:
    trusting = ssl.create_default_context(cafile=certificates.ca_file)
    return Fetcher(connect_seconds=5, total_seconds=5, private=private, context=trusting, resolve=resolve)


async def why_not(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(Unreachable) as caught:
        await fetcher.fetch("GET", url)
    return str(caught.value)


async def test_a_name_is_left_to_the_proxy_and_its_certificate_is_still_checked(
    sink: HttpSink, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
):
    async with HttpProxy(sink.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ada:p%40ss@{proxy.address}")
        fetcher = asking(certificates)
        assert (await fetcher.fetch("POST", "https://hooks.ada.example/hook", content=b"words")).status == 200
        assert await why_not(fetcher, "https://other.ada.example/") == "its certificate is not to be trusted"
    assert [lines[0] for lines in proxy.asked] == [
        "CONNECT hooks.ada.example:443 HTTP/1.1",
        "CONNECT other.ada.example:443 HTTP/1.1",
    ]
    assert "Proxy-Authorization: Basic YWRhOnBAc3M=" in proxy.asked[0]
    (asked,) = sink.asked
    assert (asked.target, asked.headers["host"], asked.body) == ("/hook", "hooks.ada.example", b"words")
    assert "proxy-authorization" not in asked.headers


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "167772161", "0x0a.1", "169.254.169.254", "[fd00::1]", "[::ffff:10.0.0.1]"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_proxy_is_asked_for_an_address_inside(
    sink: HttpSink, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, scheme: str, host: str
):
    async with HttpProxy(sink.port) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://{proxy.address}")
        assert await why_not(asking(certificates), f"{scheme}://{host}/") == PRIVATE
    assert proxy.asked == []


async def test_an_address_inside_that_is_allowed_is_asked_for(
    sink: HttpSink, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
):
    async with HttpProxy(sink.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.address)
        assert (await asking(certificates, "fd00::/8").fetch("GET", "https://[fd00::1]/")).status == 200
    assert proxy.asked[0][0] == "CONNECT [fd00::1]:443 HTTP/1.1"
    assert sink.asked[0].headers["host"] == "[fd00::1]"


async def test_what_goes_around_the_proxy_is_judged(
    sink: HttpSink, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
):
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    url = f"https://hooks.ada.example:{sink.port}/"
    async with HttpProxy(sink.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        monkeypatch.setenv("NO_PROXY", "ada.example")
        assert await why_not(asking(certificates, resolve=resolve), url) == PRIVATE
        assert sink.asked == []
        assert (await asking(certificates, "hooks.ada.example", resolve=resolve).fetch("GET", url)).status == 200
    assert proxy.asked == []


async def test_a_proxy_that_refuses_is_said_so(
    sink: HttpSink, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
):
    async with HttpProxy(sink.port) as proxy:
        proxy.answer = b"HTTP/1.1 403 Never\r\nContent-Length: 0\r\n\r\n"
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        assert await why_not(asking(certificates), "https://hooks.ada.example/") == "the proxy refused"


@pytest.mark.parametrize("written", ["socks5://127.0.0.1:1080", "http://", "http://127.0.0.1:99999"])
async def test_a_proxy_that_is_none_is_said_so(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: str
):
    monkeypatch.setenv("HTTPS_PROXY", written)
    assert "HTTPS_PROXY" in await why_not(asking(certificates), "https://hooks.ada.example/")
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    assert "SSL_CERT_FILE" in await why_not(Fetcher(), "https://hooks.ada.example/")


BOTH = {"http": "http://one:3128", "https": "two:3128"}


@pytest.mark.parametrize(
    ("known", "scheme", "host", "proxy"),
    [
        ({}, "http", "ada.example", ""),
        (BOTH, "http", "ada.example", "http://one:3128"),
        (BOTH, "https", "ada.example", "http://two:3128"),
        ({"all": "http://all:1"}, "https", "ada.example", "http://all:1"),
        (BOTH, "http", "localhost", ""),
        (BOTH, "http", "forms.localhost", ""),
        (BOTH, "http", "127.1", ""),
        (BOTH, "http", "::1", ""),
        (BOTH | {"no": "*"}, "http", "ada.example", ""),
        (BOTH | {"no": "other.example, ADA.example"}, "http", "ada.example", ""),
        (BOTH | {"no": "ada.example"}, "http", "www.ada.example.", ""),
        (BOTH | {"no": ".ada.example"}, "http", "www.ada.example", ""),
        (BOTH | {"no": "*.ada.example"}, "http", "www.ada.example", ""),
        (BOTH | {"no": "ada.example"}, "http", "notada.example", "http://one:3128"),
        (BOTH | {"no": "ada.example:8080"}, "http", "ada.example", ""),
        (BOTH | {"no": "ada.example:8081"}, "http", "ada.example", "http://one:3128"),
        (BOTH | {"no": "10.0.0.0/8"}, "http", "10.1.2.3", ""),
        (BOTH | {"no": "10.1.2.3"}, "http", "10.1.2.3", ""),
        (BOTH | {"no": "10.1.2.3:8080"}, "http", "10.1.2.3", ""),
        (BOTH | {"no": "10.0.0.0/8"}, "http", "11.1.2.3", "http://one:3128"),
        (BOTH | {"no": "[fd00::1]"}, "http", "fd00::1", ""),
        (BOTH | {"no": "[fd00::1]:8080"}, "http", "fd00::1", ""),
        (BOTH | {"no": "fd00::/8"}, "http", "fd00::1", ""),
        (BOTH | {"no": " ,,"}, "http", "ada.example", "http://one:3128"),
    ],
)
def test_the_proxy_is_chosen_as_other_programs_choose_it(known: Mapping[str, str], scheme: str, host: str, proxy: str):
    assert choose_proxy(known, scheme=scheme, host=host, port=8080) == proxy
