"""Changing many letters: which are meant, a transaction for each few hundred, and what is said of the rest."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from pillarbox.cli.choosing import Choice, numbers_and_messages
from pillarbox.core.delivery import State
from pillarbox.terminal import FAILED, NOT_FOUND, WRONG_SETTINGS, give_up, printable, say

if TYPE_CHECKING:
    from pillarbox.store.deliveries import Seen
    from pillarbox.store.engine import Store

CHUNK = 500
"""Letters that are changed in one transaction: visitors' messages get their turn in between."""
BREATH = 0.05
"""Seconds between two of them: SQLite's lock knows no queue, so who comes back at once would always be first."""
WORTH_A_BAR = 100


@dataclass(frozen=True, slots=True)
class Meant:
    """The letters that a command is about, and what was asked for and is not there."""

    letters: "Sequence[Seen]"
    missing: Sequence[str] = ()
    by_name: bool = False

    def chunks(self) -> "list[tuple[int, ...]]":
        """Return their numbers, so many as are changed in one transaction at a time."""
        numbers = [one.id for one in self.letters]
        return [tuple(numbers[start : start + CHUNK]) for start in range(0, len(numbers), CHUNK)]


def find_meant(store: "Store", choice: Choice, ids: list[str], *, usual: Sequence[State]) -> Meant:
    """Return the letters that are meant; ends the command when nothing was said, or two things at once."""
    from pillarbox.store import deliveries

    if bool(ids) is not choice.is_empty():
        give_up("Say which letters: their numbers, or a filter like --state failed --since 2d.", WRONG_SETTINGS)
    with store.reading() as connection:
        if not ids:
            return Meant(deliveries.find(connection, choice.filter(*usual)))
        found, missing = find_named(connection, ids, usual=usual)
    return Meant(found, missing, by_name=True)


def find_named(connection: Any, ids: list[str], *, usual: Sequence[State]) -> "tuple[list[Seen], list[str]]":
    """Return letters by their numbers, and those of messages that stand in the usual states; and what is not there."""
    from pillarbox.store import deliveries

    found: dict[int, Seen] = {}
    missing = []
    numbers, messages = numbers_and_messages(ids)
    for number in numbers:
        if one := deliveries.fetch(connection, number):
            found[one.id] = one
        else:
            missing.append(f"There is no letter {number}: `pillarbox deliveries list` shows the newest.")
    for message in messages:
        of_it = deliveries.find(connection, deliveries.Filter(submission_id=message))
        fitting = {one.id: one for one in reversed(of_it) if one.state in usual}
        found |= fitting
        if not of_it:
            missing.append(f"There is no message {message!a}: `pillarbox messages list` shows the newest.")
        elif not fitting and any(one.state is State.HELD for one in of_it):
            missing.append(f"The letters of {message} are held as spam: see `pillarbox held show {message}`.")
        elif not fitting:
            states = " or ".join(usual)
            missing.append(
                f"No letter of {message} is {states}: `pillarbox deliveries show {message}` has their numbers."
            )
    return list(found.values()), missing


def change_in_chunks(store: "Store", function: "Callable[..., Sequence[int]]", items: Sequence[Any]) -> int:
    """Do one item a transaction and return how many letters were changed; many are shown to go on."""
    from pillarbox.store.deliveries import change

    many = sum(len(item.ids) for item in items) > WORTH_A_BAR and sys.stderr.isatty()
    done = 0
    with typer.progressbar(items, file=sys.stderr) if many else nullcontext(items) as going:
        for item in going:
            done += change(store, function, item)
            time.sleep(BREATH)
    return done


def end(meant: Meant, done: int, why_left: "Callable[[Seen], str]", *, verb: str, as_json: bool) -> None:
    """Say what was done, and what not and why; the status tells scripts when nothing was, or something is not there."""
    left = Counter(reason for one in meant.letters if (reason := why_left(one)))
    if others := len(meant.letters) - done - left.total():
        left["changed by somebody else meanwhile"] += others
    for sentence in meant.missing:
        note(sentence)
    for reason, number in left.items():
        note(f"Left alone, {counted(number)}: {reason}.")
    say(json.dumps({"changed": done, "left": left.total()}) if as_json else f"{counted(done).capitalize()} {verb}.")
    raise typer.Exit(NOT_FOUND if meant.missing else FAILED if meant.by_name and not done else 0)


def note(sentence: str) -> None:
    """Say something on standard error."""
    typer.echo(printable(sentence), err=True)


def counted(number: int) -> str:
    """Return so many letters in words."""
    return {0: "no letter", 1: "1 letter"}.get(number, f"{number} letters")
