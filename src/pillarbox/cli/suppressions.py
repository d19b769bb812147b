"""`pillarbox suppressions`: who gets no confirmation."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pillarbox.cli.changing import counted, note
from pillarbox.cli.kept import AsJson, moment, opened, reading
from pillarbox.terminal import NOT_FOUND, WRONG_SETTINGS, give_up, say, when

if TYPE_CHECKING:
    from pillarbox.store.suppressions import Suppression

commands = typer.Typer(help="See and change who gets no confirmation.", no_args_is_help=True)

Address = Annotated[str, typer.Argument(help="A mail address; every way of writing its mailbox counts as one.")]

_SAID = {
    "asked": "asked never to be written to again",
    "refused": "unknown to its mail server",
    "listed": "put here by hand",
}


@commands.command("list")
def list_suppressions(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 100, as_json: AsJson = False
) -> None:
    """List the mailboxes that get no confirmation: since when, and why."""
    from pillarbox.settings import load
    from pillarbox.store import suppressions

    with reading(load()) as connection:
        found = suppressions.find(connection, limit=limit)
    if as_json:
        for one in found:
            say(json.dumps(_as_json(one)))
        return
    if not found:
        say("Nobody is on the list: every visitor may get confirmations.")
        return
    widest = max(len(one.mailbox) for one in found)
    for one in found:
        words = f": {one.note}" if one.note and one.reason == "refused" else ""
        say(f"{one.mailbox:<{widest}}  {when(one.since)}  {_SAID[one.reason]}{words}")


@commands.command("add")
def add_suppression(address: Address, as_json: AsJson = False) -> None:
    """Send this address no confirmation from now on, and call those off that wait."""
    from pillarbox.core.confirming import fold
    from pillarbox.settings import load
    from pillarbox.settings.kinds import address as checked
    from pillarbox.store.deliveries import change
    from pillarbox.store.suppressions import Reason, Suppression, suppress

    try:
        mailbox = fold(checked(address))
    except ValueError as wrong:
        give_up(f"That is not an address: {wrong}.", WRONG_SETTINGS)
    with opened(load()) as store:
        cancelled = change(store, suppress, Suppression(mailbox, Reason.LISTED, store.clock(), "by hand"))
    if as_json:
        say(json.dumps({"mailbox": mailbox, "cancelled": cancelled}))
        return
    say(f"{mailbox} gets no confirmation from now on.")
    if cancelled:
        say(f"{counted(cancelled).capitalize()} that waited for it {'was' if cancelled == 1 else 'were'} called off.")


@commands.command("remove")
def remove_suppression(address: Address, as_json: AsJson = False) -> None:
    """Let this address get confirmations again."""
    from pillarbox.core.confirming import fold
    from pillarbox.settings import load
    from pillarbox.store.deliveries import change
    from pillarbox.store.suppressions import Reason, release

    mailbox = fold(address)
    with opened(load()) as store:
        was = change(store, release, mailbox)
    if was is None:
        give_up(f"{mailbox} is not on the list: `pillarbox suppressions list` shows who is.", NOT_FOUND)
    if as_json:
        say(json.dumps(_as_json(was)))
        return
    say(f"{mailbox} may get confirmations again.")
    if was.reason is Reason.ASKED:
        note(f"Whoever reads its mail asked for none on {when(was.since)}: be sure that this is what they want.")


def _as_json(one: "Suppression") -> dict[str, Any]:
    return {"mailbox": one.mailbox, "reason": one.reason, "since": moment(one.since), "note": one.note}
