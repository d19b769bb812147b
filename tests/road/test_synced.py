"""What was promised lies on the disk before it is promised: read from the kernel's own order of events."""

import os
import signal
from pathlib import Path

import pytest
from tests.road import ledger
from tests.road.mail_process import MailProcess
from tests.road.traced import STRACE, Call, calls, first
from tests.running import BOB, Pillarbox, until
from tests.servers import require

WAL = "pillarbox.db-wal"


@pytest.fixture
def trace(pillarbox: Pillarbox) -> Path:
    """Where the trace is written. Without strace there is no test."""
    require("strace")
    return pillarbox.folder / "trace"


def serve_traced(pillarbox: Pillarbox, trace: Path, *options: str) -> None:
    """Start a server under strace and return once it answers."""
    pillarbox.start("serve", *options, wrapper=(*STRACE, "-o", str(trace)))
    until(pillarbox.answers)


def end_traced(pillarbox: Pillarbox, trace: Path) -> list[Call]:
    """End the server itself (strace ends with it) and return its calls."""
    strace = pillarbox.processes[0]
    child = int(Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text().split()[0])
    os.kill(child, signal.SIGTERM)
    strace.wait(30)
    return calls(trace)


def assert_on_disk(found: list[Call], file: str, *, written: int, before: int) -> None:
    """Fail unless the file was synced after everything written to it between these two places, and in time."""
    writes = [call for call in found if call.writes and call.on(file) and written <= call.began < before]
    assert writes, f"nothing was written to {file}"
    last = max(call.ended or before for call in writes)
    synced = [
        call for call in found if call.syncs and call.on(file) and last < call.began and (call.ended or 0) < before
    ]
    assert synced, f"{file} was not synced between its last write and what was promised"


def test_a_message_is_synced_between_its_write_and_its_thanks(pillarbox: Pillarbox, trace: Path) -> None:
    serve_traced(pillarbox, trace, "--no-worker")
    thanked = [pillarbox.post(BOB | {"message": f"Message {number}."})[1]["id"] for number in range(5)]
    found = end_traced(pillarbox, trace)
    for identifier in thanked:
        written = next(
            call for call in found if call.name == "pwrite64" and call.on(WAL) and identifier in call.arguments
        )
        answered = first(found, f'\\"id\\": \\"{identifier}\\"', after=written.began)
        assert answered.on("TCP") or answered.on("socket"), answered
        assert_on_disk(found, WAL, written=written.began, before=answered.began)


def test_that_a_letter_was_sent_is_synced_before_anything_else_is_claimed_or_told(
    mailing: Pillarbox, mail_server: MailProcess, trace: Path
) -> None:
    serve_traced(mailing, trace)
    identifier = mailing.post(BOB)[1]["id"]
    until(lambda: len(mail_server.dots()) == 2 and ledger.waiting(mailing.database) == 0)
    found = end_traced(mailing, trace)
    for number in (1, 2):
        taken = first(found, f"250 2.0.0 OK queued as {number}")
        told = first(found, f"queued as {number}", name="write", after=taken.began)
        assert "sent" in told.arguments
        assert identifier in told.arguments
        assert_on_disk(found, WAL, written=taken.began, before=told.began)


def test_a_letter_in_the_maildir_is_synced_before_and_after_its_rename_and_only_then_counts_as_sent(
    pillarbox: Pillarbox, trace: Path
) -> None:
    serve_traced(pillarbox, trace)
    pillarbox.post(BOB)
    until(lambda: len(pillarbox.mails()) == 2 and ledger.waiting(pillarbox.database) == 0)
    found = end_traced(pillarbox, trace)
    renamed = [call for call in found if call.name.startswith("rename") and "/new/" in call.arguments]
    assert len(renamed) == 2
    for rename in renamed:
        name = rename.arguments.split("/tmp/")[-1].split(".pillarbox")[0]
        written = first(found, f"/tmp/{name}", name="write")
        assert_on_disk(found, f"/tmp/{name}", written=written.began, before=rename.began)
        folder = next(call for call in found if call.syncs and call.began > (rename.ended or 0) and call.on("mail/new"))
        told = next(call for call in found if call.name == "write" and call.on("/log") and f"{name}" in call.arguments)
        assert folder.ended is not None
        assert_on_disk(found, WAL, written=folder.ended, before=told.began)
