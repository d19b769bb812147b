"""Held messages on the command line: seen, released, dropped; and what other commands say of them."""

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pillarbox.cli import commands
from pillarbox.core.delivery import State
from pillarbox.core.submission import Answer
from pillarbox.store import submissions
from pillarbox.store.submissions import Kept
from tests.house import ADA, keep, keeping, message, to_ada, to_bob
from tests.running import BOB, Pillarbox, until
from tests.test_cli_deliveries import in_a_terminal

ESCAPES = "Mallory \x1b[31m"
CLIENT = "0123456789abcdef"
IN_A_FLOOD = "it came in a flood"


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """A store with Mallory's message, one of a flood and an old one, all held, and Bob's; its folder, and their ids."""
    folder = tmp_path_factory.mktemp("held")
    return folder, asyncio.run(_keep_messages(folder))


async def _keep_messages(folder: Path) -> dict[str, str]:
    now = time.time()
    held = replace(to_bob(), state=State.HELD)
    flooded = replace(to_bob("eve@example.net"), state=State.CANCELLED, note=IN_A_FLOOD)
    async with keeping(folder) as keeper:
        ids = {"bob": await keep(keeper, to_ada(), at=now - 50)}
        for name, reasons, age, letter in (
            ("old", ("honeypot",), 9 * 86_400, held),
            ("flood", ("flood",), 900, flooded),
            ("mallory", ("honeypot", "too_many_links"), 60, held),
        ):
            about = replace(message(at=now - age), held_for=reasons, client="" if name == "old" else CLIENT)
            if name == "mallory":
                about = replace(about, answers=(Answer("name", "Name", (ESCAPES,)), *about.answers[1:]))
            kept = Kept(about, (to_ada(State.HELD), letter))
            await keeper.run(submissions.keep, kept, size=1_000)
            ids[name] = about.id
    return ids


@pytest.fixture
def kept(pillarbox, messages, monkeypatch):
    """An installation that is not running, with a copy of these messages; Ada is its owner."""
    folder, pillarbox.ids = messages
    shutil.copytree(folder, pillarbox.database.parent)
    monkeypatch.chdir(pillarbox.folder)
    pillarbox.settings["RECIPIENT_EMAIL"] = ADA
    return pillarbox


def states(pillarbox: Pillarbox, name: str) -> list[str]:
    """Return how the letters of a message stand."""
    with sqlite3.connect(pillarbox.database) as database:
        asked = "SELECT state FROM deliveries WHERE submission_id = ? ORDER BY id"
        return [row[0] for row in database.execute(asked, (pillarbox.ids[name],))]


def run(pillarbox: Pillarbox, *arguments: str) -> Result:
    """Run a command to its end, in this process: a new one takes a second to start."""
    return CliRunner().invoke(commands, arguments, env=pillarbox.settings, catch_exceptions=False)


def held(pillarbox: Pillarbox, *arguments: str) -> tuple[int, Sequence[str], Sequence[str]]:
    """Run `pillarbox held …`; return its status and the lines of what it said and of what it remarked."""
    ended = run(pillarbox, "held", *arguments)
    return ended.exit_code, ended.stdout.splitlines(), ended.stderr.splitlines()


def test_what_is_held_is_listed_with_its_reasons_and_safe_to_look_at(kept):
    _, (heading, *listed), _ = held(kept, "list")
    assert heading.split() == ["id", "received", "held", "for", "name", "message"]
    assert [line.split()[0] for line in listed] == [kept.ids[name] for name in ("mallory", "flood", "old")]
    assert "honeypot, too_many_…  Mallory \ufffd[31m  This is message 1." in listed[0]
    assert "\x1b" not in "".join(listed)
    starts = {line.index("This is message 1.") for line in listed}
    assert starts == {heading.index("message")}
    assert held(kept, "list", "--limit", "2")[1][-1] == "There are more: --limit says how many are listed."


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (("--reason", "flood"), ["flood"]),
        (("--since", "1d"), ["mallory", "flood"]),
        (("--client", CLIENT, "--reason", "honeypot"), ["mallory"]),
        (("--form", "jobs"), []),
    ],
)
def test_programs_read_what_fits_a_filter(kept, wanted, names):
    _, printed, _ = held(kept, "list", "--json", *wanted)
    found = [json.loads(line) for line in printed]
    assert [one["id"] for one in found] == [kept.ids[name] for name in names]
    assert {(one["client"], one["judgement"]) for one in found} <= {(CLIENT, None)}


