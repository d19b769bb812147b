"""`pillarbox held`: messages with signs of spam, looked at, released, dropped."""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pillarbox.cli import suspects
from pillarbox.cli.changing import BREATH, CHUNK, counted, note
from pillarbox.cli.choosing import chosen, earliest
from pillarbox.cli.kept import AsJson, opened, reading
from pillarbox.terminal import FAILED, NOT_FOUND, WRONG_SETTINGS, give_up, say

if TYPE_CHECKING:
    from pillarbox.settings import Settings
    from pillarbox.store.engine import Store
    from pillarbox.store.held import Filter, Judged, Suspect

T = TypeVar("T")

commands = typer.Typer(help="See messages that are held as spam, release them, drop them.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Messages' ids.")]
Everything = Annotated[bool, typer.Option("--everything", help="All that is held.")]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which held messages are meant, as it was typed."""

    form: Annotated[str | None, typer.Option(help="Only messages to this form.")] = None
    reason: Annotated[str | None, typer.Option(help="Only messages held for this, like flood.")] = None
    since: Annotated[str | None, typer.Option(help="Only messages of the last 2h, 3d, ...")] = None
    client: Annotated[str | None, typer.Option(help="Only messages from this network's fingerprint.")] = None

    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return all(getattr(self, field.name) is None for field in fields(self))

    def filter(self, *, judged_too: bool = False) -> "Filter":
        """Return it as the store takes it. Ends the command if it is wrong."""
        from pillarbox.store.held import Filter

        return Filter(self.form, self.reason, earliest(self.since), self.client, judged_too)


@dataclass(frozen=True, slots=True)
class Meant:
    """The messages that a command is about; why others that were named are left alone, and what is not there."""

    ids: Sequence[str]
    left: Sequence[str] = ()
    missing: Sequence[str] = ()
    by_name: bool = False

    def chunks(self) -> list[tuple[str, ...]]:
        """Return the ids, so many as are changed in one transaction at a time."""
        return [tuple(self.ids[start : start + CHUNK]) for start in range(0, len(self.ids), CHUNK)]


@commands.command("list")
@chosen
def list_held(
    choice: Choice,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    judged_too: Annotated[bool, typer.Option("--all", help="Also what was released or dropped.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the newest messages that are held, and the reasons."""
    from pillarbox.settings import load
    from pillarbox.store import held

    with reading(load()) as connection:
        found = held.find(connection, choice.filter(judged_too=judged_too), limit=limit + 1)
    if as_json:
        for one in found[:limit]:
            say(json.dumps(suspects.as_dict(one)))
        return
    if not found:
        say("No message is held." if choice.is_empty() else "No held message is like that.")
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in suspects.table(found[:limit], width=width):
        say(line)
    if len(found) > limit:
        say("There are more: --limit says how many are listed.")


