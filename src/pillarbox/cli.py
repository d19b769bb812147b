"""The commands: parse, call, print. Heavy things are imported where a command needs them."""

import asyncio
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pillarbox import __version__
from pillarbox.terminal import FAILED, NOT_FOUND, WRONG_SETTINGS, give_up, printable, say, shortened, when

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pillarbox.core.delivery import Delivery
    from pillarbox.core.submission import Submission
    from pillarbox.settings import Settings

_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to

commands = typer.Typer(
    name="pillarbox",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
messages = typer.Typer(help="See what visitors wrote.", no_args_is_help=True)
commands.add_typer(messages, name="messages")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


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


@commands.command()
def serve(
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Only keep messages; `pillarbox worker` sends them.")
    ] = False,
) -> None:
    """Serve the page and the API on HOST and PORT, and send what is kept."""
    import signal

    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from pillarbox.app import create_app, open_store
    from pillarbox.settings import load
    from pillarbox.web.assets import NotBuilt
    from pillarbox.web.protocol import BoundedProtocol

    if no_worker:
        os.environ["DISPATCH"] = "false"
    settings = load()
    listening = _listen(settings.host, settings.port)
    several = settings.workers > 1
    if several:
        open_store(settings).close()  # one process migrates, before the others are there
    try:
        app = "pillarbox.app:create_app" if several else create_app(settings)
    except NotBuilt as missing:
        give_up(str(missing))
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        factory=several,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=10,
    )
    _welcome(settings, listening.getsockname()[1])
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them once more when it is done: that is no failure
        signal.signal(number, lambda *_: None)
    server = uvicorn.Server(config)
    if several:
        Multiprocess(config, [listening]).run()
    else:
        server.run(sockets=[listening])
    raise typer.Exit(0 if several or server.started else FAILED)


def _listen(host: str, port: int) -> Any:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        give_up(f"Nothing can listen on {host} port {port} ({reason}): set HOST and PORT to a free address.")
    listening.set_inheritable(True)
    return listening


def _welcome(settings: "Settings", port: int) -> None:
    from pillarbox.settings import where

    host = "127.0.0.1" if settings.host in _EVERYWHERE else settings.host
    page = settings.public_url or f"http://{host}:{port}"
    say(f"Pillarbox is at {page}")
    if settings.mails_to_a_folder:
        say(f"Mail goes into the folder {settings.mail_folder} (a Maildir), because no mail server is set.")
        if not settings.is_production:
            say()
            say(f"  1. Send a message on the page, then see the mail:  {page}/mail")
            say("  2. To send real mail, set five things in .env:     SMTP_SERVER, SMTP_PORT, EMAIL_ADDRESS,")
            say("                                                     EMAIL_PASSWORD, RECIPIENT_EMAIL")
            say(f"  3. Check them, then start again:                   {_typed()} doctor")
            say()
    else:
        chosen = "" if where("SMTP_SERVER") != "not set" else ", because SMTP_SERVER is not set"
        say(f"Mail leaves through {settings.smtp_server}:{settings.smtp_port} as {settings.sender}{chosen}.")
    if not settings.dispatch:
        say("Messages are only kept here; `pillarbox worker` sends them.")
    sys.stdout.flush()


def _typed() -> str:
    """Return how people start us: `make run` uses an environment that is in nobody's PATH."""
    import shutil

    return "pillarbox" if shutil.which("pillarbox") else os.path.relpath(Path(sys.executable).with_name("pillarbox"))


@commands.command()
def worker() -> None:
    """Send what is kept, without serving anything."""
    from pillarbox.app import assemble
    from pillarbox.settings import load

    parts = assemble(load())
    say("Sending what is kept.")
    sys.stdout.flush()
    asyncio.run(_until_told(parts))


async def _until_told(parts: Any) -> None:
    import signal

    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with parts.running(dispatching=True):
        await told.wait()


@commands.command("send-test")
def send_test(as_json: AsJson = False) -> None:
    """Send one test letter to the owner through the way out, now, and say what became of it."""
    from pillarbox.app import send_test_letter
    from pillarbox.core.delivery import Sent
    from pillarbox.settings import load

    settings = load()
    outcome = asyncio.run(send_test_letter(settings))
    was_sent = isinstance(outcome, Sent)
    if as_json:
        say(json.dumps({"sent": was_sent, "outcome": type(outcome).__name__.lower(), "note": outcome.note}))
    elif was_sent:
        say(f"Sent to {settings.recipients[0]}: {outcome.note}")
    else:
        say(f"Not sent: {outcome.note}")
    raise typer.Exit(0 if was_sent else FAILED)


@commands.command()
def doctor(as_json: AsJson = False) -> None:
    """Check settings, store and way out; each line says what was seen and what to do."""
    from pillarbox.app import examine
    from pillarbox.settings import load

    findings = asyncio.run(examine(load()))
    if as_json:
        say(
            json.dumps(
                [{"step": one.step, "verdict": one.verdict, "seen": one.seen, "advice": one.advice} for one in findings]
            )
        )
    else:
        for one in findings:
            say(f"{one.verdict:<5} {one.step:<9} {one.seen}")
            if one.advice:
                say(f"{'':<16}{one.advice}")
    raise typer.Exit(FAILED if any(one.verdict == "fail" for one in findings) else 0)


@commands.command()
def upgrade() -> None:
    """Bring the database up to date, after copying it aside."""
    from pillarbox.app import upgrade_store
    from pillarbox.settings import load

    say(upgrade_store(load()))


