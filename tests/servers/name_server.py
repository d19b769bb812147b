"""A real name server on loopback (UDP) that knows what a test tells it, and remembers what it was asked."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SERVFAIL, REFUSED = dns.rcode.SERVFAIL, dns.rcode.REFUSED
SILENCE = "silence"


class Addresses(tuple[str, ...]):
    """The IPv4 addresses of a name."""


class Turns(list[Addresses]):
    """What a name's addresses are from one question to the next; the last stay."""


class NameServer(asyncio.DatagramProtocol):
    """An async context manager; `records` maps a name to its TXT records, its Addresses or Turns of them, to SILENCE,
    or to a code like SERVFAIL.

    A text longer than 255 octets is split, as zones have it. What is not in `records` does not exist.
    """

    def __init__(self, **records: object) -> None:
        self.records: dict[str, object] = dict(records)
        self.asked: list[str] = []
        self.address = ("127.0.0.1", 0)
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> "NameServer":
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=self.address)
        self.address = self._transport.get_extra_info("sockname")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._transport is not None
        self._transport.close()

    @contextmanager
    def in_thread(self) -> Iterator["NameServer"]:
        """Serve in a thread of its own while the block runs."""
        ready, stop = threading.Event(), threading.Event()

        async def serve() -> None:
            async with self:
                ready.set()
                await asyncio.to_thread(stop.wait)

        thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        thread.start()
        ready.wait(10)
        try:
            yield self
        finally:
            stop.set()
            thread.join(10)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing to do: the endpoint is kept by whoever made it."""

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question."""
        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        self.asked.append(name)
        known = self.records.get(name)
        if known == SILENCE:
            return
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if known is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif isinstance(known, dns.rcode.Rcode):
            answer.set_rcode(known)
        elif isinstance(known, Addresses | Turns):
            self._add_addresses(answer, known)
        elif known:
            texts = [" ".join(f'"{part}"' for part in _parts(text)) for text in known]  # type: ignore[attr-defined]
            answer.answer.append(dns.rrset.from_text_list(query.question[0].name, 60, "IN", "TXT", texts))
        assert self._transport is not None
        self._transport.sendto(answer.to_wire(), addr)

    def _add_addresses(self, answer: dns.message.Message, known: Addresses | Turns) -> None:
        question = answer.question[0]
        if question.rdtype != dns.rdatatype.A:
            return
        addresses = known if isinstance(known, Addresses) else known[0] if len(known) == 1 else known.pop(0)
        answer.answer.append(dns.rrset.from_text_list(question.name, 0, "IN", "A", addresses))


def _parts(text: str) -> list[str]:
    return [text[start : start + 255] for start in range(0, len(text), 255)]
