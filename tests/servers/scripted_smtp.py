"""A real SMTP server on loopback that answers as a test tells it and remembers all it was sent.

`python -m tests.servers.scripted_smtp --port 0 --log FILE --delay-dot 0.2` prints its port and serves until it is
ended. Answers come from `script()`: for a stage a text, an `Answer`, a list of them (one for each time, the last one
usual again), a dict from the n-th time (1 is the first) to one, or a callable that is given the `Moment`.
"""

import argparse
import asyncio
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.smtp_connection import Connection
from tests.servers.smtp_script import DROP, EXTENSIONS, SILENCE, USUAL, Answer, Moment, Plan, Transaction

__all__ = ["DROP", "EXTENSIONS", "SILENCE", "USUAL", "Answer", "Moment", "ScriptedSmtp", "Transaction"]


class ScriptedSmtp(Plan):
    """The server: an async context manager, or `in_thread()`; `transactions` and `lines` tell what came.

    `context` is for TLS, offered by STARTTLS, or used from the start when `implicit`. `accounts` (user: password)
    are whom AUTH lets in. With `keep=False` only `count` grows, for long runs.
    """

    def __init__(
        self,
        *,
        context: ssl.SSLContext | None = None,
        implicit: bool = False,
        extensions: tuple[str, ...] = EXTENSIONS,
        auth: tuple[str, ...] = (),
        accounts: dict[str, str] | None = None,
        keep: bool = True,
        log: Path | None = None,
        dot_delay: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(accounts, log)
        self.context, self.implicit, self.extensions, self.auth = context, implicit, extensions, auth
        self.keep, self.dot_delay, self.host, self.port = keep, dot_delay, host, port
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "ScriptedSmtp":
        loop = asyncio.get_running_loop()
        tls = self.context if self.implicit else None
        self._server = await loop.create_server(lambda: Connection(self, loop), self.host, self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in tuple(self.open_connections):
            connection.hang_up()  # type: ignore[attr-defined]
        await asyncio.sleep(0)  # lets the connections notice
        self.close_log()

    @contextmanager
    def in_thread(self) -> Iterator["ScriptedSmtp"]:
        """Serve in a thread of its own while the block runs; `script()` and the records work from outside."""
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


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = ScriptedSmtp(
        host=arguments.host,
        port=arguments.port,
        log=arguments.log,
        dot_delay=arguments.delay_dot,
        keep=False,
        auth=tuple(arguments.auth),
    )
    for name, value in arguments.script:
        server.script(**{name: value})
    async with server:
        print(server.port, flush=True)  # noqa: T201 - the one line that tells our caller where we are
        await stop.wait()


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--delay-dot", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--auth", nargs="*", default=[], help="mechanisms to offer")
    parser.add_argument("--script", nargs=2, action="append", default=[], metavar=("STAGE", "REPLY"))
    try:
        import uvloop  # twice as fast where it is installed
    except ImportError:
        asyncio.run(_serve(parser.parse_args()))
    else:
        uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
