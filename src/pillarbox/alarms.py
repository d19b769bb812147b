"""Trouble is told to a person: one alarm when it begins, one a day while it lasts, one when it is over."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pillarbox.channels import Channel
from pillarbox.core.advice import advise
from pillarbox.core.alarm import Bounds, Event, Kind, Message, News, Trouble, in_words, news_id
from pillarbox.fetching import Fetcher, Unreachable
from pillarbox.store import alarms, ways
from pillarbox.store.alarms import Look, Told
from pillarbox.store.engine import Store
from pillarbox.store.keeper import Keeper
from pillarbox.telemetry import road

LOOK_EVERY = 15.0
PING_EVERY = 60.0
TELL_WITHIN = 60.0
"""Seconds for one channel, well below what a claim on the news lasts."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What an alarm is called: `site` stands before each title, `hosts` are the mail servers of the ways out."""

    site: str = ""
    hosts: Mapping[str, str] = field(default_factory=dict)

    def message(self, news: News, *, now: float) -> Message:
        """Return the news in words: a title of one line and a text of a few."""
        alarm = news.alarm
        bad, good = _TITLES[alarm.kind]
        title = {Event.OPENED: bad, Event.STILL: f"Still: {bad}", Event.WELL: f"Well again: {good}"}[news.event]
        title = title.format(alarm.subject)
        return Message(
            id=news_id(news),
            event=news.event,
            kind=alarm.kind,
            subject=alarm.subject,
            title=f"[{self.site}] {title}" if self.site else title,
            text="\n".join(self._lines(news, now)),
            note=alarm.note,
            since=alarm.opened_at,
            at=now,
        )

    def _lines(self, news: News, now: float) -> list[str]:
        alarm = news.alarm
        since, ago = _moment(alarm.opened_at), in_words(now - alarm.opened_at)
        if news.event is Event.WELL:
            over = f"It began at {since} ({ago} ago) and is over."
            if (until := alarm.missed_until) is not None:
                over = (
                    f"It began at {since} and was over at {_moment(until)} ({in_words(until - alarm.opened_at)}). "
                    "Nobody could be told of it in that time."
                )
            return [over, f"What was seen last: {alarm.note}"]
        # A failed letter's note says which one it is before it quotes the server.
        quoted = alarm.note.partition(": ")[2] if alarm.kind is Kind.LETTERS_FAILED else alarm.note
        advice = advise(quoted, host=self.hosts.get(alarm.subject, "")) or _ADVICE[alarm.kind]
        lines = (f"Since {since} ({ago}): {alarm.note}", f"What to do: {advice}", *_MORE[alarm.kind])
        return [line for line in lines if line]


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


_TITLES = {
    Kind.WAY_SHUT: ('no mail leaves through "{}"', 'mail leaves through "{}"'),
    Kind.LETTERS_FAILED: ('mail of the form "{}" can\'t be delivered', 'no mail of the form "{}" is undelivered'),
    Kind.LETTERS_LATE: ('mail through "{}" is late', 'mail through "{}" is on time'),
    Kind.FORM_SILENT: ('the form "{}" is silent', 'the form "{}" has a message'),
}
_ADVICE = {
    Kind.WAY_SHUT: "run `pillarbox doctor`, which tries each step on the way to the mail server.",
    Kind.LETTERS_FAILED: "mend the address or what the mail server's words name, then send the letters again.",
    Kind.LETTERS_LATE: "see what the mail server said about the oldest of them.",
    Kind.FORM_SILENT: "write a message through the form as a visitor would; if quiet is usual, wait for longer.",
}
_KEPT = "Nothing is lost: what visitors write is kept, and its mail leaves by itself once this is mended."
_MORE = {
    Kind.WAY_SHUT: (_KEPT, "`pillarbox doctor` shows more."),
    Kind.LETTERS_FAILED: (
        "`pillarbox deliveries list --state failed` shows those that are no longer tried, --state waiting the others.",
        "`pillarbox deliveries retry` sends them again.",
    ),
    Kind.LETTERS_LATE: (_KEPT, "`pillarbox deliveries list --state waiting` shows them."),
    Kind.FORM_SILENT: ("`pillarbox doctor` shows whether messages can be kept.",),
}


