"""A message is kept once, however many copies of it come, and whatever becomes of each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillarbox.core.errors import KeyReused, NotKept
from pillarbox.core.form import CONTACT_FIELDS, Form, Owners
from pillarbox.core.once import A_MOMENT, WEEK
from pillarbox.core.quota import Rate
from pillarbox.core.submission import Incoming
from pillarbox.intake import Intake
from pillarbox.store import submissions
from pillarbox.store.keeper import Keeper
from pillarbox.store.submissions import Kept
from pillarbox.web.limits import Flood
from tests.house import keeping, on_both, rows

pytestmark = [pytest.mark.anyio, on_both]

ADAS_FORM = Form("contact", CONTACT_FIELDS, Owners(("ada@example.org",)), "forms@example.org", "Ada's Bookshop")
CHARLIES_FORM = replace(ADAS_FORM, slug="charlie")
NOW = 1_790_000_000.0


class House:
    """An intake that keeps in a real store, which may be away."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.is_away = False
        self.flood = Flood(Rate(3, 3_600.0), None)
        self.intake = Intake(self._keep, flood=self.flood)

    async def _keep(self, kept: Kept) -> str | None:
        if self.is_away:
            raise NotKept
        return await self.keeper.run(submissions.keep, kept, size=1)

    async def accept(
        self, text: str = "Hello", *, key: str = "", at: float = NOW, form: Form = ADAS_FORM, **how: Any
    ) -> str:
        """Accept what Bob writes and return the id of the message that it is."""
        fields = {"name": ("Bob",), "email": ("bob@example.org",), "message": (text,)}
        incoming = Incoming(fields, how.pop("client", "here"), "en", key, **how)
        return (await self.intake.accept(incoming, form, now=at)).id

    async def kept(self) -> list[tuple[Any, ...]]:
        """Return each message's reasons to be held, and how many letters it has."""
        return await rows(
            self.keeper,
            "SELECT held_for, count(*) FROM submissions JOIN deliveries ON submission_id = submissions.id "
            "GROUP BY submissions.id, held_for ORDER BY held_for",
        )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as made:
        yield made


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[House]:
    async with keeping(folder) as keeper:
        yield House(keeper)


@pytest.mark.parametrize("how", [{"key": "k"}, {"page": "p"}, {}], ids=["a key", "a page", "nothing"])
async def test_copies_that_come_at_once_are_one_message(house, how):
    found = await asyncio.gather(*(house.accept(**how) for _ in range(20)))
    assert len(set(found)) == 1
    assert await house.kept() == [("[]", 2)]


async def test_of_two_messages_under_one_key_in_one_batch_the_first_is_kept_and_the_other_refused(house):
    found = await asyncio.gather(
        house.accept("one", key="k"), house.accept("two", key="k"), house.accept("one", key="k"), return_exceptions=True
    )
    assert isinstance(found[1], KeyReused)
    assert found[0] == found[2] != found[1]
    assert len(await house.kept()) == 1


async def test_each_form_has_keys_of_its_own(house):
    assert await house.accept(key="k") != await house.accept(key="k", form=CHARLIES_FORM)
    with pytest.raises(KeyReused):
        await house.accept("other", key="k")


@pytest.mark.parametrize(
    ("how", "seconds"), [({"key": "k"}, WEEK), ({"page": "p"}, WEEK), ({}, A_MOMENT)], ids=["a key", "a page", "none"]
)
async def test_what_was_given_stands_for_its_message_until_its_time_is_over_and_then_for_the_next(house, how, seconds):
    first = await house.accept(**how)
    assert await house.accept(**how, at=NOW + seconds - 1) == first
    second = await house.accept(**how, at=NOW + seconds)
    assert second != first
    assert await house.accept(**how, at=NOW + seconds + 1) == second


async def test_a_key_outlives_the_process_that_took_it(tmp_path):
    async with opened(tmp_path) as house:
        first = await house.accept(key="k")
    async with opened(tmp_path) as house:
        assert await house.accept(key="k") == first
        with pytest.raises(KeyReused):
            await house.accept("other", key="k")


async def test_what_could_not_be_kept_uses_no_key_up(house):
    house.is_away = True
    with pytest.raises(NotKept):
        await house.accept("one", key="k")
    house.is_away = False
    assert await house.accept("other", key="k")


async def test_only_new_messages_count_towards_a_flood(house):
    first = await house.accept("one", key="k")
    for _ in range(5):
        assert await house.accept("one", key="k") == first
        with pytest.raises(KeyReused):
            await house.accept("another", key="k")
    house.is_away = True
    for _ in range(5):
        with pytest.raises(NotKept):
            await house.accept("two")
    house.is_away = False
    for text in ("two", "three", "four"):
        await house.accept(text)
    assert [held_for for held_for, _ in await house.kept()] == ['["flood"]', "[]", "[]", "[]"]
    await house.accept("four")  # held once, and its repeat takes nothing back
    await house.accept("five")
    assert [held_for for held_for, _ in await house.kept()] == ['["flood"]'] * 2 + ["[]"] * 3
