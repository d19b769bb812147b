"""The suppression list: who comes on it, what that calls off, and what stands against what."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.house import WAY, keep, keeping, message, on_both, rows, to_ada, to_bob

from pillarbox.core.confirming import fold
from pillarbox.core.delivery import Purpose, State
from pillarbox.store import claims, submissions, suppressions
from pillarbox.store.claims import Settlement, Wish
from pillarbox.store.keeper import Keeper
from pillarbox.store.submissions import Kept, NewDelivery
from pillarbox.store.suppressions import Addressee, Asking, Reason, Suppression

pytestmark = [pytest.mark.anyio, on_both]

BOB = "bob@example.net"
ASKED, REFUSED, LISTED = Reason.ASKED, Reason.REFUSED, Reason.LISTED


async def claim(keeper: Keeper, *, at: float, limit: int = 100, per_client: int | None = None) -> Sequence[str]:
    """Claim what is due at this time and return to whom it goes."""
    wish = Wish(WAY, limit, at, 30.0, None, confirmations_per_client=per_client)
    return [letter.delivery.recipient for letter in (await keeper.run(claims.claim, wish)).letters]


async def put(keeper: Keeper, *reasons: Reason) -> list[tuple[object, ...]]:
    """Put Bob on the list for these reasons, one after the other; return what the list then says."""
    for number, reason in enumerate(reasons):
        listed = Suppression(BOB, reason, float(number), reason)
        if reason is REFUSED:
            await keeper.run(_note_refused, listed)
        else:
            await keeper.run(suppressions.suppress, listed)
    return await rows(keeper, "SELECT reason, since, note FROM suppressions WHERE mailbox = ?", BOB)


def _note_refused(connection: Any, items: Sequence[Suppression]) -> list[None]:
    suppressions.note_refused(connection, items)
    return [None] * len(items)


@pytest.mark.parametrize(
    ("reasons", "stands"),
    [
        ((REFUSED, REFUSED), 0),
        ((REFUSED, LISTED), 1),
        ((REFUSED, ASKED), 1),
        ((LISTED, REFUSED), 0),
        ((LISTED, LISTED), 0),
        ((LISTED, ASKED), 1),
        ((ASKED, REFUSED), 0),
        ((ASKED, LISTED), 0),
        ((ASKED, ASKED), 0),
    ],
)
async def test_what_a_person_asked_for_stands_before_all_else_and_since_the_first_time(
    tmp_path: Path, reasons: tuple[Reason, ...], stands: int
) -> None:
    async with keeping(tmp_path) as keeper:
        assert await put(keeper, *reasons) == [(reasons[stands], float(stands), reasons[stands])]


async def test_who_asks_is_listed_and_what_waits_is_called_off_in_every_form_and_every_way_of_writing(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path) as keeper:
        asker = await keep(keeper, to_ada(), to_bob(BOB))
        await keep(keeper, to_bob("BOB+x@Example.net"), form="another")
        await keep(keeper, to_bob("carol@example.net"))
        assert await keeper.run(suppressions.ask, Asking(asker, 50.0)) == Addressee("en", has_asked=True)
        found = await rows(keeper, "SELECT recipient, state, note, settled_at FROM deliveries ORDER BY id")
        called_off = ("cancelled", "this address asked never to be written to again", 50.0)
        assert [(row[0], row[1]) for row in found if row[1] != "cancelled"] == [
            ("ada@example.org", "waiting"),
            ("carol@example.net", "waiting"),
        ]
        assert [row[1:] for row in found if row[1] == "cancelled"] == [called_off, called_off]
        assert await keeper.run(suppressions.ask, Asking(asker, 60.0)) == Addressee("en", has_asked=True)
        assert await rows(keeper, "SELECT mailbox, since FROM suppressions") == [(BOB, 50.0)]


async def test_a_letter_on_the_wire_counts_as_sent_if_it_was_and_is_not_sent_again_otherwise(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        for name in ("bob", "bob+1"):
            await keep(keeper, to_bob(f"{name}@example.net"), at=1.0, form=name)
        sent, deferred = (await keeper.run(claims.claim, Wish(WAY, 9, 2.0, 30.0, None))).letters
        await keeper.run(suppressions.suppress, Suppression(BOB, LISTED, 3.0))
        for claimed, state in ((sent, State.SENT), (deferred, State.WAITING)):
            outcome = replace(claimed.delivery, state=state, note=state)
            await keeper.run(claims.settle, Settlement(outcome, claimed.claim, 4.0))
        assert await rows(keeper, "SELECT state FROM deliveries ORDER BY id") == [("sent",), ("cancelled",)]
        assert await claim(keeper, at=1_000.0) == []


async def test_of_an_erased_message_nobody_is_known(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        assert await keeper.run(suppressions.ask, Asking("AAAA-BBBB-CCCC", 1.0)) is None
        owners_only = await keep(keeper, to_ada())
        assert await keeper.run(suppressions.ask, Asking(owners_only, 1.0)) is None
        assert await rows(keeper, "SELECT * FROM suppressions") == []


async def test_who_is_taken_off_the_list_gets_confirmations_again(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        listed = Suppression(BOB, LISTED, 1.0, "by hand")
        await keeper.run(suppressions.suppress, listed)
        assert await keeper.run(suppressions.release, BOB) == listed
        assert await keeper.run(suppressions.release, BOB) is None
        await keep(keeper, to_bob(BOB), at=1.0)
        assert await claim(keeper, at=2.0) == [BOB]


async def test_the_list_shows_the_newest_first(tmp_path: Path) -> None:
    def found(connection: Any, items: Sequence[int]) -> list[list[str]]:
        return [[one.mailbox for one in suppressions.find(connection, limit=limit)] for limit in items]

    async with keeping(tmp_path) as keeper:
        for number, name in enumerate(("bob", "carol", "dave")):
            await keeper.run(suppressions.suppress, Suppression(f"{name}@x.example", LISTED, float(number)))
        assert await keeper.run(found, 2) == ["dave@x.example", "carol@x.example"]


async def test_a_confirmation_that_is_released_after_its_reader_asked_for_none_is_called_off_at_its_claim(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path) as keeper:
        await keep(keeper, NewDelivery(Purpose.CONFIRMATION, BOB, BOB, WAY, State.HELD), at=1.0)
        await keeper.run(suppressions.suppress, Suppression(BOB, ASKED, 2.0))
        assert await rows(keeper, "SELECT state FROM deliveries") == [("held",)]
        await rows(keeper, "UPDATE deliveries SET state = 'waiting'")
        assert await claim(keeper, at=3.0) == []
        assert await rows(keeper, "SELECT state FROM deliveries") == [("cancelled",)]


async def test_the_network_of_a_confirmation_is_counted_within_one_claim_and_across_claims(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keeper:
        for number in range(8):
            address = f"bob-{number}@example.net"
            kept = replace(message(at=float(number)), client="mallory" if number % 2 else "bob")
            letter = NewDelivery(Purpose.CONFIRMATION, address, fold(address), WAY)
            await keeper.run(submissions.keep, Kept(kept, (letter,)))
        gone = [await claim(keeper, at=10.0 + number, limit=3, per_client=2) for number in range(3)]
        assert [[address[4] for address in one] for one in gone] == [["0", "1", "2"], ["3"], []]
        assert await rows(keeper, "SELECT client, count(*) FROM confirmations GROUP BY client ORDER BY client") == [
            ("bob", 2),
            ("mallory", 2),
        ]
        assert await rows(keeper, "SELECT DISTINCT note FROM deliveries WHERE state = 'cancelled'") == [
            ("its visitor's network had 2 confirmations within the hour",)
        ]
