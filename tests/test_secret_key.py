"""The secret key is made once, is for us alone, and can be replaced without breaking what it signed."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pillarbox.core.keys import Keys
from pillarbox.settings import Settings, WrongSettings, load_keys
from tests.running import Pillarbox

OLD, NEW = "old-" * 10, "new-" * 10

STARTING = """
import sys
from pillarbox.settings import Settings, load_keys
print("ready", flush=True)
sys.stdin.readline()
print(*load_keys(Settings(database_url="sqlite:///pillarbox.db")))
"""
SLOW_DISK = "import os, time; sync = os.fsync; os.fsync = lambda file: (time.sleep(0.1), sync(file))\n"
DYING = "import os; os.rename = lambda *_: os.kill(os.getpid(), 9)\n"


def keys_in(folder: Path, **settings: str) -> tuple[str, ...]:
    return load_keys(Settings(database_url=f"sqlite:///{folder / 'pillarbox.db'}", **settings))


def start(folder: Path, code: str = STARTING) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_ten_processes_that_start_at_once_have_one_key(tmp_path):
    processes = [start(tmp_path, SLOW_DISK + STARTING) for _ in range(10)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    found = {process.communicate(timeout=60)[0] for process in processes}
    (key,) = found
    assert len(key.strip()) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret_key"]


def test_a_process_killed_while_it_makes_the_key_leaves_the_next_one_a_whole_key(tmp_path):
    process = start(tmp_path, DYING + STARTING)
    assert process.communicate("go\n", timeout=60) == ("ready\n", None)
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key.new"]
    (key,) = keys_in(tmp_path)
    assert len(key) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_the_key_is_for_us_alone_lies_beside_the_database_and_never_in_it(pillarbox: Pillarbox):
    pillarbox.serve()
    path = pillarbox.database.with_name("secret_key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_text().strip()
    pillarbox.stop()
    for file in pillarbox.database.parent.glob("pillarbox.db*"):
        assert key.encode() not in file.read_bytes()
    pillarbox.serve()
    assert path.read_text().strip() == key


def test_a_file_system_without_hard_links_has_a_key_all_the_same(tmp_path):
    made, _ = start(tmp_path, "import os; del os.link\n" + STARTING).communicate("go\n", timeout=60)
    assert keys_in(tmp_path) == (made.removeprefix("ready").strip(),)


@pytest.mark.parametrize("written", ["", "\n", "short\n", f"{OLD}\nshort\n"])
def test_a_file_that_holds_no_whole_key_stops_the_start_and_says_what_to_do(tmp_path, written):
    (tmp_path / "secret_key").write_text(written)
    with pytest.raises(WrongSettings) as wrong:
        keys_in(tmp_path)
    (sentence,) = wrong.value.sentences
    assert sentence.startswith(f"{tmp_path}/secret_key holds no key: ")
    assert "short" not in sentence
    assert (tmp_path / "secret_key").read_text() == written


def test_a_key_that_cannot_be_read_stops_the_start_in_one_sentence(pillarbox: Pillarbox):
    pillarbox.serve()
    pillarbox.stop()
    path = pillarbox.database.with_name("secret_key")
    path.unlink()
    path.mkdir()
    ended = pillarbox.run("serve")
    assert ended.returncode == 2
    assert ended.stderr == (
        "The key in data/secret_key can't be read or made: Is a directory. Mend that, or set SECRET_KEY.\n"
    )
    path.rmdir()
    path.write_bytes(b"\xff" * 64)
    assert "it is not text in UTF-8" in pillarbox.run("serve").stderr


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(WrongSettings, match="No such file or directory"):
        keys_in(tmp_path / "gone")


def test_several_keys_in_the_file_count_the_first_one_signs(tmp_path):
    (tmp_path / "secret_key").write_text(f"{NEW}\n{OLD}\n")
    assert keys_in(tmp_path) == (NEW, OLD)


def test_the_setting_comes_before_the_file_and_makes_none(tmp_path):
    assert keys_in(tmp_path, secret_key=f"{NEW},{OLD}") == (NEW, OLD)
    assert list(tmp_path.iterdir()) == []


def test_what_an_old_key_signed_counts_until_that_key_is_taken_out():
    old, both, new = Keys([OLD]), Keys([NEW, OLD]), Keys([NEW])
    for purpose in ("stamp", "unsubscribe"):
        signed = old.sign("bob", purpose)
        assert old.verified(signed, purpose) == both.verified(signed, purpose) == "bob"
        assert new.verified(signed, purpose) is None
        assert new.verified(both.sign("bob", purpose), purpose) == "bob"
        assert old.verified(both.sign("bob", purpose), purpose) is None
