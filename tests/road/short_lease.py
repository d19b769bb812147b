"""`python short_lease.py SECONDS`: `pillarbox worker` with shorter leases, for proofs that can't wait half a minute."""

import asyncio
import signal
import sys

from pillarbox.app import assemble
from pillarbox.settings import load


async def main(lease: float) -> None:
    """Dispatch until SIGTERM."""
    parts = assemble(load(), lease=lease)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with parts.running(dispatching=True):
        await told.wait()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
