"""One conversation with one mail server: connect, STARTTLS, login, then letter after letter."""

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aiosmtplib.auth import auth_login_encode, auth_plain_encode
from aiosmtplib.errors import SMTPException, SMTPResponseException
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.response import SMTPResponse

from pillarbox.core.delivery import Blocked, Deferred, Outcome, Refused, Sent
from pillarbox.core.letter import Letter, StillOurs
from pillarbox.transports.smtp_line import Conversation
from pillarbox.transports.smtp_replies import NO_EHLO, Stage, follows_a_refusal, judge, leaves_in_step, lost, plain

UNACKNOWLEDGED_MS = 15_000
"""How long the system goes on trying to hand over what it was given: shorter than a lease that is not renewed."""
_SHORTEST_SECRET = 4
"""Characters; hiding a shorter one would blank out ordinary words, and tell what it is."""

_UNSAFE_IN_A_PATH = re.compile(r"[\x00-\x20\x7f<>]")

Security = Literal["starttls", "tls", "plain"]


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """A mail server and how we use it. Every `_seconds` is a limit on waiting.

    Without a password there is no AUTH. `ca_file` is a PEM file trusted beside the system's store. `connections` is
    how many are open for letters at once.
    """

    host: str
    port: int
    security: Security = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    connections: int = 4
    letters_per_connection: int = 100
    idle_seconds: float = 30.0
    connect_seconds: float = 10.0
    command_seconds: float = 45.0
    dot_seconds: float = 300.0
    goodbye_seconds: float = 2.0


