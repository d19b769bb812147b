"""A backup as a file: a zip with one JSON-lines file a table, and a manifest that says what they have to hold."""

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from errno import EINVAL
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

FORMAT = "pillarbox-backup"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"

_LONGEST_MANIFEST = 1_000_000
_LONGEST_LINE = 64 * 1024 * 1024
_PORTION = 250
"""Rows that are in memory at a time."""
_PORTION_BYTES = 8 * 1024 * 1024
"""Beyond which it is one row."""
_LEVEL = 3
"""Of deflate: a quarter larger than its best, at a third of the time."""
_BEGINS_AS = b"PK\x03\x04"
_IS_ENCRYPTED = 0x1
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)
"""What reading a damaged zip or damaged JSON raises; NotImplementedError and RecursionError are RuntimeErrors."""

Row = Sequence[Any]
Advance = Callable[[int], object]
"""Is told of so many more rows that are done."""


class Unusable(Exception):
    """A file that is no whole backup, or not one for this program: its text says why in plain words."""


@dataclass(frozen=True, slots=True)
class Part:
    """What the file of one table holds: its columns in their order, how many rows and bytes, and their SHA-256."""

    columns: tuple[str, ...]
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Origin:
    """When a backup was made (ISO 8601, UTC), by which version of Pillarbox, of which revision of the schema."""

    made_at: str
    version: str
    revision: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself: where it is from, and a part a table."""

    origin: Origin
    parts: Mapping[str, Part]

    @property
    def rows(self) -> int:
        """How many rows there are in all tables."""
        return sum(part.rows for part in self.parts.values())

    @property
    def bytes(self) -> int:
        """How long all tables are, unpacked."""
        return sum(part.bytes for part in self.parts.values())

    def rows_of(self, name: str) -> int:
        """How many rows there are in a table; an older schema may not have had it."""
        return self.parts[name].rows if name in self.parts else 0


class Lines:
    """Rows as lines, counted and hashed: the same rows give the same bytes, whatever database they come from."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self._rows = self._bytes = 0
        self._digest = sha256()

    def add(self, rows: Sequence[Row]) -> bytes:
        """Return the rows as lines: a JSON object each, in UTF-8."""
        made = b"".join(_ENCODE(dict(zip(self._columns, row, strict=True))).encode() + b"\n" for row in rows)
        self._rows += len(rows)
        self._bytes += len(made)
        self._digest.update(made)
        return made

    @property
    def part(self) -> Part:
        """What was added so far."""
        return Part(self._columns, self._rows, self._bytes, self._digest.hexdigest())


def _damaged(cell: object) -> str:
    """Return bytes, which an SQLite file that was damaged may hold, as the text that can still be made out."""
    return bytes(cell).decode("utf-8", "replace")  # type: ignore[call-overload,no-any-return]


_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_damaged).encode


class Writer:
    """Takes the tables, one after the other."""

    def __init__(self, packed: zipfile.ZipFile) -> None:
        self._packed = packed
        self._parts: dict[str, Part] = {}

    def add(self, name: str, columns: Sequence[str], portions: Iterable[Sequence[Row]]) -> None:
        """Write a table, some hundred rows at a time. Raises OSError, and what the rows raise."""
        lines = Lines(columns)
        with self._packed.open(f"{name}.jsonl", "w", force_zip64=True) as file:
            for rows in portions:
                file.write(lines.add(rows))
        self._parts[name] = lines.part

    def finish(self, origin: Origin) -> Manifest:
        """Write the manifest, without which it is no backup, and return it. Raises OSError."""
        about = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(origin)}
        about["tables"] = {name: asdict(part) for name, part in self._parts.items()}
        self._packed.writestr(MANIFEST, json.dumps(about, indent=1) + "\n")
        return Manifest(origin, self._parts)


def may_be_replaced(path: Path) -> bool:
    """Tell whether nothing is there, or what may be a backup: anything else was typed by mistake. Raises OSError."""
    if not path.exists():
        return True
    if not path.is_file():
        return False
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as packed:
        return MANIFEST in packed.namelist()
    return False


