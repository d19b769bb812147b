"""Side by side on one PostgreSQL: letters are shared out, and what is bounded is bounded over all."""

from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from tests.house import WAY, message, to_ada, to_bob
from tests.store.several import HOUR, NOW, ask, at_once, begun_within, claim, keep, keep_for_many, wish, write

from pillarbox.core.alarm import Event, Kind, Trouble
from pillarbox.core.delivery import State
from pillarbox.store import alarms, claims, clocks, confirmations, deliveries, digests, held, purging, submissions, ways
from pillarbox.store.alarms import Look, Told
from pillarbox.store.claims import Settlement
from pillarbox.store.deliveries import Cancellation, Revival
from pillarbox.store.digests import Gathering
from pillarbox.store.engine import Store, driver_error
from pillarbox.store.held import Drop, Release
from pillarbox.store.purging import Sweep, Swept
from pillarbox.store.statements import CLAIMING, hold
from pillarbox.store.submissions import Kept, NewDelivery
from pillarbox.store.ways import Reopened, Shut


def test_two_that_claim_at_once_never_get_the_same_letter_and_together_take_all(shared: Store) -> None:
    keep(shared, 60)

    def take_all(_: int) -> list[int]:
        taken: list[int] = []
        while found := claim(shared, wish(limit=4)):
            taken += found
        return taken

    found = at_once(4, take_all)
    assert sorted(chain(*found)) == list(range(1, 61))


def test_a_claim_leaves_out_what_somebody_else_has_just_in_hand(shared: Store) -> None:
    keep(shared, 3)
    with shared.writing() as other:
        other.exec_driver_sql("SELECT 1 FROM deliveries WHERE id = 2 FOR UPDATE")
        assert claim(shared, wish()) == [1, 3]
        write(shared, ways.shut, Shut(WAY, NOW - 60, "535 no", 0, NOW))
        write(shared, claims.void_leases, NOW)
        assert claim(shared, wish()) == [1]  # the oldest that is free tries the way


@pytest.mark.parametrize(
    ("letter", "many", "wanted", "leave"),
    [
        (to_ada(), 40, {"budget": ((5, HOUR),)}, 5),
        (None, 20, {"budget": ((10, HOUR),)}, 8),
        (None, 70, {"confirmations_per_hour": 60}, 60),
        (to_bob(), 20, {}, 1),
    ],
    ids=["a budget", "four fifths of it for confirmations", "sixty an hour", "one a day to a mailbox"],
)
def test_bounds_hold_over_all_who_claim_at_once(
    shared: Store, letter: NewDelivery | None, many: int, wanted: dict[str, Any], leave: int
) -> None:
    keep(shared, many, letter) if letter else keep_for_many(shared, many)
    found = at_once(8, lambda _: claim(shared, wish(limit=10, **wanted)))
    assert len(list(chain(*found))) == leave
    assert len(set(chain(*found))) == leave


def test_a_shut_way_is_tried_by_one_letter_whoever_asks(shared: Store) -> None:
    keep(shared, 10)
    write(shared, ways.shut, Shut(WAY, NOW - 60, "535 no", 0, NOW))
    found = at_once(8, lambda _: claim(shared, wish()))
    assert len(list(chain(*found))) == 1


def test_a_letter_that_is_called_off_while_it_is_chosen_as_the_probe_is_left_alone(shared: Store) -> None:
    keep(shared, 1)
    write(shared, ways.shut, Shut(WAY, NOW - 60, "535 no", 0, NOW))
    with shared.writing() as other:
        other.exec_driver_sql("UPDATE deliveries SET state = 'cancelled'")
        (found,) = write(shared, claims.claim, wish())
        assert found.letters == ()
        assert found.next_due_at == NOW + 1
    assert ask(shared, "SELECT state, claim FROM deliveries") == [("cancelled", 0)]


