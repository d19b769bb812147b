"""Letters in a Maildir: once, whole, private, and readable by any mail program."""

import asyncio
import mailbox
import os
import re
import resource
import signal
import sys
import time
from pathlib import Path

import pytest
from tests.servers import require
from tests.transports.letters import PLAIN_LETTER, letter

from pillarbox.core.delivery import Blocked, Refused, Sent
from pillarbox.transports.maildir import MaildirTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
async def way(tmp_path):
    transport = MaildirTransport(tmp_path / "mail")
    yield transport
    await transport.close()


def files(folder: Path) -> list[Path]:
    return sorted(path for part in ("new", "cur") for path in (folder / "mail" / part).iterdir())


async def test_a_letter_lies_in_new_with_its_envelope_on_top(way, tmp_path):
    outcome = await way.send(PLAIN_LETTER)
    [path] = files(tmp_path)
    assert outcome == Sent(str(path))
    envelope = b"Return-Path: <forms@pillarbox.example>\nDelivered-To: ada@example.org\n"
    assert path.read_bytes() == envelope + PLAIN_LETTER.content.replace(b"\r\n", b"\n")
    assert list((tmp_path / "mail" / "tmp").iterdir()) == []


async def test_a_mail_program_reads_it(way, tmp_path):
    await way.send(letter(sender=""))
    [message] = mailbox.Maildir(tmp_path / "mail", create=False)
    assert (message["Subject"], message["Return-Path"]) == ("Bob wrote", "<>")
    assert message.get_payload().startswith(".begins with a dot\n..\n.\n")


async def test_a_maildir_is_its_owners_alone(way, tmp_path):
    await way.send(PLAIN_LETTER)
    folders = [tmp_path / "mail", *(tmp_path / "mail" / part for part in ("tmp", "new", "cur"))]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    assert [path.stat().st_mode & 0o777 for path in files(tmp_path)] == [0o600]


async def test_the_same_letter_again_is_the_same_file(way, tmp_path):
    assert await way.send(PLAIN_LETTER) == await way.send(PLAIN_LETTER)
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("flags", ["", ":2,", ":2,S", ":2,FRS"])
async def test_a_letter_that_was_read_is_not_delivered_again(way, tmp_path, flags):
    await way.send(PLAIN_LETTER)
    await way.send(letter(id="18"))
    [read] = [path for path in files(tmp_path) if path.name in (await way.send(PLAIN_LETTER)).note]
    read.rename(tmp_path / "mail" / "cur" / (read.name + flags))
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    assert len(files(tmp_path)) == 2


async def test_another_process_knows_the_letter_again(way, tmp_path):
    await way.send(PLAIN_LETTER)
    other = MaildirTransport(tmp_path / "mail")
    assert isinstance(await other.send(PLAIN_LETTER), Sent)
    await other.close()
    assert len(files(tmp_path)) == 1


async def test_a_new_database_that_counts_from_one_again_loses_no_letter(way, tmp_path):
    await way.send(PLAIN_LETTER)
    await way.send(letter(message_id="<another.notification@pillarbox.example>"))
    assert len(files(tmp_path)) == 2


async def test_many_letters_at_once_all_arrive(way, tmp_path):
    outcomes = await asyncio.gather(*(way.send(letter(id=str(index))) for index in range(50)))
    assert all(isinstance(outcome, Sent) for outcome in outcomes)
    assert len(files(tmp_path)) == 50


@pytest.mark.parametrize("identity", ["../../evil", "a/b", ".hidden", "x:2,S", "\0", "ü" * 300])
async def test_no_id_leaves_the_maildir(way, tmp_path, identity):
    assert isinstance(await way.send(letter(id=identity)), Sent)
    assert len(files(tmp_path)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"mail"}


@pytest.mark.parametrize("recipient", ["a@b.example\nX-Evil: 1", "a@b.example\r\n\r\n", "a b@c.example"])
async def test_no_address_writes_a_header(way, tmp_path, recipient):
    assert isinstance(await way.send(letter(recipient=recipient)), Refused)
    assert not (tmp_path / "mail").exists()


async def test_a_folder_that_can_not_be_made_is_said_in_plain_words(tmp_path):
    (tmp_path / "file").write_text("")
    way = MaildirTransport(tmp_path / "file" / "mail")
    expected = Blocked(f"could not write to the Maildir {tmp_path / 'file' / 'mail'}: not a directory")
    assert await way.send(PLAIN_LETTER) == expected
    assert await way.check() == expected
    await way.close()


async def test_a_full_disk_is_said_in_plain_words_and_leaves_nothing_behind(tmp_path):
    """For a moment we may write small files only; the kernel then fails a write half-way, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    way = MaildirTransport(tmp_path / "mail")
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
    try:
        outcome = await way.send(letter(id="18", content=b"Subject: x\r\n\r\n" + b"x" * 100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert outcome == Blocked(f"could not write to the Maildir {tmp_path / 'mail'}: file too large")
    assert len(files(tmp_path)) == 1
    assert list((tmp_path / "mail" / "tmp").iterdir()) == []
    await way.close()


async def test_file_and_folder_are_synced_before_the_letter_counts_as_sent(tmp_path):
    program = (
        "import asyncio, sys, pathlib; from pillarbox.transports.maildir import MaildirTransport\n"
        "from tests.transports.letters import PLAIN_LETTER\n"
        "print(asyncio.run(MaildirTransport(pathlib.Path(sys.argv[1])).send(PLAIN_LETTER)), flush=True)"
    )
    trace = ("-f", "-y", "-s", "8", "-e", "trace=fsync,fdatasync,rename,write", "-o", tmp_path / "trace")
    command = (require("strace"), *trace, sys.executable, "-c", program, tmp_path / "mail")
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}"}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    assert (await process.communicate())[0].startswith(b"Sent(")
    calls = (tmp_path / "trace").read_text()
    order = (
        r"write\(\d+<[^>]*/tmp/",
        r"f(?:data)?sync\(\d+<[^>]*/tmp/",
        r"rename\(",
        r"f(?:data)?sync\(\d+<[^>]*/new>",
        r"write\(1<",
    )
    assert re.search(".*".join(order), calls, re.DOTALL), calls


async def test_a_check_leaves_nothing_behind(way, tmp_path):
    assert isinstance(await way.check(), Sent)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert os.access(tmp_path / "mail" / "new", os.W_OK)


def leave_behind(folder: Path, name: str, *, hours: float) -> Path:
    """Return a file in tmp/ that nobody has written to for so long."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    left = folder / "tmp" / name
    left.write_text("half a letter")
    os.utime(left, (time.time() - hours * 3_600,) * 2)
    return left


OURS = "a" * 40 + ".pillarbox.4711."


async def test_what_a_killed_writer_left_behind_is_removed_after_36_hours(way, tmp_path):
    gone = [leave_behind(tmp_path / "mail", name, hours=37) for name in (f"{OURS}1", "check.4711")]
    kept = [
        leave_behind(tmp_path / "mail", f"{OURS}2", hours=35),
        leave_behind(tmp_path / "mail", "1700000000.M1P2.example", hours=99),
    ]
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


async def test_a_process_that_runs_for_days_removes_it_too(tmp_path):
    hours = 0.0
    way = MaildirTransport(tmp_path / "mail", clock=lambda: time.time() + hours * 3_600)
    await way.send(PLAIN_LETTER)
    left = leave_behind(tmp_path / "mail", f"{OURS}1", hours=0)
    for hours, is_there in ((35, True), (70, False)):
        await way.send(letter(id=str(hours)))
        assert left.exists() is is_there
    await way.close()
