"""The log is a witness, never a part of the road."""

from pathlib import Path

from tests.running import BOB, Pillarbox, until


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
