"""Whether messages can be kept and last, whether their letters get away, and what time it is."""

import asyncio
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
from tests.house import keep, keeping, open_store, rows, to_ada

from pillarbox.core.delivery import Blocked, Sent, State
from pillarbox.core.errors import NotKept
from pillarbox.doctor import Finding, look
from pillarbox.doctor.clock import date_in, examine_clock
from pillarbox.doctor.setup import examine_alarms, examine_folder, examine_settings
from pillarbox.doctor.store import (
    examine_disk,
    examine_durability,
    examine_letters,
    examine_store,
    file_system,
    room,
)
from pillarbox.store import condition
from pillarbox.store.condition import Condition

pytestmark = pytest.mark.anyio

GB = 10**9
WELL = Condition((), None, 0, None, 0)
NOW = datetime(2026, 10, 9, 12, tzinfo=UTC).timestamp()
HOUR = 3_600.0


def mounted(kind, where="/srv/data"):
    return f"/dev/vda / ext4 rw 0 0\nproc /proc proc rw 0 0\nsource {where} {kind} rw 0 0\n"


async def test_a_store_that_keeps_is_well_and_one_that_does_not_says_why():
    async def refuses():
        raise NotKept from OSError("disk is full")

    async def keeps():
        pass

    assert (await examine_store(keeps, where="/srv/p.db")).verdict == "ok"
    found = await examine_store(refuses, where="/srv/p.db")
    assert (found.verdict, "disk is full" in found.seen, bool(found.advice)) == ("fail", True, True)


def test_our_own_store_says_that_it_survives_a_power_cut(tmp_path):
    store = open_store(tmp_path)
    with store.reading() as connection:
        found = condition.look(connection)
    store.close()
    assert found == WELL
    assert examine_durability(found) == []


@pytest.mark.parametrize(
    "unsafe",
    [Condition(("fsync = off",), None, 0, None, 0), Condition(("journal delete", "synchronous 2"), None, 0, None, 0)],
)
def test_a_store_that_does_not_survive_one_is_a_failure(unsafe):
    (found,) = examine_durability(unsafe)
    assert (found.verdict, "power cut" in found.seen, unsafe.weaknesses[0] in found.seen) == ("fail", True, True)


async def test_the_letters_that_lie_about_are_counted(tmp_path):
    async with keeping(tmp_path) as keeper:
        await keep(keeper, to_ada(), at=NOW)
        await keep(keeper, to_ada(State.FAILED), to_ada(State.FAILED), at=NOW + 5)
        await rows(keeper, "UPDATE submissions SET held_for = '[\"flood\"]' WHERE received_at = ?", NOW)
        found = await keeper.run(lambda connection, items: [condition.look(connection) for _ in items], None)
    assert (found.newest_at, found.waiting, found.failed, found.held) == (NOW + 5, 1, 2, 1)
    assert found.waiting_since is not None


def test_letters_that_wait_long_or_failed_are_told_with_the_command_that_shows_them():
    trouble = Condition((), NOW, 3, NOW - 5 * HOUR, 1)
    waiting, failed = examine_letters(trouble, now=NOW)
    assert (waiting.verdict, "oldest for 5 h" in waiting.seen) == ("warn", True)
    assert (failed.verdict, failed.seen) == ("warn", "1 letter has failed for good")
    assert "pillarbox deliveries list --state failed" in failed.advice
    (calm,) = examine_letters(Condition((), NOW, 3, NOW - 60, 0), now=NOW)
    assert (calm.verdict, calm.advice) == ("ok", "")


def test_what_is_held_is_told_with_the_command_that_shows_it_and_is_no_trouble():
    _, held = examine_letters(Condition((), NOW, 0, None, 0, held=2), now=NOW)
    assert held == Finding("held", "ok", "2 messages are held as spam; `pillarbox held list` shows which")


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone"])
def test_a_network_disk_is_warned_of(tmp_path, kind):
    found = examine_disk(tmp_path / "p.db", mounts=mounted(kind, str(tmp_path)), is_durable=True)
    assert (found[0].verdict, kind in found[0].seen, "local disk" in found[0].advice) == ("warn", True, True)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "zfs", "btrfs", "fuseblk", "apfs"])
def test_a_disk_of_this_machine_is_well(tmp_path, kind):
    found = examine_disk(tmp_path / "p.db", mounts=mounted(kind, str(tmp_path)), is_durable=False)
    assert [one.step for one in found] == ["disk"]


def test_a_disk_that_forgets_is_warned_of_unless_somebody_vouches_for_it(tmp_path):
    mounts = mounted("overlay", str(tmp_path))
    assert examine_disk(tmp_path / "p.db", mounts=mounts, is_durable=False)[0].verdict == "warn"
    assert len(examine_disk(tmp_path / "p.db", mounts=mounts, is_durable=True)) == 1


