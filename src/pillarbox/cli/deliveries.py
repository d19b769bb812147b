"""`pillarbox deliveries`: letters seen, sent again, called off."""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from pillarbox.cli import letters
from pillarbox.cli.changing import change_in_chunks, end, find_meant, find_named, note
from pillarbox.cli.choosing import Choice, chosen
from pillarbox.cli.kept import AsJson, opened, reading
from pillarbox.core.delivery import Purpose, State
from pillarbox.terminal import NOT_FOUND, WRONG_SETTINGS, give_up, say

if TYPE_CHECKING:
    from pillarbox.settings import Settings
    from pillarbox.store.deliveries import Seen

commands = typer.Typer(help="See letters, send them again, call them off.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Letters' numbers, or messages' ids.")]


@commands.command("list")
@chosen
def list_deliveries(
    choice: Choice,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest letters: how they stand, and what the mail server said."""
    from pillarbox.settings import load
    from pillarbox.store import deliveries, ways

    with reading(load()) as connection:
        found = deliveries.find(connection, choice.filter(), limit=limit)
        shut = {one.way: one for one in ways.find_shut(connection)}
    if as_json:
        for one in found:
            say(json.dumps(letters.as_dict(one)))
        return
    if not found:
        say("No letter is like that." if not choice.is_empty() else "No letters yet.")
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in letters.table(found, shut, now=time.time(), width=width):
        say(line)


@commands.command("show")
def show_delivery(delivery: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Show everything about a letter (by its number), or about each letter of a message (by its id)."""
    from pillarbox.settings import load
    from pillarbox.store import deliveries, ways

    settings = load()
    with reading(settings) as connection:
        found, missing = find_named(connection, [delivery], usual=tuple(State))
        told = [
            letters.Told(
                letter=one,
                attempts=deliveries.find_attempts(connection, one.carrier or one.id),
                carried=deliveries.count_carried(connection, one.id),
                shut=ways.fetch_shut(connection, one.way) if one.state is State.WAITING else None,
            )
            for one in found
        ]
    for sentence in missing:
        give_up(sentence, NOT_FOUND)
    hosts = {way.name: way.server for way in settings.ways}
    for number, one in enumerate(told):
        advice = _advice(one, hosts.get(one.letter.way, ""))
        if as_json:
            say(json.dumps(letters.told_as_dict(one, advice=advice)))
            continue
        say("\n" * bool(number) + "\n".join(letters.story(one, settings, now=time.time())))
        if advice:
            say(f"\n  What to do: {advice}")


def _advice(told: letters.Told, host: str) -> str:
    """Return what to do about a letter that didn't leave, as far as is known."""
    from pillarbox.core.advice import advise

    if told.letter.state is State.SENT:
        return ""
    return advise(told.letter.note, host) or (advise(told.shut.note, host) if told.shut else "")


@commands.command("retry")
@chosen
def retry(
    choice: Choice,
    ids: Ids = None,
    to: Annotated[str | None, typer.Option(help="A mended address, which they go to from now on.")] = None,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="Everything that failed for good.")] = False,
    again: Annotated[bool, typer.Option("--again", help="A second copy of what was sent already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send letters from now on: what failed or was cancelled begins anew, what waits is due at once.

    By numbers, by messages' ids, or by a filter; without --state that means what waits and what failed.
    """
    from pillarbox.settings import load
    from pillarbox.store.deliveries import Revival, change, revive
    from pillarbox.store.ways import try_at_once

    settings = load()
    if again and not ids:
        give_up("--again needs letters' numbers: a second copy is for somebody who asked for it.", WRONG_SETTINGS)
    if all_failed:
        choice = replace(choice, state=[State.FAILED])
    usual = (State.WAITING, State.FAILED, *([State.SENT] if again else []))
    with opened(settings) as store:
        meant = find_meant(store, choice, ids or [], usual=usual)
        recipient = _mended(to, meant.letters) if to else None
        ways = (settings.way, *(one.name for one in settings.ways))
        revivals = [Revival(some, store.clock(), ways, recipient, sent_too=again) for some in meant.chunks()]
        done = change_in_chunks(store, revive, revivals)
        if done:
            change(
                store, try_at_once, store.clock()
            )  # what held them up may be mended: the ways out need not wait either
    if not recipient:
        _say_strangers(meant.letters, settings)
    copies = any(one.state is State.SENT for one in meant.letters)
    verb = "due now: a second copy leaves of what was sent already" if copies and again else "due now"
    end(meant, done, lambda one: _why_not_sent(one, again=again, named=meant.by_name), verb=verb, as_json=as_json)


@commands.command("cancel")
@chosen
def cancel(
    choice: Choice,
    ids: Ids = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Call letters off that wait, or that failed: they are not sent.

    By numbers, by messages' ids, or by a filter; without --state that means what waits and what failed.
    """
    from pillarbox.settings import load
    from pillarbox.store.deliveries import Cancellation
    from pillarbox.store.deliveries import cancel as call_off

    with opened(load()) as store:
        meant = find_meant(store, choice, ids or [], usual=(State.WAITING, State.DIGESTED, State.FAILED))
        if len(meant.letters) > 1 and not yes:
            _ask(len(meant.letters))
        done = change_in_chunks(store, call_off, [Cancellation(some, store.clock()) for some in meant.chunks()])
    end(meant, done, _why_not_cancelled, verb="cancelled", as_json=as_json)


def _mended(written: str, meant: "Sequence[Seen]") -> str:
    """Return the address; ends the command where it is none, or where it would get other visitors' confirmations."""
    from pillarbox.settings.kinds import address

    if len(meant) > 1 and any(one.purpose is Purpose.CONFIRMATION for one in meant):
        give_up(
            "--to would send visitors' confirmations to one address: add --purpose notification, or name one letter.",
            WRONG_SETTINGS,
        )
    try:
        return address(written)
    except ValueError as wrong:
        give_up(f"--to is not right: {wrong}.", WRONG_SETTINGS)


def _ask(number: int) -> None:
    if not sys.stdin.isatty():
        give_up(f"That would cancel {number} letters: add --yes to do it without being asked.", WRONG_SETTINGS)
    if not typer.confirm(f"Cancel {number} letters?", err=True):
        give_up("Nothing was cancelled.")


def _why_not_sent(letter: "Seen", *, again: bool, named: bool = True) -> str:
    """Say why a letter is left as it is; nothing when it is not. What was `named` is told of by name."""
    if letter.is_in_hand:
        return "being sent just now"
    match letter.state:
        case State.HELD:
            return f"held as spam; `pillarbox held release {letter.submission_id if named else 'ID'}` sends it"
        case State.DIGESTED:
            return "leaving in the mail of another letter; `pillarbox deliveries show` says of which"
        case State.SENT if not again:
            return "sent already; for a second copy, give its number and --again"
        case _:
            return ""


def _why_not_cancelled(letter: "Seen") -> str:
    if letter.is_in_hand:
        return "being sent just now"
    match letter.state:
        case State.HELD:
            return "held as spam, and not sent unless its message is released"
        case State.SENT | State.CANCELLED:
            return f"{letter.state} already"
        case _:
            return ""


def _say_strangers(meant: "Sequence[Seen]", settings: "Settings") -> None:
    strangers = [one for one in meant if not _why_not_sent(one, again=True) and letters.is_to_a_stranger(one, settings)]
    for one in {one.recipient: one for one in strangers}.values():
        note(letters.stranger(one))
