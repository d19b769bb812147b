"""`pillarbox deliveries` as an operator meets it: what became of letters, sending them again, calling them off."""

import asyncio
import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.house import ADA, keep, keeping, rows, to_ada, to_bob
from tests.running import Pillarbox, until

COPY = "a second copy leaves of what was sent already"
REFUSED = "550 5.1.1 no such user \x1b[31m (to RCPT)"


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """A store with letters in every state: its folder, and the ids of the messages."""
    folder = tmp_path_factory.mktemp("letters")
    return folder, asyncio.run(_keep_letters(folder))


@pytest.fixture
def kept(pillarbox, letters):
    """An installation that is not running, with a copy of these letters; Ada is its owner."""
    folder, pillarbox.ids = letters
    shutil.copytree(folder, pillarbox.database.parent)
    pillarbox.settings["RECIPIENT_EMAIL"] = ADA
    return pillarbox


async def _keep_letters(folder: Path) -> list[str]:
    now = time.time()
    async with keeping(folder) as keeper:
        ids = [await keep(keeper, to_ada(), to_bob(f"bob{number}@example.net")) for number in range(3)]
        for where, columns in (
            ("id = 1", f"state = 'failed', outcome = 'refused', attempts = 2, settled_at = {now}"),
            ("id = 2", f"state = 'sent', outcome = 'sent', settled_at = {now}, note = '250 taken'"),
            ("id = 3", "state = 'held'"),
            ("id = 4", f"unanswered = 1, due_at = {now + 900}"),
            ("id = 6", f"due_at = {now + 7200}, attempts = 1, outcome = 'deferred', note = '451 later'"),
        ):
            await rows(keeper, f"UPDATE deliveries SET {columns} WHERE {where}")
        await rows(keeper, "UPDATE deliveries SET note = ? WHERE id = 1", REFUSED)
        await rows(
            keeper,
            "INSERT INTO attempts (delivery_id, way, begun_at, seconds, outcome, note) "
            "VALUES (1, 'relay', ?, .25, 'refused', ?)",
            now,
            REFUSED,
        )
    return ids


def states(pillarbox: Pillarbox) -> dict[int, str]:
    """Return how the letters stand."""
    with sqlite3.connect(pillarbox.database) as database:
        return dict(database.execute("SELECT id, state FROM deliveries"))


