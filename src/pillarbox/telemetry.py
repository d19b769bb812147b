"""One event an end of the road feeds log and counter alike; ids are its fields, never a message's words or a secret."""

import json
import logging
import sys
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from traceback import format_tb
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

road = structlog.get_logger("pillarbox")
"""The road's own log: accepted, held, sent, deferred, blocked, refused …"""

Labels = tuple[tuple[str, str], ...]
Counts = Mapping[tuple[str, Labels], float]
"""How much each counter grew, by its name and labels. A histogram is `…_sum` and, by its label `le`, `…_bucket`."""

_ENCODER = json.JSONEncoder(default=repr)  # json.dumps would make a new one for every line


@dataclass(frozen=True, slots=True)
class LogStyle:
    """Level as logging names it, format `json` or `text`, and the file to append to (None: standard error)."""

    level: str = "info"
    format: str = "text"
    file: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Counter:
    """Something counted: its name in the metrics (without `_total`), what it means, and its labels.

    A label's values are few and ours (a form's name, a code): one that a visitor could choose would fill the memory.
    """

    name: str
    meaning: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How long something takes, in seconds: how often it took up to each of the bounds."""

    name: str
    meaning: str
    bounds: tuple[float, ...]
    labels: tuple[str, ...] = ()


ACCEPTED = Counter("pillarbox_messages_accepted", "Messages kept, thanked for and on their way.", ("form",))
HELD = Counter("pillarbox_messages_held", "Messages kept and thanked for, but held as spam.", ("form",))
REPEATED = Counter("pillarbox_messages_repeated", "Posts of a message that was kept before: no second one.", ("form",))
SIGNS = Counter("pillarbox_spam_signs", "Signs of spam that messages are held for; a message may bear many.", ("sign",))
TURNED_AWAY = Counter("pillarbox_messages_refused", "Posts that were not kept, by the code of the answer.", ("code",))
ATTEMPTS = Counter(
    "pillarbox_attempts",
    "What became of letters, each time that one was taken up.",
    ("outcome", "purpose", "way"),
)
OUTCOMES = ("sent", "deferred", "blocked", "refused", "cancelled", "givenup")
COUNTERS = (ACCEPTED, HELD, REPEATED, SIGNS, TURNED_AWAY, ATTEMPTS)

ACCEPTING = Histogram(
    "pillarbox_accept_seconds",
    "From the request's head to the thanks, for messages that were kept.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
DELIVERING = Histogram(
    "pillarbox_delivery_seconds",
    "From a message's arrival to the hand-over of the owner's letter.",
    (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0, 86_400.0, 172_800.0, 432_000.0),
    ("way",),
)
HISTOGRAMS = (ACCEPTING, DELIVERING)

_COUNTED: Mapping[str, Counter] = {
    "accepted": ACCEPTED,
    "held": HELD,
    "repeated": REPEATED,
    "turned_away": TURNED_AWAY,
    **dict.fromkeys(OUTCOMES, ATTEMPTS),
}
"""What the events of the road count towards."""


def tell(event: str, *, level: str = "info", **fields: object) -> None:
    """Write an event of the road into the log, and count it: the fields that its counter has as labels say where."""
    getattr(road, level)(event, **fields)
    if counter := _COUNTED.get(event):
        values = [event if label == "outcome" else str(fields.get(label, "")) for label in counter.labels]
        tallies.count(counter, *values)


class Tallies:
    """What this process counted since it was last taken; belongs to the thread of the event loop."""

    def __init__(self) -> None:
        self._counted: dict[tuple[Counter, tuple[str, ...]], int] = {}
        self._observed: dict[tuple[Histogram, tuple[str, ...], int], list[float]] = {}  # how many, and their seconds
        self._returned: dict[tuple[str, Labels], float] = {}

    def count(self, counter: Counter, *values: str) -> None:
        """Count one, with these values of the counter's labels."""
        key = (counter, values)
        self._counted[key] = self._counted.get(key, 0) + 1

    def observe(self, histogram: Histogram, seconds: float, *values: str) -> None:
        """Note how long one took; a clock that was set back makes it none."""
        key = (histogram, values, bisect_left(histogram.bounds, seconds))
        seen = self._observed.setdefault(key, [0, 0.0])
        seen[0] += 1
        seen[1] += max(seconds, 0.0)

    def take(self) -> Counts:
        """Return what was counted since the last time, which is forgotten here."""
        counted, self._counted = self._counted, {}
        observed, self._observed = self._observed, {}
        taken, self._returned = self._returned, {}
        for (counter, values), number in counted.items():
            _add(taken, counter.name, _labelled(counter.labels, values), number)
        for (histogram, values, index), (times, seconds) in observed.items():
            labels = _labelled(histogram.labels, values)
            bound = str(histogram.bounds[index]) if index < len(histogram.bounds) else "+Inf"
            _add(taken, f"{histogram.name}_bucket", (*labels, ("le", bound)), times)
            _add(taken, f"{histogram.name}_sum", labels, seconds)
        return taken

    def give_back(self, counts: Counts) -> None:
        """Take back what could not be written down, for the next time."""
        for (name, labels), number in counts.items():
            _add(self._returned, name, labels, number)


tallies = Tallies()
"""This process's own, as there is one log."""


def _labelled(names: Sequence[str], values: Sequence[str]) -> Labels:
    return tuple(zip(names, values, strict=True))


def _add(counts: dict[tuple[str, Labels], float], name: str, labels: Labels, number: float) -> None:
    counts[name, labels] = counts.get((name, labels), 0) + number


def set_up(style: LogStyle) -> None:
    """Send our own and the libraries' log lines to the one place, a line each, in the one form."""
    level = logging.getLevelNamesMapping()[style.level.upper()]
    stream = style.file.open("a", encoding="utf-8", buffering=1) if style.file else sys.stderr
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_words,
        _escaped,
    ]
    writer: Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if style.format == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=12)
    )
    structlog.configure(
        processors=[*shared, writer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Unfailing(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    foreign = [_named, *shared]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=foreign, processors=[_bare, writer]))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


class _Unfailing:
    """Makes the logger that writes lines; a full disk or a closed pipe loses lines, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, *_names: object) -> "_Unfailing":
        return self

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(line + "\n")  # the streams are flushed at each line

    debug = info = warning = error = critical = msg


def _to_json(event: EventDict, **_unused: object) -> str:
    return _ENCODER.encode(event)


def _bare(logger: object, name: str, event: EventDict) -> EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, name, event)


def _named(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Give a library's line the name of its logger, and what it said as a value, which can't pass for several.

    Only its first line: asyncio adds objects as Python writes them, with whatever they hold.
    """
    said = str(event["event"]).partition("\n")[0]
    return {**event, "event": event["_record"].name, "said": said}


def _without_words(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Replace an exception by its class and the places where it rose: its text may hold what a visitor wrote."""
    error = event.pop("exc_info", None)
    error = error[1] if isinstance(error, tuple) else error
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["at"] = " < ".join(line.split("\n")[0].strip() for line in reversed(format_tb(error.__traceback__)[-8:]))
    return event


def _escaped(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Write control characters as escapes, so that no value can forge a line or colour a terminal."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in value)
    return event
