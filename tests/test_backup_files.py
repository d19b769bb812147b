"""A backup's file: what was written is read again, and one that is damaged, cut, forged or no backup is refused."""

import io
import json
import os
import resource
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox import archiving
from pillarbox.archiving import Origin, Unusable

ORIGIN = Origin("2026-11-23T06:50:16+00:00", "0.1.0", "0004")
COLUMNS = ("id", "note", "at")
ROWS = [(1, "grüß\x00\x1b[31m\u2028 😀", 1e-300), (2, None, -0.0), (3, "", 1764000000.123456)]


def write(target: Path, rows: Iterable[Sequence[Any]] = ROWS, columns: Sequence[str] = COLUMNS) -> Path:
    """Write a backup of two tables, the second of which is empty."""
    with archiving.writing(target) as writer:
        writer.add("letters", columns, [list(rows)])
        writer.add("alarms", ("key",), [])
        writer.finish(ORIGIN)
    return target


def read(path: Path) -> list[tuple[Any, ...]]:
    """Return the rows of a backup, all of it checked as a restore does."""
    with archiving.opened(path) as archive:
        archive.check(lambda _more: None)
        return [row for name in archive.manifest.parts for rows in archive.rows(name) for row in rows]


def repack(path: Path, change: Any, **files: bytes) -> Path:
    """Write a backup's zip anew with its manifest changed and other files in place of its own."""
    with zipfile.ZipFile(path) as packed:
        found = {name: packed.read(name) for name in packed.namelist()}
    manifest = json.loads(found["manifest.json"])
    change(manifest)
    found |= {"manifest.json": json.dumps(manifest).encode()} | {f"{name}.jsonl": raw for name, raw in files.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, raw in found.items():
            packed.writestr(name, raw)
    return path


def unchanged(_manifest: dict[str, Any]) -> None:
    """Change nothing."""


CELLS = st.none() | st.text(st.characters(exclude_categories=["Cs"])) | st.floats(allow_nan=False) | st.integers()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS)))
def test_whatever_is_kept_is_read_again_as_it_was(rows: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = write(Path(folder) / "a.zip", rows)
        assert repr(read(target)) == repr(rows)  # -0.0 is not 0


def test_a_backup_can_be_read_without_us(tmp_path: Path) -> None:
    target = write(tmp_path / "a.zip")
    with zipfile.ZipFile(target) as packed:
        assert packed.testzip() is None
        raw = packed.read("letters.jsonl")
        manifest = json.loads(packed.read("manifest.json"))
    assert [tuple(json.loads(line).values()) for line in raw.decode().split("\n")[:-1]] == ROWS
    assert manifest["tables"]["letters"] == {
        "columns": list(COLUMNS),
        "rows": 3,
        "bytes": len(raw),
        "sha256": sha256(raw).hexdigest(),
    }
    assert (manifest["format"], manifest["format_version"]) == ("pillarbox-backup", 1)
    assert {name: manifest[name] for name in ("made_at", "version", "revision")} == {
        "made_at": ORIGIN.made_at,
        "version": ORIGIN.version,
        "revision": ORIGIN.revision,
    }


def test_a_flipped_byte_is_noticed_wherever_it_changes_anything(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.zip").read_bytes()
    damaged, refused = tmp_path / "b.zip", 0
    for place in range(len(whole)):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            assert read(damaged) == ROWS, place  # what only says when and on what it was packed
        except Unusable:
            refused += 1
    assert refused > len(whole) / 2


def test_a_backup_that_was_cut_short_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.zip").read_bytes()
    cut = tmp_path / "b.zip"
    for length in range(0, len(whole), 5):
        cut.write_bytes(whole[:length])
        with pytest.raises(Unusable):
            read(cut)


def _zip_of(**files: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return made.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"SQLite format 3\0",
        _zip_of(),
        _zip_of(**{"photo.jpeg": "x"}),
        _zip_of(**{"manifest.json": "{}"}),
        _zip_of(**{"manifest.json": "[" * 100_000}),
        _zip_of(**{"manifest.json": '{"format": "another"}'}),
        _zip_of(**{"manifest.json": " " * 2_000_000}),
    ],
    ids=["empty", "sqlite", "no-zip", "photos", "no-words", "deep", "another", "long"],
)
def test_a_file_that_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(Unusable):
        read(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["../../etc/passwd.jsonl", "/root/x", "letters.jsonl", "more.jsonl"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_more_in_it_than_its_manifest_names_is_refused(tmp_path: Path, name: str) -> None:
    target = write(tmp_path / "a.zip")
    with zipfile.ZipFile(target, "a") as packed:
        packed.writestr(name, "x")
    with pytest.raises(Unusable, match="no Pillarbox backup: there are other files"):
        read(target)
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip"}


def test_a_backup_packed_in_another_way_is_refused(tmp_path: Path) -> None:
    target = write(tmp_path / "a.zip")
    with zipfile.ZipFile(target, "a", zipfile.ZIP_BZIP2) as packed:
        packed.writestr("more.jsonl", "x")
    with pytest.raises(Unusable, match="packed in another way"):
        read(target)


def test_a_backup_of_a_later_format_names_the_version_that_reads_it(tmp_path: Path) -> None:
    target = repack(write(tmp_path / "a.zip"), lambda manifest: manifest.update(format_version=2, version="7.0"))
    with pytest.raises(Unusable, match=r"made by Pillarbox 7\.0"):
        read(target)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"id":1}\n',
        b'{"note":"x","id":1,"at":2}\n',
        b"[1,2,3]\n",
        b'["id","note","at"]\n',
        b"7\n",
        b'{"id":1,"note":\n',
        b"[" * 50_000 + b"\n",
    ],
)
def test_lines_that_are_no_rows_of_the_table_are_refused_though_all_sums_are_right(tmp_path: Path, raw: bytes) -> None:
    def forge(manifest: dict[str, Any]) -> None:
        manifest["tables"]["letters"].update(rows=1, bytes=len(raw), sha256=sha256(raw).hexdigest())

    target = repack(write(tmp_path / "a.zip"), forge, letters=raw)
    with pytest.raises(Unusable, match=r"letters\.jsonl is not as it was written"):
        read(target)


