"""The log is a witness, never a part of the road; what it tells is counted, too."""

import json
import logging
import re
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from pillarbox import telemetry
from pillarbox.telemetry import ACCEPTED, ACCEPTING, DELIVERING, Tallies, tell
from tests.asking import exchange
from tests.house import open_store
from tests.running import BOB, Pillarbox, until
from tests.servers.scripted_smtp import ScriptedSmtp


@pytest.fixture
def tallies() -> Tallies:
    """This process's own, emptied of what came before."""
    telemetry.tallies.take()
    return telemetry.tallies


def test_a_log_that_cannot_be_written_stops_nothing(pillarbox: Pillarbox):
    pillarbox.serve(LOG_FILE="/dev/full")
    answers = [pillarbox.post(BOB | {"email": f"bob{number}@example.org"}) for number in range(20)]
    assert {status for status, _ in answers} == {200}
    until(lambda: len(pillarbox.mails()) == 40)


def test_no_line_holds_what_a_visitor_wrote(pillarbox: Pillarbox, tmp_path: Path):
    pillarbox.serve(LOG_LEVEL="debug", LOG_FILE=str(tmp_path / "lines"))
    pillarbox.post({"name": "Robert Tailor", "email": "rob@example.org", "message": "a very private matter"})
    until(lambda: len(pillarbox.mails()) == 2)
    pillarbox.stop()
    lines = (tmp_path / "lines").read_text()
    assert "accepted" in lines
    assert not any(word in lines for word in ("Robert", "private", "rob@example.org"))


