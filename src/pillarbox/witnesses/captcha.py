"""The provider of a captcha: asked once a message whether a person solved it, and given up after three seconds."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from urllib.parse import urlencode

from pillarbox.core.captcha import Account, Opinion, Word, judge
from pillarbox.core.errors import CaptchaRefused
from pillarbox.core.screening import Signal
from pillarbox.core.submission import Incoming
from pillarbox.fetching import Fetcher, Unreachable
from pillarbox.telemetry import road

MISSING = Signal("captcha_missing", 100)
"""No token came: whoever has no JavaScript can't have one, so a person looks."""
UNANSWERED = Signal("captcha_unanswered", 100)
"""The provider vouches for nothing, and the visitor can't help it."""
LOW_SCORE = Signal("captcha_score", 100)
ELSEWHERE = Signal("captcha_elsewhere", 100)
"""No new try would help a person who writes on a host that nobody listed, so it is not refused."""

PATIENCE = 3.0
"""Seconds that a visitor waits for the provider, a place among those who are asking included."""
PAUSE = 10.0
"""Seconds in which nobody waits for a provider that did not answer."""
AT_ONCE = 16
"""How many are asked about at once; it leaves some of the client's 20 connections to others."""
MOST_IN_HAND = 100
"""How many may ask or wait for it: more would wait longer than they have patience."""

_PLAIN = re.compile(r"[!-~]+")
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Captcha:
    """Asks the provider, through the one HTTP client. Belongs to one event loop."""

    def __init__(
        self,
        account: Account,
        fetcher: Fetcher,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask about tokens for this account; no visitor waits longer than `patience`, in seconds."""
        self._account = account
        self._patience = patience
        self._fetcher = fetcher
        self._clock = clock
        self._places = asyncio.Semaphore(AT_ONCE)
        self._in_hand = 0
        self._answers = 0
        self._paused_until: float | None = None

    async def __call__(self, incoming: Incoming) -> Signal | None:
        """Return None for a captcha that was solved, else the sign to hold the message for.

        Raises CaptchaRefused for a token that the provider does not take, or that can be none.
        """
        token = self._token(incoming)
        if not token:
            return MISSING
        opinion = await self._opinion(token) if self._may_ask() else None
        if opinion is None or opinion.word in {Word.AWAY, Word.UNCLEAR}:
            return UNANSWERED
        if opinion.word is Word.REFUSED:
            raise CaptchaRefused
        return {Word.LOW_SCORE: LOW_SCORE, Word.ELSEWHERE: ELSEWHERE}.get(opinion.word)

    def _token(self, incoming: Incoming) -> str:
        """Return what came in the provider's field, or an empty text."""
        kind = self._account.kind
        given = [value for value in incoming.fields.get(kind.field, ()) if value not in ("", None)]
        if not given:
            return ""
        token = given[0]
        if len(given) > 1 or not isinstance(token, str) or len(token) > kind.max_token or not _PLAIN.fullmatch(token):
            raise CaptchaRefused
        return token

    def _may_ask(self) -> bool:
        """Whether an answer may be expected; after a pause one asks for all, until there is one."""
        if self._paused_until is None:
            return self._in_hand < MOST_IN_HAND
        return self._clock() >= self._paused_until and not self._in_hand

    def _is_pausing(self) -> bool:
        return self._paused_until is not None and self._clock() < self._paused_until

    async def _opinion(self, token: str) -> Opinion | None:
        """Return what the provider says, or None where it turned out meanwhile that nobody is asked now."""
        self._in_hand += 1
        answers = self._answers
        try:
            async with asyncio.timeout(self._patience), self._places:
                if self._is_pausing():
                    return None
                opinion = await self._ask(token)
        except TimeoutError:
            if self._answers != answers:  # it answers others: our own crowd took the time
                return None
            opinion = Opinion(Word.AWAY, f"no answer within {self._patience:g} seconds")
        finally:
            self._in_hand -= 1
        self._note(opinion)
        return opinion

    async def _ask(self, token: str) -> Opinion:
        # Without the visitor's address, which they take but do not need.
        content = urlencode({"secret": self._account.secret, "response": token}).encode()
        try:
            reply = await self._fetcher.fetch("POST", self._account.verify_url, headers=_FORM, content=content)
        except Unreachable as error:
            return Opinion(Word.AWAY, str(error))
        if reply.status >= 500:
            return Opinion(Word.AWAY, f"it answered {reply.status}")
        try:
            answer = json.loads(reply.body)
        except (ValueError, RecursionError):
            return Opinion(Word.AWAY, f"it answered {reply.status}, and nothing that is JSON")
        return judge(self._account, answer)

    def _note(self, opinion: Opinion) -> None:
        """Remember whether it answers, and log what the site's owner has to know."""
        if opinion.word is not Word.AWAY:
            self._answers += 1
            self._paused_until = self._paused_until if self._is_pausing() else None
        elif self._is_pausing():
            return  # of those who were asking when it went away, one tells
        else:
            self._paused_until = self._clock() + PAUSE
        if opinion.why:
            event = "captcha_elsewhere" if opinion.word is Word.ELSEWHERE else "captcha_unanswered"
            road.warning(event, provider=self._account.kind.provider, why=opinion.why)
