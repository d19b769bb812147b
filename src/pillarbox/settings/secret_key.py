"""The secret key: SECRET_KEY, or one that is made at the first start and lies beside the database, for us alone."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from pillarbox.settings.model import Settings
from pillarbox.settings.sources import WrongSettings

NAME = "secret_key"
SHORTEST = 32
"""Characters of the shortest key that is taken."""


def load_keys(settings: Settings) -> tuple[str, ...]:
    """Return the keys, the one that signs first; made if there is none yet. Raises WrongSettings.

    Any number of processes may start at once: all get the same key, which is on disk before it is used.
    """
    if settings.secret_key:
        return tuple(key.get_secret_value() for key in settings.secret_key)
    path = settings.data_folder / NAME
    try:
        found = _read_or_make(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        told = f"The key in {path} can't be read or made: {reason}. Mend that, or set SECRET_KEY."
        raise WrongSettings([told]) from None
    if not found or min(map(len, found)) < SHORTEST:
        told = f"{path} holds no key: put it back from a copy, or take it away and a new one is made at the next start."
        raise WrongSettings([told])
    return found


def _read_or_make(path: Path) -> tuple[str, ...]:
    with _alone_in(path.parent) as folder:
        if not path.exists():
            _make(path)
            os.fsync(folder)
        return tuple(path.read_text(encoding="utf-8").split())


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """Keep the other processes that start out until we are done; the kernel lets them in when we die."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        flock(opened, LOCK_EX)
        yield opened
    finally:
        os.close(opened)


def _make(path: Path) -> None:
    """Put a new key there. Renamed when it is whole: file systems without hard links have that, too."""
    draft = path.with_name(f"{NAME}.new")
    draft.unlink(missing_ok=True)  # of a process that died
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
