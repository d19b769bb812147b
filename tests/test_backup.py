"""What a backup holds of a store and what becomes of it in another: SQLite or PostgreSQL, from either into either."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pillarbox import archiving
from pillarbox.archiving import Origin, Unusable
from pillarbox.core.errors import NotKept
from pillarbox.core.submission import Answer, Submission
from pillarbox.store import archive, submissions
from pillarbox.store.archive import NotEmpty, Restored
from pillarbox.store.engine import Store, reason
from pillarbox.store.engine import open_store as open_url
from pillarbox.store.submissions import Kept
from pillarbox.store.tables import metadata
from tests.backups import NOW, ORIGIN, ask, back_up, change, fill, keep, keep_many, restore
from tests.house import open_store, to_bob


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Store]:
    """An empty SQLite store to make backups of."""
    (tmp_path / "source").mkdir()
    store = open_store(tmp_path / "source")
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store to restore into."""
    url = f"sqlite:///{tmp_path}/target.db"
    store = open_url(url if request.param == "sqlite" else request.getfixturevalue("empty_postgresql"))
    yield store
    store.close()


def test_all_that_is_kept_goes_from_one_database_into_the_other_and_back(
    source: Store, target: Store, tmp_path: Path
) -> None:
    fill(source)
    made = back_up(source, tmp_path / "a.zip")
    assert set(made.parts) == set(metadata.tables) - {"pulse", "arrivals"}
    assert all(part.rows for part in made.parts.values())
    assert restore(target, tmp_path / "a.zip") == Restored(messages=4, letters=8, waiting=6)
    assert back_up(target, tmp_path / "b.zip").parts == made.parts
    (tmp_path / "back").mkdir()
    back = open_store(tmp_path / "back")
    restore(back, tmp_path / "b.zip")
    assert back_up(back, tmp_path / "c.zip").parts == made.parts


def test_it_is_no_matter_how_a_database_sorts_words(source: Store, empty_postgresql: str, tmp_path: Path) -> None:
    values = "('Zoe@x', 'asked', 1, ''), ('ada@x', 'asked', 1, ''), ('Äda@x', 'asked', 1, '')"
    change(source, f"INSERT INTO suppressions (mailbox, reason, since, note) VALUES {values}")
    made = back_up(source, tmp_path / "a.zip")
    target = open_url(empty_postgresql)
    sort_by = "ALTER TABLE suppressions ALTER COLUMN mailbox TYPE text COLLATE"
    change(target, f'{sort_by} "en-x-icu"')
    try:
        restore(target, tmp_path / "a.zip")
        assert back_up(target, tmp_path / "b.zip").parts == made.parts
    finally:
        change(target, f'{sort_by} "default"')
        target.close()


def test_what_is_kept_after_a_restore_has_numbers_of_its_own(source: Store, target: Store, tmp_path: Path) -> None:
    fill(source)
    back_up(source, tmp_path / "a.zip")
    restore(target, tmp_path / "a.zip")
    keep(target)
    change(
        target,
        "INSERT INTO attempts (delivery_id, way, begun_at, seconds, outcome, note) VALUES (9, 'w', 1, 1, '', '')",
    )
    assert ask(target, "SELECT max(id), count(*) FROM deliveries") == [(10, 10)]
    assert ask(target, "SELECT max(id), count(*) FROM attempts") == [(2, 2)]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXTS, TEXTS, st.floats(allow_nan=False, allow_infinity=False)), min_size=2, max_size=5))
def test_whatever_visitors_write_comes_back_as_it_was(
    source: Store, empty_postgresql: str, tmp_path: Path, written: list[tuple[str, str, float]]
) -> None:
    target = open_url(empty_postgresql)
    wipe(source)
    wipe(target)
    with source.writing() as connection:
        for number, (word, other, at) in enumerate(written):
            kept = Submission(f"{word}{number}", other, at, "en", (Answer(word, other, (word, other)),))
            submissions.keep(connection, [Kept(kept, (to_bob(f"{other}@x"),))])
    made = back_up(source, tmp_path / "a.zip")
    restore(target, tmp_path / "a.zip")
    assert back_up(target, tmp_path / "b.zip").parts == made.parts
    question = "SELECT id, form, received_at, answers, client FROM submissions"
    assert sorted(ask(target, question)) == sorted(ask(source, question))
    target.close()


