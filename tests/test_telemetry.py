"""The log is a witness, never a part of the road; what it tells is counted, too."""

import sqlite3
from pathlib import Path

import pytest
import structlog

from pillarbox import telemetry
from pillarbox.telemetry import ACCEPTED, ACCEPTING, DELIVERING, Tallies, tell
from tests.running import BOB, Pillarbox, until


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
