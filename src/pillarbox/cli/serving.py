"""`pillarbox serve` and `pillarbox worker`: the processes that stay."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pillarbox.cli.kept import NOBODY_IS_TOLD
from pillarbox.terminal import FAILED, give_up, say

if TYPE_CHECKING:
    from pillarbox.settings import Settings

_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to


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
    from pillarbox.web.protocol import Server, bounded

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
        http=bounded(settings.trusted_proxies),
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
    server = Server(config)
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
    from pillarbox.store.engine import place

    host = "127.0.0.1" if settings.host in _EVERYWHERE else settings.host
    page = settings.public_url or f"http://{host}:{port}"
    say(f"Pillarbox is at {page}")
    say(f"Messages are kept in {place(settings.database_url)}.")
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
        way = settings.used_way
        guessed = way.server == settings.smtp_server and where("SMTP_SERVER") == "not set"
        because = ", because SMTP_SERVER is not set" if guessed else ""
        say(f"Mail leaves through {way.server}:{way.port} as {way.sender}{because}.")
    if not settings.dispatch:
        say("Messages are only kept here; `pillarbox worker` sends them.")
    if not settings.alarm_to:
        say(NOBODY_IS_TOLD)
    sys.stdout.flush()


def _typed() -> str:
    """Return how people start us: `make run` uses an environment that is in nobody's PATH."""
    import shutil

    return "pillarbox" if shutil.which("pillarbox") else os.path.relpath(Path(sys.executable).with_name("pillarbox"))


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