ALONE = (
    (claims.claim, wish()),
    (clocks.catch_up, (NOW, 5.0)),
    (confirmations.cancel_stale, NOW),
    (confirmations.forget, NOW),
    (deliveries.cancel, Cancellation((1,), NOW)),
    (deliveries.revive, Revival((1,), NOW, (WAY,))),
    (digests.gather, Gathering(WAY, 1, NOW)),
    (held.drop, Drop(("x",), NOW)),
    (held.release, Release(("x",), NOW, (WAY,))),
    (purging.erase_dropped, Sweep(NOW, NOW)),
    (purging.erase_old, Sweep(NOW, NOW)),
    (ways.adopt, ((WAY,), WAY)),
    (ways.pass_on, (WAY, "relay")),
    (ways.reopen, Reopened(WAY, NOW)),
    (ways.shut, Shut(WAY, NOW, "535 no", 0, NOW)),
    (ways.try_at_once, NOW),
)


def test_who_claims_and_who_changes_what_leaves_next_do_so_one_after_the_other_and_no_visitor_waits(
    shared: Store,
) -> None:
    keep(shared, 2)
    (found,) = write(shared, claims.claim, wish(limit=1))
    (letter,) = found.letters
    with shared.writing() as other:
        hold(other, CLAIMING)
        for function, item in ALONE:
            with pytest.raises(OperationalError) as waited, shared.writing() as connection:  # noqa: PT012
                connection.exec_driver_sql("SET LOCAL lock_timeout = 5")
                function(connection, [item])
            assert driver_error(waited.value).sqlstate == "55P03", function
        keep(shared, 1)
        write(shared, claims.renew, (letter.delivery.id, letter.claim, NOW + 60))
        write(shared, claims.settle, Settlement(replace(letter.delivery, state=State.SENT), letter.claim, NOW))
    assert claim(shared, wish()) == [2, 3]


def test_what_is_sent_again_or_released_while_the_purge_looks_at_it_is_not_erased(shared: Store) -> None:
    failed, suspect = message(at=1.0), replace(message(at=2.0), held_for=("links",))
    write(shared, submissions.keep, Kept(failed, (to_ada(State.FAILED),)), Kept(suspect, (to_ada(State.HELD),)))

    def change(by_hand: Connection) -> None:
        assert deliveries.revive(by_hand, [Revival((1,), NOW, (WAY,))]) == [1]
        assert held.release(by_hand, [Release((suspect.id,), NOW, (WAY,))])[0].letters == 1

    assert begun_within(shared, change, purging.erase_old, Sweep(NOW, NOW)) == Swept(0, 0, None)
    assert claim(shared, wish()) == [1, 2]


def test_a_digest_that_has_just_left_is_not_called_off_and_what_it_carried_stays_known_by_it(shared: Store) -> None:
    keep(shared, 2)
    (found,) = write(shared, claims.claim, wish(limit=1))
    (letter,) = found.letters
    with shared.writing() as connection:  # nobody renewed its lease
        connection.exec_driver_sql("UPDATE deliveries SET digest_id = 1")
        connection.exec_driver_sql("UPDATE deliveries SET state = 'digested' WHERE id = 2")

    def settle(late: Connection) -> None:
        carrier = replace(letter.delivery, state=State.SENT, digest_id=1)
        claims.settle(late, [Settlement(carrier, letter.claim, NOW, "sent")])

    assert begun_within(shared, settle, deliveries.cancel, Cancellation((1,), NOW + 31)) == 0
    assert ask(shared, "SELECT state, digest_id FROM deliveries") == [("sent", 1)] * 2


def test_what_was_told_is_written_down_though_another_looks_at_the_same_time(shared: Store) -> None:
    shut = Trouble(Kind.WAY_SHUT, WAY, "535 no", NOW)
    write(shared, alarms.claim_news, Look((shut,), NOW))

    def look(other: Connection) -> None:
        other.exec_driver_sql("UPDATE alarms SET note = '535 still no'")

    begun_within(shared, look, alarms.told, Told(f"way_shut:{WAY}", Event.OPENED, NOW))
    assert ask(shared, "SELECT note, told FROM alarms") == [("535 still no", 1)]