@commands.command("show")
def show_held(submission_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Show a held message: why it is held, where it came from, and what is sent if you release it."""
    from pillarbox.settings import load
    from pillarbox.store import deliveries, held

    with reading(load()) as connection:
        one = held.fetch(connection, submission_id.upper())
        if one is None:
            give_up(_not_there(submission_id), NOT_FOUND)
        if not one.submission.held_for:
            give_up(_never_held(one.submission.id), NOT_FOUND)
        letters = deliveries.find_of_submission(connection, one.submission.id)
        others = held.count_of_client(connection, one.client) - 1 if one.client else 0
    if as_json:
        say(json.dumps(suspects.told_as_dict(one, letters, others=others)))
        return
    for line in suspects.story(one, letters, others=others):
        say(line)


@commands.command("release")
@chosen
def release(choice: Choice, ids: Ids = None, everything: Everything = False, as_json: AsJson = False) -> None:
    """Send all that was held of messages: the owners' mail and the visitor's.

    By ids (of dropped messages too), by a filter, or with --everything.
    """
    from pillarbox.settings import load
    from pillarbox.store import held

    settings = load()
    ways = (settings.way, *(one.name for one in settings.ways))
    with opened(settings) as store:
        meant = _find_meant(store, choice, ids or [], everything=everything, why_left=_why_not_released)
        done = _judge(store, held.release, [held.Release(some, store.clock(), ways) for some in meant.chunks()])
    _log(settings, "released", done)
    for reason, number in sum((Counter(one.still_cancelled) for one in done), Counter[str]()).items():
        note(f"Still cancelled, {counted(number)}: {reason}.")
    leaving = f": {counted(sum(one.letters for one in done))} due now" if _sum(done) else ""
    _end(meant, done, f"{_counted(done)} released{leaving}.", as_json=as_json)


@commands.command("drop")
@chosen
def drop(
    choice: Choice,
    ids: Ids = None,
    everything: Everything = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put messages away: nothing of them is sent, and 30 days later they are erased.

    By ids, by a filter, or with --everything. Until they are erased they can be released.
    """
    from pillarbox.settings import load
    from pillarbox.store import held

    settings = load()
    with opened(settings) as store:
        meant = _find_meant(store, choice, ids or [], everything=everything, why_left=_why_not_dropped)
        if len(meant.ids) > 1 and not yes:
            _ask(len(meant.ids))
        done = _judge(store, held.drop, [held.Drop(some, store.clock()) for some in meant.chunks()])
    _log(settings, "dropped", done)
    them = "it" if _sum(done) == 1 else "them"
    until = f" For 30 days from now, `held release` still sends {them}." if _sum(done) else ""
    _end(meant, done, f"{_counted(done)} dropped.{until}", as_json=as_json)


def _find_meant(
    store: "Store", choice: Choice, ids: list[str], *, everything: bool, why_left: "Callable[[Suspect], str]"
) -> Meant:
    """Return the messages that are meant; ends the command when nothing was said, or two things at once."""
    from pillarbox.store import held

    if [bool(ids), not choice.is_empty(), everything].count(True) != 1:
        give_up(
            "Say which messages: their ids, a filter like --reason flood --since 3d, or --everything.", WRONG_SETTINGS
        )
    with store.reading() as connection:
        if ids:
            return _find_named(connection, ids, why_left)
        return Meant(held.find_ids(connection, choice.filter()))


def _find_named(connection: Any, ids: list[str], why_left: "Callable[[Suspect], str]") -> Meant:
    from pillarbox.store import held

    found, left, missing = [], [], []
    for identifier, written in {one.upper(): one for one in ids}.items():
        one = held.fetch(connection, identifier)
        if one is None:
            missing.append(_not_there(written))
        elif reason := why_left(one) if one.submission.held_for else _never_held(identifier):
            left.append(reason)
        else:
            found.append(identifier)
    return Meant(found, left, missing, by_name=True)


def _not_there(written: str) -> str:
    return f"There is no message {written!a}: `pillarbox held list` shows the newest."


def _never_held(identifier: str) -> str:
    return f"{identifier} was never held: `pillarbox messages show {identifier}` says what became of it."


def _why_not_released(one: "Suspect") -> str:
    """Say why a message is left as it is; nothing when it is not."""
    released = one.judgement == "released"
    return f"{one.submission.id} is released already." if released else ""


def _why_not_dropped(one: "Suspect") -> str:
    """Say why a message is left as it is; nothing when it is not."""
    identifier = one.submission.id
    match one.judgement:
        case "released":
            return f"{identifier} is released already: `pillarbox deliveries cancel {identifier}` stops what waits."
        case "dropped":
            return f"{identifier} is dropped already."
        case _:
            return ""


def _ask(number: int) -> None:
    if not sys.stdin.isatty():
        give_up(f"That would drop {number} messages: add --yes to do it without being asked.", WRONG_SETTINGS)
    if not typer.confirm(f"Drop {number} messages?", err=True):
        give_up("Nothing was dropped.")


def _judge(store: "Store", function: "Callable[..., Sequence[Judged]]", items: Sequence[T]) -> "list[Judged]":
    """Judge messages, a few hundred a transaction: visitors' messages get their turn in between."""
    from pillarbox.store.deliveries import change

    done = []
    for item in items:
        done.append(change(store, function, item))
        time.sleep(BREATH)
    return done


def _log(settings: "Settings", event: str, done: "Sequence[Judged]") -> None:
    """Write a line a message into LOG_FILE; where there is none, the command's own words are enough."""
    from pillarbox import telemetry
    from pillarbox.fittings import log_style

    style = log_style(settings)
    if style.file is None:
        return
    with suppress(OSError):  # it is done, whoever may write the log
        telemetry.set_up(style)
        for identifier in (identifier for one in done for identifier in one.ids):
            telemetry.tell(event, id=identifier)


def _sum(done: "Sequence[Judged]") -> int:
    return sum(len(one.ids) for one in done)


def _counted(done: "Sequence[Judged]") -> str:
    return suspects.counted(_sum(done)).capitalize()


def _end(meant: Meant, done: "Sequence[Judged]", sentence: str, *, as_json: bool) -> None:
    """Say what was done, and what not and why; the status tells scripts when nothing was, or something is not there."""
    for reason in (*meant.missing, *meant.left):
        note(reason)
    number = _sum(done)
    if others := len(meant.ids) - number:
        note(f"Judged by somebody else meanwhile: {suspects.counted(others)}.")
    told = {"changed": number, "letters": sum(one.letters for one in done), "left": len(meant.left) + others}
    say(json.dumps(told) if as_json else sentence)
    raise typer.Exit(NOT_FOUND if meant.missing else FAILED if meant.by_name and not number else 0)
