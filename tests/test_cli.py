"""The commands as an operator meets them: real processes, readable output, exit statuses that scripts can use."""

import csv
import io
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pillarbox import __version__
from tests.running import BOB, Pillarbox, until

ESCAPES = "\x1b]0;owned\x07\x1b[31m\x9b31m\u202e"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """An installation that is not running, with three messages kept and their letters delivered."""
    made = Pillarbox(tmp_path_factory.mktemp("cli"))
    server = made.serve()
    ids = [made.post(BOB)[1]["id"]]
    ids.append(
        made.post(BOB | {"name": "=1+1", "message": "first line\nsecond line", "wish": ["blue", "red"]})[1]["id"]
    )
    ids.append(made.post(BOB | {"name": "Mallory", "_gotcha": "x"})[1]["id"])
    until(lambda: len(made.mails()) == 3)
    server.terminate()
    server.wait(20)
    with sqlite3.connect(made.database) as database:
        # What came in before a rule was there, or past it: the commands trust nothing that is stored.
        database.execute("UPDATE submissions SET answers = replace(answers, 'Mallory', ?)", (_escaped(ESCAPES),))
    made.ids = ids
    yield made
    made.stop()


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1]


def lines(ended: subprocess.CompletedProcess) -> list[str]:
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_the_version_is_said():
    ended = subprocess.run(
        [sys.executable, "-m", "pillarbox", "--version"], capture_output=True, text=True, check=True, timeout=30
    )
    assert ended.stdout == f"pillarbox {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["messages", "--help"], ["--version"]])
def test_help_waits_for_neither_web_framework_nor_database(arguments):
    script = (
        "import sys; sys.argv = ['pillarbox', *sys.argv[1:]]\n"
        "from pillarbox.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'fastapi', 'starlette', 'sqlalchemy', 'uvicorn', 'jinja2', 'babel', 'alembic', 'aiosmtplib'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=30
    )
    assert ended.stdout.endswith("heavy: []\n")


def test_no_command_is_a_mistake_that_shows_the_commands(pillarbox):
    ended = pillarbox.run()
    assert ended.returncode == 2
    assert "messages" in ended.stdout + ended.stderr


def test_serve_says_where_the_page_and_the_mail_are_and_ends_well(pillarbox):
    server = pillarbox.serve()
    said = pillarbox.log.read_text()
    assert f"Pillarbox is at {pillarbox.url}\n" in said
    assert f"Messages are kept in {pillarbox.database}.\n" in said
    assert f"{pillarbox.url}/mail" in said
    assert "pillarbox doctor" in said
    assert "Nobody is told when mail can't leave: set ALARM_TO.\n" in said
    assert pillarbox.post(BOB)[0] == 200
    server.terminate()
    assert server.wait(20) == 0
    assert "Traceback" not in pillarbox.log.read_text()


@pytest.mark.parametrize("in_path", [True, False])
def test_the_next_command_is_said_as_it_has_to_be_typed(pillarbox, in_path):
    program = Path(sys.executable).with_name("pillarbox")
    server = pillarbox.serve(PATH=str(program.parent) if in_path else "/nowhere")
    (typed,) = re.findall(r"^  3\. .*: +(\S+) doctor$", pillarbox.log.read_text(), re.M)
    assert typed == ("pillarbox" if in_path else os.path.relpath(program, pillarbox.folder))
    server.terminate()
    server.wait(20)


def test_serve_ends_well_at_control_c_too(pillarbox):
    server = pillarbox.serve(ALARM_TO="mailto:ops@example.org")
    assert "Nobody is told" not in pillarbox.log.read_text()
    server.send_signal(signal.SIGINT)
    assert server.wait(20) == 0
    assert "Traceback" not in pillarbox.log.read_text()


def test_several_processes_serve_one_port_and_end_together(pillarbox):
    server = pillarbox.serve(WORKERS="2")
    assert [pillarbox.post(BOB | {"message": f"Question {number}"})[0] for number in range(4)] == [200] * 4
    server.terminate()
    assert server.wait(30) == 0