def wipe(store: Store) -> None:
    """Empty a store."""
    change(store, *(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)))


def test_a_backup_is_of_one_moment_while_messages_go_on_coming(target: Store, tmp_path: Path) -> None:
    archive.upgrade(target)
    kept = keep_many(target, 600)
    later: list[str] = []
    made = back_up(target, tmp_path / "a.zip", advance=lambda _rows: later.append(keep(target)))
    assert len(later) >= 6  # one while each portion was in hand
    with archiving.opened(tmp_path / "a.zip") as opened:
        messages = {row[0] for rows in opened.rows("submissions") for row in rows}
        letters = [row for rows in opened.rows("deliveries") for row in rows]
        whose = made.parts["deliveries"].columns.index("submission_id")
    assert messages == kept
    assert {row[whose] for row in letters} == kept
    assert len(letters) == 1_200


def test_nobody_is_cut_off_after_ten_seconds_because_a_disk_stalls(empty_postgresql: str, tmp_path: Path) -> None:
    store = open_url(empty_postgresql)
    fill(store)
    bounds = []
    with archiving.writing(tmp_path / "a.zip") as writer, store.reading() as connection:

        def look(_rows: int) -> None:
            bounds.append(connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar())

        archive.dump(connection, archive.find_contents(connection), writer, advance=look)
        writer.finish(ORIGIN)
    assert set(bounds) == {"10min"}
    store.close()


def test_letters_that_waited_can_be_called_off_and_no_other_is(source: Store, target: Store, tmp_path: Path) -> None:
    fill(source)
    back_up(source, tmp_path / "a.zip")
    assert restore(target, tmp_path / "a.zip", waits=False).waiting == 6
    states = dict(ask(target, "SELECT id, state FROM deliveries"))
    assert {state: [i for i in sorted(states) if states[i] == state] for state in set(states.values())} == {
        "sent": [1],
        "held": [3],
        "cancelled": [2, 4, 5, 6, 7, 8],
    }
    called_off = "SELECT DISTINCT note, settled_at, digest_id FROM deliveries WHERE state = 'cancelled'"
    assert ask(target, called_off) == [(archive.CALLED_OFF, NOW, None)]


def test_a_store_with_messages_is_left_as_it_is(source: Store, target: Store, tmp_path: Path) -> None:
    fill(source)
    back_up(source, tmp_path / "a.zip")
    archive.upgrade(target)
    change(target, "INSERT INTO suppressions (mailbox, reason, since, note) VALUES ('y@y', 'asked', 1, '')")
    with pytest.raises(NotEmpty):
        restore(target, tmp_path / "a.zip")
    assert ask(target, "SELECT mailbox FROM suppressions") == [("y@y",)]
    assert ask(target, "SELECT count(*) FROM submissions") == [(0,)]


def test_what_a_start_without_messages_left_gives_way(source: Store, target: Store, tmp_path: Path) -> None:
    fill(source)
    made = back_up(source, tmp_path / "a.zip")
    archive.upgrade(target)
    change(
        target,
        "INSERT INTO ways (name, note) VALUES ('w', ''), ('other', '')",
        "INSERT INTO counts (name, labels, value) VALUES ('n', '[]', 7)",
        "INSERT INTO alarms (key, kind, subject, note, opened_at, told, tell_at) VALUES ('b', 'k', 's', 'n', 1, 1, 2)",
    )
    restore(target, tmp_path / "a.zip")
    assert back_up(target, tmp_path / "b.zip").parts == made.parts


