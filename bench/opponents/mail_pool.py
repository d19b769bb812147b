"""Kept connections to a mail server with aiosmtplib, as a queue's worker would share them among its jobs."""

import asyncio

import aiosmtplib

from bench.opponents.work import SENDER


class Later(Exception):
    """The mail server said 4xx."""


class MailPool:
    """So many connections to a loopback port, each opened when it is first needed and kept."""

    def __init__(self, port: int, connections: int) -> None:
        """Open nothing yet."""
        self._free: asyncio.LifoQueue[aiosmtplib.SMTP] = asyncio.LifoQueue()
        for _ in range(connections):
            self._free.put_nowait(
                aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False, use_tls=False, timeout=60)
            )

    async def send(self, recipient: str, mail: bytes) -> None:
        """Hand one mail over; raises Later."""
        client = await self._free.get()
        try:
            if not client.is_connected:
                await client.connect()
            await client.sendmail(SENDER, [recipient], mail)
        except aiosmtplib.SMTPRecipientsRefused as refused:
            raise Later(str(refused.recipients[0].code)) from refused
        finally:
            self._free.put_nowait(client)
