"""A commit wakes the dispatcher: with polling set to an hour a letter still leaves at once, whoever kept it."""

import pytest
from tests.road import ledger
from tests.running import BOB, Pillarbox, until


@pytest.fixture
def seldom_polling(pillarbox: Pillarbox) -> Pillarbox:
    """An installation whose dispatcher would look by itself only once an hour."""
    pillarbox.settings["POLL_INTERVAL"] = "1h"
    return pillarbox


def test_a_letter_leaves_at_once_from_the_process_that_kept_it(seldom_polling: Pillarbox) -> None:
    seldom_polling.serve()
    for number in (1, 2, 3):
        seldom_polling.post(BOB | {"email": f"bob-{number}@example.net"})
        until(lambda number=number: len(seldom_polling.mails()) == 2 * number)


def test_a_letter_leaves_at_once_from_another_process_than_the_one_that_kept_it(seldom_polling: Pillarbox) -> None:
    seldom_polling.serve("--no-worker")
    seldom_polling.start("worker")
    for number in (1, 2, 3):
        seldom_polling.post(BOB | {"email": f"bob-{number}@example.net"})
        until(lambda number=number: len(seldom_polling.mails()) == 2 * number)


def test_letters_that_were_kept_while_nobody_sent_leave_when_somebody_comes(seldom_polling: Pillarbox) -> None:
    seldom_polling.serve("--no-worker")
    seldom_polling.post(BOB)
    assert ledger.waiting(seldom_polling.database) == 2
    seldom_polling.start("worker")
    until(lambda: len(seldom_polling.mails()) == 2)


def test_a_backlog_longer_than_what_is_claimed_at_once_leaves_without_another_call(seldom_polling: Pillarbox) -> None:
    seldom_polling.serve("--no-worker")
    for number in range(60):
        seldom_polling.post(BOB | {"email": f"bob-{number}@example.net"})
    seldom_polling.start("worker")
    until(lambda: len(seldom_polling.mails()) == 120)


def test_of_the_visitors_addresses_only_those_that_may_get_a_confirmation_get_one_and_the_others_say_why(
    seldom_polling: Pillarbox,
) -> None:
    seldom_polling.settings |= {"EMAIL_ADDRESS": "forms@pillarbox.example", "RECIPIENT_EMAIL": "ada@example.org"}
    seldom_polling.serve()
    reasons = {
        "postmaster@example.net": "the address belongs to a role or a machine",
        "no-reply@example.net": "the address belongs to a role or a machine",
        "Ada@Example.org": "the address is one of the form's own",
        "forms+x@pillarbox.example": "the address is one of the form's own",
        "somebody@pillarbox.example": "the address is in the sender's own domain",
    }
    for address in reasons:
        assert seldom_polling.post(BOB | {"email": address})[0] == 200
    seldom_polling.post(BOB)
    until(lambda: len(seldom_polling.mails()) == len(reasons) + 2)
    cancelled = "SELECT recipient, note FROM deliveries WHERE state = 'cancelled'"
    said = {recipient.lower(): note for recipient, note in ledger.ask(seldom_polling.database, cancelled)}
    assert said == {address.lower(): reason for address, reason in reasons.items()}