class Halted(Exception):
    """The conversation stopped at `stage`; `outcome` is what that means for the letter.

    `code` and `text` are the server's reply; code 0: there was none.
    """

    def __init__(self, stage: Stage, outcome: Outcome, code: int = 0, text: str = "") -> None:
        super().__init__(outcome.note)
        self.stage, self.outcome, self.code, self.text = stage, outcome, code, text

    @property
    def left_in_step(self) -> bool:
        """Whether a reply refused just this letter, even if what came behind it ended the connection."""
        return leaves_in_step(self.stage, self.code, self.text)


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that verifies certificate and name by the system's store and the file's certificates.

    Raises OSError (ssl.SSLError is one) when the file can't be read. Slow: it reads the whole store.
    """
    context = ssl.create_default_context()
    if (store := ssl.get_default_verify_paths().cafile) and not context.cert_store_stats()["x509"]:
        # The default store is read without a word of what fails: without descriptors it would stay empty for good.
        with contextlib.suppress(ssl.SSLError):  # it holds no certificate
            context.load_verify_locations(cafile=store)
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context


async def make_context(server: SmtpServer) -> ssl.SSLContext | None:
    """Return what encrypts connections to this server, None if nothing does. Raises Halted."""
    if server.security == "plain":
        return None
    try:
        return await asyncio.to_thread(tls_context, server.ca_file)
    except (OSError, RuntimeError) as error:  # RuntimeError: no thread could be started
        where = f"in {server.ca_file}" if server.ca_file else "of this system"
        note = f"the certificates {where} could not be read: {in_words(error)}"
        raise Halted(Stage.CONNECT, Blocked(plain(note))) from error


def hiding(server: SmtpServer) -> Callable[[str], str]:
    """Return what puts "…" for our password in a server's words, and for what AUTH makes of it.

    Of what AUTH says the beginning is enough, in any case: servers repeat long lines in part, and some in capitals.
    """
    if not server.password:
        return str
    user, password = server.username, server.password
    encoded = [one.decode("ascii") for one in (auth_plain_encode(user, password), *auth_login_encode(user, password))]
    hidden = [f"(?i:{re.escape(one[:8])}[a-z0-9+/=]*)" for one in encoded if one]
    if len(password) >= _SHORTEST_SECRET:
        hidden.insert(0, re.escape(password))
    secrets = re.compile("|".join(hidden))
    return lambda words: secrets.sub("…", words)


class Session:
    """One open connection, logged in; `letters` counts the transactions it has begun.

    No outcome's note holds our password, whatever the server repeats.
    """

    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        self._line: Conversation = Conversation()
        self._extensions: dict[str, str] = {}
        self._unfinished = False
        self._special = False
        self._hide = hiding(server)
        self.letters = 0
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether the connection is open and in step."""
        return self._line.is_connected

    def hang_up(self) -> None:
        """Close at once."""
        self._line.hang_up()

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Connect, greet and log in. Raises Halted, with the connection closed."""
        try:
            await self._connect(context if self._server.security == "tls" else None)
            await self._greet()
            if self._server.security == "starttls":
                assert context is not None  # noqa: S101 - for mypy; the pool makes one unless the server is plain
                await self._start_tls(context)
                await self._greet()
            if self._server.password:
                await self._login()
        except BaseException:
            self.hang_up()
            raise

    async def deliver(self, letter: Letter, sender: str, *, still_ours: StillOurs) -> Sent:
        """Send the letter from this sender and return Sent; raises Halted, with the connection closed if out of step.

        It is not sent once it is ours no more. After a refusal the connection can be used again: the next letter begins
        with RSET, so that a 503 for the rest of a broken transaction is never taken for a verdict.
        """
        mail, rcpt = self._envelope(letter, sender)
        steps = [(Stage.MAIL, mail), (Stage.RCPT, rcpt), (Stage.DATA, b"DATA")]
        if self._unfinished:
            steps.insert(0, (Stage.RSET, b"RSET"))
        self.letters += 1
        self._unfinished = True
        # A sender of ours that needs SMTPUTF8 needs it in every letter.
        self._special = letter.smtputf8 and sender.isascii()
        if "pipelining" in self._extensions:
            await self._ask_at_once(steps)
        else:
            for stage, command in steps:
                await self._ask(stage, command)
        if not still_ours():
            self.hang_up()
            raise Halted(Stage.DATA, Deferred("it took longer than this process had the letter for"))
        self._line.hand_over(letter.content)
        sent, _ = await self._reply(Stage.DOT, self._line.read_response(self._server.dot_seconds))
        assert sent is not None  # noqa: S101 - judge() never answers None to the dot
        self._unfinished = False
        return sent

    async def quit(self) -> None:
        """Say QUIT and close, whatever the server answers and however long it takes to."""
        with contextlib.suppress(SMTPException, OSError):
            self._line.ask(b"QUIT")
            await self._line.read_response(self._server.goodbye_seconds)
        self.hang_up()

    def describe(self) -> str:
        """Return in plain words where we are connected, how it is encrypted and as whom."""
        transport = self._line.transport
        encrypted = transport.get_extra_info("ssl_object") if transport else None
        how = encrypted.version() if encrypted else "not encrypted"
        who = f"logged in as {self._server.username}" if self._server.password else "without login"
        return f"connected to {self._server.host}:{self._server.port}, {how}, {who}"

    async def _connect(self, context: ssl.SSLContext | None) -> None:
        server = self._server
        where = f"could not connect to {server.host}:{server.port}"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(server.connect_seconds):
                await loop.create_connection(lambda: self._line, server.host, server.port, ssl=context)
        except TimeoutError:
            why = f"no answer within {server.connect_seconds:g} s"
            raise Halted(Stage.CONNECT, Blocked(plain(f"{where}: {why}"))) from None
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: no thread to look the name up in
            raise Halted(Stage.CONNECT, Blocked(plain(f"{where}: {self._hide(in_words(error))}"))) from error
        _bound_the_silence(self._line.transport)
        await self._reply(Stage.BANNER, self._line.read_response(server.command_seconds))

    async def _greet(self) -> None:
        name = _address_literal(self._line.transport)
        try:
            text = await self._ask(Stage.EHLO, b"EHLO " + name)
        except Halted as halted:
            # Without extensions there is neither STARTTLS nor login.
            if halted.code not in NO_EHLO or self._server.security == "starttls" or self._server.password:
                raise
            text = await self._ask(Stage.EHLO, b"HELO " + name)
        self._extensions, _ = parse_esmtp_extensions(text)

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        if "starttls" not in self._extensions:
            raise Halted(Stage.STARTTLS, Blocked("the server does not offer STARTTLS; nothing was sent in the clear"))
        server = self._server
        await self._reply(
            Stage.STARTTLS, self._line.start_tls(context, server_hostname=server.host, timeout=server.command_seconds)
        )

    async def _login(self) -> None:
        offered = self._extensions.get("auth", "").upper().split()
        user, password = self._server.username, self._server.password
        if "PLAIN" in offered:
            await self._ask(Stage.AUTH, b"AUTH PLAIN " + auth_plain_encode(user, password))
        elif "LOGIN" in offered:
            name, secret = auth_login_encode(user, password)
            await self._ask(Stage.USERNAME, b"AUTH LOGIN " + name)
            await self._ask(Stage.AUTH, secret)
        else:
            offers = " ".join(self._hide(self._extensions.get("auth", "")).upper().split()) or "none"
            raise Halted(Stage.AUTH, Blocked(plain(f"the server offers no login we know: {offers}"), login=True))

    def _envelope(self, letter: Letter, sender: str) -> tuple[bytes, bytes]:
        """Return the MAIL and RCPT commands. Raises Halted for what this server, or any, can't take."""
        options = f" SIZE={len(letter.content)}" if "size" in self._extensions else ""
        if letter.smtputf8:
            if "smtputf8" not in self._extensions:
                raise Halted(Stage.MAIL, Refused("the mail server takes no internationalized addresses (no SMTPUTF8)"))
            options += " SMTPUTF8" + (" BODY=8BITMIME" if "8bitmime" in self._extensions else "")
        charset = "utf-8" if letter.smtputf8 else "ascii"
        try:
            return (
                b"MAIL FROM:<%b>%b" % (_path(sender, charset), options.encode("ascii")),
                b"RCPT TO:<%b>" % _path(letter.recipient, charset),
            )
        except ValueError:
            raise Halted(Stage.MAIL, Refused("an address of this letter can't be written in an envelope")) from None

    async def _ask(self, stage: Stage, command: bytes) -> str:
        """Return the text of a reply that lets us go on; raises Halted for any other."""
        self._line.ask(command)
        return (await self._reply(stage, self._line.read_response(self._server.command_seconds)))[1]

    async def _ask_at_once(self, steps: Sequence[tuple[Stage, bytes]]) -> None:
        """Write all the commands, then read their replies in order (RFC 2920, 3.1).

        Raises Halted for the first that does not let us go on, as if the commands after it had never been written.
        """
        self._line.ask(*(command for _, command in steps))
        for done, (stage, _) in enumerate(steps, 1):
            try:
                await self._reply(stage, self._line.read_response(self._server.command_seconds))
            except Halted:
                if self.usable:
                    await self._read_off(len(steps) - done)
                raise

    async def _read_off(self, replies: int) -> None:
        """Read the replies to what followed a refused command; hang up unless each of them is a refusal too.

        A server may ask for the content all the same (RFC 2920, 3.1): only a closed connection ends that without a
        letter. What comes too late, or says goodbye, ends the connection as well.
        """
        try:
            for _ in range(replies):
                code, _ = await self._line.read_response(self._server.command_seconds)
                if not follows_a_refusal(code):
                    self.hang_up()
                    return
        except SMTPException:
            self.hang_up()

    async def _reply(self, stage: Stage, waiting: Awaitable[SMTPResponse]) -> tuple[Sent | None, str]:
        """Return the reply's text, and Sent if it takes the letter over.

        Raises Halted for any other reply, with the connection closed unless that was an ordinary refusal of one letter.
        """
        try:
            code, text = await waiting
        except SMTPResponseException as error:
            code, text = error.code, error.message
        except (SMTPException, OSError) as error:
            self.hang_up()
            raise Halted(stage, lost(stage, self._why(error))) from error
        outcome = judge(stage, code, text, shown=self._hide(text), special=self._special)
        if not leaves_in_step(stage, code, text):
            self.hang_up()
        if outcome is None or isinstance(outcome, Sent):
            return outcome, text
        raise Halted(stage, outcome, code, text)

    def _why(self, error: Exception) -> str:
        if self._line.spoke_unasked:
            return "the server spoke without being asked, so the connection was closed"
        return self._hide(in_words(error))


