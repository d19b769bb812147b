"""One client of a scripted mail server: the conversation of RFC 5321, with the script's word in every answer."""

import asyncio
import base64
import binascii
import time
from collections.abc import Callable
from typing import Any

from tests.servers.smtp_script import USUAL, Answer, Plan, Transaction


class Connection(asyncio.Protocol):
    """One client. Lines and letters are cut out of `_buffer`; while an answer is late nothing more is read."""

    def __init__(self, server: Plan, loop: asyncio.AbstractEventLoop) -> None:
        self.server, self.loop = server, loop
        self._buffer = bytearray()
        self._transaction: Transaction | None = None
        self._in_body = self._busy = self._greeted = False
        self._encrypted = False
        self._auth: tuple[str, str, str] | None = None
        self._continue: Callable[[str], None] | None = None
        self._later: set[asyncio.Task[None] | asyncio.TimerHandle] = set()
        self._idle: asyncio.TimerHandle | None = None
        self._verbs: dict[str, Callable[[str], None]] = {
            "EHLO": self._ehlo,
            "HELO": self._ehlo,
            "STARTTLS": self._starttls,
            "AUTH": self._authenticate,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": lambda line: self._reply("NOOP", line, "250 2.0.0 OK"),
            "QUIT": lambda line: self._reply("QUIT", line, "221 2.0.0 Bye", then=self._close),
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.server.connections += 1
        self.number = self.server.connections
        self.server.open_connections.add(self)
        self._encrypted = self.server.implicit
        self._reply("CONNECT", "", "220 scripted.example ESMTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.open_connections.discard(self)
        for late in tuple(self._later):
            late.cancel()
        if self._idle is not None:
            self._idle.cancel()
        if self._transaction is not None and self._transaction.dot_received and self._transaction.dot_answered is None:
            self.server.record(self._transaction)
        self._transaction = None

    def hang_up(self) -> None:
        self.transport.abort()

    def _close(self) -> None:
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._busy:
            self._consume()

    def _consume(self) -> None:
        while self._buffer and not self._busy:
            if self._in_body:
                if not self._take_body():
                    return
                continue
            end = self._buffer.find(b"\n")
            if end < 0:
                return
            line = self._buffer[:end].decode("utf-8", "surrogateescape").rstrip("\r")
            del self._buffer[: end + 1]
            self._obey(line)

    def _obey(self, line: str) -> None:
        if self.server.keep:
            self.server.lines.append((self.number, line))
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._continue is not None:
            go_on, self._continue = self._continue, None
            go_on(line)
            return
        verb = line[:4].upper() if line[:8].upper() != "STARTTLS" else "STARTTLS"
        known = self._verbs.get(verb)
        if known is None:
            self._write("500 5.5.2 Unknown command")
        else:
            known(line)

    # What is said

    def _reply(self, stage: str, line: str, usual: str, *, then: Callable[[], None] | None = None) -> None:
        """Answer as the script says, or as usual; `then` runs after the answer if it was not another class's."""
        answer = self.server.answer_to(stage, line, self.number)
        if answer is USUAL:
            self._write(usual)
            if then is not None:
                then()
        else:
            self._busy = True
            self._start(self._perform(answer, usual, then))

    def _start(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _perform(self, answer: Answer, usual: str, then: Callable[[], None] | None) -> None:
        await answer.is_due()
        text = usual if answer.text is None else answer.text
        self._write(text)
        while answer.endless and not self.transport.is_closing():
            self.transport.write(answer.endless)
            await asyncio.sleep(0)
        if answer.drop:
            self.transport.close()
            return
        if text == b"":
            return  # silence is for good: to answer the next command would answer this one to a client that pipelines
        self._busy = False
        same = text[:1] == (usual[:1] if isinstance(text, str) else usual[:1].encode())
        if then is not None and same:
            then()
        self._consume()

    def _write(self, text: str | bytes) -> None:
        data = text.encode("utf-8", "surrogateescape") + b"\r\n" if isinstance(text, str) else text
        if data:
            self.transport.write(data)

    # The commands

    def _ehlo(self, line: str) -> None:
        self._transaction = None
        self._greeted = True
        offers = list(self.server.extensions)
        if self.server.context is not None and not self._encrypted:
            offers.append("STARTTLS")
        if self.server.auth:
            offers.append("AUTH " + " ".join(self.server.auth))
        names = ["scripted.example", *offers] if line[:4].upper() == "EHLO" else ["scripted.example"]
        self._reply("EHLO", line, "\r\n".join([*(f"250-{name}" for name in names[:-1]), f"250 {names[-1]}"]))

    def _starttls(self, line: str) -> None:
        if self.server.context is None or self._encrypted:
            self._write("502 5.5.1 No STARTTLS here")
            return
        self._reply("STARTTLS", line, "220 2.0.0 Go ahead", then=lambda: self._start(self._encrypt()))

    async def _encrypt(self) -> None:
        self._busy = True
        self._buffer.clear()
        instead = self.server.answer_to("TLS", "", self.number)
        if instead is not USUAL:
            self._write(instead.text or b"")
            if instead.drop:
                self.transport.close()
            return
        try:
            self.transport = await self.loop.start_tls(self.transport, self, self.server.context, server_side=True)
        except (OSError, AttributeError):
            self.transport.abort()
            self.server.open_connections.discard(self)  # a client that has gone before is told to nobody
            return
        self._encrypted, self._busy = True, False
        self._consume()

    def _authenticate(self, line: str) -> None:
        _, mechanism, *initial = [*line.split(" "), ""]
        mechanism = mechanism.upper()
        if mechanism not in self.server.auth:
            self._reply("AUTH", line, "504 5.5.4 Unknown mechanism")
        elif mechanism == "LOGIN":
            self._login(line, initial[0])
        elif initial[0]:
            self._decide(line, mechanism, _decoded(initial[0]))
        else:
            self._write("334 ")
            self._continue = lambda answer: self._decide(line, mechanism, _decoded(answer))

    def _login(self, line: str, initial: str) -> None:
        def ask_password(name: str) -> None:
            self._continue = lambda secret: self._decide(line, "LOGIN", f"\0{_decoded(name)}\0{_decoded(secret)}")
            self._write("334 UGFzc3dvcmQ6")

        if initial:
            ask_password(initial)
        else:
            self._continue = ask_password
            self._write("334 VXNlcm5hbWU6")

    def _decide(self, line: str, mechanism: str, said: str) -> None:
        if mechanism == "XOAUTH2":
            parts = dict(part.split("=", 1) for part in said.split("\1") if "=" in part)
            user, secret = parts.get("user", ""), parts.get("auth", "").removeprefix("Bearer ")
        else:
            _, user, secret = [*said.split("\0"), "", "", ""][:3]
        right = user in self.server.accounts and self.server.accounts[user] == secret

        def let_in() -> None:
            self._auth = (mechanism, user, secret)

        usual = "235 2.7.0 Welcome" if right else "535 5.7.8 Wrong user or password"
        self._reply("AUTH", line, usual, then=let_in if right else None)

    def _mail(self, line: str) -> None:
        if self._transaction is not None:
            self._reply("MAIL", line, "503 5.5.1 A transaction is under way")
            return
        path, _, options = line[10:].strip().partition(" ")
        begun = Transaction(self.number, self._encrypted, self._auth, path.strip("<>"), options)

        def begin() -> None:
            self._transaction = begun

        self._reply("MAIL", line, "250 2.1.0 OK", then=begin)

    def _rcpt(self, line: str) -> None:
        if self._transaction is None:
            self._reply("RCPT", line, "503 5.5.1 MAIL first")
            return
        recipients, recipient = self._transaction.recipients, line[8:].strip().strip("<>")
        self._reply("RCPT", line, "250 2.1.5 OK", then=lambda: recipients.append(recipient))

    def _data(self, line: str) -> None:
        if self._transaction is None or not self._transaction.recipients:
            self._reply("DATA", line, "503 5.5.1 RCPT first")
            return

        def listen() -> None:
            self._in_body = True

        self._reply("DATA", line, "354 End with a dot", then=listen)

    def _rset(self, line: str) -> None:
        self._transaction = None
        self._reply("RSET", line, "250 2.0.0 OK")

    def _take_body(self) -> bool:
        """Cut the letter out of the buffer if its final dot is there."""
        answer = self.server.answer_to("BODY", "", self.number) if "BODY" in self.server.scripted else USUAL
        if answer.drop:
            self.hang_up()
            return False
        if self._buffer.startswith(b".\r\n"):
            end = 3
        else:
            found = self._buffer.find(b"\r\n.\r\n")
            if found < 0:
                return False
            end = found + 5
        transaction = self._transaction
        assert transaction is not None
        transaction.dot_received, transaction.dot_received_at = time.monotonic(), time.time()
        transaction.raw = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._in_body = False
        self._settle(transaction)
        return True

    def _settle(self, transaction: Transaction) -> None:
        self.server.count += 1
        if self.server.keep:
            self.server.transactions.append(transaction)
        answer = self.server.answer_to("DOT", "", self.number)
        if self.server.dot_delay and answer is USUAL:
            answer = Answer(after=self.server.dot_delay)
        if answer is USUAL:
            self._answer_dot(transaction, USUAL)
            return
        self._busy = True
        self._start(self._answer_dot_late(transaction, answer))

    async def _answer_dot_late(self, transaction: Transaction, answer: Answer) -> None:
        await answer.is_due()
        self._answer_dot(transaction, answer)
        while answer.endless and not self.transport.is_closing():
            self.transport.write(answer.endless)
            await asyncio.sleep(0)
        if not answer.drop and answer.text != b"":
            self._busy = False
            self._consume()

    def _answer_dot(self, transaction: Transaction, answer: Answer) -> None:
        """Answer the dot, write it down, and wait for the next letter, or with the script's patience for nothing."""
        text = f"250 2.0.0 OK queued as {self.server.count}" if answer.text is None else answer.text
        if text != b"":
            self._write(text)
            transaction.answer = text if isinstance(text, str) else text[:300].decode("latin-1")
            transaction.dot_answered, transaction.dot_answered_at = time.monotonic(), time.time()
            self._transaction = None
            self.server.record(transaction)
        if answer.drop:
            self.transport.close()
        elif "IDLE" in self.server.scripted:
            self._grow_tired()

    def _grow_tired(self) -> None:
        answer = self.server.answer_to("IDLE", "", self.number)
        if answer == USUAL:
            return

        def speak() -> None:
            self._write(answer.text or b"")
            if answer.drop:
                self.transport.close()

        self._idle = self.loop.call_later(answer.after, speak)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