def test_a_database_that_keeps_something_else_than_it_was_given_is_found_out(
    source: Store, target: Store, tmp_path: Path
) -> None:
    fill(source)
    back_up(source, tmp_path / "a.zip")
    archive.upgrade(target)
    change(target, *(LOSES_THE_NOTE if target.is_shared else LOSES_THE_NOTE_IN_SQLITE))
    with pytest.raises(Unusable, match="What was read back of attempts"):
        restore(target, tmp_path / "a.zip")
    if target.is_shared:
        change(target, "DROP TRIGGER loses ON attempts")
    assert ask(target, "SELECT count(*) FROM submissions") == [(0,)]


LOSES_THE_NOTE_IN_SQLITE = [
    "CREATE TRIGGER loses AFTER INSERT ON attempts BEGIN UPDATE attempts SET note = '?' WHERE id = new.id; END"
]
LOSES_THE_NOTE = [
    "CREATE OR REPLACE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.note = '?'; RETURN NEW; END$$",
    "CREATE TRIGGER loses BEFORE INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION lose()",
]


def test_what_postgresql_can_not_hold_is_said_and_nothing_of_the_rest_is_kept(
    source: Store, empty_postgresql: str, tmp_path: Path
) -> None:
    fill(source)
    change(source, "UPDATE attempts SET note = 'a' || char(0)")
    back_up(source, tmp_path / "a.zip")
    store = open_url(empty_postgresql)
    with pytest.raises(NotKept) as refused:
        restore(store, tmp_path / "a.zip")
    assert "NUL" in reason(refused.value)
    assert ask(store, "SELECT count(*) FROM submissions") == [(0,)]
    store.close()


def test_a_damaged_cell_keeps_no_other_from_being_backed_up(source: Store, tmp_path: Path) -> None:
    fill(source)
    change(source, "UPDATE attempts SET note = x'ff41'", "UPDATE submissions SET answers = CAST(x'ff42' AS text)")
    back_up(source, tmp_path / "a.zip")
    target = open_url(f"sqlite:///{tmp_path}/target.db")
    restore(target, tmp_path / "a.zip")
    assert ask(target, "SELECT note FROM attempts") == [("\ufffdA",)]
    assert ask(target, "SELECT DISTINCT answers FROM submissions") == [("\ufffdB",)]


def to_revision(store: Store, revision: str) -> None:
    """Give an empty store the schema of an older version."""
    config = Config()
    config.set_main_option("script_location", "pillarbox.store:migrations")
    with store.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_a_backup_of_an_older_schema_is_restored_into_this_one(target: Store, tmp_path: Path) -> None:
    older = open_url(f"sqlite:///{tmp_path}/older.db")
    to_revision(older, "0001")
    change(
        older,
        "INSERT INTO submissions VALUES ('7K3M-9QXP-2AFD', 'contact', 1e9, 'en', '[]', '[]')",
        "INSERT INTO ways VALUES ('default', NULL, '')",
    )
    made = back_up(older, tmp_path / "a.zip")
    assert set(made.parts) == {"submissions", "deliveries", "confirmations", "ways"}
    restore(target, tmp_path / "a.zip")
    assert ask(target, "SELECT id, client, judgement FROM submissions") == [("7K3M-9QXP-2AFD", None, None)]
    assert ask(target, "SELECT probes, by_letter FROM ways") == [(0, 0)]


@pytest.mark.parametrize("what", ["revision", "table", "column"])
def test_a_backup_of_a_newer_schema_does_not_fit(tmp_path: Path, what: str) -> None:
    with archiving.writing(tmp_path / "a.zip") as writer:
        writer.add("moods" if what == "table" else "ways", ("name", "mood") if what == "column" else ("name",), [])
        writer.finish(Origin(ORIGIN.made_at, "7.0", "9999" if what == "revision" else "0004"))
    with archiving.opened(tmp_path / "a.zip") as opened:
        assert not archive.fits(opened)
