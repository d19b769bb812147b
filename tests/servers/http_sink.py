"""A real HTTP server on loopback, in a thread, that answers as a test tells it and remembers all it was asked."""

import json
import ssl
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOOPBACK = ("127.0.0.0/8", "::1/128")
"""What a fetcher has to be allowed to reach it."""
SILENCE = "silence"
"""Never answer."""
ENDLESS = "endless"
"""Answer 200 with a body that never ends."""
HANG_UP = "hang up"
"""Close the connection without a word."""
GARBAGE = "garbage"
"""Say something that is no HTTP."""


@dataclass(frozen=True)
class Flood:
    """Say the beginning, then the rest again and again, with so many seconds between, until nobody listens."""

    beginning: bytes
    again: bytes
    pause: float = 0.0


Answer = int | str | bytes | Flood


@dataclass(frozen=True)
class Asked:
    """One request: its target as it came, headers by lower-case name, and the body."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        """What the body holds as JSON."""
        return json.loads(self.body)

    @property
    def login(self) -> str:
        """The user and password of HTTP's basic scheme."""
        return b64decode(self.headers["authorization"].removeprefix("Basic ")).decode()


class HttpSink:
    """The server. `answer` is what everybody gets until it is changed: a status, one of the words above, the very
    bytes, or a flood of them. `location` is where redirects lead."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answer: Answer = 200
        self.asked: list[Asked] = []
        self.location = ""
        self.written = 0
        """Bytes of floods that were written before the asker left."""
        self._ending = threading.Event()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.close_connection = True
                self.raw_requestline = self.rfile.readline(65_537)
                if self.raw_requestline and self.parse_request():
                    sink._take(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if context else 'http'}://{self.address}"

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.asked.append(Asked(handler.command, handler.path, headers, body))
        with suppress(OSError):
            self._reply(handler, self.answer)

    def _reply(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        if answer == SILENCE:
            self._ending.wait(30)
        elif answer == GARBAGE:
            handler.wfile.write(b"220 mail.example.org ESMTP\r\n")
        elif answer == ENDLESS:
            self._flood(handler, Flood(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536))
        elif isinstance(answer, Flood):
            self._flood(handler, answer)
        elif isinstance(answer, bytes):
            handler.wfile.write(answer)
        elif isinstance(answer, int):
            location = f"Location: {self.location or f'{self.url}/elsewhere'}\r\n" if 300 <= answer < 400 else ""
            handler.wfile.write(f"HTTP/1.1 {answer} Said\r\n{location}Content-Length: 2\r\n\r\nOK".encode())

    def _flood(self, handler: BaseHTTPRequestHandler, flood: Flood) -> None:
        handler.wfile.write(flood.beginning)
        while not self._ending.wait(flood.pause) and self.written < 100_000_000:
            self.written += handler.wfile.write(flood.again)

    @contextmanager
    def running(self) -> Iterator["HttpSink"]:
        """Serve while the block runs."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ending.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join(10)
