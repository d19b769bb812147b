"""HTTP as uvicorn speaks it, with the bounds that it leaves to a proxy: how large and how slow a request's head may be.

Without them one connection fills the memory with a header that never ends, and an idle one is held for ever. And how
many connections there may be at once, in all and from one address: a crowd that takes every file descriptor would leave
none to send mail with, and one visitor who takes them all would leave none to the others.
"""

import asyncio
import resource
import socket
from collections import Counter
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pillarbox.core.errors import HeadTooLarge, NotKept, PillarboxError, Unreadable
from pillarbox.web.answering import without_a_request
from pillarbox.web.guards import Networks, address_of, counted_as

MAX_HEAD_BYTES = 64 * 1024
MAX_HEAD_SECONDS = 30.0
LAST_CALL_SECONDS = 2.0
"""So long somebody who has just connected may take to say something when we are told to stop."""
LINGER_SECONDS = 2.0
"""So long a refused request is still read and thrown away: closing at once takes back the answer that says why."""
MAX_LINGER_BYTES = 4 * 1024 * 1024
MAX_WRITE_SECONDS = 30.0
"""So long somebody may take in nothing of an answer."""
MAX_WAITING = 16
"""So many requests may wait on one connection behind the one in hand."""
MOST_CONNECTIONS = 8_192
"""Each takes memory as well, so that a generous allowance of file descriptors is not used up."""
DESCRIPTORS_OF_OUR_OWN = 128
"""What the store, the ways out and all that we read may need, or half of a small allowance."""


def most_connections(allowed: int) -> int:
    """Return how many visitors' connections leave enough of the allowed file descriptors for everything else."""
    if allowed == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(allowed // 2, allowed - DESCRIPTORS_OF_OUR_OWN))


MAX_CONNECTIONS = most_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def bounded(trusted: Networks) -> type[asyncio.Protocol]:
    """Return what uvicorn makes its connections with; the trusted proxies may hold all of them."""
    return cast(type[asyncio.Protocol], partial(BoundedProtocol, peers=Peers(trusted)))


class Peers:
    """Counts the connections of one server by whose they are, so that nobody holds more than half.

    An IPv6 address counts as its /64. A trusted proxy is not counted, for it brings many people; neither is who comes
    through a Unix socket.
    """

    def __init__(self, trusted: Networks = ()) -> None:
        self._trusted = trusted
        self._held: Counter[str] = Counter()

    def admit(self, host: str) -> str | None:
        """Count one more and return whose it is, to be given back; None when this peer holds enough."""
        peer = self._counted_as(host)
        if peer:
            if self._held[peer] >= MAX_CONNECTIONS // 2:
                return None
            self._held[peer] += 1
        return peer

    def give_back(self, peer: str) -> None:
        """Count one less."""
        if peer:
            self._held[peer] -= 1
            if not self._held[peer]:
                del self._held[peer]

    def _counted_as(self, host: str) -> str:
        """Return whose connection it is; empty for somebody who is not counted."""
        address = address_of(host.partition("%")[0])
        if address is None or any(address in network for network in self._trusted):
            return ""
        return counted_as(address)


class Server(uvicorn.Server):
    """Stops without a word to nobody: who is connected already, though we have not looked yet, is answered.

    A proxy before several processes hands one's visitors to the next, but not whom it believes to be in good hands.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer who is there, end."""
        latecomers = [asyncio.create_task(self._admit(one)) for sock in sockets or () for one in _waiting(sock)]
        await super().shutdown(sockets)
        await asyncio.gather(*latecomers, return_exceptions=True)

    async def _admit(self, connection: socket.socket) -> None:
        def protocol() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        _, made = await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)
        cast(BoundedProtocol, made).shutdown()


