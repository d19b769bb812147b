"""Whether messages can be kept, whether they last, and whether their letters get away."""

import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from pillarbox.core.errors import NotKept
from pillarbox.doctor import Finding
from pillarbox.store.condition import Condition
from pillarbox.store.engine import advice, reason

MOUNTS = Path("/proc/self/mounts")

_OVER_A_NETWORK = re.compile(
    r"(?:nfs\d?|cifs|smb\w*|9p|ncpfs|afs|ceph|glusterfs|lustre|gpfs|virtiofs|vboxsf|drvfs|prl_fs|fuse\.\w.*)$"
)
_FORGETS = frozenset({"tmpfs", "ramfs", "overlay", "aufs", "squashfs"})

_LITTLE_BYTES, _LITTLE_SHARE, _FULL_BYTES = 1_000_000_000, 0.05, 100_000_000
_LONG_SECONDS = 3_600.0
_FOR_A_FILE = "The disk can't do what SQLite needs: put DATABASE_URL on a local disk (ext4, xfs, zfs, ntfs, apfs)."
_FOR_A_SERVER = "Turn that on in the server's postgresql.conf, where these settings are on by default, and reload it."


async def examine_store(beat: Callable[[], Awaitable[None]], *, where: str) -> Finding:
    """Find out whether messages can be kept, by keeping something."""
    try:
        await beat()
    except NotKept as error:
        seen = f"{where} can't be written: {reason(error)}"
        return Finding("store", "fail", seen, advice(error) or "Free the disk, or mend path and rights.")
    return Finding("store", "ok", f"{where} can be written")


def examine_durability(condition: Condition) -> list[Finding]:
    """Find out whether a message that was thanked for outlives a power cut; nothing is said when it does."""
    if not condition.weaknesses:
        return []
    seen = f"a power cut may lose messages ({', '.join(condition.weaknesses)})"
    return [Finding("store", "fail", seen, _FOR_A_SERVER if condition.server else _FOR_A_FILE)]


def examine_disk(path: Path, *, mounts: str, is_durable: bool) -> list[Finding]:
    """Find out what kind of disk the database is on and how much room is left.

    `mounts` is what /proc/self/mounts says, "" where there is none; `is_durable`: the owner vouches for the disk.
    """
    kind = file_system(path, mounts)
    found = []
    if _OVER_A_NETWORK.match(kind):
        do = "SQLite needs a local disk: two machines on one file can damage it. Move DATABASE_URL to one."
        found.append(Finding("disk", "warn", f"{path.parent} is on a network file system ({kind})", do))
    elif kind in _FORGETS and not is_durable:
        do = "Mount a volume there (docker run -v), or say DATA_IS_DURABLE=true if it lasts."
        seen = f"{path.parent} is on {kind}: it is thrown away with the container or at a restart"
        found.append(Finding("disk", "warn", seen, do))
    usage = shutil.disk_usage(path.parent)
    return [*found, room(usage.free, usage.total, kind)]


def room(free: int, total: int, kind: str) -> Finding:
    """Judge how much of a disk is free, in bytes."""
    seen = f"{_size(free)} free of {_size(total)}{f' ({kind})' if kind else ''}"
    do = "When it is full, messages are refused: free some room, or move DATABASE_URL to a larger disk."
    if free < _FULL_BYTES:
        return Finding("disk", "fail", f"only {seen}", do)
    if free < _LITTLE_BYTES or free < total * _LITTLE_SHARE:
        return Finding("disk", "warn", f"only {seen}", do)
    return Finding("disk", "ok", seen)


def examine_letters(condition: Condition, *, now: float) -> list[Finding]:
    """Find out what lies about: letters that wait long or failed for good, and messages that are held."""
    found = []
    age = now - condition.waiting_since if condition.waiting_since is not None else 0.0
    if age > _LONG_SECONDS:
        seen = f"{_count(condition.waiting)} waiting, the oldest for {_age(age)}"
        do = "`pillarbox deliveries list --state waiting` says why; they leave when the way out is well."
        found.append(Finding("letters", "warn", seen, do))
    if condition.failed:
        do = "See them with `pillarbox deliveries list --state failed`; `pillarbox deliveries retry` sends again."
        found.append(Finding("letters", "warn", f"{_have(condition.failed)} failed for good", do))
    if not found:
        waiting = f"{_count(condition.waiting)} waiting" if condition.waiting else "none is waiting"
        found.append(Finding("letters", "ok", f"{waiting}, none has failed"))
    if condition.held:
        messages = "1 message is" if condition.held == 1 else f"{condition.held} messages are"
        found.append(Finding("held", "ok", f"{messages} held as spam; `pillarbox held list` shows which"))
    return found


def file_system(path: Path, mounts: str) -> str:
    """Return the kind of file system that a path is on, like ext4 or nfs4; "" when it is not known."""
    wanted = str(path.absolute())
    best, kind = "", ""
    for line in mounts.splitlines():
        _device, where, found, *_ = [*line.split(" "), "", "", ""]
        place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), where)
        # A later mount at the same place hides the earlier one.
        if f"{wanted}/".startswith(f"{place.rstrip('/')}/") and len(place) >= len(best):
            best, kind = place, found
    return kind


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _count(letters: int) -> str:
    return "1 letter is" if letters == 1 else f"{letters} letters are"


def _have(letters: int) -> str:
    return "1 letter has" if letters == 1 else f"{letters} letters have"


def _age(seconds: float) -> str:
    if seconds < 2 * 86_400:
        return f"{seconds / 3_600:.0f} h"
    return f"{seconds / 86_400:.0f} days"
