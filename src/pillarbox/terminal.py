"""What a command prints: lines that are safe in any terminal, whatever visitors wrote."""

from datetime import datetime
from typing import NoReturn

import typer

WRONG_SETTINGS, FAILED, NOT_FOUND = 2, 1, 1
"""Exit statuses."""


def printable(text: str) -> str:
    """Return the text without anything in it that could steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)


def say(text: str = "") -> None:
    """Print a line that is safe in a terminal."""
    typer.echo(printable(text))


def give_up(text: str, status: int = FAILED) -> NoReturn:
    """Say what is wrong and end."""
    typer.echo(printable(text), err=True)
    raise typer.Exit(status)


def when(at: float) -> str:
    """Return a moment (seconds since the epoch) in local time, to the minute."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")


def shortened(text: str, most: int) -> str:
    """Return the text in one line of at most so many characters."""
    line = text.replace("\n", " ")
    return line if len(line) <= most else line[: most - 1] + "…"
