"""Whether a way out is open: shut by a Blocked, tried by one letter at a time, opened by anything else."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from pillarbox.core.delivery import Blocked, Outcome, Schedule
from pillarbox.store.ways import Shut

Write = Callable[[Shut | None], Awaitable[bool]]
"""Writes down that the way is shut, or open (None); tells whether that could be written."""


class Gate:
    """One loop's knowledge of its way out, kept in step with the store's, which is the truth for all."""

    def __init__(self, way: str, schedule: Schedule, *, clock: Callable[[], float], write: Write) -> None:
        self._way = way
        self._schedule = schedule
        self._clock = clock
        self._write = write
        self._writing = asyncio.Lock()
        self._shut: Shut | None = None
        self._written: Shut | None = None
        self.verdicts = 0
        """Counts what was judged: what the store said before the last verdict is out of date."""

    @property
    def shut(self) -> Shut | None:
        """How the way is shut; None while it is open."""
        return self._shut

    def learn(self, shut: Shut | None) -> None:
        """Take over what the store says, unless it is just being told something newer."""
        if not self._writing.locked():
            self._shut = self._written = shut

    async def judge(self, outcome: Outcome, *, probing: bool) -> None:
        """Shut the way at a Blocked and open it at anything else, and keep the store's word on it in step.

        A Blocked of a letter that was under way when another shut the way changes nothing; one of a probe puts the
        next probe off.
        """
        self.verdicts += 1
        if not isinstance(outcome, Blocked):
            self._shut = None
        elif self._shut is None or probing:
            self._shut = self._shut_by(outcome)
        await self._tell_the_store()

    async def try_again(self) -> None:
        """Let the next letter try the way: the one that was to try it never came to it."""
        if self._shut:
            self._shut = replace(self._shut, probe_at=self._clock())
            await self._tell_the_store()

    def _shut_by(self, outcome: Blocked) -> Shut:
        now, before = self._clock(), self._shut
        probes = before.probes + 1 if before else 0
        probe_at = now + self._schedule.probe_after(probes, login=outcome.login)
        since = before.since if before else now
        return Shut(self._way, since, outcome.note, probes, probe_at, by_letter=outcome.by_letter)

    async def _tell_the_store(self) -> None:
        if self._written == self._shut and not self._writing.locked():
            return
        async with self._writing:
            while self._written != (shut := self._shut):  # it may turn while it is written
                if not await self._write(shut):
                    return
                self._written = shut