def in_a_terminal(pillarbox: Pillarbox, *arguments: str, typed: str = "", columns: int = 60) -> tuple[int, str]:
    """Run a command in a terminal where somebody types this; return its status and what was to be read."""
    leader, follower = pty.openpty()
    os.write(leader, typed.encode())
    process = subprocess.Popen(
        [sys.executable, "-m", "pillarbox", *arguments],
        cwd=pillarbox.folder,
        env=pillarbox.environment | {"COLUMNS": str(columns), "TERM": "xterm"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    printed = b""
    try:
        while piece := os.read(leader, 65_536):
            printed += piece
    except OSError:  # the terminal's other end is closed
        pass
    os.close(leader)
    return process.wait(20), printed.decode()


def test_letters_are_listed_as_they_stand_and_filtered(kept):
    heading, *listed = kept.run("deliveries", "list").stdout.splitlines()
    assert heading.split() == ["id", "state", "tries", "when", "what", "to", "way", "note"]
    assert [line.split()[:2] for line in listed] == [
        ["6", "waiting"],
        ["5", "waiting"],
        ["4", "waiting"],
        ["3", "held"],
        ["2", "sent"],
        ["1", "failed"],
    ]
    assert listed[1].split()[3] == "now"
    assert listed[2].split()[3:5] == ["just", "now"]
    assert "\x1b" not in "".join(listed)
    only = kept.run("deliveries", "list", "--state", "failed", "--state", "sent", "--to", ADA.upper(), "--json")
    (one,) = map(json.loads, only.stdout.splitlines())
    assert (one["id"], one["outcome"], one["note"], one["message"]) == (1, "refused", REFUSED, kept.ids[0])
    none = kept.run("deliveries", "list", "--outcome", "blocked", "--since", "2h", "--purpose", "confirmation")
    assert (none.returncode, none.stdout) == (0, "No letter is like that.\n")


def test_a_list_fits_its_terminal(kept):
    status, printed = in_a_terminal(kept, "deliveries", "list", columns=72)
    assert status == 0
    assert {len(line) for line in printed.splitlines()} <= set(range(73))
    assert "550 5.1" not in printed
    assert "…" in printed


def test_a_letter_is_shown_with_its_tries_and_what_to_do(kept):
    shown = kept.run("deliveries", "show", "1", RECIPIENT_EMAIL="charlie@example.org").stdout
    assert f"Letter 1: the notification to {ADA}\n" in shown
    assert "failed for good on " in shown
    assert "`pillarbox deliveries retry 1`" in shown
    assert f"`pillarbox messages show {kept.ids[0]}`" in shown
    assert "is no longer one of the form's owners" in shown
    assert "`pillarbox deliveries retry 1 --to NEW@ADDRESS`" in shown
    (tried,) = [line for line in shown.splitlines() if "0.25s" in line]
    assert tried.split()[3:6] == ["relay", "refused", "550"]
    assert "\n  What to do: There is no such mailbox." in shown
    assert "\x1b" not in shown
    of_the_message = kept.run("deliveries", "show", kept.ids[0].lower(), "--json").stdout.splitlines()
    first, second = map(json.loads, of_the_message)
    assert (first["id"], first["tries"][0]["outcome"], bool(first["advice"])) == (1, "refused", True)
    assert (second["id"], second["state"], second["tries"], second["advice"]) == (2, "sent", [], "")


def test_letters_are_sent_again_and_what_is_left_alone_is_said_with_the_reason(kept):
    ended = kept.run("deliveries", "retry", "1", "2", "3", "4", "6", "77", "--json")
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == {"changed": 2, "left": 3}
    assert ended.stderr.splitlines() == [
        "There is no letter 77: `pillarbox deliveries list` shows the newest.",
        "Left alone, 1 letter: sent already; for a second copy, give its number and --again.",
        f"Left alone, 1 letter: held as spam; `pillarbox held release {kept.ids[1]}` sends it.",
        "Left alone, 1 letter: being sent just now.",
    ]
    assert states(kept) == {1: "waiting", 2: "sent", 3: "held", 4: "waiting", 5: "waiting", 6: "waiting"}
    again = kept.run("deliveries", "retry", "2", "--again")
    assert (again.returncode, again.stdout, again.stderr) == (0, f"1 letter due now: {COPY}.\n", "")
    assert states(kept)[2] == "waiting"


def test_a_message_stands_for_its_letters_that_wait_or_failed(kept):
    ended = kept.run("deliveries", "retry", kept.ids[0])
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1 letter due now.\n", "")
    assert kept.run("deliveries", "cancel", kept.ids[0]).stdout == "1 letter cancelled.\n"
    ended = kept.run("deliveries", "retry", kept.ids[0])
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"No letter of {kept.ids[0]} is waiting or failed:")


def test_letters_go_to_a_mended_address_but_confirmations_of_several_visitors_never(kept):
    stranger = kept.run("deliveries", "retry", "--all-failed", RECIPIENT_EMAIL="charlie@example.org")
    assert stranger.returncode == 0
    assert f"{ADA} is no longer one of the form's owners" in stranger.stderr
    refused = kept.run("deliveries", "retry", "--state", "waiting", "--to", "charlie@example.org")
    assert refused.returncode == 2
    assert "--purpose notification" in refused.stderr
    choice = ("--state", "waiting", "--purpose", "notification", "--to", "charlie@example.org")
    assert kept.run("deliveries", "retry", *choice).stdout == "2 letters due now.\n"
    with sqlite3.connect(kept.database) as database:
        assert list(database.execute("SELECT id FROM deliveries WHERE recipient = 'charlie@example.org'")) == [
            (1,),
            (5,),
        ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["retry"], "Say which letters: their numbers, or a filter like --state failed --since 2d."),
        (["retry", "--state", "sent", "--again"], "--again needs letters' numbers:"),
        (["retry", "1", "--to", "nobody"], "--to is not right: write one address, like name@example.com."),
        (["list", "--since", "soon"], "--since is not right: write a duration like 500ms, 30s, 5m, 2h or 1d."),
        (["show", "\x1b[31m"], "'\\x1b[31m' is neither a letter's number nor a message's id:"),
        (["cancel", "--form", "contact"], "That would cancel 4 letters: add --yes to do it without being asked."),
    ],
)
def test_what_is_not_said_rightly_is_refused_in_one_sentence(kept, arguments, sentence):
    ended = kept.run("deliveries", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(sentence)
    assert len(ended.stderr.splitlines()) == 1


def test_many_letters_are_called_off_when_somebody_says_yes(kept):
    status, printed = in_a_terminal(kept, "deliveries", "cancel", "--purpose", "notification", typed="n\n")
    assert status == 1
    assert "Cancel 2 letters?" in printed
    assert "Nothing was cancelled." in printed
    assert "cancelled" not in states(kept).values()
    status, printed = in_a_terminal(kept, "deliveries", "cancel", "--way", "default", typed="y\n")
    assert status == 0
    assert "3 letters cancelled." in printed
    assert "Left alone, 1 letter: being sent just now." in printed
    assert states(kept) == {1: "cancelled", 2: "sent", 3: "held", 4: "waiting", 5: "cancelled", 6: "cancelled"}


def test_whoever_changes_many_sees_that_it_goes_on(kept):
    async def keep_many():
        async with keeping(kept.database.parent) as keeper:
            await asyncio.gather(*(keep(keeper) for _ in range(600)))

    asyncio.run(keep_many())
    status, printed = in_a_terminal(kept, "deliveries", "cancel", "--state", "waiting", "--yes")
    assert status == 0
    assert "100%" in printed
    assert "602 letters cancelled." in printed
    quiet = kept.run("deliveries", "retry", "--state", "cancelled", "--json")
    assert (quiet.stdout, quiet.stderr) == ('{"changed": 602, "left": 0}\n', "")


def test_a_running_server_sends_at_once_what_is_to_be_sent_again(kept):
    kept.serve(POLL_INTERVAL="1h", TRANSPORT="default")
    until(lambda: len(kept.mails()) == 2)  # what waited, and what a dead process had in hand
    assert kept.run("deliveries", "retry", "--all-failed").stdout == "1 letter due now.\n"
    until(lambda: len(kept.mails()) == 3)
    until(lambda: states(kept)[1] == "sent")


def test_a_database_that_is_behind_wants_an_upgrade(kept):
    async def put_back():
        async with keeping(kept.database.parent) as keeper:
            await rows(keeper, "UPDATE alembic_version SET version_num = '0001'")
            await rows(keeper, "DROP INDEX deliveries_of_digest")
            await rows(keeper, "ALTER TABLE deliveries DROP COLUMN digest_id")

    asyncio.run(put_back())
    for command in ("show 1", "retry --all-failed"):
        ended = kept.run("deliveries", *command.split())
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == "The database is behind this version: run `pillarbox upgrade` first.\n"
