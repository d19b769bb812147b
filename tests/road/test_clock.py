"""The wall clock is set while letters wait: what was due soon is sent soon, and nothing is lost or sent twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.road import ledger
from tests.road.clock import Clock
from tests.road.crowd import Crowd
from tests.road.mail_process import Dot, MailProcess
from tests.road.results import write_table
from tests.road.test_crash import repeats
from tests.running import BOB, Pillarbox, free_port, until

HOUR, DAY = 3_600, 86_400
LATER = ("--script", "RCPT", "451 4.7.1 Please try again later")


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """A clock that is right until a test sets it."""
    return Clock(tmp_path)


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[MailProcess]:
    """A mail server that says "later" to every letter until it is mended."""
    server = MailProcess(tmp_path, "--port", str(free_port()), *LATER)
    yield server
    server.end()


@pytest.fixture
def mailing(pillarbox: Pillarbox, mail: MailProcess, clock: Clock) -> Pillarbox:
    """An installation under that clock which tries again every second; not started yet."""
    pillarbox.settings |= mail.settings | clock.settings
    pillarbox.settings |= {"PROBE_INTERVAL": "0.2s", "RETRY_SCHEDULE": ",".join(["1s"] * 200)}
    return pillarbox


def mend(mail: MailProcess) -> None:
    """Let the mail server take every letter from now on."""
    mail.kill()
    mail.start()


def put_off(database: Path) -> int:
    """Return how many letters wait to which a mail server has said "later"."""
    return int(ledger.ask(database, "SELECT count(*) FROM deliveries WHERE attempts > 0 AND state = 'waiting'")[0][0])


def is_shut(database: Path) -> bool:
    """Whether the way out is shut."""
    return bool(ledger.ask(database, "SELECT 1 FROM ways WHERE shut_since IS NOT NULL"))


def set_and_seen(mailing: Pillarbox, clock: Clock, ahead: int) -> None:
    """Set the clock and return once the process has noticed."""
    before = mailing.log.read_text().count("clock_set")
    clock.set(ahead)
    until(lambda: mailing.log.read_text().count("clock_set") > before)


def taken_twice(mail: MailProcess) -> list[Dot]:
    """Return each dot that was answered with 250, and after which the same letter was sent once more."""
    return [dot for dot in repeats(mail) if dot.answer.startswith("250")]


@dataclass(frozen=True)
class Turn:
    """How far ahead a clock is set in mid-run, while the mail server says "later" or is shut (away)."""

    ahead: int
    shut: bool = False


def live_through(mailing: Pillarbox, mail: MailProcess, clock: Clock, turn: Turn, crowd: Crowd) -> None:
    """Set the clock while letters wait and visitors write; then mend the mail server and see all of them leave."""
    if turn.shut:
        mail.kill()
        until(lambda: is_shut(mailing.database))
    else:
        until(lambda: put_off(mailing.database) >= 6)
    set_and_seen(mailing, clock, turn.ahead)
    thanked = len(crowd.thanked)
    until(lambda: len(crowd.thanked) > thanked + 6)
    so_far = set(crowd.thanked.values())
    mend(mail)
    until(lambda: so_far <= mail.reached() & mail.reached("confirmation"))


@pytest.mark.parametrize(
    ("turns", "pause"),
    [
        pytest.param([Turn(-HOUR)], 0.5, id="back while it says later"),
        pytest.param([Turn(-HOUR, shut=True)], 0.5, id="back while it is shut"),
        pytest.param([Turn(DAY)], 0.5, id="forward while it says later"),
        pytest.param(
            [Turn(ahead, shut=place % 2 == 1) for place, ahead in enumerate([-HOUR, DAY, 0, -HOUR, DAY, -DAY, 0] * 2)],
            0.2,
            id="full",
            marks=[pytest.mark.full, pytest.mark.timeout(900)],
        ),
    ],
)
def test_a_clock_set_in_mid_run_holds_no_letter_up_and_loses_none(
    *,
    mailing: Pillarbox,
    mail: MailProcess,
    clock: Clock,
    request: pytest.FixtureRequest,
    turns: list[Turn],
    pause: float,
) -> None:
    process = mailing.serve()
    with Crowd(mailing.port, pause, clients=6).posting() as crowd:
        for turn in turns:
            live_through(mailing, mail, clock, turn, crowd)
            if turn is not turns[-1]:
                mail.kill()
                mail.start(*LATER)
    until(lambda: ledger.waiting(mailing.database) == 0)
    thanked = set(crowd.thanked.values())
    if "full" in request.node.callspec.id:
        counts = {
            "times the clock was set": len(turns),
            "thanked": len(thanked),
            "thanked, owner's letter missing": len(thanked - mail.reached()),
            "thanked, confirmation missing": len(thanked - mail.reached("confirmation")),
            "letters sent again after a 250": len(taken_twice(mail)),
        }
        write_table("clock", "The wall clock set under load", counts, test="tests/road/test_clock.py")
    assert not thanked - mail.reached()
    assert not thanked - mail.reached("confirmation")
    assert taken_twice(mail) == []
    assert crowd.refused == []
    assert process.poll() is None


@pytest.mark.parametrize("age", [0, 2 * HOUR], ids=["just kept", "kept long before"])
def test_a_clock_set_back_while_nothing_runs_holds_no_letter_up(
    mailing: Pillarbox, mail: MailProcess, clock: Clock, age: int
) -> None:
    process = mailing.serve()
    thanked = {mailing.post(BOB | {"email": f"bob-{number}@example.net"})[1]["id"] for number in range(3)}
    until(lambda: put_off(mailing.database) == 6)
    if age:
        set_and_seen(mailing, clock, age)
        tried_now = "SELECT count(*) FROM deliveries WHERE due_at > ?"
        until(lambda: ledger.ask(mailing.database, tried_now, clock.now() - 60) == [(6,)])
    process.kill()
    process.wait()
    clock.set(age - HOUR)
    mend(mail)
    mailing.serve()
    until(lambda: thanked == mail.reached() == mail.reached("confirmation"))


def test_letters_under_way_when_the_clock_is_set_forward_are_sent_once(
    mailing: Pillarbox, mail: MailProcess, clock: Clock
) -> None:
    mend(mail)
    mailing.settings |= {"SMTP_CONNECTIONS": "8"}
    mailing.serve()
    with mail.paused():
        thanked = {mailing.post(BOB | {"email": f"bob-{number}@example.net"})[1]["id"] for number in range(2)}
        until(lambda: ledger.ask(mailing.database, "SELECT count(*) FROM deliveries WHERE unanswered = 1") == [(4,)])
        set_and_seen(mailing, clock, DAY)
    until(lambda: ledger.waiting(mailing.database) == 0)
    mailing.stop()  # whatever was begun has ended
    assert thanked == mail.reached() == mail.reached("confirmation")
    assert taken_twice(mail) == []


def test_a_letter_put_off_for_an_hour_is_put_off_for_an_hour_whatever_the_clock_says(
    mailing: Pillarbox, clock: Clock
) -> None:
    mailing.settings |= {"RETRY_SCHEDULE": "1h", "LOG_LEVEL": "debug"}
    first = mailing.start("worker")
    until(lambda: "dispatching" in mailing.log.read_text())
    mailing.serve()
    mailing.post(BOB)
    until(lambda: put_off(mailing.database) == 2)
    set_and_seen(mailing, clock, -DAY)
    assert_due_in_an_hour(mailing.database, clock)
    # Who takes over has seen the same clock being set, and must not put the letters right once more.
    first.kill()
    mailing.post(BOB | {"email": "bob-2@example.net"})
    until(lambda: put_off(mailing.database) == 4)
    assert_due_in_an_hour(mailing.database, clock)


def assert_due_in_an_hour(database: Path, clock: Clock) -> None:
    """Fail unless every letter is due in an hour, give or take the jitter and the test's own time."""
    waits = [due_at - clock.now() for (due_at,) in ledger.ask(database, "SELECT due_at FROM deliveries")]
    assert all(0.8 * HOUR < seconds < 1.2 * HOUR for seconds in waits), waits