@pytest.mark.parametrize("what", ["rows", "bytes", "sha256"])
def test_a_manifest_that_says_otherwise_is_noticed(tmp_path: Path, what: str) -> None:
    target = repack(
        write(tmp_path / "a.zip"),
        lambda manifest: manifest["tables"]["letters"].update({what: manifest["tables"]["alarms"][what]}),
    )
    with pytest.raises(Unusable, match=r"letters\.jsonl is not as it was written"):
        read(target)


@pytest.mark.parametrize("bomb", [b"0" * 30_000_000, b'{"id":1}\n' * 3_000_000], ids=["one-line", "many-lines"])
def test_a_bomb_is_not_unpacked_beyond_what_the_manifest_says(tmp_path: Path, bomb: bytes) -> None:
    target = repack(write(tmp_path / "a.zip"), unchanged, letters=bomb)
    assert target.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(Unusable):
        read(target)
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8_000_000


def test_many_rows_need_little_memory(tmp_path: Path) -> None:
    portions = ([(number, "x" * 2_000, 0.5) for number in range(start, start + 250)] for start in range(0, 5_000, 250))
    tracemalloc.start()
    with archiving.writing(tmp_path / "a.zip") as writer:
        writer.add("letters", COLUMNS, portions)
        writer.finish(ORIGIN)
    with archiving.opened(tmp_path / "a.zip") as archive:
        assert archive.manifest.bytes > 10_000_000
        assert sum(len(rows) for rows in archive.rows("letters")) == 5_000
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5_000_000


def test_a_backup_takes_the_place_of_the_one_before_when_it_is_whole_and_is_for_us_alone(tmp_path: Path) -> None:
    target = write(tmp_path / "a.zip", [])
    before = target.read_bytes()
    with archiving.writing(target) as writer:
        writer.add("letters", COLUMNS, [ROWS])
        assert target.read_bytes() == before
        writer.finish(ORIGIN)
        assert target.read_bytes() == before
    assert read(target) == ROWS
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_on_a_full_disk_the_backup_before_stays_and_nothing_else_does(tmp_path: Path) -> None:
    target = write(tmp_path / "a.zip")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))  # as a disk with no more room: write() fails
    try:
        with pytest.raises(OSError, match="File too large"), suppress(Unusable):
            write(target, [(number, os.urandom(100).hex(), 0.5) for number in range(1_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read(target) == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
