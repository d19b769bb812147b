"""`pillarbox backup` and `pillarbox restore` as an operator meets them."""

import json
import os
import re
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from pillarbox.store.engine import open_store as open_url
from tests.backups import ask, back_up, change, fill, keep
from tests.house import open_store, to_ada
from tests.running import BOB, Pillarbox, until
from tests.test_cli_deliveries import in_a_terminal

KEY = "k" * 64


@pytest.fixture
def filled(pillarbox: Pillarbox) -> Pillarbox:
    """An installation that is not running, with something in every table."""
    pillarbox.database.parent.mkdir(mode=0o700)
    store = open_store(pillarbox.database.parent)
    fill(store, at=time.time() - 60)
    store.close()
    return pillarbox


def elsewhere(folder: str = "elsewhere") -> dict[str, str]:
    """Return the settings that name another, new SQLite file."""
    return {"DATABASE_URL": f"sqlite:///./{folder}/pillarbox.db"}


def states(url: str) -> dict[int, str]:
    """Return how the letters of a store stand."""
    store = open_url(url)
    found = dict(ask(store, "SELECT id, state FROM deliveries"))
    store.close()
    return found


def run_until_all_left(pillarbox: Pillarbox, **settings: str) -> None:
    """Let a worker send what waits, and end."""
    worker = pillarbox.start("worker", **settings)
    until(lambda: not {"waiting", "digested"} & set(states(settings["DATABASE_URL"]).values()))
    worker.terminate()
    assert worker.wait(30) == 0


def test_an_installation_moves_to_postgresql_and_back_and_each_letter_leaves_once(
    filled: Pillarbox, empty_postgresql: str, tmp_path: Path
) -> None:
    there = {"DATABASE_URL": empty_postgresql, "SECRET_KEY": KEY}
    assert filled.run("backup", "move.zip").returncode == 0
    moved = filled.run("restore", "move.zip", **there)
    assert (moved.returncode, moved.stderr) == (0, "")
    said = moved.stdout.splitlines()
    assert re.fullmatch(r"4 messages and 8 letters are restored, as they were on \d{4}-\d\d-\d\d \d\d:\d\d\.", said[0])
    assert said[1].startswith("6 letters waited when this backup was made: to leave when Pillarbox starts.")
    assert "SECRET_KEY has to be what it was" in said[2]
    before, after = open_store(filled.database.parent), open_url(empty_postgresql)
    assert back_up(before, tmp_path / "before.zip").parts == back_up(after, tmp_path / "after.zip").parts
    after.close()

    run_until_all_left(filled, **there)
    assert states(empty_postgresql)[3] == "held"
    assert len(filled.mails()) == 5  # the digest of 5 and 7, and four confirmations; 1 was sent before the move

    assert filled.run("backup", "back.zip", **there).returncode == 0
    assert "letters waited" not in filled.run("restore", "back.zip", **elsewhere()).stdout
    back = open_store(filled.folder / "elsewhere")
    keep(back, to_ada())
    back.close()
    run_until_all_left(filled, DATABASE_URL=f"sqlite:///{filled.folder}/elsewhere/pillarbox.db")
    assert len(filled.mails()) == 6


def test_a_backup_is_made_while_visitors_write(filled: Pillarbox) -> None:
    filled.serve(DISPATCH="false")
    answers: list[int] = []
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            answers.append(filled.post(BOB)[0])

    writing = threading.Thread(target=write)
    writing.start()
    until(lambda: answers)
    made = filled.run("backup", "a.zip", "--json")
    so_far = len(answers)
    until(lambda: len(answers) > so_far)
    done.set()
    writing.join(30)
    assert set(answers) == {200}
    rows = json.loads(made.stdout)["rows"]
    assert 5 <= rows["submissions"] <= 4 + len(answers)
    assert rows["deliveries"] == 2 * rows["submissions"]


def test_a_backup_says_what_and_where_and_what_it_leaves_out(filled: Pillarbox) -> None:
    made = filled.run("backup")
    (target,) = filled.folder.glob("pillarbox-*.zip")
    assert re.fullmatch(r"pillarbox-\d{8}T\d{6}Z\.zip", target.name)
    first, second = made.stdout.splitlines()
    assert re.fullmatch(rf"4 messages and 8 letters are in {target} now \(\d\.\d kB\)\.", first)
    assert second == (f"The secret key is not: keep {filled.database.parent}/secret_key as well, and in another place.")
    assert (made.returncode, made.stderr) == (0, "")
    (filled.folder / "kept").mkdir()
    told = json.loads(filled.run("backup", "kept", "--json").stdout)
    assert Path(told["file"]).parent == filled.folder / "kept"
    assert told["bytes"] == Path(told["file"]).stat().st_size
    assert (told["revision"], told["rows"]["deliveries"]) == ("0004", 8)


