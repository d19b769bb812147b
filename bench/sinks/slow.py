"""A mail server that takes its time: it answers each final dot so many milliseconds later, and counts.

    python -m bench.sinks.slow --port 2525 --delay-ms 200

Smtp-sink's own delay is in whole seconds, hence this one. It speaks just enough SMTP (RFC 5321), with PIPELINING
(RFC 2920), for any client, and writes smtp-sink's own counter line (`mesg=N`) to standard output.
"""

import argparse
import asyncio
import sys
from typing import Any

import uvloop

EHLO = b"250-slow-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 10240000\r\n250 ENHANCEDSTATUSCODES\r\n"
END = b"\r\n.\r\n"


class Counter:
    """How many mails were taken; every change is one line end without a line feed, as smtp-sink does it."""

    def __init__(self) -> None:
        """Start at none."""
        self.mails = 0

    def add(self) -> None:
        """Count one mail and say so."""
        self.mails += 1
        sys.stdout.write(f"mesg={self.mails}\r")
        sys.stdout.flush()


class Session(asyncio.Protocol):
    """One client. While a final dot waits for its answer nothing behind it is read, so answers keep their order."""

    def __init__(self, counter: Counter, delay: float) -> None:
        """Answer final dots after `delay` seconds."""
        self.counter, self.delay = counter, delay
        self.buffer = b""
        self.in_body = False
        self.held = False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = transport
        self.transport.write(b"220 slow-sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Do whatever is complete."""
        self.buffer += data
        self.advance()

    def advance(self) -> None:
        """Take commands and bodies until one is incomplete or an answer is due later."""
        while not self.held and (self.take_body() if self.in_body else self.take_command()):
            pass

    def take_body(self) -> bool:
        """Take one message up to its final dot; False when more must come."""
        end = self.buffer.find(END)
        if end < 0:
            return False
        self.buffer = self.buffer[end + len(END) :]
        self.in_body, self.held = False, True
        asyncio.get_running_loop().call_later(self.delay, self.accept)
        return True

    def accept(self) -> None:
        """Answer the final dot and go on."""
        self.held = False
        if not self.transport.is_closing():
            self.counter.add()
            self.transport.write(b"250 2.0.0 Ok\r\n")
            self.advance()

    def take_command(self) -> bool:
        """Answer one command line; False when none is complete."""
        line, found, rest = self.buffer.partition(b"\r\n")
        if not found:
            return False
        self.buffer = rest
        verb = line[:4].upper()
        if verb == b"EHLO":
            self.transport.write(EHLO)
        elif verb == b"DATA":
            # The line break before an empty body's dot is the one of this command.
            self.in_body, self.buffer = True, b"\r\n" + rest
            self.transport.write(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        elif verb == b"QUIT":
            self.transport.write(b"221 2.0.0 Bye\r\n")
            self.transport.close()
        elif verb in {b"HELO", b"MAIL", b"RCPT", b"RSET", b"NOOP"}:
            self.transport.write(b"250 2.0.0 Ok\r\n")
        else:
            self.transport.write(b"502 5.5.1 Not here\r\n")
        return True


async def serve(port: int, delay: float) -> None:
    """Listen on loopback until cancelled."""
    counter = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(counter, delay), "127.0.0.1", port, backlog=512)
    await server.serve_forever()


def main() -> None:
    """Run the server from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.sinks.slow")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, default=200.0)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.delay_ms / 1000))


if __name__ == "__main__":
    main()