def test_a_port_that_is_taken_is_said_in_one_sentence(pillarbox):
    pillarbox.serve()
    ended = pillarbox.run("serve", HOST="localhost")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Nothing can listen on localhost port {pillarbox.port} (Address already in use):")
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


def test_messages_are_sent_by_a_worker_when_serving_only_keeps_them(pillarbox):
    pillarbox.serve("--no-worker")
    pillarbox.post(BOB)
    assert json.loads(pillarbox.run("stats", "--json").stdout)["waiting"] == 2
    assert "`pillarbox worker` sends them" in pillarbox.log.read_text()
    worker = pillarbox.start("worker")
    until(lambda: len(pillarbox.mails()) == 2)
    worker.terminate()
    assert worker.wait(20) == 0


def test_a_test_letter_is_sent_and_a_failure_is_said(pillarbox):
    ended = pillarbox.run("send-test")
    assert ended.returncode == 0
    assert ended.stdout.startswith("Sent to you@localhost: ")
    assert len(pillarbox.mails()) == 1
    nowhere = {
        "SMTP_SERVER": "127.0.0.1",
        "SMTP_PORT": "1",
        "EMAIL_ADDRESS": "ada@example.org",
        "EMAIL_PASSWORD": "pw7",
    }
    failed = pillarbox.run("send-test", **nowhere)
    assert (failed.returncode, failed.stdout[:10]) == (1, "Not sent: ")
    as_json = pillarbox.run("send-test", "--json", **nowhere)
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["sent"] is False
    assert "pw7" not in failed.stdout + failed.stderr + as_json.stdout + as_json.stderr


def test_the_doctor_says_what_is_well_and_what_to_do(pillarbox):
    well = pillarbox.run("doctor")
    assert well.returncode == 0
    steps = [line.split()[:2] for line in well.stdout.splitlines() if line.startswith(("ok ", "warn "))]
    assert steps[:2] == [["ok", "settings"], ["ok", "store"]]
    assert ["ok", "mail"] in steps
    assert ["warn", "mail"] in steps
    assert "no mail leaves this machine yet" in well.stdout
    nowhere = {"SMTP_SERVER": "127.0.0.1", "SMTP_PORT": "1", "NAMESERVER": "127.0.0.1:1"}
    ill = pillarbox.run("doctor", "--json", EMAIL_ADDRESS="ada@example.org", **nowhere)
    assert ill.returncode == 1
    (mail,) = [one for one in json.loads(ill.stdout) if one["step"] == "tcp"]
    assert mail["verdict"] == "fail"
    assert mail["seen"] == "could not connect to 127.0.0.1:1: connection refused"
    assert mail["advice"]


def test_upgrade_says_how_the_database_stood(pillarbox):
    assert "up to date now" in lines(pillarbox.run("upgrade"))[0]
    assert "already" in lines(pillarbox.run("upgrade"))[0]
    assert oct(pillarbox.database.stat().st_mode)[-3:] == "600"


def test_the_list_has_a_line_a_message_with_the_newest_first(kept):
    heading, *listed = lines(kept.run("messages", "list"))
    assert heading.split() == ["id", "received", "your", "mail", "name", "email"]
    assert [line.split()[0] for line in listed] == kept.ids[::-1]
    assert [line.split()[3] for line in listed] == ["held", "sent", "sent"]
    assert lines(kept.run("messages", "list", "--limit", "1"))[1:] == listed[:1]
    found = [json.loads(line) for line in lines(kept.run("messages", "list", "--json"))]
    assert [one["id"] for one in found] == kept.ids[::-1]
    assert [letter["state"] for letter in found[2]["letters"]] == ["sent", "sent"]


