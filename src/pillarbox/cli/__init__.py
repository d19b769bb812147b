"""The commands: parse, call, print. Heavy things are imported where a command needs them."""

import os
import sys
from typing import Annotated

import typer

from pillarbox import __version__
from pillarbox.cli.backup import backup, restore
from pillarbox.cli.checks import doctor, send_test, upgrade
from pillarbox.cli.deliveries import commands as deliveries
from pillarbox.cli.held import commands as held
from pillarbox.cli.messages import commands as messages
from pillarbox.cli.serving import serve, worker
from pillarbox.cli.stats import stats
from pillarbox.cli.suppressions import commands as suppressions
from pillarbox.terminal import FAILED, WRONG_SETTINGS, printable

commands = typer.Typer(
    name="pillarbox",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Run a command, with settings and files that are wrong said in plain sentences."""
    from pillarbox.settings import WrongSettings

    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] # not every terminal shows every letter
    try:
        try:
            commands()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `pillarbox … | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except WrongSettings as wrong:
        for sentence in wrong.sentences:
            typer.echo(printable(sentence), err=True)
        sys.exit(WRONG_SETTINGS)
    except OSError as error:
        typer.echo(printable(f"{error.filename or 'A file'}: {error.strerror or error}."), err=True)
        sys.exit(FAILED)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pillarbox {__version__}")
        raise typer.Exit


@commands.callback()
def pillarbox(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version.")
    ] = False,
) -> None:
    """A self-hosted contact-form service: nothing that was thanked for is ever lost."""


for command in (serve, worker, send_test, doctor, upgrade, backup, restore, stats):
    commands.command(command.__name__.replace("_", "-"))(command)
commands.add_typer(messages, name="messages")
commands.add_typer(held, name="held")
commands.add_typer(deliveries, name="deliveries")
commands.add_typer(suppressions, name="suppressions")
