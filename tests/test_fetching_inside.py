"""Nobody inside is asked unless that was allowed: whatever the address looks like, and whatever its name becomes."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import dns.asyncresolver
import pytest

from pillarbox.fetching import Fetcher, Unreachable
from pillarbox.fetching.addresses import Inside, Resolve, find_addresses, is_public
from tests.running import free_port
from tests.servers.certificates import make_certificates
from tests.servers.http_sink import LOOPBACK, HttpSink
from tests.servers.name_server import Addresses, NameServer, Turns

pytestmark = pytest.mark.anyio

PRIVATE = "its address is a private one; list it in PRIVATE_HOSTS if that is meant"
NO_ADDRESS = "this is no web address"
NO_NAME = "its name is not known to DNS"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody who listens at every address of this machine, and never takes what the kernel connected."""
    six = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if six else socket.AF_INET
    with socket.create_server(("::" if six else "0.0.0.0", 0), family=family, dualstack_ipv6=six) as made:
        made.setblocking(False)
        yield made


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink().running() as running:
        yield running


def was_connected_to(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def always(*addresses: str) -> Resolve:
    """Return a resolver that gives every name these addresses."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return resolve


async def why_not(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(Unreachable) as caught:
        await fetcher.fetch("GET", url)
    return str(caught.value)


@pytest.mark.parametrize(
    ("host", "why_not_it"),
    [
        ("127.0.0.1", PRIVATE),
        ("127.255.255.254", PRIVATE),
        ("127.1", PRIVATE),
        ("2130706433", PRIVATE),
        ("017700000001", PRIVATE),
        ("0x7f000001", PRIVATE),
        ("0x7f.1", PRIVATE),
        ("0177.1", PRIVATE),
        ("0177.0.0.1", NO_ADDRESS),
        ("127.0.0.01", NO_ADDRESS),
        ("0", PRIVATE),
        ("0.0.0.0", PRIVATE),
        ("127。0。0。1", PRIVATE),
        ("①②⑦.0.0.1", NO_ADDRESS),
        ("localhost", PRIVATE),
        ("LOCALHOST", PRIVATE),
        ("[::1]", PRIVATE),
        ("[::]", PRIVATE),
        ("[0000:0:0:0::0:1]", PRIVATE),
        ("[::ffff:127.0.0.1]", PRIVATE),
        ("[::ffff:7f00:1]", PRIVATE),
        ("[::127.0.0.1]", PRIVATE),
        ("[64:ff9b::127.0.0.1]", PRIVATE),
        ("[2002:7f00:1::]", PRIVATE),
        ("[2001:0:7f00:1::80ff:fffe]", PRIVATE),
        ("[fe80::1%1]", PRIVATE),
        ("[::1%1]", PRIVATE),
        ("[::1", NO_ADDRESS),
        ("public.example@127.0.0.1", PRIVATE),
        ("public.example:80@127.0.0.1", PRIVATE),
        ("public.example\\@127.0.0.1", PRIVATE),
        ("public.example%2F@127.0.0.1", PRIVATE),
        ("127.0.0.1%2F@public.example", NO_NAME),
        ("%31%32%37.0.0.1", NO_NAME),
        ("127.0.0.1\n", NO_ADDRESS),
        ("127.0.0.1\x00.public.example", NO_ADDRESS),
        ("10.0.0.1", PRIVATE),
        ("169.254.169.254", PRIVATE),
    ],
)
async def test_however_an_address_inside_is_written_nobody_is_connected_to(
    listener: socket.socket, host: str, why_not_it: str
):
    """What a name that is none becomes is left to the system, but for DNS: nothing there leaves this machine."""

    async def resolve(name: str, port: int) -> list[str]:
        if name != "localhost":
            socket.getaddrinfo(name, port, flags=socket.AI_NUMERICHOST)
        return await find_addresses(name, port)

    fetcher = Fetcher(connect_seconds=2, total_seconds=2, resolve=resolve)
    assert await why_not(fetcher, f"http://{host}:{listener.getsockname()[1]}/") == why_not_it
    assert not was_connected_to(listener)


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f.1", "127。0。0。1", "public.example@127.0.0.1", "localhost"]
)
async def test_the_same_are_asked_once_their_network_is_allowed(sink: HttpSink, host: str):
    fetcher = Fetcher(connect_seconds=2, total_seconds=2, private=LOOPBACK)
    assert (await fetcher.fetch("GET", f"http://{host}:{sink.port}/")).status == 200


@pytest.mark.parametrize(
    "address",
    [
        *("0.1.2.3", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.2", "169.254.0.1", "168.63.129.16"),
        *("172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.168.0.1", "198.18.0.1", "198.19.255.255"),
        *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::8.8.8.8", "100::1", "2001::1", "2001:db8::1", "2001:2::1", "3fff::1", "5f00::1"),
        *("64:ff9b:1::8.8.8.8", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1"),
        *("64:ff9b::10.0.0.1", "2002:a00:1::1", "2002:c0a8:1::1", "::ffff:0:10.0.0.1"),
    ],
)
def test_what_is_not_public_is_known(address: str):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1"),
        *("192.0.1.1", "192.167.255.255", "198.17.255.255", "198.20.0.0", "223.255.255.255"),
        *("2606:4700:4700::1111", "2a01:4f8::1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::1"),
    ],
)
def test_what_is_public_is_known(address: str):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    ("private", "host", "address", "may"),
    [
        ("gotify.lan", "gotify.lan", "10.0.0.1", True),
        ("gotify.lan", "GOTIFY.lan.", "10.0.0.1", True),
        ("gotify.lan", "evil.gotify.lan", "10.0.0.1", False),
        ("gotify.lan", "other.lan", "10.0.0.1", False),
        ("bücher.lan", "xn--bcher-kva.lan", "10.0.0.1", True),
        ("10.0.0.0/8", "gotify.lan", "10.0.0.1", True),
        ("10.0.0.0/8", "gotify.lan", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "gotify.lan", "192.168.0.1", False),
        ("10.0.0.5", "10.0.0.5", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.6", "10.0.0.6", False),
        ("::1/128", "localhost", "::1", True),
        ("[::1]", "localhost", "::1", True),
        ("::1/128", "localhost", "127.0.0.1", False),
    ],
)
def test_a_host_or_its_network_may_be_allowed(private: str, host: str, address: str, may: bool):
    assert Inside.of([private]).may_ask(host, ip_address(address)) is may


async def test_a_host_that_is_half_inside_is_inside(listener: socket.socket):
    fetcher = Fetcher(connect_seconds=2, total_seconds=2, resolve=always("1.1.1.1", "127.0.0.1"))
    assert await why_not(fetcher, f"http://ada.example:{listener.getsockname()[1]}/") == PRIVATE
    assert not was_connected_to(listener)


async def test_an_address_that_refuses_is_not_the_end_of_it(sink: HttpSink):
    fetcher = Fetcher(connect_seconds=2, total_seconds=2, private=LOOPBACK, resolve=always("127.0.0.9", "127.0.0.1"))
    assert (await fetcher.fetch("GET", f"http://ada.example:{sink.port}/")).status == 200
    assert sink.asked[0].headers["host"] == f"ada.example:{sink.port}"
    fetcher = Fetcher(connect_seconds=2, total_seconds=2, private=LOOPBACK, resolve=always("127.0.0.9", "127.0.0.8"))
    assert await why_not(fetcher, f"http://ada.example:{sink.port}/") == "connection refused"


async def test_an_address_that_swallows_everything_leaves_time_for_the_next(sink: HttpSink):
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.9", sink.port))
        full.listen(0)
        for waiting in (first, second):  # the kernel takes one more than it was told, and then answers nobody
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        resolve = always("127.0.0.9", "127.0.0.1")
        fetcher = Fetcher(connect_seconds=0.6, total_seconds=20, private=LOOPBACK, resolve=resolve)
        assert (await fetcher.fetch("GET", f"http://ada.example:{sink.port}/")).status == 200


async def test_a_name_server_that_does_not_answer_is_left_in_time():
    async def never(_host: str, _port: int) -> Sequence[str]:
        return await asyncio.Future()

    fetcher = Fetcher(connect_seconds=0.05, total_seconds=20, resolve=never)
    assert await why_not(fetcher, "http://ada.example/") == "its name could not be looked up in time"


@asynccontextmanager
async def house() -> AsyncIterator[tuple[int, list[str]]]:
    """Answer at every IPv4 address of this machine; gives the port, and the addresses that were connected to."""
    met: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(writer.get_extra_info("sockname")[0])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 Well\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "0.0.0.0", free_port()) as server:
        yield server.sockets[0].getsockname()[1], met


async def test_a_name_that_changes_its_address_is_asked_for_once_and_what_was_judged_is_connected_to():
    async with NameServer() as names, house() as (port, met):
        names.records["ada.example"] = Turns([Addresses(["127.0.0.2"]), Addresses(["127.0.0.3"])])
        asking = dns.asyncresolver.Resolver(configure=False)
        asking.nameservers, asking.port = [names.address[0]], names.address[1]

        async def resolve(host: str, _port: int) -> Sequence[str]:
            return [one.to_text() for one in await asking.resolve(host, "A")]

        fetcher = Fetcher(connect_seconds=2, total_seconds=2, private=("127.0.0.2/32",), resolve=resolve)
        assert (await fetcher.fetch("GET", f"http://ada.example:{port}/")).status == 204
        assert (met, names.asked) == (["127.0.0.2"], ["ada.example"])
        assert await why_not(fetcher, f"http://ada.example:{port}/") == PRIVATE
        assert (met, names.asked) == (["127.0.0.2"], ["ada.example"] * 2)


def may_make_namespaces() -> bool:
    tried = subprocess.run(["unshare", "-rnm", "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return tried.returncode == 0


@pytest.mark.skipif(not may_make_namespaces(), reason="this machine lets nobody make namespaces")
async def test_by_the_systems_own_resolver_a_name_that_moves_inside_reaches_nobody_there(tmp_path: Path):
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: dns\n")
    mounts = "".join(f"mount --bind {tmp_path}/{name} /etc/{name}\n" for name in ("resolv.conf", "nsswitch.conf"))
    script = (
        f"set -e\nip link set lo up\nip addr add {OUTSIDE}/32 dev lo\n{mounts}exec {sys.executable} -m {__name__}\n"
    )
    said = await asyncio.to_thread(
        subprocess.run, ["unshare", "-rnm", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == {"answers": [204, PRIVATE], "met": [OUTSIDE]}


OUTSIDE = "93.184.215.14"
"""A public address, which this machine takes for its own within the namespace."""


async def in_the_namespace() -> None:
    """Ask twice for a name that is public at first and this machine afterwards; tell what came of it."""
    names = NameServer()
    names.address = ("127.0.0.1", 53)
    names.records["ada.example"] = Turns([Addresses([OUTSIDE]), Addresses(["127.0.0.1"])])
    answers: list[int | str] = []
    async with names, house() as (port, met):
        fetcher = Fetcher(connect_seconds=5, total_seconds=5)
        for _ in range(2):
            try:
                answers.append((await fetcher.fetch("GET", f"http://ada.example:{port}/")).status)
            except Unreachable as error:
                answers.append(str(error))
    sys.stdout.write(json.dumps({"answers": answers, "met": met}))


@pytest.mark.parametrize("host", ["hooks.ada.example", "hooks.ada.example.", "HOOKS.ada.example"])
async def test_the_certificate_is_asked_for_and_checked_by_the_name(tmp_path: Path, host: str):
    own = make_certificates(tmp_path, "hooks.ada.example")
    asked_for: list[str | None] = []
    context = own.context
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    trusting = ssl.create_default_context(cafile=own.ca_file)
    with HttpSink(context).running() as sink:
        fetcher = Fetcher(private=LOOPBACK, context=trusting, resolve=always("127.0.0.1"))
        assert (await fetcher.fetch("GET", f"https://{host}:{sink.port}/")).status == 200
    assert asked_for == ["hooks.ada.example"]
    assert sink.asked[0].headers["host"] == f"{host.lower()}:{sink.port}"


async def test_a_certificate_of_the_address_or_of_another_name_is_not_enough(tmp_path: Path):
    other = make_certificates(tmp_path, "127.0.0.1", "other.ada.example")
    trusting = ssl.create_default_context(cafile=other.ca_file)
    with HttpSink(other.context).running() as sink:
        fetcher = Fetcher(private=LOOPBACK, context=trusting, resolve=always("127.0.0.1"))
        url = f"https://hooks.ada.example:{sink.port}/"
        assert await why_not(fetcher, url) == "its certificate is not to be trusted"
    assert sink.asked == []


if __name__ == "__main__":
    asyncio.run(in_the_namespace())
