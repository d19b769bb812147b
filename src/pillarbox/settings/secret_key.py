"""The secret key: SECRET_KEY, or one that is made at the first start and lies beside the database, for us alone."""

import os
import secrets
from pathlib import Path

from pillarbox.settings.model import Settings
from pillarbox.settings.sources import WrongSettings

NAME = "secret_key"


def load_keys(settings: Settings) -> tuple[str, ...]:
    """Return the keys, the one that signs first; made if there is none yet. Raises WrongSettings.

    Any number of processes may start at once: all get the same key, which is on disk before it is used.
    """
    if settings.secret_key:
        return tuple(key.get_secret_value() for key in settings.secret_key)
    path = settings.data_folder / NAME
    try:
        if not path.exists():
            _make(path)
        found = tuple(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise WrongSettings([f"The key in {path} can't be read or made: {reason}."]) from None
    if not found or min(map(len, found)) < 32:
        raise WrongSettings([f"{path} holds no key: take the file away, and a new one is made at the next start."])
    return found


def _make(path: Path) -> None:
    """Put a new key there, unless another process was first; nobody ever sees half of one."""
    draft = path.with_name(f"{NAME}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
