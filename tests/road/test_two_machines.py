"""Two machines share a database: one is cut off or has a wrong clock, and no letter is lost, late or sent again."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from tests.road.clock import Clock
from tests.road.crowd import Crowd
from tests.road.fleet import Books, Member, on_postgresql, repeats, unexcused
from tests.road.mail_process import MailProcess
from tests.road.results import write_table
from tests.running import BOB, Pillarbox, until
from tests.servers.namespaces import Machine, Network, network
from tests.servers.postgresql import UNSAFE, Postgresql, running_postgresql

HOUR, DAY = 3_600, 86_400
LEASE = 2.0
CUTS = (5, 45, 20)
"""Seconds: within every lease, beyond every lease, beyond what the system keeps trying for."""
LATER = ("--script", "DOT", "451 4.7.1 Please try again later")


@dataclass
class Place:
    """One machine with Pillarbox on it; visitors who are on the machine write to its web process."""

    machine: Machine
    mailing: Pillarbox
    members: list[Member] = field(default_factory=list)

    def serve(self) -> None:
        """Start to keep messages and return once it does."""
        web = Member(self.mailing, self.mailing.port, wrapper=self.machine.wrapper)
        with self.machine.inside():
            until(lambda: web.answers)

    def work(self) -> Member:
        """Start to send what is kept."""
        return Member(self.mailing, lease=LEASE, wrapper=self.machine.wrapper)

    def post(self, number: int) -> str:
        """Let Bob write from here; return the id that he is thanked with."""
        with self.machine.inside():
            status, answer = self.mailing.post(BOB | {"message": f"This is message {number}."})
        assert status == 200
        return str(answer["id"])


@dataclass
class Town:
    """Two machines, a database on a third, mail servers on a fourth."""

    network: Network
    here: Place
    there: Place
    data: Machine
    mail: Machine
    books: Books


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Network, Postgresql]]:
    """Four machines on a switch; the third runs PostgreSQL."""
    with network(4) as made, ExitStack() as stack:
        data = made.machines[2]
        with data.inside():
            server = stack.enter_context(running_postgresql(host=data.address, **UNSAFE))
        yield made, server


@pytest.fixture
def town(machines: tuple[Network, Postgresql], tmp_path: Path) -> Iterator[Town]:
    """Pillarbox on two of the machines, on one database; nothing is started yet."""
    network, server = machines
    here, there, data, mail = network.machines
    with data.inside():
        url = server.create()
    places = []
    for machine in (here, there):
        (folder := tmp_path / machine.address).mkdir()
        settings = {"CONFIRMATION_EMAIL": "false", "RECIPIENT_EMAIL": "ada@example.org", "LOG_LEVEL": "debug"}
        places.append(Place(machine, on_postgresql(Pillarbox(folder, **settings), url)))
    with data.inside():
        books = Books(places[0].mailing)
        books.ask("SELECT 1")  # it is connected from here on
    yield Town(network, *places, data, mail, books)
    books.close()
    for place in places:
        network.join(place.machine)
        place.mailing.stop()


def sends_through(place: Place, machine: Machine, *options: str) -> MailProcess:
    """Start a mail server on a machine and let a place send through it."""
    with machine.inside():
        mail = MailProcess(place.mailing.folder, "--host", machine.address, *options)
    place.mailing.settings |= mail.settings | {"SMTP_SERVER": machine.address}
    return mail


def test_letters_in_the_hands_of_a_machine_that_is_cut_off_leave_by_the_other_and_its_late_outcomes_change_nothing(
    town: Town,
) -> None:
    here, there = town.here, town.there
    busy = sends_through(here, here.machine, *LATER)  # a mail server of its own: it hears outcomes that nobody else can
    well = sends_through(there, town.mail)
    there.serve()
    with busy.paused():
        thanked = {there.post(number) for number in range(4)}
        here.work()
        until(lambda: town.books.count("deliveries WHERE unanswered = 1") == 4)
        town.network.cut_off(here.machine)
    until(lambda: len(busy.dots()) == 4)
    other = there.work()
    until(lambda: well.reached() == thanked)
    until(lambda: town.books.waiting == 0)
    town.network.join(here.machine)
    until(lambda: town.books.count("attempts WHERE outcome = 'deferred'") == 4)
    assert town.books.ask("SELECT DISTINCT state, outcome FROM deliveries WHERE purpose = 'notification'") == [
        ("sent", "sent")
    ]
    assert [dots for dots in well.by_letter().values() if len(dots) > 1] == []
    other.stop()
    there.post(5)
    until(lambda: len(busy.dots()) == 5)  # it works on as if nothing had been
    for mail in (busy, well):
        mail.end()


def test_a_machine_that_is_cut_off_in_the_middle_of_a_claim_keeps_the_others_from_claiming_for_ten_seconds_only(
    town: Town,
) -> None:
    here, there = town.here, town.there
    well = sends_through(there, town.mail)
    here.mailing.settings |= well.settings | {"SMTP_SERVER": town.mail.address}
    there.serve()
    with town.data.inside():
        other = psycopg.connect(there.mailing.settings["DATABASE_URL"])
    here.work()
    until(lambda: "dispatching" in here.mailing.log.read_text())
    other.execute("LOCK TABLE ways")
    thanked = {there.post(1)}
    until(lambda: town.books.count("pg_locks WHERE NOT granted AND relation = 'ways'::regclass"))
    town.network.cut_off(here.machine)
    other.close()
    until(lambda: town.books.count("pg_stat_activity WHERE state = 'idle in transaction'"))
    there.work()
    thanked.add(there.post(2))  # meanwhile visitors are thanked
    assert town.books.count("pg_locks WHERE locktype = 'advisory' AND granted") == 1
    until(lambda: well.reached() == thanked, within=60)
    well.end()


@pytest.mark.full  # what keeps them is tested with the transport
def test_a_machine_that_lost_its_database_sends_no_letter_whose_lease_is_over(town: Town) -> None:
    here, there = town.here, town.there
    well = sends_through(there, town.mail)
    here.mailing.settings |= well.settings | {"SMTP_SERVER": town.mail.address}
    there.serve()
    with well.paused():
        thanked = {there.post(number) for number in range(4)}
        here.work()
        until(lambda: town.books.count("deliveries WHERE unanswered = 1") == 4)
        town.network.part(here.machine, town.data)
        until(lambda: not town.books.count("deliveries WHERE due_at > extract(epoch FROM clock_timestamp())"))
    there.work()
    until(lambda: well.reached() == thanked)
    until(lambda: town.books.waiting == 0)
    town.network.reconcile(here.machine, town.data)
    until(lambda: town.books.count("attempts") == 8)  # each machine has said what it did
    assert [dots for dots in well.by_letter().values() if len(dots) > 1] == []
    well.end()


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_machine_that_is_cut_off_under_load_loses_nothing_and_repeats_by_the_dot_rule_only(town: Town) -> None:
    here, there = town.here, town.there
    well = sends_through(there, town.mail)
    here.mailing.settings |= well.settings | {"SMTP_SERVER": town.mail.address}
    crowds, ends = [], []
    with ExitStack() as visits:
        for number, place in enumerate((here, there)):
            place.serve()
            Member(place.mailing, wrapper=place.machine.wrapper)
            crowds.append(crowd := Crowd(place.mailing.port, 0.05, 1_000_000 * number, clients=8))
            with place.machine.inside():
                visits.enter_context(crowd.posting())
        for seconds in CUTS:
            before = [len(crowd.thanked) for crowd in crowds]
            until(
                lambda before=before: all(
                    len(one.thanked) > so_far + 200 for one, so_far in zip(crowds, before, strict=True)
                ),
                within=120,
            )
            town.network.cut_off(here.machine)
            ends.append(time.time())
            until(lambda end=ends[-1] + seconds: time.time() > end, within=seconds + 10)
            town.network.join(here.machine)
        until(lambda: len(crowds[0].thanked) > before[0] + 400, within=120)
        for crowd in crowds:
            crowd.going_home = True
    until(lambda: town.books.waiting == 0, within=120)
    thanked = {identifier for crowd in crowds for identifier in crowd.thanked.values()}
    again = repeats(well)
    late = unexcused(again, ends, unwritten=0.2)
    counts = {
        "machines in network namespaces, each with a web process and a worker": 2,
        "times one was cut off, for so many seconds": ", ".join(map(str, CUTS)),
        "thanked on the machine that was cut off, on the other": ", ".join(str(len(one.thanked)) for one in crowds),
        "told to come again (503)": sum(len(crowd.refused) for crowd in crowds),
        "thanked, owner's letter missing": len(thanked - well.reached()),
        "letters sent again": len(again),
        "of these answered 200 ms or more before a cut, or begun after it": len(late),
    }
    write_table("two-machines", "One of two machines cut off", counts, test="tests/road/test_two_machines.py")
    well.end()
    assert not thanked - well.reached()
    assert unexcused(again, ends, unwritten=1.0) == []
    assert crowds[1].refused == []


@pytest.mark.parametrize(
    "ahead",
    [pytest.param(DAY + HOUR, id="ahead"), pytest.param(-DAY - HOUR, id="behind", marks=pytest.mark.full)],
)
def test_a_machine_whose_clock_is_wrong_does_nothing_at_a_wrong_time(
    mailing: Pillarbox, tmp_path: Path, postgresql: Postgresql, ahead: int
) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    clock = Clock(elsewhere)
    clock.set(ahead)
    mail = MailProcess(elsewhere, *LATER)
    right = on_postgresql(mailing, postgresql.create())
    right.settings |= mail.settings | {"RETRY_SCHEDULE": "1h"}
    wrong = Pillarbox(elsewhere)
    wrong.settings = right.settings | clock.settings | {"PORT": str(wrong.port)}
    try:
        right.serve()
        wrong.serve()
        begun = time.time()
        for number in range(6):
            (right, wrong)[number % 2].post(BOB | {"message": f"This is message {number}."})
        with closing(Books(right)) as books:
            until(lambda: books.count("attempts") >= 7)
            until(lambda: books.count("deliveries WHERE unanswered > 0") == 0)
            assert_at_the_right_time(books, begun)
    finally:
        wrong.stop()
        mail.end()


def assert_at_the_right_time(books: Books, begun: float) -> None:
    """Fail unless six messages came in order from then on, one confirmation was let go, and each letter tried once."""
    came = [at for (at,) in books.ask(
        "SELECT s.received_at FROM submissions s JOIN deliveries d ON d.submission_id = s.id"
        " WHERE purpose = 'notification' ORDER BY d.id")]  # fmt: skip
    assert came == sorted(came)
    assert begun - 5 < came[0] < came[-1] < time.time() + 5
    assert books.ask("SELECT state, count(*), max(claim) FROM deliveries GROUP BY state ORDER BY state") == [
        ("cancelled", 5, 1),  # the others had one within the day
        ("waiting", 7, 1),
    ]
    due = [at - time.time() for (at,) in books.ask("SELECT due_at FROM deliveries WHERE state = 'waiting'")]
    assert all(0.8 * HOUR < seconds < 1.2 * HOUR for seconds in due)
