"""`pillarbox messages`: what visitors wrote."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pillarbox.cli.kept import AsJson, moment, reading
from pillarbox.terminal import NOT_FOUND, WRONG_SETTINGS, give_up, say, shortened, when

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pillarbox.core.delivery import Delivery
    from pillarbox.core.submission import Submission
    from pillarbox.store.held import Suspect

commands = typer.Typer(help="See what visitors wrote.", no_args_is_help=True)


@commands.command("list")
def list_messages(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20, as_json: AsJson = False
) -> None:
    """List the newest messages and what became of their letters."""
    from pillarbox.settings import load
    from pillarbox.store import held, submissions

    with reading(load()) as connection:
        found = submissions.find_newest(connection, limit=limit)
        rows = [(one, _letters_of(connection, one.id)) for one in found]
        judged = {one.id: held.fetch(connection, one.id) for one in found if as_json and one.held_for}
    if as_json:
        for one, letters in rows:
            say(json.dumps(_as_json(one, judged.get(one.id), letters)))
        return
    if not rows:
        say("No messages yet.")
    else:
        say(f"{'id':<14}  {'received':<16}  {'your mail':<9}  {'name':<24}  email")
    for one, letters in rows:
        name = shortened(one.value("name"), 24)
        say(f"{one.id}  {when(one.received_at)}  {_standing(letters):<9}  {name:<24}  {one.email}")


@commands.command("show")
def show_message(submission_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Show one message and its letters."""
    from pillarbox.settings import load
    from pillarbox.store import held

    with reading(load()) as connection:
        found = held.fetch(connection, submission_id.upper())
        letters = _letters_of(connection, found.submission.id) if found else []
    if found is None:
        give_up(f"There is no message {submission_id!a}: `pillarbox messages list` shows the newest.", NOT_FOUND)
    if as_json:
        say(json.dumps(_as_json(found.submission, found, letters)))
        return
    one = found.submission
    say(f"Message {one.id} of {when(one.received_at)}{_judged(found)}")
    for answer in one.answers:
        indented = answer.text.replace("\n", "\n    ")
        say(f"\n  {answer.label}\n    {indented}")
    say()
    widest = max((len(letter.recipient) for letter in letters), default=0)
    longest = max((len(str(letter.id)) for letter in letters), default=0)
    for letter in letters:
        named = f"{letter.id:>{longest}}  {letter.state.value:<9} {letter.purpose.value:<12}"
        say(f"  {named} {letter.recipient:<{widest}}  {letter.note}")
    if one.held_for and found.judgement is None:
        say(f"\nTo send what is held: `pillarbox held release {one.id}`.")
    if letters:
        say(f"\nAll about a letter: `pillarbox deliveries show {letters[0].id}`, by the number before it.")


@commands.command("export")
def export_messages(
    style: Annotated[str, typer.Option("--format", help="csv or jsonl.")] = "csv",
    output: Annotated[Path | None, typer.Option(help="A file; standard output when left out.")] = None,
) -> None:
    """Write every message, oldest first, as CSV that no spreadsheet takes for formulas, or as JSON lines."""
    from pillarbox import exporting
    from pillarbox.settings import load
    from pillarbox.store import submissions

    write = exporting.STYLES.get(style)
    if write is None:
        give_up("--format is csv or jsonl.", WRONG_SETTINGS)
    with reading(load()) as connection:
        if output:
            with open(output, "w", encoding="utf-8", newline="", opener=_for_us_alone) as file:
                write(lambda: submissions.each(connection), file)
        else:
            sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
            write(lambda: submissions.each(connection), sys.stdout)


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _letters_of(connection: Any, submission_id: str) -> "list[Delivery]":
    from pillarbox.store import deliveries

    return deliveries.find_of_submission(connection, submission_id)


def _standing(letters: "Iterable[Delivery]") -> str:
    """Say in one word how it stands with the owner's letters of a message."""
    from pillarbox.store.held import DROPPED_BY_HAND

    owners = [letter for letter in letters if letter.purpose.value == "notification"]
    states = {"waiting" if letter.state.value == "digested" else letter.state.value for letter in owners}
    dropped = "dropped" if any(letter.note == DROPPED_BY_HAND for letter in owners) else "cancelled"
    return next((state for state in ("failed", "held", "waiting", "sent") if state in states), dropped)


def _judged(one: "Suspect") -> str:
    """Say what a message is held for, or was, and what a person said of it; nothing of one that never was."""
    if not one.submission.held_for:
        return ""
    reasons = ", ".join(one.submission.held_for)
    if one.judgement is None:
        return f", held: {reasons}"
    return f"\n  was held: {reasons}; {one.judgement} on {when(one.judged_at or 0.0)}"


def _as_json(one: "Submission", judged: "Suspect | None", letters: "Iterable[Delivery]") -> dict[str, Any]:
    from pillarbox.exporting import as_dict

    letters_of_it = [
        {
            "id": letter.id,
            "purpose": letter.purpose,
            "recipient": letter.recipient,
            "state": letter.state,
            "note": letter.note,
        }
        for letter in letters
    ]
    judgement = {
        "judgement": judged.judgement if judged else None,
        "judged_at": moment(judged.judged_at) if judged else None,
    }
    return as_dict(one) | judgement | {"letters": letters_of_it}
