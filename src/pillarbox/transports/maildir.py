"""The way out into a local Maildir: a file for every letter, on disk before it counts as sent."""

import asyncio
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from pillarbox.core.delivery import Blocked, Outcome, Refused, Sent
from pillarbox.core.letter import Letter, StillOurs, always

WRITERS = 4
"""Threads that write at once, so that several fsyncs overlap."""
SWEEP_EVERY = 24 * 3_600.0
LEFT_BEHIND_AFTER = 36 * 3_600.0
_HALF_WRITTEN = re.compile(r"[0-9a-f]{40}\.pillarbox\.\d+\.\d+|check\.\d+")


class MaildirTransport:
    """Delivers letters into the Maildir `folder` (https://cr.yp.to/proto/maildir.html), made on first use."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._swept_at = 0.0
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="maildir")
        self._listed: tuple[int, frozenset[str]] = (0, frozenset())

    async def send(self, letter: Letter, still_ours: StillOurs = always) -> Outcome:  # noqa: ARG002
        """Return Sent once the letter's file survives a power cut, or Blocked in plain words.

        The name is the letter's own at every repeat: one that is already there, read or unread, is Sent again
        without a second file.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writers, self._deliver, letter)

    async def check(self) -> Outcome:
        """Return Sent if a file can be made in the Maildir, else Blocked in plain words."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, self._try_out)

    async def close(self) -> None:
        """Return when every letter in hand is written."""
        await asyncio.to_thread(self._writers.shutdown)

    def _deliver(self, letter: Letter) -> Outcome:
        name = _name(letter)
        try:
            content = _as_file(letter)
        except ValueError:
            return Refused("an address of this letter can't be written in a header")
        try:
            if not self._holds(name):
                self._make()
                self._sweep()
                self._write(name, content)
            _sync(self._folder / "new")
        except OSError as error:
            return self._blocked(error)
        return Sent(f"{self._folder / 'new' / name}")

    def _try_out(self) -> Outcome:
        probe = self._folder / "tmp" / f"check.{os.getpid()}"
        try:
            self._make()
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as error:
            return self._blocked(error)
        return Sent(f"letters go into the Maildir {self._folder}")

    def _blocked(self, error: OSError) -> Blocked:
        return Blocked(f"could not write to the Maildir {self._folder}: {os.strerror(error.errno or 0).lower()}"[:300])

    def _holds(self, name: str) -> bool:
        """Return whether the letter is in the Maildir; a mail program moves it to cur/ and adds its flags (`:2,S`)."""
        if (self._folder / "new" / name).exists():
            return True
        return name in self._read_letters()

    def _read_letters(self) -> frozenset[str]:
        """Return the names in cur/ without their flags; a full folder is listed again only after it has changed."""
        cur = self._folder / "cur"
        try:
            changed_at = cur.stat().st_mtime_ns
            if self._listed[0] != changed_at:
                self._listed = (changed_at, frozenset(entry.name.partition(":")[0] for entry in cur.iterdir()))
        except FileNotFoundError:
            return frozenset()
        return self._listed[1]

    def _make(self) -> None:
        if (self._folder / "cur").is_dir():
            return
        for folder in (self._folder, *(self._folder / part for part in ("tmp", "new", "cur"))):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(self._folder)
        _sync(self._folder.parent)

    def _sweep(self) -> None:
        """Once a day, remove what our own writers left half-written in tmp/ when they were killed.

        Nobody writes for 36 hours at one file: that is the format's own rule for what may go.
        """
        now = self._clock()
        if now - self._swept_at < SWEEP_EVERY:
            return
        self._swept_at = now
        for path in (self._folder / "tmp").iterdir():
            with suppress(OSError):  # another process sweeps, too
                if _HALF_WRITTEN.fullmatch(path.name) and now - path.lstat().st_mtime > LEFT_BEHIND_AFTER:
                    path.unlink()

    def _write(self, name: str, content: bytes) -> None:
        # A name of its own for every try: two processes that both believe to hold a letter never share a file.
        written = self._folder / "tmp" / f"{name}.{os.getpid()}.{time.monotonic_ns()}"
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            written.rename(self._folder / "new" / name)
        except OSError:
            written.unlink(missing_ok=True)
            raise


def _name(letter: Letter) -> str:
    """Return the letter's file name: the same at every repeat, and safe whatever the id holds.

    Ids of a database begin again when it is made anew while the Maildir stays: the Message-ID tells the two apart.
    """
    known_by = f"{letter.id}\n{letter.message_id}\n{letter.recipient}"
    return f"{sha256(known_by.encode()).hexdigest()[:40]}.pillarbox"


def _as_file(letter: Letter) -> bytes:
    """Return the letter as local mail: LF line ends, what the envelope said on top (RFC 5321, 4.4).

    Raises ValueError for an address that would write a header of its own.
    """
    for address in (letter.sender, letter.recipient):
        if any(character <= " " or character in "<>\x7f" for character in address):
            raise ValueError(address)
    envelope = f"Return-Path: <{letter.sender}>\nDelivered-To: {letter.recipient}\n"
    return envelope.encode() + letter.content.replace(b"\r\n", b"\n")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
