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
UNTRIED = 0.0
"""The `tell_at` of an alarm that nobody tried to tell so far."""
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

    A quiet one opens no alarm, but one that somebody was told of is not over while it is there, and told each day.
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
    that next. `closed_at` is None while it is there, then the time from which on its end may be told; where nobody was
    told of its beginning, `tell_at` says when to tell the end, and `closed_at` stays.
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

    @property
    def missed_until(self) -> float | None:
        """When it ended, if that was before anybody could be told; else None."""
        return None if self.told or self.closed_at is None else self.closed_at - GONE_FOR


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
    minutes. What ended before any channel took the news of it is told by its end, once one does; what nobody tried to
    tell ends silently. What is to be told is claimed for five minutes by the row it leaves.
    """
    found = {trouble.key: trouble for trouble in troubles}
    rows = {alarm.key: alarm for alarm in alarms}
    held_up = _held_up(troubles, alarms, now)
    return [step for step in _all_steps(found, rows, now, held_up=held_up) if step.before != step.after]


def _held_up(troubles: Sequence[Trouble], alarms: Sequence[Alarm], now: float) -> set[str]:
    """Return the keys of late letters that are no trouble of their own.

    What a shut way held up is late when it opens: that is the same trouble until its end was told, for a day at most.
    """
    shut = {one.subject for one in troubles if one.kind is Kind.WAY_SHUT and not one.quiet}
    shut |= {
        alarm.subject
        for alarm in alarms
        if alarm.kind is Kind.WAY_SHUT and (alarm.closed_at is None or alarm.closed_at > now - DAY)
    }
    return {one.key for one in troubles if one.kind is Kind.LETTERS_LATE and one.subject in shut}


def _all_steps(found: dict[str, Trouble], rows: dict[str, Alarm], now: float, *, held_up: set[str]) -> Iterator[Step]:
    for key, trouble in found.items():
        if key in rows:
            yield _go_on(rows[key], trouble, now, mute=key in held_up)
        elif not trouble.quiet and key not in held_up:
            yield _begin(trouble, now)
    for key, alarm in rows.items():
        if key not in found:
            yield _end(alarm, now)


def _begin(trouble: Trouble, now: float) -> Step:
    opened = Alarm(trouble.kind, trouble.subject, trouble.note, trouble.since, tell_at=now + CLAIM)
    return Step(None, opened, Event.OPENED)


def _go_on(alarm: Alarm, trouble: Trouble, now: float, *, mute: bool) -> Step:
    there = replace(alarm, note=trouble.note or alarm.note, closed_at=None)
    event = Event.STILL if alarm.told else Event.OPENED
    if mute or (trouble.quiet and event is Event.OPENED) or _is_to_wait(alarm, now):
        return Step(alarm, there)
    return Step(alarm, replace(there, tell_at=now + CLAIM), event)


def _end(alarm: Alarm, now: float) -> Step:
    if not alarm.told and alarm.tell_at == UNTRIED:
        return Step(alarm, None)
    if alarm.closed_at is None or alarm.closed_at > now + CLAIM:
        return Step(alarm, replace(alarm, closed_at=now + GONE_FOR))
    if alarm.closed_at > now or (not alarm.told and _is_to_wait(alarm, now)):
        return Step(alarm, alarm)
    claimed = replace(alarm, closed_at=now + CLAIM) if alarm.told else replace(alarm, tell_at=now + CLAIM)
    return Step(alarm, claimed, Event.WELL)


def _is_to_wait(alarm: Alarm, now: float) -> bool:
    return now < alarm.tell_at < now + _CLOCK_WAS_WRONG


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