def test_the_innermost_and_last_mount_decides(tmp_path):
    inner = tmp_path / "a b" / "c"
    inner.mkdir(parents=True)
    escaped = str(tmp_path / "a b").replace(" ", "\\040")
    mounts = mounted("nfs4", escaped) + f"x {escaped} xfs rw 0 0\n" + mounted("cifs", f"{tmp_path}/a")
    assert file_system(inner / "p.db", mounts) == "xfs"
    assert file_system(inner / "p.db", "") == ""
    assert file_system(inner / "p.db", "garbage\n\n a\n") == ""


@pytest.mark.parametrize(
    ("free", "total", "verdict"),
    [(50 * GB, 100 * GB, "ok"), (4 * GB, 100 * GB, "warn"), (GB // 2, 2 * GB, "warn"), (GB // 20, 100 * GB, "fail")],
)
def test_little_room_is_told_in_time(free, total, verdict):
    assert room(free, total, "ext4").verdict == verdict


def test_a_clock_that_agrees_is_well():
    found = examine_clock(NOW, newest_at=NOW - 5, ahead={"mail.ada.dev": 3.0})
    assert (found.verdict, found.advice) == ("ok", "")
    assert "2026-10-09 12:00 UTC" in found.seen


@pytest.mark.parametrize(
    ("now", "newest_at", "ahead", "verdict", "words"),
    [
        (0.0, None, {}, "fail", "year 1970"),
        (NOW + 60 * 365 * 24 * HOUR, None, {}, "fail", "year 2086"),
        (NOW, NOW + HOUR, {}, "warn", "set back"),
        (NOW, None, {"mail.ada.dev": 600.0}, "warn", "10 minutes behind"),
        (NOW, None, {"mail.ada.dev": -7 * HOUR}, "warn", "7 hours ahead of"),
        (NOW, NOW + 60, {"mail.ada.dev": 60.0}, "ok", "as mail.ada.dev"),
    ],
)
def test_a_clock_that_is_wrong_is_told(now, newest_at, ahead, verdict, words):
    found = examine_clock(now, newest_at=newest_at, ahead=ahead)
    assert (found.verdict, words in found.seen) == (verdict, True)


@pytest.mark.parametrize(
    "text",
    [
        "mx Microsoft ESMTP MAIL Service ready at Fri, 9 Oct 2026 14:00:00 +0200",
        "mail.ada.dev ESMTP Sendmail 8.15; Fri, 9 Oct 2026 12:00:00 GMT",
        format_datetime(datetime.fromtimestamp(NOW, UTC)),
    ],
)
def test_a_date_is_found_in_a_greeting(text):
    assert date_in(text) == NOW


@pytest.mark.parametrize("text", ["", "220 ESMTP", "Fri, 99 Oct 2026 12:00:00 GMT", "Fri, 9 Foo 2026 12:00:00 +0000"])
def test_what_is_no_date_is_none(text):
    assert date_in(text) is None


def test_the_settings_are_told_and_a_missing_alarm_is_warned_of():
    seen = examine_settings("forms@ada.dev", ("ada@ada.dev",), ("mail.ada.dev:587", "smtp.gmail.com:587")).seen
    assert seen == (
        "mail comes from forms@ada.dev, goes to ada@ada.dev and leaves through mail.ada.dev:587 and smtp.gmail.com:587"
    )
    assert (examine_alarms(0).verdict, "ALARM_TO" in examine_alarms(0).advice) == ("warn", True)
    assert (examine_alarms(2).verdict, "2 channels" in examine_alarms(2).seen) == ("ok", True)


def test_an_alarm_that_needs_the_mail_it_tells_of_is_warned_of():
    found = examine_alarms(2, need_the_mail=True)
    assert (found.verdict, found.seen) == ("warn", "told of by the very mail that can't leave")
    assert "another way out" in found.advice
    assert examine_alarms(0, need_the_mail=True) == examine_alarms(0)


def test_a_folder_takes_mail_or_not_and_it_goes_no_further_either_way():
    well = examine_folder(Sent("mail goes into /srv/mail"), Path("/srv/mail"))
    ill = examine_folder(Blocked("/srv/mail: permission denied"), Path("/srv/mail"))
    assert [one.verdict for one in (*well, *ill)] == ["ok", "warn", "fail", "warn"]
    assert "MAILDIR" in ill[0].advice


async def test_a_look_that_breaks_or_lasts_is_a_finding_and_no_traceback():
    async def breaks():
        raise RuntimeError("pw7")

    async def lasts():
        await asyncio.Event().wait()
        return []

    (broken,) = await look("disk", breaks, within=5)
    assert (broken.step, broken.verdict, "RuntimeError" in broken.seen) == ("disk", "warn", True)
    assert "pw7" not in str(broken)
    assert await look("dns", lasts, within=0.01) == [
        Finding("dns", "fail", "it took longer than 0.01 s", "Try again; if it stays so, look there.")
    ]
