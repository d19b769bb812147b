"""The way out by SMTP: a pool of kept connections that gives every letter exactly one outcome."""

import asyncio
import ssl

from pillarbox.core.delivery import Blocked, Outcome, Refused, Sent
from pillarbox.core.letter import Letter, StillOurs, always
from pillarbox.transports.smtp_replies import Stage, plain, refuses_the_null_sender
from pillarbox.transports.smtp_session import Halted, Security, Session, SmtpServer, make_context

__all__ = ["Security", "SmtpServer", "SmtpTransport"]


class SmtpTransport:
    """Sends letters through one mail server, over at most `server.connections` connections at once.

    Belongs to the event loop that it is first used in.
    """

    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        self._slots = asyncio.Semaphore(server.connections)
        self._idle: list[Session] = []  # the last one used is taken first, so that a quiet time shrinks the pool
        self._sweep: asyncio.TimerHandle | None = None
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._context: ssl.SSLContext | None = None
        self._refuses_null_senders = False
        self._closed = False

    async def send(self, letter: Letter, still_ours: StillOurs = always) -> Outcome:
        """Return what became of the letter, in the server's words; only Sent means that the server took it over.

        Never raises for anything that a network or a server does.
        """
        async with self._slots:
            sender = letter.fallback_sender if self._refuses_null_senders and not letter.sender else letter.sender
            try:
                return await self._send_from(sender, letter, still_ours=still_ours)
            except Halted as halted:
                if sender or not refuses_the_null_sender(halted.stage, halted.code, halted.text):
                    return halted.outcome
                return await self._send_from_the_fallback(letter, halted.outcome, still_ours=still_ours)

    async def check(self) -> Outcome:
        """Connect, encrypt and log in, then say goodbye: Sent with a description if all of it worked, else Blocked."""
        async with self._slots:
            try:
                session = await self._open()
            except Halted as halted:
                return halted.outcome
            description = plain(session.describe())
            await session.quit()
            return Sent(description)

    async def close(self) -> None:
        """Say QUIT on every idle connection; on return all are closed. Letters under way finish on their own."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        while self._idle:
            self._dismiss(self._idle.pop())
        await asyncio.gather(*self._goodbyes)

    async def _send_from_the_fallback(self, letter: Letter, refusal: Outcome, *, still_ours: StillOurs) -> Outcome:
        """Send again what the server refused for its null sender (RFC 5321, 4.5.5), and remember if that helped."""
        if not letter.fallback_sender:
            return Refused(refusal.note)
        try:
            outcome: Outcome = await self._send_from(letter.fallback_sender, letter, still_ours=still_ours)
            helped = True
        except Halted as halted:
            outcome = halted.outcome
            helped = not isinstance(outcome, Blocked) and halted.stage is not Stage.MAIL
        self._refuses_null_senders = helped
        return outcome

    async def _send_from(self, sender: str, letter: Letter, *, still_ours: StillOurs) -> Sent:
        """Send the letter on a kept connection, or on a fresh one. Raises Halted."""
        session = self._take()
        if session is not None:
            try:
                return await self._deliver(session, letter, sender=sender, still_ours=still_ours)
            except Halted as halted:
                # A kept connection that ended before the content was on its way says nothing about this letter.
                if session.usable or halted.stage is Stage.DOT or halted.left_in_step:
                    raise
        return await self._deliver(await self._open(), letter, sender=sender, still_ours=still_ours)

    async def _deliver(self, session: Session, letter: Letter, *, sender: str, still_ours: StillOurs) -> Sent:
        try:
            sent = await session.deliver(letter, sender, still_ours=still_ours)
        except Halted:
            self._keep(session)
            raise
        except BaseException:
            session.hang_up()
            raise
        self._keep(session)
        return sent

    async def _open(self) -> Session:
        if self._context is None:
            self._context = await make_context(self._server)
        session = Session(self._server)
        await session.open(self._context)
        return session

    def _take(self) -> Session | None:
        while self._idle:
            session = self._idle.pop()
            if session.usable:
                return session
        return None

    def _keep(self, session: Session) -> None:
        if not session.usable:
            return
        if self._closed or session.letters >= self._server.letters_per_connection:
            self._dismiss(session)
            return
        session.idle_since = asyncio.get_running_loop().time()
        self._idle.append(session)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._server.idle_seconds, self._dismiss_the_idle)

    def _dismiss_the_idle(self) -> None:
        """Close what nobody used for `idle_seconds`, and come back when the next one is due."""
        loop = asyncio.get_running_loop()
        limit = loop.time() - self._server.idle_seconds
        self._sweep = None
        tired = [session for session in self._idle if session.idle_since <= limit]
        self._idle = [session for session in self._idle if session.idle_since > limit]
        for session in tired:
            self._dismiss(session)
        if self._idle:
            # A pool is not in the order of time: the longest idle one may lie anywhere in it.
            oldest = min(session.idle_since for session in self._idle)
            self._sweep = loop.call_at(oldest + self._server.idle_seconds, self._dismiss_the_idle)

    def _dismiss(self, session: Session) -> None:
        task = asyncio.create_task(session.quit())
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)
