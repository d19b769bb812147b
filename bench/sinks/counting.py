"""A mail server that knows each mail by its Message-ID, says "later" first if told to, and can take its time.

    python -m bench.sinks.counting --port 2525 --put-off visitor. --reply-ms 20

An address that begins with the word of `--put-off` is answered 451 once, and taken from then on. With `--reply-ms`
every reply, the greeting included, leaves so many milliseconds after its command was read, and what is pipelined behind
it waits. It speaks just enough SMTP (RFC 5321), with PIPELINING (RFC 2920), and writes a counter line after each mail:
`mesg=` different mails, `twice=` repeats, `later=` answers of 451, `bytes=`, and `first=` and `last=`, when these came
on CLOCK_MONOTONIC. Each line ends with a carriage return alone, as smtp-sink does it.
"""

import argparse
import asyncio
import sys
import time
from typing import Any

import uvloop

EHLO = b"250-counting-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 10240000\r\n250 ENHANCEDSTATUSCODES\r\n"
END = b"\r\n.\r\n"
OK = b"250 2.0.0 Ok\r\n"
HEADER = b"\r\nmessage-id:"


class Ledger:
    """What was taken, and who was put off; every mail is one more line."""

    def __init__(self, put_off: bytes) -> None:
        """Put off the first letter to each address that begins with these letters; to none when there are none."""
        self.put_off = put_off
        self.known: set[bytes] = set()
        self.put_off_once: set[bytes] = set()
        self.twice = self.bytes = 0
        self.first = 0.0

    def takes(self, address: bytes) -> bool:
        """Tell whether a letter to this address is taken now."""
        if not self.put_off or not address.startswith(self.put_off) or address in self.put_off_once:
            return True
        self.put_off_once.add(address)
        return False

    def add(self, mail: bytes) -> None:
        """Count one mail and say so."""
        now = time.monotonic()
        self.first = self.first or now
        head = b"\r\n" + mail[: mail.find(b"\r\n\r\n") + 2].lower()
        identifier = head.partition(HEADER)[2].partition(b"\r\n")[0].strip()
        self.twice += identifier in self.known
        self.known.add(identifier)
        self.bytes += len(mail)
        sys.stdout.write(
            f"mesg={len(self.known)} twice={self.twice} later={len(self.put_off_once)} bytes={self.bytes} "
            f"first={self.first:.4f} last={now:.4f}\r"
        )
        sys.stdout.flush()


class Session(asyncio.Protocol):
    """One client. While a reply waits for its time nothing behind it is read, so replies keep their order."""

    def __init__(self, ledger: Ledger, delay: float) -> None:
        """Reply after `delay` seconds."""
        self.ledger, self.delay = ledger, delay
        self.buffer = b""
        self.in_body = False
        self.recipients = 0
        self.held = False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = transport
        self.reply(b"220 counting-sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Do whatever is complete."""
        self.buffer += data
        self.advance()

    def advance(self) -> None:
        """Take commands and bodies until one is incomplete or a reply is due later."""
        while not self.held and (self.take_body() if self.in_body else self.take_command()):
            pass

    def reply(self, words: bytes) -> None:
        """Say this now, or hold everything until its time has come."""
        if not self.delay:
            self.transport.write(words)
            return
        self.held = True
        asyncio.get_running_loop().call_later(self.delay, self.say, words)

    def say(self, words: bytes) -> None:
        """Say what was held, and go on."""
        self.held = False
        if not self.transport.is_closing():
            self.transport.write(words)
            self.advance()

    def take_body(self) -> bool:
        """Take one message up to its final dot; False when more must come."""
        end = self.buffer.find(END)
        if end < 0:
            return False
        mail, self.buffer = self.buffer[: end + 2], self.buffer[end + len(END) :]
        self.in_body = False
        self.ledger.add(mail)
        self.reply(OK)
        return True

    def take_command(self) -> bool:
        """Answer one command line; False when none is complete."""
        line, found, rest = self.buffer.partition(b"\r\n")
        if not found:
            return False
        self.buffer = rest
        verb = line[:4].upper()
        if verb == b"RCPT":
            taken = self.ledger.takes(line.partition(b"<")[2].partition(b">")[0])
            self.recipients += taken
            self.reply(OK if taken else b"451 4.7.1 Please come back in a moment\r\n")
        elif verb == b"DATA" and not self.recipients:
            self.reply(b"554 5.5.1 No valid recipients\r\n")
        elif verb == b"DATA":
            self.in_body = True
            self.reply(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        elif verb == b"QUIT":
            self.transport.write(b"221 2.0.0 Bye\r\n")
            self.transport.close()
        elif verb in {b"EHLO", b"HELO", b"MAIL", b"RSET", b"NOOP"}:
            self.recipients = 0
            self.reply(EHLO if verb == b"EHLO" else OK)
        else:
            self.reply(b"502 5.5.1 Not here\r\n")
        return True


async def serve(port: int, put_off: str, delay: float) -> None:
    """Listen on loopback until cancelled."""
    ledger = Ledger(put_off.encode())
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(ledger, delay), "127.0.0.1", port, backlog=512)
    await server.serve_forever()


def main() -> None:
    """Run the server from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.sinks.counting")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--put-off", default="", help="answer 451 once to addresses that begin so")
    parser.add_argument("--reply-ms", type=float, default=0.0, help="milliseconds before each reply")
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.put_off, given.reply_ms / 1000))


if __name__ == "__main__":
    main()
