"""Which of a host's addresses answer."""

import asyncio

MOST = 8
"""So many addresses of one host are tried."""


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
