"""The options by which commands are told which letters are meant."""

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from pillarbox.core.delivery import Purpose, State
from pillarbox.terminal import WRONG_SETTINGS, give_up

if TYPE_CHECKING:
    from pillarbox.store.deliveries import Filter

_MESSAGE_ID = 14
"""Characters of a message's id, like 7K3M-9QXP-2AFD."""


class Outcome(StrEnum):
    """What became of a letter's last try."""

    SENT = "sent"
    DEFERRED = "deferred"
    REFUSED = "refused"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"
    GIVENUP = "givenup"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant, as it was typed."""

    state: Annotated[list[State] | None, typer.Option(help="Only letters that stand so; may be given again.")] = None
    form: Annotated[str | None, typer.Option(help="Only letters of this form.")] = None
    way: Annotated[str | None, typer.Option(help="Only letters that leave by this way out.")] = None
    recipient: Annotated[str | None, typer.Option(help="Only letters to this address.")] = None
    purpose: Annotated[Purpose | None, typer.Option(help="Only the owner's letters, or only the visitors'.")] = None
    since: Annotated[str | None, typer.Option(help="Only letters of the last 2h, 3d, ...")] = None
    outcome: Annotated[Outcome | None, typer.Option(help="Only letters whose last try ended so.")] = None

    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return not any(getattr(self, field.name) for field in fields(self))

    def filter(self, *usual: State) -> "Filter":
        """Return it as the store takes it; `usual` are the states where none was said. Ends the command if wrong."""
        from pillarbox.store.deliveries import Filter

        return Filter(
            states=tuple(self.state or usual),
            form=self.form,
            way=self.way,
            recipient=self.recipient,
            purpose=self.purpose,
            outcome=self.outcome,
            since=earliest(self.since),
        )


def earliest(written: str | None) -> float | None:
    """Return when (seconds since the epoch) a duration like 3d began that ends now. Ends the command if wrong."""
    from pillarbox.settings.kinds import duration

    if not written:
        return None
    try:
        return time.time() - float(str(duration(written)))
    except ValueError as wrong:
        give_up(f"--since is not right: {wrong}.", WRONG_SETTINGS)


_TO = Annotated[str | None, typer.Option("--recipient", "--to", help="Only letters to this address.")]


def chosen(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first parameter is a Choice or the like, the options of a Choice in its place.

    `--to` is another name of `--recipient` where the command has no `--to` of its own.
    """
    first, *others = inspect.signature(command).parameters.values()
    kind = first.annotation
    names = [field.name for field in fields(kind)]
    hints = get_type_hints(kind, include_extras=True)
    if "recipient" in hints and "to" not in inspect.signature(command).parameters:
        hints["recipient"] = _TO

    def with_options(**given: Any) -> None:
        command(kind(**{name: given.pop(name) for name in names}), **given)

    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hints[name]) for name in names
    ]
    arguments = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in others]
    with_options.__signature__ = inspect.Signature([*arguments, *options])  # type: ignore[attr-defined]
    with_options.__doc__ = command.__doc__
    return with_options


def numbers_and_messages(written: list[str]) -> tuple[list[int], list[str]]:
    """Return the letters' numbers and the messages' ids among what was typed; ends the command at anything else."""
    numbers, messages = [], []
    for one in dict.fromkeys(written):
        if one.isdecimal() and one.isascii() and len(one) < 19:  # what SQLite can hold
            numbers.append(int(one))
        elif len(one) == _MESSAGE_ID and one.count("-") == 2:
            messages.append(one.upper())
        else:
            give_up(
                f"{one!a} is neither a letter's number nor a message's id: `pillarbox deliveries list` shows both.",
                WRONG_SETTINGS,
            )
    return numbers, messages