def test_a_message_is_shown_whole_with_its_letters(kept):
    shown = kept.run("messages", "show", kept.ids[1].lower())
    assert "    first line\n    second line\n" in shown.stdout
    assert "    blue\n    red\n" in shown.stdout
    assert "sent      notification you@localhost" in shown.stdout
    (number,) = re.findall(r"`pillarbox deliveries show (\d+)`", shown.stdout)
    assert re.search(rf"^ +{number}  sent      notification", shown.stdout, re.M)
    assert "held: honeypot" in kept.run("messages", "show", kept.ids[2]).stdout
    found = json.loads(kept.run("messages", "show", kept.ids[1], "--json").stdout)
    assert found["fields"][0] == {"name": "name", "label": "Name", "values": ["=1+1"]}


@pytest.mark.parametrize("arguments", [["list"], ["show"], ["list", "--json"], ["show", "--json"]])
def test_nothing_stored_steers_the_terminal(kept, arguments):
    arguments.insert(1, kept.ids[2]) if arguments[0] == "show" else None
    printed = kept.run("messages", *arguments).stdout
    assert all(char.isprintable() or char == "\n" for char in printed)
    if "--json" in arguments:
        assert json.loads(printed.splitlines()[0])["fields"][0]["values"] == [ESCAPES]


@pytest.mark.parametrize("wrong", ["nope", "7K3M-9QXP-2AFD", "\x1b[31m", "ü"])
def test_an_unknown_message_is_said_and_the_status_tells_scripts(kept, wrong):
    ended = kept.run("messages", "show", wrong)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("There is no message ")
    assert ended.stderr.strip().isascii()
    assert "\x1b" not in ended.stderr


def test_every_message_is_exported_oldest_first_without_formulas(kept):
    header, *rows = csv.reader(io.StringIO(kept.run("messages", "export").stdout))
    assert header == ["id", "form", "received_at", "held_for", "name", "email", "message", "wish"]
    assert [row[0] for row in rows] == kept.ids
    assert rows[1][4:] == ["'=1+1", "bob@example.org", "first line\nsecond line", "blue\nred"]
    assert rows[2][3] == "honeypot"
    found = [json.loads(line) for line in lines(kept.run("messages", "export", "--format", "jsonl"))]
    assert [one["id"] for one in found] == kept.ids
    assert kept.run("messages", "export", "--format", "xml").returncode == 2


def test_an_export_into_a_file_is_for_its_owner_alone(kept):
    assert kept.run("messages", "export", "--output", "all.csv").returncode == 0
    assert (kept.folder / "all.csv").read_text() == kept.run("messages", "export").stdout.replace("\r\n", "\n")
    assert oct((kept.folder / "all.csv").stat().st_mode)[-3:] == "600"
    failed = kept.run("messages", "export", "--output", "nowhere/all.csv")
    assert (failed.returncode, failed.stderr) == (1, "nowhere/all.csv: No such file or directory.\n")


def test_the_days_are_counted(kept):
    table = lines(kept.run("stats"))
    assert table[0].split() == ["day", "accepted", "held", "delivered", "failed", "cancelled"]
    (day,) = json.loads(kept.run("stats", "--json").stdout)["days"]
    assert table[1].split() == [str(value) for value in day.values()]
    assert "Accepted and held are messages; the rest are letters" in table[-2]
    assert table[-1] == "Nobody is told when mail can't leave: set ALARM_TO."
    assert (day["accepted"], day["held"], day["failed"]) == (2, 1, 0)
    assert day["delivered"] == len(kept.mails())


def test_what_is_in_the_way_of_mail_is_counted_too(kept):
    with sqlite3.connect(kept.database) as database:
        database.execute("INSERT INTO ways (name, shut_since, note) VALUES ('relay', 86400, '535 no \x1b[31m')")
    told = {"ALARM_TO": "https://hooks.example.com/s3cret"}
    shut = "No mail leaves through relay since 1970-01-0"
    counted = kept.run("stats", **told)
    assert counted.stdout.splitlines()[-1].startswith(shut)
    assert counted.stdout.endswith(": 535 no \ufffd[31m\n")
    as_json = json.loads(kept.run("stats", "--json", **told).stdout)
    assert as_json["alarm_channel"] is True
    assert as_json["shut"] == [{"way": "relay", "since": "1970-01-02T00:00:00+00:00", "reason": "535 no \x1b[31m"}]


