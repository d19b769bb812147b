"""What only PostgreSQL has: several at once, its own clock, its locks, its word on what is durable."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, TextClause
from sqlalchemy.dialects import postgresql as words
from sqlalchemy.exc import DBAPIError
from tests.house import ELSEWHERE, WAY, keeping, message, to_ada, until
from tests.servers.postgresql import Postgresql, fast_clock
from tests.store.several import HOUR, NOW, ask, at_once, claim, keep, wish

import pillarbox.store
from pillarbox.core.errors import NotKept
from pillarbox.core.once import Key
from pillarbox.store import claims, clocks, deliveries, migrating, postgresql, submissions
from pillarbox.store.engine import Store, is_passing, open_store, reason
from pillarbox.store.keeper import Keeper
from pillarbox.store.migrating import Schema
from pillarbox.store.statements import CHANNEL, CLAIMING, Statement, hold
from pillarbox.store.submissions import Kept
from pillarbox.store.tables import metadata

pytestmark = pytest.mark.anyio


@pytest.fixture
async def two_keepers(empty_postgresql: str) -> Any:
    """Two processes that write, as far as PostgreSQL can tell."""
    stores = [open_store(empty_postgresql) for _ in range(2)]
    keepers = [Keeper(one) for one in stores]
    for one in keepers:
        one.start()
    yield keepers
    for one in keepers:
        await one.close()
    for made in stores:
        made.close()


def _statements() -> Iterator[tuple[str, TextClause]]:
    """Yield every statement that is written out in our rooms, with its name."""
    for module in iter_modules(pillarbox.store.__path__, "pillarbox.store."):
        for name, found in vars(import_module(module.name)).items():
            for one in found if isinstance(found, tuple) else (found,):
                if isinstance(one, Statement | TextClause):
                    yield f"{module.name}.{name}", one._postgresql if isinstance(one, Statement) else one


def test_every_statement_is_one_that_postgresql_understands(empty_postgresql: str) -> None:
    understood, refused = [], {}
    with psycopg.connect(empty_postgresql, autocommit=True) as connection:
        for name, statement in _statements():
            values = {name: ["x"] if one.expanding else None for name, one in statement._bindparams.items()}
            said = statement.bindparams(**values).compile(
                dialect=words.dialect(paramstyle="numeric_dollar"), compile_kwargs={"render_postcompile": True}
            )
            if str(said).split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
                try:
                    connection.execute(f"PREPARE said AS {said}; DEALLOCATE said".encode())
                    understood.append(name)
                except psycopg.Error as error:
                    refused[name] = error
    assert refused == {}
    assert len(understood) > 60


def test_the_tables_their_indexes_and_the_migrations_tell_the_same_schema(shared: Store) -> None:
    question = (
        "SELECT indexname, replace(indexdef, 'fresh.', 'public.') FROM pg_indexes WHERE schemaname = '{}' ORDER BY 1"
    )
    with shared.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differences = [str(one) for one in compare_metadata(context, metadata)]
        assert [one for one in differences if "comment" not in one] == []
        migrated = list(connection.exec_driver_sql(question.format("public")))
        connection.exec_driver_sql("CREATE SCHEMA fresh; SET LOCAL search_path = fresh")
        metadata.create_all(connection)
        fresh = list(connection.exec_driver_sql(question.format("fresh")))
        connection.rollback()
    assert fresh == [row for row in migrated if row[0] != "alembic_version_pkc"]


def test_of_ten_that_start_at_once_one_migrates_and_a_newer_schema_is_used_as_far_as_it_is_known(
    postgresql: Postgresql,
) -> None:
    url = postgresql.create()

    def start(_: int) -> Schema:
        with closing(open_store(url)) as store:
            return migrating.upgrade(store)

    stood = at_once(10, start)
    assert stood.count(Schema.BEHIND) == 1
    assert stood.count(Schema.CURRENT) == 9
    with closing(open_store(url)) as store:
        assert migrating.standing(store) is Schema.CURRENT
        with store.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
            connection.exec_driver_sql("ALTER TABLE submissions ADD COLUMN mood text")
            connection.exec_driver_sql("ALTER TABLE deliveries ADD COLUMN stamp bigint NOT NULL DEFAULT 7")
        assert migrating.upgrade(store) is Schema.NEWER
        keep(store, 3)
        assert claim(store, wish()) == [1, 2, 3]
        with store.reading() as connection:
            assert [one.value("name") for one in submissions.find_newest(connection, limit=5)] == ["Bob"] * 3


def test_a_migration_that_breaks_off_leaves_the_database_as_it_was(postgresql: Postgresql) -> None:
    with closing(open_store(postgresql.create())) as store:
        with store.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE ways (in_the_way text)")
        with pytest.raises(NotKept) as refused:
            migrating.upgrade(store)
        assert reason(refused.value) == 'relation "ways" already exists'
        assert ask(store, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("ways",)]
        assert migrating.standing(store) is Schema.BEHIND


@pytest.mark.parametrize(
    ("meant", "holds"), [("off", "on"), ("local", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
)
def test_what_is_thanked_for_is_on_disk_though_the_server_is_told_not_to_wait(
    empty_postgresql: str, meant: str, holds: str
) -> None:
    with closing(open_store(f"{empty_postgresql}?options=-csynchronous_commit%3D{meant}")) as store:
        with store.writing() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == holds
            raw = connection.connection.driver_connection
        assert raw.execute("SHOW synchronous_commit").fetchone() == (meant,)  # nothing outlives the transaction


async def test_one_message_to_the_others_for_each_batch(empty_postgresql: str, tmp_path: Path) -> None:
    ELSEWHERE[tmp_path] = empty_postgresql
    with psycopg.connect(empty_postgresql, autocommit=True) as ear:
        ear.execute(f"LISTEN {CHANNEL}")
        async with keeping(tmp_path) as keeper:
            batch = [keeper.run(submissions.keep, Kept(message(), (to_ada(),)), size=1) for _ in range(64)]
            await asyncio.gather(*batch)
        ear.execute(f"NOTIFY {CHANNEL}, 'the end'")
        heard: list[str] = []
        for one in ear.notifies(timeout=20):
            heard.append(one.payload)
            if one.payload:
                break
    assert heard in (["", "the end"], ["", "", "the end"])  # the first to come may have been alone in its batch


async def test_two_that_are_in_each_others_way_are_tried_again_and_both_are_written(
    two_keepers: list[Keeper], shared: Store
) -> None:
    keep(shared, 2)
    gate, met = threading.Barrier(2), threading.local()

    def touch(connection: Connection, items: Sequence[tuple[int, int]]) -> Sequence[None]:
        connection.exec_driver_sql("SET LOCAL deadlock_timeout = '10ms'")
        for first, then in items:
            connection.exec_driver_sql(f"UPDATE deliveries SET attempts = attempts + 1 WHERE id = {first}")
            if not getattr(met, "already", False):
                met.already = True
                gate.wait(20)
            connection.exec_driver_sql(f"UPDATE deliveries SET attempts = attempts + 1 WHERE id = {then}")
        return [None] * len(items)

    await asyncio.gather(two_keepers[0].run(touch, (1, 2)), two_keepers[1].run(touch, (2, 1)))
    assert ask(shared, "SELECT attempts FROM deliveries") == [(2,), (2,)]
    met = threading.local()
    at_once(2, lambda which: deliveries.change(shared, touch, ((1, 2), (2, 1))[which]))
    assert ask(shared, "SELECT attempts FROM deliveries") == [(4,), (4,)]


async def test_what_cannot_be_kept_fails_alone_among_sixty_four(shared: Store) -> None:
    keeper = Keeper(shared)
    honest = [message(number) for number in range(60)]
    taken = message(identifier=honest[7].id)
    poisons = [replace(message(), language=words) for words in ("e\0n", "\udcff")]
    too_old = Kept(message(), (replace(to_ada(), recipient="nul\0@example.org"),))
    together = [Kept(one, (to_ada(),)) for one in (*honest[:30], poisons[0], *honest[30:], taken, poisons[1])]
    jobs = [asyncio.ensure_future(keeper.run(submissions.keep, one, size=1)) for one in (*together, too_old)]
    await asyncio.sleep(0)
    keeper.start()
    told = await asyncio.gather(*jobs, return_exceptions=True)
    await keeper.close()
    assert [
        one.submission.id if isinstance(found, NotKept) else None for one, found in zip(together, told, strict=False)
    ]
    assert sum(isinstance(one, NotKept) for one in told) == 4
    assert {one.id for one in honest} == {one for one in told if isinstance(one, str)}
    assert ask(shared, "SELECT count(*) FROM submissions") == [(60,)]


async def test_who_waits_for_another_in_vain_makes_nobody_else_of_the_batch_wait(shared: Store) -> None:
    def hurry(connection: Connection, items: Sequence[None]) -> Sequence[None]:
        connection.exec_driver_sql("SET LOCAL lock_timeout = 20")
        return items

    key = Key("the same", "fields", NOW + HOUR)
    first, honest, copy = (Kept(message(at=NOW), (to_ada(),), key if number != 1 else None) for number in range(3))
    keeper = Keeper(shared)
    with shared.writing() as stopped:
        submissions.keep(stopped, [first])
        jobs = [(hurry, None), (submissions.keep, honest), (submissions.keep, copy)]
        asked = [asyncio.ensure_future(keeper.run(function, item)) for function, item in jobs]
        await asyncio.sleep(0)
        keeper.start()
        await until(lambda: ask(shared, "SELECT id FROM submissions") == [(honest.submission.id,)])
    assert (await asyncio.gather(*asked))[1:] == [honest.submission.id, first.submission.id]
    await keeper.close()


def test_who_is_stopped_in_the_middle_of_a_transaction_loses_its_locks(shared: Store) -> None:
    keep(shared, 1)
    with pytest.raises(DBAPIError) as broken_off, shared.writing() as connection:  # noqa: PT012
        bound = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one()
        hold(connection, CLAIMING)
        connection.exec_driver_sql("UPDATE deliveries SET note = 'never written'")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 20")
        assert claim(shared, wish()) == [1]
    assert is_passing(broken_off.value)  # nothing of it is written: the keeper tries it again
    assert bound == "10s"
    assert ask(shared, "SHOW idle_in_transaction_session_timeout") == [("10min",)]  # who only looks is in nobody's way
    assert ask(shared, "SELECT note FROM deliveries") == [("",)]


@pytest.fixture
def another_hour(empty_postgresql: str) -> Iterator[Callable[..., str]]:
    """Make the server's clock so many hours fast; gives an address under which it is."""
    with fast_clock(empty_postgresql) as fast:
        yield fast


