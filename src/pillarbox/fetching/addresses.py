"""Which addresses a host has, and which of them are nobody's business but the operator's."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import idna

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) to its addresses in the order in which they are tried; raises OSError (gaierror)."""

MOST_LOOKUPS = 32
"""So many lookups of names may be under way at once, those that nobody waits for any more included."""

# IANA's registries of special-purpose addresses (RFC 6890), told here and not left to the library: what Python takes
# for global changed between its releases.
_NOT_PUBLIC = tuple(
    ip_network(one)
    for one in (
        "0.0.0.0/8",  # this host (RFC 1122)
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a carrier's NAT (RFC 6598)
        "127.0.0.0/8",
        "168.63.129.16/32",  # a public number, yet the host's own agent in Azure
        "169.254.0.0/16",  # link-local, the metadata of clouds among them (RFC 3927)
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments (RFC 6890)
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast
        "2001::/23",  # protocol assignments, Teredo among them (RFC 4380)
        "2001:db8::/32",  # documentation (RFC 3849)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291, section 2.4: all other IPv6 is something special
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_SIX_TO_FOUR = IPv6Network("2002::/16")  # RFC 3056

_lookups = threading.BoundedSemaphore(MOST_LOOKUPS)


def is_public(address: Address) -> bool:
    """Whether anybody on the internet would reach the same machine by this address."""
    meant = reached_by(address)
    if isinstance(meant, IPv6Address) and meant not in _GLOBAL_UNICAST:
        return False
    return not any(meant in special for special in _NOT_PUBLIC)


def reached_by(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for (mapped, NAT64, 6to4); any other as it is."""
    if isinstance(address, IPv4Address):
        return address
    if address in _MAPPED or address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address((int(address) >> 80) & 0xFFFF_FFFF)
    return address


def literal(host: str) -> Address | None:
    """Return the address that a host is written as, in any way the system reads (0x7f.1, 2130706433); else None."""
    try:
        found = socket.getaddrinfo(bare(host).encode("ascii"), None, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return None
    return _address(str(found[0][4][0]))


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine by its very name or number (RFC 6761, section 6.3)."""
    name, written = bare(host), literal(host)
    if written is None:
        return name == "localhost" or name.endswith(".localhost")
    meant = reached_by(written)
    return meant.is_loopback or meant.is_unspecified


def bare(host: str) -> str:
    """Return a host as it is compared: lower case, without the root's dot."""
    return host.lower().removesuffix(".")


def network(written: str) -> Network | None:
    """Read an address or a network (`10.0.0.0/8`, `::1`, `[::1]`); None when it is neither."""
    try:
        return ip_network(written.strip("[]"), strict=False)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Inside:
    """What may be asked though it is not public: hosts by their names, and networks."""

    names: frozenset[str]
    networks: tuple[Network, ...]

    @classmethod
    def of(cls, private: Sequence[str]) -> "Inside":
        """Read names and networks (`gotify.lan`, `10.0.0.0/8`, `::1`)."""
        names = frozenset(bare(_ascii(one)) for one in private if network(one) is None)
        return cls(names, tuple(found for one in private if (found := network(one))))

    def may_ask(self, host: str, address: Address) -> bool:
        """Whether this address of the host may be connected to."""
        return is_public(address) or bare(host) in self.names or self._lists(address)

    def _lists(self, address: Address) -> bool:
        return any(one in listed for one in (address, reached_by(address)) for listed in self.networks)

    def may_ask_all(self, host: str, addresses: Sequence[str]) -> bool:
        """Whether every one of them may be: a host that is half inside is inside."""
        known = [_address(one) for one in addresses]
        return all(one is not None and self.may_ask(host, one) for one in known)


def _ascii(name: str) -> str:
    """Return a name as DNS has it (RFC 5891); one that can't be written so as it is: it matches nothing."""
    try:
        return name if name.isascii() else idna.encode(name.lower()).decode("ascii")
    except idna.IDNAError:
        return name


def _address(written: str) -> Address | None:
    try:
        return ip_address(written.partition("%")[0])
    except ValueError:
        return None


async def find_addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which they are tried. Raises OSError (gaierror).

    A daemon thread asks, so that nobody has to wait for a name server that does not answer once we gave up.
    """
    if not _lookups.acquire(blocking=False):
        raise socket.gaierror(socket.EAI_AGAIN, "too many names are being looked up")
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def ask() -> None:
        error, addresses = _ask(host, port)
        _lookups.release()
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, error, addresses)

    def tell(error: OSError | None, addresses: list[str]) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(addresses)

    try:
        threading.Thread(target=ask, daemon=True, name="lookup").start()
    except RuntimeError as error:
        _lookups.release()
        raise socket.gaierror(socket.EAI_MEMORY, "no thread can be had") from error
    return await answer


def _ask(host: str, port: int) -> tuple[OSError | None, list[str]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error, []
    except ValueError:  # UnicodeError is one: a label too long, or empty
        return socket.gaierror(socket.EAI_NONAME, "not a host's name"), []
    return None, list(dict.fromkeys(str(address[0]) for *_, address in found))
