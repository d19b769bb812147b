"""Alarms: what counts as trouble, who is told of it when, and that it is told once."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256

DAY = 86_400.0
CLAIM = 300.0
"""Seconds that who claimed a piece of news has to tell it, before another may."""
GONE_FOR = 120.0
"""Seconds that a trouble has to stay away before it counts as over: what comes and goes is one alarm."""
_CLOCK_WAS_WRONG = DAY + 7_200.0
"""Nothing is ever to be told later than this; a `tell_at` beyond comes from a clock that was set back since."""

_LOCAL_PART = re.compile(r"[^\s<>@,;:\"'()\[\]]+@(?=[^\s@])")


class Kind(StrEnum):
    """What may be wrong. The subject of the first and third is a way out, of the others a form; TEST is no trouble."""

    WAY_SHUT = "way_shut"
    LETTERS_FAILED = "letters_failed"
    LETTERS_LATE = "letters_late"
    FORM_SILENT = "form_silent"
    TEST = "test"


class Event(StrEnum):
    """What there is to tell."""

    OPENED = "opened"
    STILL = "still"
    WELL = "well"


@dataclass(frozen=True, slots=True)
class Bounds:
    """When it is trouble: `after` for ways and letters, `quiet_after` (None is off) for these forms; in seconds."""

    after: float
    quiet_after: float | None = None
    forms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trouble:
    """What was found just now; `since` is in seconds since the epoch.

    A quiet one is no news: it opens no alarm and repeats none, but an alarm that is open is not over while it is there.
    """

    kind: Kind
    subject: str
    note: str
    since: float
    quiet: bool = False

    @property
    def key(self) -> str:
        """What makes two findings the same trouble."""
        return f"{self.kind}:{self.subject}"


@dataclass(frozen=True, slots=True)
class Alarm:
    """A trouble that is being told of: its row in the store. Times are seconds since the epoch.

    `opened_at` is when the trouble began, `told` how often somebody was told that it is there, `tell_at` when to tell
    that next. `closed_at` is None while it is there, then the time from which on its end may be told.
    """

    kind: Kind
    subject: str
    note: str
    opened_at: float
    tell_at: float
    closed_at: float | None = None
    told: int = 0

    @property
    def key(self) -> str:
        """The row's key: that of the trouble."""
        return f"{self.kind}:{self.subject}"


@dataclass(frozen=True, slots=True)
class News:
    """What has to be told now, by whoever claimed it; `alarm` is as it was when it was claimed."""

    event: Event
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Message:
    """A piece of news in words, for any channel. Times are seconds since the epoch.

    `id` is the same at every repeat of the same news. `title` is one line, `text` a few; neither holds a visitor's
    words or address.
    """

    id: str
    event: Event
    kind: Kind
    subject: str
    title: str
    text: str
    note: str
    since: float
    at: float


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one row: None before is a new one, None after is one that goes. `event` is what to tell."""

    before: Alarm | None
    after: Alarm | None
    event: Event | None = None


def steps(troubles: Sequence[Trouble], alarms: Sequence[Alarm], *, now: float) -> list[Step]:
    """Return what changes by what is found now; nothing for what stays as it is.

    Opened is told at once, still so a day after that was told last, well again once the trouble was gone for two
    minutes, and only to whom its beginning was told: a trouble that ends untold ends silently. What is to be told is
    claimed for five minutes by the row it leaves.
    """
    found = {trouble.key: trouble for trouble in troubles}
    rows = {alarm.key: alarm for alarm in alarms}
    # Letters that a shut way held up are late when it opens; that is the same trouble until its end was told.
    held_up = {alarm.subject for alarm in alarms if alarm.kind is Kind.WAY_SHUT}
    for key, trouble in found.items():
        if trouble.kind is Kind.LETTERS_LATE and trouble.subject in held_up:
            found[key] = replace(trouble, quiet=True)
    return [step for step in _all_steps(found, rows, now) if step.before != step.after]


def _all_steps(found: dict[str, Trouble], rows: dict[str, Alarm], now: float) -> Iterator[Step]:
    for key, trouble in found.items():
        yield _go_on(rows[key], trouble, now) if key in rows else _begin(trouble, now)
    for key, alarm in rows.items():
        if key not in found:
            yield _end(alarm, now)


def _begin(trouble: Trouble, now: float) -> Step:
    if trouble.quiet:
        return Step(None, None)
    opened = Alarm(trouble.kind, trouble.subject, trouble.note, trouble.since, tell_at=now + CLAIM)
    return Step(None, opened, Event.OPENED)


def _go_on(alarm: Alarm, trouble: Trouble, now: float) -> Step:
    there = replace(alarm, note=trouble.note or alarm.note, closed_at=None)
    if trouble.quiet or now < alarm.tell_at < now + _CLOCK_WAS_WRONG:
        return Step(alarm, there)
    event = Event.STILL if alarm.told else Event.OPENED
    return Step(alarm, replace(there, tell_at=now + CLAIM), event)


def _end(alarm: Alarm, now: float) -> Step:
    if not alarm.told and not now < alarm.tell_at < now + _CLOCK_WAS_WRONG:
        return Step(alarm, None)
    if alarm.closed_at is None or alarm.closed_at > now + CLAIM:
        return Step(alarm, replace(alarm, closed_at=now + GONE_FOR))
    if alarm.told and alarm.closed_at <= now:
        return Step(alarm, replace(alarm, closed_at=now + CLAIM), Event.WELL)
    return Step(alarm, alarm)


def heard(alarm: Alarm, event: Event, *, now: float) -> Alarm | None:
    """Return the row after somebody was told of the event; None when it is over.

    Who heard "well again" of a trouble that came back meanwhile hears of it at the next look.
    """
    if event is not Event.WELL:
        return replace(alarm, told=alarm.told + 1, tell_at=now + DAY)
    return None if alarm.closed_at is not None else replace(alarm, tell_at=now)


def news_id(news: News) -> str:
    """Return a name for this piece of news, the same at every repeat (letters, digits)."""
    alarm = news.alarm
    return sha256(f"{alarm.key} {alarm.opened_at} {news.event} {alarm.told}".encode()).hexdigest()[:32]


def without_addresses(text: str) -> str:
    """Return the text with the local part of every mail address left out: a server's words may quote a visitor's."""
    return _LOCAL_PART.sub("…@", text)


def in_words(seconds: float) -> str:
    """Return a span of time as people say it, rounded down; for what lies ahead as well as under a minute, that."""
    for unit, size, at_least in (("day", DAY, 2 * DAY), ("hour", 3_600.0, 2 * 3_600.0), ("minute", 60.0, 60.0)):
        if seconds >= at_least:
            number = int(seconds // size)
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return "less than a minute"