def test_the_stores_clock_is_the_servers_and_is_looked_at_again(
    another_hour: Callable[..., str], empty_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store(another_hour(1))) as store:
        assert _hours_ahead(store) == 1
        another_hour(5)
        keep(store, 1)
        assert _hours_ahead(store) == 1  # a look costs a round trip: not at each transaction
        with psycopg.connect(empty_postgresql, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'pillarbox'"
            )
        keep(store, 1)
        assert _hours_ahead(store) == 5  # another connection may lead to another server
        monkeypatch.setattr(postgresql, "LOOK_AT_THE_CLOCK_EVERY", 0.0)
    with closing(open_store(another_hour(1))) as store:
        another_hour(-5)
        keep(store, 1)
        assert _hours_ahead(store) == -5
        monkeypatch.setattr(clocks, "GOES_ON", 0)  # the machine slept, for as long as there is a time of day
        assert _hours_ahead(store) > 24 * 365


def test_a_look_at_the_servers_clock_that_took_long_does_not_count_where_there_was_one_before(
    another_hour: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "LOOK_AT_THE_CLOCK_EVERY", 0.0)
    monkeypatch.setattr(postgresql, "A_LONG_LOOK", 0.05)
    with closing(open_store(another_hour(1, slow=0.06))) as store:
        assert _hours_ahead(store) == 1
        another_hour(5, slow=0.06)
        store.engine.dispose()  # the next connection will look
        keep(store, 1)
        assert _hours_ahead(store) == 1