def test_a_held_message_is_shown_with_its_network_and_what_would_be_sent(kept):
    status, shown, _ = held(kept, "show", kept.ids["flood"].lower())
    assert status == 0
    assert "  held for  flood" in shown
    assert f"  network   {CLIENT}; 1 other message came from the same network" in shown
    assert "    This is message 1." in shown
    assert "  the notification to ada@example.org  is sent" in shown
    assert f"  the confirmation to eve@example.net  stays cancelled: {IN_A_FLOOD}" in shown
    assert max(map(len, shown)) <= 80
    assert any("not known, or not any more" in line for line in held(kept, "show", kept.ids["old"])[1])
    told = json.loads(held(kept, "show", kept.ids["mallory"], "--json")[1][0])
    assert (told["others_of_client"], told["held_for"]) == (1, ["honeypot", "too_many_links"])
    assert [letter["leaves_on_release"] for letter in told["letters"]] == [True, True]


def test_release_says_how_many_letters_leave_and_which_do_not(kept):
    ended = held(kept, "release", kept.ids["mallory"], kept.ids["flood"].lower())
    assert ended == (
        0,
        ["2 messages released: 3 letters due now."],
        [f"Still cancelled, 1 letter: {IN_A_FLOOD}."],
    )
    assert states(kept, "mallory") == ["waiting", "waiting"]
    assert states(kept, "flood") == ["waiting", "cancelled"]
    assert states(kept, "old") == ["held", "held"]
    again = held(kept, "release", kept.ids["mallory"], "--json")
    assert again == (
        1,
        ['{"changed": 0, "letters": 0, "left": 1}'],
        [f"{kept.ids['mallory']} is released already."],
    )


def test_what_cannot_be_released_is_said_and_the_status_tells_scripts(kept):
    bob, old = kept.ids["bob"], kept.ids["old"]
    assert held(kept, "release", bob, "\x1b[31m", old) == (
        1,
        ["1 message released: 2 letters due now."],
        [
            "There is no message '\\x1b[31m': `pillarbox held list` shows the newest.",
            f"{bob} was never held: `pillarbox messages show {bob}` says what became of it.",
        ],
    )
    assert held(kept, "drop", old)[2] == [
        f"{old} is released already: `pillarbox deliveries cancel {old}` stops what waits."
    ]
    assert held(kept, "show", bob)[::2] == (1, held(kept, "release", bob)[2])
    assert held(kept, "show", "nope")[::2] == (
        1,
        ["There is no message 'nope': `pillarbox held list` shows the newest."],
    )
    assert states(kept, "bob") == ["waiting"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["release"], "Say which messages: their ids, a filter like --reason flood --since 3d, or --everything."),
        (["release", "--everything", "--reason", "flood"], "Say which messages:"),
        (["drop", "7K3M-9QXP-2AFD", "--everything"], "Say which messages:"),
        (["drop", "--since", "soon"], "--since is not right: write a duration like"),
        (["drop", "--everything"], "That would drop 3 messages: add --yes to do it without being asked."),
    ],
)
def test_what_is_not_said_rightly_is_refused_in_one_sentence(kept, arguments, sentence):
    status, said, (remark,) = held(kept, *arguments)
    assert (status, said) == (2, [])
    assert remark.startswith(sentence)
    assert states(kept, "old") + states(kept, "mallory") == ["held"] * 4


def test_many_are_dropped_when_somebody_says_yes_and_can_be_released_after_all(kept):
    status, printed = in_a_terminal(kept, "held", "drop", "--client", CLIENT, typed="n\n")
    assert (status, "Drop 2 messages?" in printed, "Nothing was dropped." in printed) == (1, True, True)
    status, printed = in_a_terminal(kept, "held", "drop", "--client", CLIENT, typed="y\n")
    assert status == 0
    assert "2 messages dropped. For 30 days from now, `held release` still sends them." in printed
    assert states(kept, "mallory") == ["cancelled", "cancelled"]
    assert states(kept, "old") == ["held", "held"]
    mallory = kept.ids["mallory"]
    assert held(kept, "drop", mallory) == (1, ["No message dropped."], [f"{mallory} is dropped already."])
    assert held(kept, "release", "--everything")[1] == ["1 message released: 2 letters due now."]
    assert states(kept, "mallory") == ["cancelled", "cancelled"]
    assert held(kept, "release", mallory)[1] == ["1 message released: 2 letters due now."]
    assert states(kept, "mallory") == ["waiting", "waiting"]