FORGED = "accepted id=7K3M-9QXP-FAKE form=contact"
HOSTILE_REQUESTS = (
    b"GET /x%0A2026-01-01T00:00:00Z%20[info]%20"
    + FORGED.replace(" ", "%20").encode()
    + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%1B[31m%1B]0;owned%07%E2%80%AE HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[2J" + FORGED.encode() + b"\r\n\r\n",
    b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\x1b[31m " + FORGED.encode() + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\n" + FORGED.encode() + b"\r\n\r\n",
    b"POST /api/contact HTTP/1.1\r\nHost: a\r\nContent-Type: a\x1b[31m\r\nContent-Length: 1\r\n\r\n{",
    b"\x1b[31m" + FORGED.encode() + b"\r\n\r\n",
)


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_visitor_and_no_mail_server_can_write_a_line_a_pair_or_an_escape(pillarbox: Pillarbox, style: str):
    server = ScriptedSmtp()
    server.script(RCPT=f"550 5.1.1 no\x1b[31m {FORGED} \u202e=x\r\n".encode())
    with server.in_thread() as smtp:
        pillarbox.serve(
            LOG_LEVEL="debug",
            LOG_FORMAT=style,
            SMTP_SERVER="127.0.0.1",
            SMTP_PORT=str(smtp.port),
            SMTP_SECURITY="plain",
            EMAIL_ADDRESS="ada@example.org",
        )
        for request in HOSTILE_REQUESTS:
            with suppress(OSError):
                exchange(pillarbox.port, request, patience=5)
        hostile = f"Bob\n{FORGED}\x1b[31m"
        assert pillarbox.post(BOB | {"message": hostile, FORGED: hostile})[0] == 200
        pillarbox.post(BOB | {"name": hostile, "email": f"bob\n@{FORGED}"})
        until(lambda: "550" in pillarbox.log.read_text())
        pillarbox.stop()
    raw = pillarbox.log.read_bytes()
    written = raw.decode("utf-8", "strict")
    assert all(char.isprintable() for line in written.split("\n") for char in line)
    lines = [line for line in written.splitlines() if line.startswith("{" if style == "json" else "20")]
    if style == "json":
        assert [line for line in map(json.loads, lines) if line.get("id") == "7K3M-9QXP-FAKE"] == []
        return
    for line in lines:  # what a visitor or a server said is one quoted value, so no pair of its own begins in it
        assert "id=7K3M-9QXP-FAKE" not in re.sub(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", "", line)
    assert sum(line.split("] ", 1)[-1].startswith("accepted") for line in lines) == 1


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("char", ["\n", "\r", "\x1b", "\x85", "\u2028", "\u202e", "\u200f", "\ue000", "\ud800", "\0"])
def test_no_value_breaks_its_line_or_steers_a_terminal(style: str, char: str, capfd: pytest.CaptureFixture[str]):
    telemetry.set_up(telemetry.LogStyle(format=style))
    telemetry.road.error("request_failed", path=f"/{char}[31m", several=[char], words=f"a{char} =")
    logging.getLogger("a.library").warning("a%s", char)
    written = capfd.readouterr().err
    assert written.count("\n") == 2
    assert written.replace("\n", "").isprintable()


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_librarys_line_is_one_line_and_one_value(style: str, capfd: pytest.CaptureFixture[str]):
    telemetry.set_up(telemetry.LogStyle(format=style))
    logging.getLogger("a.library").warning("%s id=FAKE\nsecond line", "what\x1b[31m")
    try:
        int("what a visitor wrote")
    except ValueError:
        logging.getLogger("a.library").exception("it broke\nfuture: <what a visitor wrote>")
    first, second = capfd.readouterr().err.splitlines()
    if style == "json":
        assert json.loads(first)["said"] == "what\\x1b[31m id=FAKE"
        assert (json.loads(second)["event"], json.loads(second)["error"]) == ("a.library", "ValueError")
    else:
        assert " said='what\\\\x1b[31m id=FAKE'" in first
        assert "error=ValueError" in second
    assert "visitor" not in second


def test_a_traceback_in_the_log_has_places_and_no_words_or_variables(capfd: pytest.CaptureFixture[str]):
    telemetry.set_up(telemetry.LogStyle())

    def fail(words: str) -> None:
        local = words * 2
        raise RuntimeError(local)

    try:
        fail("very-private")
    except RuntimeError as error:
        telemetry.road.error("request_failed", exc_info=error)
    (line,) = capfd.readouterr().err.splitlines()
    assert "error=RuntimeError" in line
    assert "in fail" in line
    assert "private" not in line


def test_a_database_error_tells_none_of_its_parameters(tmp_path: Path):
    store = open_store(tmp_path)
    with store.reading() as connection, pytest.raises(SQLAlchemyError) as error:
        connection.execute(text("SELECT :words FROM nowhere"), {"words": "very private"})
    store.close()
    assert "private" not in str(error.value)


def test_one_event_feeds_the_log_and_the_counter_that_has_its_fields_as_labels(tallies: Tallies):
    with structlog.testing.capture_logs() as lines:
        tell("accepted", id="7K3M-9QXP-2AFD", form="contact")
        tell("deferred", level="warning", id="7K3M-9QXP-2AFD", purpose="notification", way="default", note="later")
    assert [(line["log_level"], line["event"], line["id"]) for line in lines] == [
        ("info", "accepted", "7K3M-9QXP-2AFD"),
        ("warning", "deferred", "7K3M-9QXP-2AFD"),
    ]
    tried = (("outcome", "deferred"), ("purpose", "notification"), ("way", "default"))
    assert tallies.take() == {
        ("pillarbox_messages_accepted", (("form", "contact"),)): 1,
        ("pillarbox_attempts", tried): 1,
    }


def test_an_event_is_counted_though_its_level_is_not_logged(pillarbox: Pillarbox):
    pillarbox.serve(LOG_LEVEL="error")
    pillarbox.post(BOB)
    until(lambda: len(pillarbox.mails()) == 2)
    pillarbox.stop()
    with sqlite3.connect(pillarbox.database) as connection:
        (counted,) = connection.execute(
            "SELECT value FROM counts WHERE name = 'pillarbox_messages_accepted'"
        ).fetchone()
    assert counted == 1
    assert "accepted" not in pillarbox.log.read_text()


def test_an_event_that_nothing_counts_or_that_lacks_a_field_harms_nobody(tallies: Tallies):
    tell("way_opened", way="default")
    tell("sent", id="7K3M-9QXP-2AFD")
    assert tallies.take() == {("pillarbox_attempts", (("outcome", "sent"), ("purpose", ""), ("way", ""))): 1}


def test_what_was_taken_is_not_counted_again_unless_it_is_given_back():
    tallies = Tallies()
    tallies.count(ACCEPTED, "contact")
    taken = tallies.take()
    assert tallies.take() == {}
    tallies.give_back(taken)
    tallies.count(ACCEPTED, "contact")
    assert tallies.take() == {(ACCEPTED.name, (("form", "contact"),)): 2}
    assert tallies.take() == {}


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(-3.0, "0.005"), (0.005, "0.005"), (0.0051, "0.01"), (9.9, "10.0"), (10.0, "10.0"), (11.0, "+Inf")],
)
def test_a_time_is_counted_under_the_first_bound_that_it_does_not_exceed(seconds: float, bound: str):
    tallies = Tallies()
    tallies.observe(ACCEPTING, seconds)
    assert tallies.take() == {
        (f"{ACCEPTING.name}_bucket", (("le", bound),)): 1,
        (f"{ACCEPTING.name}_sum", ()): max(seconds, 0.0),
    }


def test_times_of_several_ways_out_are_told_apart_and_summed():
    tallies = Tallies()
    for way, seconds in (("a", 1.0), ("a", 70.0), ("a", 80.0), ("b", 1.0)):
        tallies.observe(DELIVERING, seconds, way)
    found = tallies.take()
    name = DELIVERING.name
    assert found[f"{name}_sum", (("way", "a"),)] == 151
    assert found[f"{name}_bucket", (("way", "a"), ("le", "300.0"))] == 2
    assert found[f"{name}_bucket", (("way", "b"), ("le", "1.0"))] == 1
