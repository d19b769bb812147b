"""When nothing can be kept nobody is thanked; when it can be again, the same process goes on by itself."""

import json
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from tests.road import ledger
from tests.road.crowd import CLIENTS, Crowd
from tests.road.mail_process import MailProcess
from tests.road.results import write_table
from tests.road.test_crash import repeats
from tests.running import BOB, Pillarbox, free_port, until
from tests.servers import missing, require

SENTENCE = "We could not keep your message just now. Please try again in a moment."


@pytest.fixture
def small_disk(pillarbox: Pillarbox, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of 2 MB, or as many as the test's parameter says, under the installation's data folder."""
    require("mount")
    data = pillarbox.folder / "data"
    data.mkdir(mode=0o700)
    size = f"size={getattr(request, 'param', 2)}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", data], capture_output=True, check=False)
    if mounted.returncode:
        missing("a disk of one's own can't be mounted here")
    yield data
    pillarbox.stop()
    subprocess.run(["umount", data], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill what is left of a disk while the block runs."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def locked(how: str, database: Path) -> Iterator[None]:
    """Hold the database's lock while the block runs, as another program does."""
    other = sqlite3.connect(database, isolation_level=None, timeout=30)
    other.execute(f"BEGIN {how}")
    try:
        yield
    finally:
        other.rollback()
        other.close()


@contextmanager
def moved_away(database: Path) -> Iterator[None]:
    """Have the database file somewhere else while the block runs."""
    elsewhere = database.with_name("elsewhere")
    database.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(database)


@contextmanager
def unwritable(*files: Path) -> Iterator[None]:
    """Make files that not even root can write to while the block runs."""
    chattr = require("chattr")
    if subprocess.run([chattr, "+i", *files], capture_output=True, check=False).returncode:
        missing("files can't be made immutable here")
    try:
        yield
    finally:
        subprocess.run([chattr, "-i", *files], check=True)


def ask(pillarbox: Pillarbox, path: str) -> tuple[int, dict[str, str], dict[str, object]]:
    """Post Bob's message and return status, headers (lower case) and answer."""
    content = json.dumps(BOB).encode()
    request = urllib.request.Request(pillarbox.url + path, content, {"Content-Type": "application/json"})
    try:
        response = urllib.request.urlopen(request, timeout=40)
    except urllib.error.HTTPError as refused:
        response = refused
    with response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status, headers, json.load(response)


def assert_says_that_it_is_not_kept(pillarbox: Pillarbox) -> None:
    """Fail unless both endpoints say so, in the one shape and with the right status."""
    paths = {"/api/contact": 503, "/send-message": 500}
    with ThreadPoolExecutor() as both:
        answers = list(both.map(lambda path: ask(pillarbox, path), paths))
    assert [status for status, _, _ in answers] == list(paths.values())
    for _, headers, answer in answers:
        assert int(headers["retry-after"]) >= 1
        assert headers["content-type"] == "application/json"
        assert (answer["success"], answer["ok"], answer["code"], answer["errors"]) == (False, False, "NOT_KEPT", [])
        assert answer["message"] == answer["error"] == SENTENCE
    assert "not_kept" in pillarbox.log.read_text()


def assert_goes_on_by_itself(pillarbox: Pillarbox, thanked: set[str], mail_server: MailProcess) -> None:
    """Fail unless the same process keeps again, and everybody who was thanked is heard once."""
    answers: list[str] = []

    def is_thanked() -> bool:
        status, _, answer = ask(pillarbox, "/api/contact")
        if status == 200:
            answers.append(str(answer["id"]))
        return status == 200

    until(is_thanked, within=30)
    thanked |= set(answers)
    assert thanked <= ledger.kept(pillarbox.database)
    # A letter that was claimed in the moment of the fault is free again when its lease of 30 seconds ends.
    until(lambda: thanked <= mail_server.reached(), within=60)
    until(lambda: ledger.waiting(pillarbox.database) == 0, within=60)
    assert [dots for dots in mail_server.by_letter().values() if len(dots) > 1] == []
    assert "kept_again" in pillarbox.log.read_text()
    assert pillarbox.processes[0].poll() is None


Fault = Callable[[Path], AbstractContextManager[None]]
FAULTS: dict[str, Fault] = {
    "another program holds the lock": lambda database: locked("IMMEDIATE", database),
    "the file is moved away": moved_away,
    "the files can't be written to": lambda database: unwritable(database, database.with_name(database.name + "-wal")),
}


def thank_some(mailing: Pillarbox) -> set[str]:
    """Have five messages thanked for."""
    return {str(mailing.post(BOB | {"email": f"bob-{number}@example.net"})[1]["id"]) for number in range(5)}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_what_cannot_be_kept_is_not_thanked_for_and_it_goes_on_by_itself_when_the_store_is_back(
    mailing: Pillarbox, mail_server: MailProcess, fault: Fault
) -> None:
    mailing.serve()
    thanked = thank_some(mailing)
    with fault(mailing.database):
        assert_says_that_it_is_not_kept(mailing)
    assert_goes_on_by_itself(mailing, thanked, mail_server)


def test_on_a_full_disk_nobody_is_thanked_and_it_goes_on_by_itself_when_there_is_room_again(
    mailing: Pillarbox, mail_server: MailProcess, small_disk: Path
) -> None:
    mailing.serve()
    thanked = thank_some(mailing)
    with full(small_disk):
        assert_says_that_it_is_not_kept(mailing)
    assert_goes_on_by_itself(mailing, thanked, mail_server)


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_database_locked_for_half_a_minute_loses_nothing(
    mailing: Pillarbox, mail_server: MailProcess, how: str
) -> None:
    mailing.serve()
    thanked = thank_some(mailing)
    with locked(how, mailing.database):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert_says_that_it_is_not_kept(mailing)
    assert_goes_on_by_itself(mailing, thanked, mail_server)


def test_a_wal_that_somebody_deletes_takes_nothing_with_it(mailing: Pillarbox, mail_server: MailProcess) -> None:
    process = mailing.serve()
    thanked = thank_some(mailing)
    mailing.database.with_name("pillarbox.db-wal").unlink()
    for _ in range(3):
        status, answer = mailing.post(BOB)
        assert status == 200
        thanked.add(answer["id"])
    process.kill()
    process.wait()
    with sqlite3.connect(mailing.database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert thanked <= ledger.kept(mailing.database)
    mailing.serve()
    until(lambda: thanked <= mail_server.reached())


def test_a_full_disk_when_a_letter_was_just_sent_does_not_send_it_twice(
    mailing: Pillarbox, mail_server: MailProcess, small_disk: Path
) -> None:
    mailing.settings["CONFIRMATION_EMAIL"] = "false"
    mailing.serve()
    with ExitStack() as disk:
        with mail_server.paused():
            thanked = {mailing.post(BOB | {"message": f"Message {n}."})[1]["id"] for n in range(3)}
            in_hand = "SELECT count(*) FROM deliveries WHERE unanswered = 1"
            until(lambda: ledger.ask(mailing.database, in_hand) == [(3,)])
            disk.enter_context(full(small_disk))
        until(lambda: mail_server.reached() == thanked)
        until(lambda: "not_kept" in mailing.log.read_text())
        assert ledger.waiting(mailing.database) == 3
    until(lambda: ledger.waiting(mailing.database) == 0)
    assert [len(dots) for dots in mail_server.by_letter().values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("small_disk", "times", "lull"),
    [
        pytest.param(24, 1, 32, id="small"),
        pytest.param(48, 20, 500, id="full", marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
    indirect=["small_disk"],
)
def test_a_disk_that_fills_up_and_is_freed_under_load_loses_nobody_who_was_thanked(
    *,
    mailing: Pillarbox,
    mail_server: MailProcess,
    small_disk: Path,
    request: pytest.FixtureRequest,
    times: int,
    lull: int,
) -> None:
    process = mailing.serve(LOG_LEVEL="warning")
    with Crowd(mailing.port, pause=0.1).posting() as crowd:
        for _ in range(times):
            go_on_until_thanked(crowd, lull)
            with full(small_disk):
                refused = len(crowd.refused)
                until(lambda refused=refused: len(crowd.refused) > refused + CLIENTS, within=120)
        go_on_until_thanked(crowd, lull)
    until(lambda: ledger.waiting(mailing.database) == 0, within=120)
    thanked, again = set(crowd.thanked.values()), repeats(mail_server)
    if "full" in request.node.callspec.id:
        counts = {
            "clients": crowd.clients,
            "times the disk was filled": times,
            "posts refused": len(crowd.refused),
            "their statuses": sorted(set(crowd.refused)),
            "thanked": len(thanked),
            "thanked, owner's letter missing": len(thanked - mail_server.reached()),
            "thanked, confirmation missing": len(thanked - mail_server.reached("confirmation")),
            "letters sent again": len(again),
        }
        write_table("disk-full", "The disk filled under load", counts, test="tests/road/test_store_faults.py")
    assert set(crowd.refused) == {503}
    assert not thanked - mail_server.reached()
    assert not thanked - mail_server.reached("confirmation")
    assert again == []
    assert process.poll() is None


def go_on_until_thanked(crowd: Crowd, times: int) -> None:
    """Return once a crowd has been thanked so many times more."""
    thanked = len(crowd.thanked)
    until(lambda: len(crowd.thanked) > thanked + times, within=120)


def test_killed_on_a_full_disk_it_sends_at_most_two_letters_a_connection_again(
    pillarbox: Pillarbox, small_disk: Path, tmp_path: Path
) -> None:
    slow = MailProcess(tmp_path, "--port", str(free_port()), "--delay-dot", "0.3")
    try:
        pillarbox.settings |= slow.settings | {"CONFIRMATION_EMAIL": "false", "SMTP_CONNECTIONS": "4"}
        process = pillarbox.serve()
        thanked = {pillarbox.post(BOB | {"message": f"Message {n}."})[1]["id"] for n in range(20)}
        until(slow.reached)
        with ExitStack() as disk:
            with slow.paused():
                disk.enter_context(full(small_disk))
            until(lambda: "not_kept" in pillarbox.log.read_text())
            for number in range(3):  # time enough for it to send more, were it not for the disk
                slow.take(f"other-{number}")
            process.kill()
            process.wait()
        slow.kill()
        slow.start()
        pillarbox.serve()
        until(lambda: ledger.waiting(pillarbox.database) == 0)
        assert slow.reached() >= thanked
        # Those whose outcome could not be written, and those that were under way when that showed.
        assert 1 <= len(repeats(slow)) <= 2 * 4
    finally:
        slow.end()


def test_a_folder_that_cannot_be_written_to_is_said_in_one_plain_sentence_at_the_start(
    pillarbox: Pillarbox, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    ended = pillarbox.run("serve")
    assert ended.returncode == 2
    assert ended.stderr.startswith("DATABASE_URL: ")
    assert "Read-only file system" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.full
def test_health_says_that_messages_cannot_be_kept_and_says_so_no_longer_when_they_can(mailing: Pillarbox) -> None:
    mailing.serve()
    with moved_away(mailing.database):
        until(lambda: not mailing.answers())
        with pytest.raises(urllib.error.HTTPError) as said:
            urllib.request.urlopen(f"{mailing.url}/health", timeout=5)
        with said.value as answer:
            assert answer.status == 503
            assert json.load(answer)["code"] == "NOT_KEPT"
    until(mailing.answers)
