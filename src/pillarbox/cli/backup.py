"""`pillarbox backup` and `pillarbox restore`: all that is kept in one file, and out of it into either database."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pillarbox.cli.kept import AsJson, opened
from pillarbox.terminal import WRONG_SETTINGS, give_up, say, when

if TYPE_CHECKING:
    from pillarbox.archiving import Archive, Manifest
    from pillarbox.settings import Settings
    from pillarbox.store.archive import Restored
    from pillarbox.store.engine import Store

_NOTHING_CHANGED = "Nothing was changed."


class Waiting(StrEnum):
    """What becomes of letters that waited when a backup was made."""

    LEAVE = "leave"
    CANCEL = "cancel"


def backup(
    file: Annotated[
        Path | None, typer.Argument(help="Where to; pillarbox-<UTC time>.zip in this folder if not said.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write all that is kept into one file, while Pillarbox runs. The secret key is not in it."""
    import time

    from pillarbox.settings import load

    settings = load()
    now = time.time()
    target = _target(file, now=now)
    with opened(settings) as store:
        try:
            manifest = _write(store, target, now=now)
        except OSError as error:
            give_up(f"{target} was not written: {error.strerror or error}. {_what_is_left_of(target)}")
    if as_json:
        say(json.dumps({"file": str(target), "bytes": target.stat().st_size} | _about(manifest)))
        return
    say(f"{_sum_of(manifest)} are in {target} now ({_size(target.stat().st_size)}).")
    say(f"The secret key is not: keep {_key(settings)} as well, and in another place.")


def _target(file: Path | None, *, now: float) -> Path:
    """Return where the backup goes; ends the command where something else would be lost."""
    from pillarbox.archiving import may_be_replaced

    name = f"pillarbox-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}.zip"
    target = (file or Path(name)).resolve()
    target = target / name if target.is_dir() else target
    try:
        if not may_be_replaced(target):
            give_up(f"{target} is there already, and is no backup: name another file.", WRONG_SETTINGS)
    except OSError as error:
        give_up(f"{target} can't be written: {error.strerror}.")
    return target


def _what_is_left_of(target: Path) -> str:
    return "The backup that was there is as it was." if target.exists() else "Nothing is there."


def _write(store: "Store", target: Path, *, now: float) -> "Manifest":
    from pillarbox import __version__
    from pillarbox.archiving import Origin, writing
    from pillarbox.store.archive import dump, find_contents
    from pillarbox.store.migrating import Schema, fetch_revision, standing

    if standing(store) is Schema.NEWER:
        give_up("A newer Pillarbox made this database: back it up with that version.", WRONG_SETTINGS)
    with writing(target) as writer:
        with store.reading() as connection:
            revision = fetch_revision(connection)
            if revision is None:
                give_up(f"There are no messages yet in {store.place}.")
            contents = find_contents(connection)
            with _shown("Backing up", sum(content.rows for content in contents)) as advance:
                dump(connection, contents, writer, advance=advance)
        made_at = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        return writer.finish(Origin(made_at, __version__, revision))


def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    waiting: Annotated[
        Waiting, typer.Option(help="Whether letters that waited when it was made leave, or are called off.")
    ] = Waiting.LEAVE,
    as_json: AsJson = False,
) -> None:
    """Read a backup into the database of DATABASE_URL, which has to be empty: SQLite or PostgreSQL."""
    from pillarbox.archiving import Unusable, opened
    from pillarbox.settings import load

    settings = load()
    try:
        with opened(file) as archive:
            restored = _restore(archive, settings, waiting=waiting)
            manifest = archive.manifest
    except Unusable as error:
        give_up(f"{file}: {error} {_NOTHING_CHANGED}")
    if as_json:
        say(json.dumps({"waiting": restored.waiting, "called_off": waiting is Waiting.CANCEL} | _about(manifest)))
        return
    made_at = when(datetime.fromisoformat(manifest.origin.made_at).timestamp())
    say(f"{_sum_of(manifest)} are restored, as they were on {made_at}.")
    if restored.waiting:
        say(_about_the_waiting(restored.waiting, waiting))
    say(
        f"The secret key is no part of a backup: before Pillarbox starts, {_key(settings)} has to be what it was. "
        "Under another, the links in mails that have left are no longer known."
    )