def test_a_list_with_what_was_judged_fits_its_terminal(kept):
    held(kept, "drop", kept.ids["old"])
    _, printed = in_a_terminal(kept, "held", "list", "--all", columns=72)
    heading, *listed = printed.splitlines()
    assert max(map(len, (heading, *listed))) <= 72
    assert [line[34:42].strip() for line in (heading, *listed)] == ["judged", "", "", "dropped"]


def test_other_commands_tell_the_truth_about_held_released_and_dropped_messages(kept):
    assert "Messages held as spam, to be judged by you: 3. See `pillarbox held list`." in run(kept, "stats").stdout
    held(kept, "release", kept.ids["flood"])
    held(kept, "drop", kept.ids["old"])
    listed = {line.split()[0]: line.split()[3] for line in run(kept, "messages", "list").stdout.splitlines()[1:]}
    wanted = {"bob": "waiting", "mallory": "held", "flood": "waiting", "old": "dropped"}
    assert listed == {kept.ids[name]: word for name, word in wanted.items()}
    assert json.loads(run(kept, "stats", "--json").stdout)["held"] == 1
    shown = {name: run(kept, "messages", "show", kept.ids[name]).stdout for name in kept.ids}
    assert ", held: honeypot, too_many_links\n" in shown["mallory"]
    assert f"`pillarbox held release {kept.ids['mallory']}`" in shown["mallory"]
    assert "was held: flood; released on " in shown["flood"]
    assert "was held: honeypot; dropped on " in shown["old"]
    assert "held" not in shown["bob"]
    found = json.loads(run(kept, "messages", "show", kept.ids["old"], "--json").stdout)
    assert (found["judgement"], found["held_for"]) == ("dropped", ["honeypot"])
    letter = run(kept, "deliveries", "show", kept.ids["old"]).stdout
    assert f"dropped; `pillarbox held release {kept.ids['old']}` sends it all the same" in letter


def test_a_held_letter_is_not_retried_and_the_command_that_sends_it_is_named(kept):
    mallory = kept.ids["mallory"]
    ended = run(kept, "deliveries", "retry", mallory)
    assert (ended.exit_code, ended.stderr) == (
        1,
        f"The letters of {mallory} are held as spam: see `pillarbox held show {mallory}`.\n",
    )
    listed = run(kept, "deliveries", "list", "--state", "held", "--json").stdout.splitlines()
    numbers = [str(one["id"]) for one in map(json.loads, listed) if one["message"] == mallory]
    ended = run(kept, "deliveries", "retry", *numbers)
    assert ended.stderr == f"Left alone, 2 letters: held as spam; `pillarbox held release {mallory}` sends it.\n"
    assert states(kept, "mallory") == ["held", "held"]


def test_judgements_stand_in_the_log_with_ids_alone(kept):
    for command, name in (("release", "mallory"), ("drop", "old")):
        kept.run("held", command, kept.ids[name], LOG_FILE="road.log", LOG_FORMAT="json")
    lines = [json.loads(line) for line in (kept.folder / "road.log").read_text().splitlines()]
    assert [(line["event"], line["id"]) for line in lines] == [
        ("released", kept.ids["mallory"]),
        ("dropped", kept.ids["old"]),
    ]
    assert all(line.keys() == {"event", "id", "level", "timestamp"} for line in lines)


def test_a_running_server_sends_at_once_and_once_what_several_release(pillarbox):
    pillarbox.settings["RECIPIENT_EMAIL"] = ADA
    pillarbox.serve(POLL_INTERVAL="1h")
    identifier = pillarbox.post(BOB | {"_gotcha": "http://spam.example"})[1]["id"]
    assert pillarbox.mails() == []
    command = [sys.executable, "-m", "pillarbox", "held", "release", identifier]
    releasing = [
        subprocess.Popen(
            command,
            cwd=pillarbox.folder,
            env=pillarbox.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    said = [one.communicate(timeout=60)[0] for one in releasing]
    assert sorted(said) == ["1 message released: 2 letters due now.\n", "No message released.\n"]
    assert sorted(one.returncode for one in releasing) == [0, 1]
    until(lambda: len(pillarbox.mails()) == 2)
    addressed = [line for mail in pillarbox.mails() for line in mail.splitlines() if line.startswith(b"To: ")]
    assert sorted(addressed) == [b"To: ada@example.org", b"To: bob@example.org"]