def _waiting(listening: socket.socket) -> list[socket.socket]:
    """Return the connections that the system has made for us and that nobody has accepted yet."""
    found: list[socket.socket] = []
    listening.setblocking(False)
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:  # there is no other
            return found
        connection.setblocking(False)
        found.append(connection)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Whenever it waits for its client, a clock runs; while it waits for us alone, none does.

    - `_too_slow`: a head has to come whole, and so has the rest of a body that nobody reads any more
    - uvicorn's own for the pause between two requests, and the reading of a body has its own
    - `_too_full`: an answer has to be taken in

    `_unread` counts the bytes since the parser last finished a head or gave out a piece of a body that somebody reads.
    Trailers and chunk extensions count like a head.
    """

    _unread = 0
    _too_slow: asyncio.TimerHandle | None = None
    _too_full: asyncio.TimerHandle | None = None
    _peer: str | None = None
    _is_over = False
    _is_last = False
    _last_word = b""
    _in_hand: RequestResponseCycle | None = None

    def __init__(self, *given: Any, peers: Peers, **named: Any) -> None:
        super().__init__(*given, **named)
        self.ws_protocol_class = None  # who asks for a WebSocket is answered in HTTP, whatever is installed
        self._peers = peers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head, but not for ever; one connection too many is told to come again."""
        super().connection_made(transport)
        if len(self.connections) <= MAX_CONNECTIONS:
            self._peer = self._peers.admit(self.client[0] if self.client else "")
        if self._peer is None:
            transport.write(FULL)
            self._see_off()
            return
        self._too_slow = self.loop.call_later(MAX_HEAD_SECONDS, self._see_off)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clocks, and that it was there."""
        self._in_time()
        self._taken_in()
        self._unset_keepalive_if_required()
        self._forsake()
        if self._peer is not None:
            self._peers.give_back(self._peer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse on; a head that grows too long is answered (RFC 6585, section 5) and cut."""
        self._unread += len(data)
        if self._is_over:
            if self._unread > MAX_LINGER_BYTES:
                self._see_off()
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(Unreadable())  # what follows would not be HTTP; the request itself is answered
        except httptools.HttpParserError as error:
            self._refuse(error.__context__ if isinstance(error.__context__, PillarboxError) else Unreadable())
        if not (self._is_over or self.transport.is_closing()):
            self._wait_on()

    def _wait_on(self) -> None:
        """Set the clock for what is yet to come."""
        if self._is_left_over:
            if self._unread > MAX_LINGER_BYTES:
                self._see_off()
        elif self._unread > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge())
        elif self._too_slow is None and (self._unread or self.cycle.response_complete):
            self._too_slow = self.loop.call_later(MAX_HEAD_SECONDS, self._see_off)

    def shutdown(self) -> None:
        """Take no request but the one that is coming: who has just connected to us believes us to be there."""
        self._is_last = True
        if self.cycle is not None or self._is_over:
            super().shutdown()
        else:
            self._in_time()
            self._too_slow = self.loop.call_later(LAST_CALL_SECONDS, self._see_off)

    def on_headers_complete(self) -> None:
        """Begin the request; raises what is wrong with its head, which reaches data_received() through the parser."""
        if self._unread > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES:
            raise HeadTooLarge
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise Unreadable  # RFC 9112, section 3.2: who routes by one Host and who by the other would not agree
        if len(self.pipeline) >= MAX_WAITING:
            raise Unreadable  # which is not said: what came before is answered, and that ends the connection
        self._in_time()
        super().on_headers_complete()
        if self._is_last:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of the body; when the request is answered already, its clock runs on."""
        if not self._is_left_over:
            self._in_time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request's reading."""
        self._in_time()
        super().on_message_complete()
        self.cycle.more_body = False  # uvicorn does not say so of a request that is answered already

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._in_hand = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on to the next request. The rest of this one, if it was answered before it had come, has to come soon."""
        is_last = not self.pipeline
        super().on_response_complete()
        if self.transport.is_closing():
            self._see_off()
        elif is_last and self._is_over:
            self._end(self._last_word)
        elif self._is_left_over:
            self._linger()

    def timeout_keep_alive_handler(self) -> None:
        """Close, for no other request came."""
        self._see_off()

    def pause_writing(self) -> None:
        """Wait until the client takes in what is written, but not for ever."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._taken_in()

    @property
    def _is_left_over(self) -> bool:
        """Whether what comes now belongs to a request that was answered before it had come whole."""
        return self.cycle is not None and self.cycle.response_complete and self.cycle.more_body

    def _head_bytes(self) -> int:
        """Return the size of this head alone: what follows it may have come in the same piece."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse(self, error: PillarboxError) -> None:
        """Read nothing more. What came whole before is still answered, and nothing else but with this error."""
        self._is_over = True
        cycle = self.cycle
        is_busy = cycle is not None and not cycle.response_complete
        if is_busy and not cycle.more_body:
            cycle.keep_alive = False
        elif is_busy and self.pipeline:
            self.pipeline.popleft()  # others are before it
            self._last_word = _answer(error)
        else:
            if is_busy:
                cycle.disconnected = True
                cycle.message_event.set()
            has_an_answer = self._is_left_over or (is_busy and cycle.response_started)
            self._end(b"" if has_an_answer else _answer(error))

    def _end(self, last_word: bytes) -> None:
        """Say a last word and that it is the last, then wait a little for the client to read it."""
        self.transport.write(last_word)
        self.transport.write_eof()
        self._linger()

    def _linger(self) -> None:
        """Read on for a little, and throw away what comes."""
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self._in_time()
        self._too_slow = self.loop.call_later(LINGER_SECONDS, self._see_off)

    def _see_off(self) -> None:
        """Close once all is written, or soon."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._watch()

    def _watch(self) -> None:
        if self._too_full is None:
            self._too_full = self.loop.call_later(MAX_WRITE_SECONDS, self._cut)

    def _cut(self) -> None:
        self._forsake()
        self.transport.abort()

    def _forsake(self) -> None:
        """Let the request in hand come to its end unheard: uvicorn tells only the last one that its client is gone."""
        if self._in_hand:
            self._in_hand.disconnected = True
            self._in_hand.message_event.set()

    def _taken_in(self) -> None:
        if self._too_full:
            self._too_full.cancel()
            self._too_full = None

    def _in_time(self) -> None:
        self._unread = 0
        if self._too_slow:
            self._too_slow.cancel()
            self._too_slow = None


def _answer(error: PillarboxError) -> bytes:
    """Return the whole answer to a request that is none yet, so that its language and wishes are unknown."""
    status, body = without_a_request(error)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        *(["retry-after: 1"] if isinstance(error, NotKept) else []),
        "connection: close",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


FULL = _answer(NotKept())