@messages.command("list")
def list_messages(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20, as_json: AsJson = False
) -> None:
    """List the newest messages and what became of their letters."""
    from pillarbox.store import submissions

    with _reading() as connection:
        found = submissions.find_newest(connection, limit=limit)
        rows = [(one, _letters_of(connection, one.id)) for one in found]
    if as_json:
        for one, letters in rows:
            say(json.dumps(_as_json(one, letters)))
        return
    if not rows:
        say("No messages yet.")
    else:
        say(f"{'id':<14}  {'received':<16}  {'your mail':<9}  {'name':<24}  email")
    for one, letters in rows:
        name = shortened(one.value("name"), 24)
        say(f"{one.id}  {when(one.received_at)}  {_standing(one, letters):<9}  {name:<24}  {one.email}")


@messages.command("show")
def show_message(submission_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Show one message and its letters."""
    from pillarbox.store import submissions

    with _reading() as connection:
        one = submissions.fetch(connection, submission_id.upper())
        letters = _letters_of(connection, one.id) if one else []
    if one is None:
        give_up(f"There is no message {submission_id!a}: `pillarbox messages list` shows the newest.", NOT_FOUND)
    if as_json:
        say(json.dumps(_as_json(one, letters)))
        return
    say(f"Message {one.id} of {when(one.received_at)}" + (f", held: {', '.join(one.held_for)}" if one.held_for else ""))
    for answer in one.answers:
        indented = answer.text.replace("\n", "\n    ")
        say(f"\n  {answer.label}\n    {indented}")
    say()
    widest = max((len(letter.recipient) for letter in letters), default=0)
    for letter in letters:
        say(f"  {letter.state.value:<9} {letter.purpose.value:<12} {letter.recipient:<{widest}}  {letter.note}")


@messages.command("export")
def export_messages(
    style: Annotated[str, typer.Option("--format", help="csv or jsonl.")] = "csv",
    output: Annotated[Path | None, typer.Option(help="A file; standard output when left out.")] = None,
) -> None:
    """Write every message, oldest first, as CSV that no spreadsheet takes for formulas, or as JSON lines."""
    from pillarbox import exporting
    from pillarbox.store import submissions

    write = exporting.STYLES.get(style)
    if write is None:
        give_up("--format is csv or jsonl.", WRONG_SETTINGS)
    with _reading() as connection:
        if output:
            with open(output, "w", encoding="utf-8", newline="", opener=_for_us_alone) as file:
                write(lambda: submissions.each(connection), file)
        else:
            sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
            write(lambda: submissions.each(connection), sys.stdout)


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@commands.command()
def stats(
    days: Annotated[int, typer.Option(min=1, max=3_650, help="How many days back.")] = 14, as_json: AsJson = False
) -> None:
    """Count per day (UTC) what was accepted, held, delivered and failed, and what waits."""
    import time

    from pillarbox.store import deliveries, submissions

    with _reading() as connection:
        counted = submissions.count_by_day(connection, since=time.time() - days * 86_400)
        now = {state.value: number for state, number in deliveries.count_by_state(connection).items()}
    by_day: dict[str, dict[str, int]] = {}
    for day, what, number in counted:
        by_day.setdefault(day, {})[what] = number
    names = {"accepted": "accepted", "held": "held", "sent": "delivered", "failed": "failed", "cancelled": "cancelled"}
    table = [{"day": day} | {title: by_day[day].get(key, 0) for key, title in names.items()} for day in sorted(by_day)]
    if as_json:
        say(json.dumps({"days": table, "waiting": now.get("waiting", 0), "failed": now.get("failed", 0)}))
        return
    say("day         " + "".join(f"{title:>11}" for title in names.values()))
    for row in table:
        say(f"{row['day']}  " + "".join(f"{row[title]:>11}" for title in names.values()))
    say(f"\nLetters waiting: {now.get('waiting', 0)}, failed for good: {now.get('failed', 0)}.")
    say("Accepted and held are messages; the rest are letters, of which a message has more than one. Days are UTC.")


@contextmanager
def _reading() -> "Iterator[Any]":
    """Give a connection that reads what is kept; ends the command in plain words when there is nothing to read."""
    from pillarbox.core.errors import NotKept
    from pillarbox.settings import load
    from pillarbox.store.engine import Store, reason, sqlite_path

    path = sqlite_path(load().database_url)
    try:
        path.stat()
    except FileNotFoundError:
        give_up(f"There are no messages yet: {path} does not exist. Is this the folder that Pillarbox runs in?")
    except OSError as error:
        give_up(f"DATABASE_URL: {error.filename} can't be opened: {error.strerror}.", WRONG_SETTINGS)
    try:
        with Store(path).reading() as connection:
            yield connection
    except NotKept as error:
        give_up(f"DATABASE_URL: {path} can't be used: {reason(error)}.", WRONG_SETTINGS)


def _letters_of(connection: Any, submission_id: str) -> "list[Delivery]":
    from pillarbox.store import deliveries

    return deliveries.find_of_submission(connection, submission_id)


def _standing(one: "Submission", letters: "Iterable[Delivery]") -> str:
    """Say in one word how it stands with the owner's letters of a message."""
    states = {letter.state.value for letter in letters if letter.purpose.value == "notification"}
    if one.held_for:
        return "held"
    return next((state for state in ("failed", "waiting", "sent") if state in states), "cancelled")


def _as_json(one: "Submission", letters: "Iterable[Delivery]") -> dict[str, Any]:
    from pillarbox.exporting import as_dict

    letters_of_it = [
        {"purpose": letter.purpose, "recipient": letter.recipient, "state": letter.state, "note": letter.note}
        for letter in letters
    ]
    return as_dict(one) | {"letters": letters_of_it}
