"""A host's addresses as sending finds them, and which of them answer."""

import asyncio
import contextlib
import socket
import threading

MOST = 8
"""So many addresses of one host are tried."""


async def find_addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which they are tried. Raises OSError (gaierror).

    A daemon thread asks, so that nobody has to wait for a name server that does not answer once we gave up.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def ask() -> None:
        error, addresses = _ask(host, port)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, error, addresses)

    def tell(error: OSError | None, addresses: list[str]) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(addresses)

    threading.Thread(target=ask, daemon=True).start()
    return await answer


def _ask(host: str, port: int) -> tuple[OSError | None, list[str]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error, []
    except ValueError:  # UnicodeError is one: a label too long, or empty
        return socket.gaierror(socket.EAI_NONAME, "not a host's name"), []
    return None, list(dict.fromkeys(str(address[0]) for *_, address in found))


async def try_addresses(addresses: list[str], port: int, *, within: float) -> dict[str, Exception | None]:
    """Connect to each address and hang up; return what went wrong, None where somebody answers in time (seconds)."""
    tried = addresses[:MOST]
    return dict(zip(tried, await asyncio.gather(*(_try(one, port, within) for one in tried)), strict=True))


async def _try(address: str, port: int, within: float) -> Exception | None:
    try:
        async with asyncio.timeout(within):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, address, port)
    except OSError as error:  # TimeoutError is one
        return error
    transport.abort()
    return None