@pytest.mark.parametrize("command", ["messages list", "messages show x", "messages export", "stats", "deliveries list"])
def test_before_the_first_message_the_commands_say_so_and_make_no_file(pillarbox, command):
    ended = pillarbox.run(*command.split())
    assert ended.returncode == 1
    assert ended.stderr.startswith("There are no messages yet: ")
    assert not pillarbox.database.exists()


USING_THE_DATABASE = ["serve", "worker", "upgrade", "doctor", "messages list", "messages export", "stats"]


def assert_one_sentence(ended: subprocess.CompletedProcess, *, ending: str) -> None:
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert re.fullmatch(r"DATABASE_URL: [^\n]+: [^\n]+\.\n", ended.stderr), ended.stderr
    assert ended.stderr.endswith(f"{ending}.\n")


def test_a_damaged_message_hides_no_other_and_still_shows_what_is_left_of_it(pillarbox):
    pillarbox.serve("--no-worker")
    damaged, whole = (pillarbox.post(BOB | {"message": words})[1]["id"] for words in ("the first", "the second"))
    with sqlite3.connect(pillarbox.database) as database:
        database.execute("UPDATE submissions SET answers = '[[\"message' WHERE id = ?", (damaged,))
    for command in ("messages list", f"messages show {damaged}", "messages export", "messages export --format jsonl"):
        ended = pillarbox.run(*command.split())
        assert (ended.returncode, ended.stderr) == (0, ""), command
        assert damaged in ended.stdout, command
        assert whole in ended.stdout or '[["message' in ended.stdout, command


@pytest.mark.parametrize("command", USING_THE_DATABASE)
def test_a_damaged_database_is_said_in_one_sentence(pillarbox, command):
    pillarbox.run("upgrade")
    content = pillarbox.database.read_bytes()
    pillarbox.database.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    assert_one_sentence(pillarbox.run(*command.split()), ending="database disk image is malformed")


def test_a_database_that_another_program_holds_is_said_in_one_sentence(pillarbox):
    pillarbox.run("upgrade")
    with sqlite3.connect(pillarbox.database, isolation_level=None) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with ThreadPoolExecutor() as pool:  # each waits five seconds for it, whenever it asks
            ended = list(pool.map(pillarbox.run, ("serve", "stats")))
    for one in ended:
        assert_one_sentence(one, ending="database is locked")


@pytest.mark.parametrize("command", ["serve", "doctor", "messages list"])
def test_a_database_in_a_folder_that_is_none_is_said_in_one_sentence(pillarbox, command):
    pillarbox.database.parent.write_text("a file")
    assert_one_sentence(pillarbox.run(*command.split()), ending="Not a directory")


@pytest.mark.parametrize("command", ["serve", "doctor", "messages list"])
def test_a_database_that_cannot_even_be_looked_for_is_said_in_one_sentence(pillarbox, command):
    ended = pillarbox.run(*command.split(), DATABASE_URL=f"sqlite:///./{'x' * 300}/pillarbox.db")
    assert_one_sentence(ended, ending="File name too long")


@pytest.mark.parametrize("command", [["messages", "export"], ["messages", "list", "--json"], ["--help"]])
def test_a_reader_that_has_seen_enough_is_no_failure_worth_a_word(kept, command):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        ended = subprocess.run(
            [sys.executable, "-m", "pillarbox", *command],
            cwd=kept.folder,
            env=kept.environment,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.stderr == ""


def test_a_terminal_that_lacks_letters_gets_question_marks(kept):
    shown = kept.run("messages", "list", PYTHONIOENCODING="latin-1")
    assert shown.returncode == 0
    assert "?" in shown.stdout


def test_a_narrow_terminal_is_served_too(kept):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pillarbox", "messages", "list"],
        cwd=kept.folder,
        env=kept.environment | {"COLUMNS": "40", "TERM": "xterm"},
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
    assert process.wait(20) == 0
    assert b"\x1b" not in printed
    assert kept.ids[0].encode() in printed