def in_words(error: Exception) -> str:
    """Return in plain words what went wrong with a connection."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case ssl.SSLError():
            return f"TLS failed: {getattr(error, 'verify_message', '') or error.reason or error}"
        case socket.gaierror():
            return f"the name was not found: {error.strerror}"
        case SMTPException():
            return "the connection was cut"
        case _:
            # asyncio packs the failures at several addresses into one text: "Multiple exceptions: [Errno 111] …".
            number = getattr(error, "errno", None) or next(iter(re.findall(r"\[Errno (\d+)\]", str(error))), 0)
            return os.strerror(int(number)).lower() if number else str(error)


def _bound_the_silence(transport: asyncio.BaseTransport | None) -> None:
    """Let the system forget what it could not hand over in 15 s (RFC 5482), where it can.

    A machine that is cut off would go on trying for minutes, and hand a letter over long after another has sent it.
    """
    if transport is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):
            found = transport.get_extra_info("socket")
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)


def _path(address: str, charset: str) -> bytes:
    """Return an address for the envelope; raises ValueError for one that could end its command (RFC 5321, 4.1.2)."""
    if _UNSAFE_IN_A_PATH.search(address):
        raise ValueError(address)
    return address.encode(charset)


def _address_literal(transport: asyncio.BaseTransport | None) -> bytes:
    """Return our end's address as EHLO wants it of a host without a sure name (RFC 5321, 4.1.3): no DNS is asked."""
    address = (transport.get_extra_info("sockname") if transport else None) or ("127.0.0.1",)
    host = str(address[0]).partition("%")[0]
    return f"[IPv6:{host}]".encode() if ":" in host else f"[{host}]".encode()
