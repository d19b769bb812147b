"""Messages as they are found again: in their order, whole, and counted by the day in UTC."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tests.house import message, on_both, open_store, to_ada, to_bob

from pillarbox.core.delivery import State
from pillarbox.core.submission import Answer
from pillarbox.store import condition, deliveries, submissions
from pillarbox.store.submissions import Kept

pytestmark = on_both

MIDNIGHT = 1_900_022_400.0
"""Of 2030-03-17 to the 18th, in UTC."""


def test_messages_are_found_the_newest_first_and_handed_out_the_oldest_first(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        ids = [f"AAAA-{number:04}-AAAA" for number in range(5)]
        with store.writing() as connection:
            several = [message(at=MIDNIGHT + number, identifier=one) for number, one in enumerate(ids)]
            submissions.keep(connection, [Kept(one, (to_ada(), to_bob())) for one in several])
        with store.reading() as connection:
            assert [one.id for one in submissions.find_newest(connection, limit=3)] == ids[:1:-1]
            assert [one.id for one in submissions.each(connection)] == ids
            assert submissions.fetch(connection, ids[3]) == several[3]
            assert submissions.fetch(connection, "none") is None
            letters = deliveries.find_of_submission(connection, ids[1])
            assert [(one.purpose, one.state) for one in letters] == [
                ("notification", "waiting"),
                ("confirmation", "waiting"),
            ]
            assert deliveries.count_by_state(connection) == {State.WAITING: 10}


def test_what_a_visitor_wrote_comes_back_as_it_was_in_any_script(tmp_path: Path) -> None:
    words = ("Grüße, 你好, 👩‍👩‍👧, שלום", "tab\tand\r\nlines", "% %s :name \\ ' \" {} $1 ?", "\u2028\x85\ufeff\x1f")
    with closing(open_store(tmp_path)) as store:
        written = replace(message(), answers=(Answer("wörter", "Wörter :x", words),), held_for=("links", "flood"))
        with store.writing() as connection:
            submissions.keep(connection, [Kept(written, (to_ada(),))])
        with store.reading() as connection:
            assert submissions.fetch(connection, written.id) == written


def test_what_happened_is_counted_by_the_day_in_utc(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        with store.writing() as connection:
            called_off = replace(to_bob(), state=State.CANCELLED, note="no confirmations")
            submissions.keep(
                connection,
                [
                    Kept(message(at=MIDNIGHT - 1), (to_ada(), called_off)),
                    Kept(message(at=MIDNIGHT), (to_ada(),)),
                    Kept(replace(message(at=MIDNIGHT + 1), held_for=("links",)), (to_ada(State.HELD),)),
                ],
            )
            connection.exec_driver_sql(f"UPDATE deliveries SET state = 'sent', settled_at = {MIDNIGHT} WHERE id = 1")
        with store.reading() as connection:
            assert sorted(submissions.count_by_day(connection, since=0.0)) == [
                ("2030-03-17", "accepted", 1),
                ("2030-03-17", "cancelled", 1),
                ("2030-03-18", "accepted", 1),
                ("2030-03-18", "held", 1),
                ("2030-03-18", "sent", 1),
            ]
            found = condition.look(connection)
    assert (found.newest_at, found.waiting, found.waiting_since) == (MIDNIGHT + 1, 1, MIDNIGHT)
    assert (found.failed, found.held) == (0, 1)