@contextmanager
def writing(target: Path) -> Iterator[Writer]:
    """Give what takes the tables; on leaving, the backup stands at `target`, synced to disk and for us alone (0600).

    Until then, and for good when the block raises or we are killed, what was there before stays as it was. What a
    killed one leaves behind begins with a dot and ends in `.part`. Raises OSError.
    """
    opened, name = tempfile.mkstemp(prefix=".pillarbox-", suffix=".part", dir=target.parent)
    draft = Path(name)
    try:
        with os.fdopen(opened, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as packed:
                yield Writer(packed)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Archive:
    """A backup that is read; nothing of it is ever unpacked into a file."""

    def __init__(self, packed: zipfile.ZipFile) -> None:
        """Read the manifest and see that the zip holds what it names and nothing else. Raises Unusable and _BROKEN."""
        self._packed = packed
        entries = packed.infolist()
        names = [entry.filename for entry in entries]
        if MANIFEST not in names:
            raise Unusable("This is a zip, but no Pillarbox backup.")
        if any(entry.flag_bits & _IS_ENCRYPTED or entry.compress_type not in _KINDS for entry in entries):
            raise Unusable("This is no Pillarbox backup: it is packed in another way than ours are.")
        with packed.open(MANIFEST) as file:
            self.manifest = _parsed(file.read(_LONGEST_MANIFEST))
        if sorted(names) != sorted([MANIFEST, *map(_file, self.manifest.parts)]):
            raise Unusable("This is no Pillarbox backup: there are other files in it than its manifest names.")

    def check(self, advance: Advance) -> None:
        """Read all of it and see that every table is what the manifest says. Raises Unusable."""
        for name in self.manifest.parts:
            for lines in self._portions(name):
                advance(len(lines))

    def rows(self, name: str) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a table, some hundred at a time, in their columns' order. Raises Unusable."""
        columns = self.manifest.parts[name].columns
        for lines in self._portions(name):
            with _whole(_file(name)):
                found = [json.loads(line) for line in lines]
                if any(tuple(row) != columns for row in found):
                    raise ValueError("other columns than the manifest says")
                portion = [tuple(row.values()) for row in found]
            yield portion

    def _portions(self, name: str) -> Iterator[list[bytes]]:
        """Yield a table's lines and raise Unusable unless, in the end, they are what the manifest says."""
        part = self.manifest.parts[name]
        rows = length = 0
        digest = sha256()
        with _whole(_file(name)), self._packed.open(_file(name)) as packed, BufferedReader(packed) as file:  # type: ignore[type-var]
            while lines := _next(file, part.bytes - length):
                for line in lines:
                    digest.update(line)
                    length += len(line)
                rows += len(lines)
                yield lines
            if (rows, length, digest.hexdigest()) != (part.rows, part.bytes, part.sha256):
                raise ValueError("not what the manifest says")


_KINDS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Give a backup to be read. Raises Unusable for a file that is none, or damaged; OSError."""
    with path.open("rb") as file:
        if file.read(len(_BEGINS_AS)) != _BEGINS_AS:
            raise Unusable("This is no Pillarbox backup.")
        with _whole("the list of its files"):
            packed = zipfile.ZipFile(file)
        with packed:
            with _whole(MANIFEST):
                archive = Archive(packed)
            yield archive


@contextmanager
def _whole(what: str) -> Iterator[None]:
    """Say of what can't be read, or is not as it was written, that the backup is damaged."""
    try:
        yield
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno != EINVAL:  # a place before the file's begin, from a damaged zip
            raise
        raise Unusable(
            f"This backup is damaged or was cut short: {what} is not as it was written. Take another copy of it."
        ) from error


def _next(file: IO[bytes], left: int) -> list[bytes]:
    """Return the next lines of at most so many bytes in all, and one; raises ValueError where there are more."""
    found: list[bytes] = []
    most = max(left - _PORTION_BYTES, 0)
    while len(found) < _PORTION and left >= most and (line := file.readline(min(left, _LONGEST_LINE) + 1)):
        if not line.endswith(b"\n"):
            raise ValueError("longer than the manifest says")
        left -= len(line)
        found.append(line)
    return found


def _file(table: str) -> str:
    return f"{table}.jsonl"


def _parsed(written: bytes) -> Manifest:
    """Return the manifest. Raises Unusable for one of another kind, and _BROKEN for one that is damaged."""
    about = json.loads(written)
    if about["format"] != FORMAT:
        raise Unusable("This is a zip, but no Pillarbox backup.")
    origin = Origin(*(str(about[name]) for name in Origin.__dataclass_fields__))
    datetime.fromisoformat(origin.made_at)
    if about["format_version"] != FORMAT_VERSION:
        raise Unusable(f"This backup was made by Pillarbox {origin.version}: restore it with that version.")
    parts = {
        str(name): Part(tuple(map(str, part["columns"])), int(part["rows"]), int(part["bytes"]), str(part["sha256"]))
        for name, part in about["tables"].items()
    }
    return Manifest(origin, parts)