def _hours_ahead(store: Store) -> int:
    return round((store.clock() - time.time()) / HOUR)


def test_days_are_counted_in_utc_wherever_the_server_stands(empty_postgresql: str) -> None:
    with closing(open_store(f"{empty_postgresql}?options=-cTimeZone%3DPacific/Auckland")) as store:
        keep(store, 1)
        with store.reading() as connection:
            assert submissions.count_by_day(connection, since=0.0) == [("2030-03-17", "accepted", 1)]


def test_a_claim_goes_by_the_index_of_what_is_due_however_much_waits(shared: Store) -> None:
    keep(shared, 1)
    crowd = """
        INSERT INTO deliveries (submission_id, form, purpose, recipient, mailbox, way, state, created_at, due_at,
                                attempts, claim, unanswered, note)
        SELECT (SELECT id FROM submissions), 'contact',
               CASE WHEN i %% 2 = 0 THEN 'notification' ELSE 'confirmation' END,
               'a', 'a', 'default', CASE WHEN i %% 4 < 2 THEN 'waiting' ELSE 'sent' END, i, i, 0, 0, 0, ''
        FROM generate_series(1, 20000) AS i
    """
    values = {"way": WAY, "now": NOW, "limit": 64, "room": 64, "suspects": 1}
    with shared.engine.connect() as connection:
        connection.exec_driver_sql(crowd)
        connection.exec_driver_sql("ANALYZE deliveries; SET LOCAL plan_cache_mode = force_generic_plan")
        made = claims._DUE._postgresql.compile(dialect=words.dialect(paramstyle="numeric_dollar"))
        connection.exec_driver_sql(f"PREPARE due (text, float8, int, int, int) AS {made}")
        given = ", ".join(repr(values[name]) for name in made.positiontup)
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN EXECUTE due ({given})").scalars())
        connection.exec_driver_sql("DEALLOCATE due")
        connection.rollback()
    assert plan.count("Index Scan using deliveries_due on deliveries") == 2, plan
    assert "deliveries_unanswered" in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "$" in plan, plan  # a plan for any values, as a server keeps it