def test_a_backup_takes_the_place_of_a_backup_and_of_nothing_else(filled: Pillarbox) -> None:
    os.mkfifo(filled.folder / "pipe")
    for name in ("data/pillarbox.db", "data/pillarbox.db.migrating", "pipe"):
        refused = filled.run("backup", name)
        assert refused.returncode == 2
        assert refused.stderr.endswith("is there already, and is no backup: name another file.\n")
    assert filled.run("backup", "a.zip").returncode == filled.run("backup", "a.zip").returncode == 0
    refused = filled.run("backup", "nowhere/a.zip")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "nowhere/a.zip was not written: No such file or directory." in refused.stderr


def test_a_file_that_can_not_be_restored_changes_nothing(filled: Pillarbox) -> None:
    filled.run("backup", "a.zip")
    whole = (filled.folder / "a.zip").read_bytes()
    damaged = "This backup is damaged or was cut short"
    for content, words in (
        (whole[:-100], damaged),
        (whole[:600] + bytes([whole[600] ^ 1]) + whole[601:], damaged),
        (b"Dear Sir or Madam", "This is no Pillarbox backup. Nothing was changed."),
        (None, "No such file or directory."),
    ):
        (filled.folder / "b.zip").write_bytes(content) if content else (filled.folder / "b.zip").unlink()
        refused = filled.run("restore", "b.zip", **elsewhere())
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"b.zip: {words}")
        assert not (filled.folder / "elsewhere").exists()


def test_a_restore_goes_into_an_empty_database_that_nobody_sends_from(filled: Pillarbox) -> None:
    filled.run("backup", "a.zip")
    refused = filled.run("restore", "a.zip")
    assert refused.returncode == 1
    assert f"There are messages in {filled.database} already" in refused.stderr
    assert refused.stderr.endswith("Nothing was changed.\n")
    (filled.folder / "elsewhere").mkdir()
    right = open_store(filled.folder / "elsewhere").right_to_dispatch()
    assert right.acquire()
    refused = filled.run("restore", "a.zip", **elsewhere())
    assert refused.returncode == 2
    assert "Pillarbox is running" in refused.stderr
    right.release()
    assert filled.run("restore", "a.zip", **elsewhere()).returncode == 0


def test_waiting_letters_can_be_called_off(filled: Pillarbox) -> None:
    filled.run("backup", "a.zip")
    done = filled.run("restore", "a.zip", "--waiting", "cancel", **elsewhere())
    assert "6 letters waited when this backup was made: called off now." in done.stdout
    assert set(states(f"sqlite:///{filled.folder}/elsewhere/pillarbox.db").values()) == {"sent", "held", "cancelled"}
    as_json = filled.run("restore", "a.zip", "--waiting", "cancel", "--json", **elsewhere("third"))
    assert json.loads(as_json.stdout).items() >= {"waiting": 6, "called_off": True}.items()


def test_what_a_newer_pillarbox_made_is_left_to_it(filled: Pillarbox) -> None:
    filled.run("backup", "a.zip")
    with closing(sqlite3.connect(filled.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    refused = filled.run("backup", "b.zip")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "A newer Pillarbox made this database: back it up with that version.\n"
    assert not (filled.folder / "b.zip").exists()
    store = open_url(f"sqlite:///{filled.database}")
    back_up(store, filled.folder / "c.zip", revision="9999")
    refused = filled.run("restore", "c.zip", **elsewhere())
    assert "A newer Pillarbox made this backup" in refused.stderr
    (filled.folder / "elsewhere").mkdir()
    other = open_store(filled.folder / "elsewhere")
    change(other, "UPDATE alembic_version SET version_num = '9999'")
    refused = filled.run("restore", "a.zip", **elsewhere())
    assert "A newer Pillarbox made the database" in refused.stderr


def test_a_database_without_anything_is_said_to_be_that(pillarbox: Pillarbox) -> None:
    assert "There are no messages yet" in pillarbox.run("backup").stderr
    pillarbox.database.parent.mkdir()
    pillarbox.database.touch()
    refused = pillarbox.run("backup")
    assert refused.returncode == 1
    assert "There are no messages yet" in refused.stderr
    assert [path.name for path in pillarbox.folder.iterdir()] == ["data"]


def test_a_postgresql_that_does_not_answer_is_said_to_be_that(filled: Pillarbox) -> None:
    filled.run("backup", "a.zip")
    there = {"DATABASE_URL": "postgresql://ada:hush@127.0.0.1:1/x", "SECRET_KEY": KEY}
    for command in ("backup", "restore"):
        refused = filled.run(command, "a.zip", **there)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith("DATABASE_URL: the database can't be used: ")
        assert "hush" not in refused.stderr


def test_a_terminal_is_shown_how_far_it_is(filled: Pillarbox) -> None:
    status, printed = in_a_terminal(filled, "backup", "a.zip")
    assert status == 0
    assert "Backing up" in printed
    assert "100%" in printed