class Alarms:
    """Looks for trouble and tells of it; any number of processes on one store make one alarm of it."""

    every = LOOK_EVERY

    def __init__(
        self,
        keeper: Keeper,
        store: Store,
        *,
        channels: Sequence[Channel],
        bounds: Bounds,
        wording: Wording | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._keeper = keeper
        self._store = store
        self._channels = tuple(channels)
        self._bounds = bounds
        self._wording = wording or Wording()
        self._clock = clock or store.clock
        self._unwritten: list[Told] = []
        self._has_looked = False

    async def look(self) -> None:
        """Find what is wrong or over, and tell what nobody else has told or is telling. Raises NotKept.

        Without any channel the log is all there is to tell. What no channel takes is told again in five minutes, also
        when it is over by then.
        """
        await self._write_down()
        now = self._clock()
        if self._channels and not self._has_looked:
            await self._keeper.run(alarms.tell_what_was_logged, None)
        self._has_looked = True
        troubles = await asyncio.to_thread(self._read, now)
        news = await self._keeper.run(alarms.claim_news, Look(tuple(troubles), now))
        heard = await asyncio.gather(*map(self._tell, news))
        at = self._clock()
        logged = not self._channels
        self._unwritten += [
            Told(one.alarm.key, one.event, at, logged) for one, told in zip(news, heard, strict=True) if told
        ]
        await self._write_down()

    def _read(self, now: float) -> list[Trouble]:
        with self._store.reading() as connection:
            return alarms.find_troubles(connection, self._bounds, now=now)

    async def _write_down(self) -> None:
        """Write who was told; while the store can't be written this is remembered, so that nobody is told twice."""
        while self._unwritten:
            await self._keeper.run(alarms.told, self._unwritten[0])
            del self._unwritten[0]

    async def _tell(self, news: News) -> bool:
        """Return whether somebody heard."""
        message = self._wording.message(news, now=self._clock())
        channels = [channel for channel in self._channels if not _leads_over_the_trouble(channel, news)]
        answers = await asyncio.gather(*(_ask(channel, message) for channel in channels))
        told = [channel.name for channel, why_not in zip(channels, answers, strict=True) if not why_not]
        untold = [f"{channel.name}: {why}" for channel, why in zip(channels, answers, strict=True) if why]
        about = {"kind": message.kind.value, "subject": message.subject, "note": message.note}
        if self._channels and not told:
            untold = untold or ["there is no channel but the way out that is broken"]
            road.error("alarm_untold", **about, news=news.event.value, untold=untold)
            return False
        if news.event is Event.WELL:
            road.warning("alarm_over", **about, told=told, untold=untold)
        else:
            road.error("alarm", **about, news=news.event.value, told=told, untold=untold)
        return True


def _leads_over_the_trouble(channel: Channel, news: News) -> bool:
    """Whether the channel needs the very way out that it would tell of; that one is open again it can tell."""
    about_a_way = news.alarm.kind in {Kind.WAY_SHUT, Kind.LETTERS_LATE} and channel.transport == news.alarm.subject
    return about_a_way and news.event is not Event.WELL


async def _ask(channel: Channel, message: Message) -> str | None:
    """Return None once the channel took the message, else why not."""
    try:
        async with asyncio.timeout(TELL_WITHIN):
            return await channel.tell(message)
    except TimeoutError:
        return f"it did not end within {TELL_WITHIN:g} seconds"
    except Exception as error:  # border: one channel; its fault must not silence the others
        road.error("channel_failed", channel=channel.name, exc_info=error)
        return f"it failed in an unforeseen manner ({type(error).__name__})"


async def rehearse(channels: Sequence[Channel], *, site: str, now: float) -> list[tuple[str, str | None]]:
    """Tell a test through each channel; return the channels' names with None where it was taken, else why not."""
    text = "This is only a test: when you can read it, you will be told when mail can't leave."
    message = Message(
        id=f"test-{now:.0f}",
        event=Event.OPENED,
        kind=Kind.TEST,
        subject=site,
        title=f"[{site}] Test of the alarm",
        text=text,
        note="",
        since=now,
        at=now,
    )
    answers = await asyncio.gather(*(_ask(channel, message) for channel in channels))
    return [(channel.name, why_not) for channel, why_not in zip(channels, answers, strict=True)]


class Ping:
    """The dead man's switch: a server elsewhere is asked while all is well, and alarms when it is not asked."""

    def __init__(
        self,
        keeper: Keeper,
        store: Store,
        *,
        url: str,
        fetcher: Fetcher,
        every: float = PING_EVERY,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.every = every
        self._keeper = keeper
        self._store = store
        self._url = url
        self._fetcher = fetcher
        self._clock = clock or store.clock
        self._failing = False

    async def ping(self) -> None:
        """Ask the address unless something is wrong. Raises NotKept, unasked, when the store can't be written."""
        if await asyncio.to_thread(self._is_trouble):
            return
        await self._keeper.run(ways.beat, self._clock())
        reason = await self._ask()
        if reason and not self._failing:
            road.warning("ping_failed", reason=reason)
        if not reason and self._failing:
            road.info("ping_works_again")
        self._failing = reason is not None

    def _is_trouble(self) -> bool:
        with self._store.reading() as connection:
            return any(alarm.closed_at is None for alarm in alarms.find_alarms(connection))

    async def _ask(self) -> str | None:
        try:
            reply = await self._fetcher.fetch("GET", self._url)
        except Unreachable as error:
            return str(error)
        return None if reply.is_good else f"it answered {reply.status}"
