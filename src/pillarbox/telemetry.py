"""One event an end of the road feeds the log; ids are its fields, never a message's words and never a secret."""

import json
import logging
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from traceback import format_tb
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

road = structlog.get_logger("pillarbox")
"""The road's own log: accepted, held, sent, deferred, blocked, refused …"""


_ENCODER = json.JSONEncoder(default=repr)  # json.dumps would make a new one for every line


@dataclass(frozen=True, slots=True)
class LogStyle:
    """Level as logging names it, format `json` or `text`, and the file to append to (None: standard error)."""

    level: str = "info"
    format: str = "text"
    file: Path | None = None


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
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_bare, writer]))
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