def _restore(archive: "Archive", settings: "Settings", *, waiting: Waiting) -> "Restored":
    from pillarbox import __version__
    from pillarbox.archiving import Unusable
    from pillarbox.store.archive import fits

    if not fits(archive):
        made_by = archive.manifest.origin.version
        raise Unusable(f"A newer Pillarbox made this backup ({made_by}; this is {__version__}): restore it with that.")
    with _shown("Checking", archive.manifest.rows) as advance:
        archive.check(advance)
    with _made_ready(settings) as store:
        return _fill(store, archive, waiting=waiting)


@contextmanager
def _made_ready(settings: "Settings") -> "Iterator[Store]":
    """Give the store, made if there is none yet, with nobody sending from it; ends the command in plain words."""
    from pillarbox.core.errors import NotKept
    from pillarbox.store.archive import count_others
    from pillarbox.store.engine import complaint, open_store

    try:
        store = open_store(settings.database_url)
        right = store.right_to_dispatch()
        if not right.acquire():
            give_up(f"Pillarbox is running on {store.place}: stop it first. {_NOTHING_CHANGED}", WRONG_SETTINGS)
        if others := count_others(store):
            give_up(
                f"Pillarbox is running on {store.place}, with {_number(others, 'connection')}: stop it first, on every "
                f"machine. {_NOTHING_CHANGED}",
                WRONG_SETTINGS,
            )
    except OSError as error:
        give_up(f"DATABASE_URL: {error.filename} can't be opened: {error.strerror}.", WRONG_SETTINGS)
    except NotKept as error:
        give_up(f"DATABASE_URL: the database can't be used: {complaint(error)}", WRONG_SETTINGS)
    try:
        yield store
    except NotKept as error:
        give_up(f"DATABASE_URL: {store.place} did not take it: {complaint(error)} {_NOTHING_CHANGED}")
    finally:
        right.release()
        store.close()


def _fill(store: "Store", archive: "Archive", *, waiting: Waiting) -> "Restored":
    from pillarbox.store import archive as rows

    waits = waiting is Waiting.LEAVE
    try:
        with _shown("Restoring", 2 * archive.manifest.rows) as advance:
            return rows.restore(store, archive, now=store.clock(), waits=waits, advance=advance)
    except rows.NotEmpty:
        give_up(
            f"There are messages in {store.place} already, and a backup is restored into an empty database: "
            f"name another in DATABASE_URL. {_NOTHING_CHANGED}"
        )


@contextmanager
def _shown(label: str, rows: int) -> "Iterator[Callable[[int], object]]":
    """Give what shows, in a terminal, how far we are of so many rows."""
    if not sys.stderr.isatty():
        yield lambda _more: None
        return
    with typer.progressbar(length=rows, label=label, file=sys.stderr) as bar:
        yield bar.update


def _sum_of(manifest: "Manifest") -> str:
    messages, letters = (manifest.rows_of(name) for name in ("submissions", "deliveries"))
    return f"{_number(messages, 'message')} and {_number(letters, 'letter')}"


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _size(length: int) -> str:
    return f"{length / 1e6:,.1f} MB" if length > 1e6 else f"{length / 1e3:,.1f} kB"


def _about(manifest: "Manifest") -> dict[str, object]:
    origin, rows = manifest.origin, {name: part.rows for name, part in manifest.parts.items()}
    return {"made_at": origin.made_at, "version": origin.version, "revision": origin.revision, "rows": rows}


def _about_the_waiting(letters: int, waiting: Waiting) -> str:
    waited = f"{_number(letters, 'letter')} waited when this backup was made"
    if waiting is Waiting.CANCEL:
        return (
            f"{waited}: called off now. `pillarbox deliveries list --state cancelled` shows them, "
            "`pillarbox deliveries retry ID` sends one."
        )
    return (
        f"{waited}: to leave when Pillarbox starts. What of them left after the backup leaves again, under the same "
        "Message-ID."
    )


def _key(settings: "Settings") -> str:
    return "SECRET_KEY" if settings.secret_key else str((settings.data_folder / "secret_key").absolute())
