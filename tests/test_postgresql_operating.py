"""PostgreSQL as an operator meets it: what is wrong is said in plain words, and every command works."""

import asyncio
import json
import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from pillarbox.app import assemble
from pillarbox.cli import commands
from pillarbox.core.database_words import what_to_do
from pillarbox.core.delivery import State
from pillarbox.settings import Settings, WrongSettings
from pillarbox.store import archive, condition, engine
from pillarbox.store.postgresql import unfit
from pillarbox.store.submissions import Kept
from tests.backups import back_up, fill, restore
from tests.house import ADA, message, open_store, to_ada, to_bob
from tests.running import until
from tests.servers.certificates import make_certificates
from tests.servers.pgbouncer import running_pgbouncer
from tests.servers.postgresql import UNSAFE, Postgresql, running_postgresql

PASSWORD = "se@cr/et%"
WRITTEN = "se%40cr%2Fet%25"
KEY = "k" * 64
ROLES = f"""
    CREATE ROLE forms LOGIN PASSWORD '{PASSWORD}';
    CREATE ROLE banned LOGIN PASSWORD '{PASSWORD}';
    CREATE ROLE sleeping PASSWORD '{PASSWORD}';
    CREATE ROLE crowded LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0
"""
RULES = """
    host all pillarbox 127.0.0.1/32 trust
    host all banned 127.0.0.1/32 reject
    host all all 127.0.0.1/32 scram-sha-256
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A server that asks everybody but its superuser for a password."""
    with running_postgresql(**UNSAFE) as running:
        (running.home / "data/pg_hba.conf").write_text(RULES)
        do(running.url(), *ROLES.split(";"), "SELECT pg_reload_conf()")
        yield running


def do(url: str, *statements: str) -> None:
    """Do something to a server past Pillarbox."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def owned(server: Postgresql) -> str:
    """Return the address of a new database that belongs to the role `forms`."""
    url = server.create()
    do(server.url(), f"ALTER DATABASE {url.rpartition('/')[2]} OWNER TO forms")
    return url.replace("pillarbox@", f"forms:{WRITTEN}@")


def complaint(url: str, **others: Any) -> str:
    """Return the one sentence that a start with this address ends with."""
    with pytest.raises(WrongSettings) as told:
        assemble(Settings(database_url=url, secret_key=KEY, **others))
    (sentence,) = told.value.sentences
    assert "\n" not in sentence
    said = "".join(traceback.format_exception(told.value))
    assert not any(part in said for part in (PASSWORD, WRITTEN, "se@cr", "mistyped"))
    return sentence


LOGINS = {
    "a wrong password": ("forms:mistyped", "password authentication failed", "Mend user and password"),
    "no password": ("forms", "no password supplied", "Mend user and password"),
    "an unknown role": ("nobody:mistyped", "password authentication failed", "Mend user and password"),
    "a role that may not log in": (f"sleeping:{WRITTEN}", "not permitted to log in", "CREATE ROLE"),
    "a machine that is kept out": (f"banned:{WRITTEN}", "pg_hba.conf rejects", "sslmode=require"),
    "a role with all its connections in use": (f"crowded:{WRITTEN}", "too many connections", "PgBouncer"),
}


@pytest.mark.parametrize("who", LOGINS)
def test_who_is_not_let_in_is_told_why_and_what_to_do_without_the_password(server: Postgresql, who: str) -> None:
    login, why, do_this = LOGINS[who]
    told = complaint(server.url().replace("pillarbox@", f"{login}@"))
    assert told.startswith("DATABASE_URL: the database can't be used: ")
    assert (why in told, do_this in told) == (True, True), told


ADDRESSES = {
    "an unknown database": ("{url}_not", "does not exist", "CREATE DATABASE"),
    "a port where nothing listens": ("postgresql://forms:mistyped@127.0.0.1:1/x", "refused", "Start the server"),
    "an unknown host": ("postgresql://forms:mistyped@no-such.invalid/x", "resolve host", "Mend the host"),
    "no server on this machine": ("postgresql:///x?host=/tmp/nowhere", "No such file", "Start the server"),
    "an option that there is not": ("{url}?pgbouncer=mistyped", "invalid connection option", "behind the ?"),
    "a value that is none": ("{url}?sslmode=perhaps", "invalid sslmode value", "behind the ?"),
    "TLS with a server that has none": ("{url}?sslmode=require", "does not support SSL", "take sslmode out"),
}


@pytest.mark.parametrize("what", ADDRESSES)
def test_an_address_that_leads_nowhere_is_told_with_what_would_be_right(server: Postgresql, what: str) -> None:
    url, why, do_this = ADDRESSES[what]
    told = complaint(url.format(url=server.url()))
    assert (why in told, do_this in told) == (True, True), told


def test_a_password_with_every_sign_several_hosts_and_sqlalchemys_scheme_are_understood(server: Postgresql) -> None:
    url = owned(server).replace("@127.0.0.1", "@127.0.0.1:1,127.0.0.1").replace("postgresql:", "postgresql+psycopg:")
    parts = assemble(Settings(database_url=url, secret_key=KEY))
    parts.store.close()
    assert parts.store.place == f"postgresql://forms@127.0.0.1:1,127.0.0.1:{server.port}/{url.rpartition('/')[2]}"


def test_a_database_that_cannot_hold_every_character_is_refused(server: Postgresql) -> None:
    for encoding in ("LATIN1", "SQL_ASCII"):
        name = f"in_{encoding.lower()}"
        do(server.url(), f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
        told = complaint(server.url(name))
        assert f"the database is in {encoding}" in told
        assert "ENCODING 'UTF8'" in told


def test_who_gave_a_wrong_password_is_told_how_each_sign_of_one_is_written() -> None:
    told = what_to_do('password authentication failed for user "forms"')
    assert "write % as %25, @ as %40, / as %2F, ? as %3F and # as %23" in told


def test_a_server_that_is_too_old_is_refused() -> None:
    assert unfit(90_624, "UTF8") == "PostgreSQL 9 is too old: Pillarbox needs 13 or newer."
    assert unfit(120_022, "UTF8") is not None
    assert unfit(130_000, "UTF8") is None


def test_a_role_that_may_make_no_tables_works_and_restores_on_those_that_another_made(
    server: Postgresql, tmp_path: Path
) -> None:
    url = server.create()
    mine = url.replace("pillarbox@", f"forms:{WRITTEN}@")
    told = complaint(mine)
    assert "permission denied for schema public" in told
    assert "MIGRATE=off" in told
    assert "run `pillarbox upgrade` first" in complaint(mine, migrate="off")
    assemble(Settings(database_url=url, secret_key=KEY)).store.close()
    told = complaint(mine, migrate="off")
    assert "permission denied for table" in told
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES and USAGE, SELECT, UPDATE ON ALL SEQUENCES" in told
    do(
        url,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO forms",
        "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO forms",
    )
    with closing(open_store(tmp_path)) as source, closing(engine.open_store(mine)) as target:
        fill(source)
        back_up(source, tmp_path / "a.zip")
        assert restore(target, tmp_path / "a.zip").messages == 4
    keep(mine, message(), migrate="off")


def keep(url: str, *messages: Any, state: State = State.WAITING, **others: Any) -> None:
    """Keep these messages, with a letter to Ada and one to Bob each."""

    async def until_kept() -> None:
        parts = assemble(Settings(database_url=url, secret_key=KEY, log_level="error", **others))
        async with parts.running(dispatching=False):
            for one in messages:
                await parts.keep(Kept(one, (to_ada(state), to_bob(f"{one.id}@example.net"))))

    asyncio.run(until_kept())


def test_every_unknown_word_is_left_as_it_is() -> None:
    assert what_to_do("something that nobody has heard of") == ""
    assert "Free the disk" in what_to_do('could not extend file "base/1": No space left on device')


@pytest.fixture
def typed(server: Postgresql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what runs a command in this process and returns what it said; its database is new and its own."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"DATABASE_URL": owned(server), "SECRET_KEY": KEY, "RECIPIENT_EMAIL": ADA}.items():
        monkeypatch.setenv(name, value)

    def run(line: str, status: int = 0) -> str:
        ended = CliRunner().invoke(commands, line.split(), catch_exceptions=False)
        assert ended.exit_code == status, ended.output
        assert PASSWORD not in ended.output
        assert WRITTEN not in ended.output
        return ended.output

    return run


def test_every_command_works_on_a_server_and_leaves_nothing_in_the_folder_but_mail(typed: Any, tmp_path: Path) -> None:
    assert typed("messages list", 2) == "The database is behind this version: run `pillarbox upgrade` first.\n"
    assert typed("upgrade") == "The database is up to date now.\n"
    assert typed("upgrade") == "The database was up to date already.\n"
    clean, spam = message(identifier="7K3M-9QXP-2AFD"), message(2, identifier="8K3M-9QXP-2AFD")
    keep(os.environ["DATABASE_URL"], clean)
    keep(os.environ["DATABASE_URL"], replace(spam, held_for=("links",)), state=State.HELD)
    assert clean.id in typed("messages list")
    assert "This is message 1." in typed(f"messages show {clean.id}")
    assert len(typed("messages export --format jsonl").splitlines()) == 2
    assert len(typed("deliveries list --json").splitlines()) == 4
    assert ADA in typed("deliveries show 1")
    assert json.loads(typed("deliveries cancel 1 --yes --json"))["changed"] == 1
    assert json.loads(typed("deliveries retry 1 --json"))["changed"] == 1
    assert spam.id in typed("held list")
    assert "links" in typed(f"held show {spam.id}")
    assert "1 message released" in typed(f"held release {spam.id}")
    assert "no message" in typed("held drop --reason links --yes").lower()
    typed("suppressions add bob@example.net")
    assert "bob@example.net" in typed("suppressions list")
    typed("suppressions remove bob@example.net")
    assert json.loads(typed("stats --json"))["waiting"] == 4
    assert "Sent to" in typed("send-test")
    assert "Nobody is told" in typed("doctor --test-alarm", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["mail"]


def test_the_doctor_says_what_weakens_the_server_and_whether_our_connections_fit(typed: Any) -> None:
    """This one is set to write nothing through, and room for 97 is enough for 8 processes but not for 64."""
    found = {(one["step"], one["verdict"]): one for one in json.loads(typed("doctor --json", 1))}
    database = os.environ["DATABASE_URL"].rpartition("@")[2]
    assert f"postgresql://forms@{database} can be written" in found["store", "ok"]["seen"]
    assert "(fsync = off, full_page_writes = off)" in found["store", "fail"]["seen"]
    assert "postgresql.conf" in found["store", "fail"]["advice"]
    assert "synchronous_commit = off" in found["server", "warn"]["seen"]
    assert " of 100 connections are in use" in found["server", "ok"]["seen"]
    assert "as the database says" in found["clock", "ok"]["seen"]
    assert "disk" not in {step for step, _ in found}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKERS", "64")
        assert "64 processes here want up to 704" in typed("doctor", 1).replace("\n" + " " * 16, " ")


@contextmanager
def with_tls(server: Postgresql) -> Iterator[None]:
    """Have the server take TLS while the block runs."""
    made = make_certificates(server.home)
    made.key_file.chmod(0o600)
    if os.getuid() == 0:
        shutil.chown(made.key_file, "nobody", "nogroup")
    files = (f"ALTER SYSTEM SET ssl_{name}_file = '{server.home}/{name}.pem'" for name in ("cert", "key", "ca"))
    do(server.url(), *files, "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        do(server.url(), "ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()")


def test_it_is_seen_whether_a_server_is_on_this_machine_and_whether_words_to_it_are_encrypted(
    server: Postgresql,
) -> None:
    url = server.create()
    assemble(Settings(database_url=url, secret_key=KEY)).store.close()
    assert met(url) == (True, False)
    with with_tls(server):
        ca_file = server.home / "ca.pem"
        until(lambda: met(f"{url}?sslmode=prefer") == (True, True))
        assert met(f"{url}?sslmode=verify-full&sslrootcert={ca_file}") == (True, True)


def met(url: str) -> tuple[bool, bool]:
    """Return whether the server at this address is found to be here, and what we say to it encrypted."""
    with closing(engine.open_store(url)) as store, store.reading() as connection:
        found = condition.look(connection).server
    assert found is not None
    return found.is_here, found.is_encrypted


def test_a_restore_is_refused_while_pillarbox_runs_on_the_database_and_says_how_many_connections(
    typed: Any, server: Postgresql, tmp_path: Path
) -> None:
    with closing(open_store(tmp_path)) as source:
        fill(source)
        back_up(source, tmp_path / "a.zip")
    here = os.environ["DATABASE_URL"]
    with psycopg.connect(here, application_name="psql"), closing(engine.open_store(server.create())):
        with closing(engine.open_store(here)) as running, running.reading(), running.reading():
            told = typed("restore a.zip", 2)
            assert "Pillarbox is running on postgresql://forms@127.0.0.1" in told
            assert "with 2 connections: stop it first, on every machine. Nothing was changed.\n" in told
        assert "4 messages and 8 letters are restored" in typed("restore a.zip")


def test_behind_a_pooler_a_restore_counts_nobody_since_connections_stay_open_there(server: Postgresql) -> None:
    with running_pgbouncer(server) as port:
        url = server.create().replace(f":{server.port}/", f":{port}/")
        with closing(engine.open_store(url)) as other, closing(engine.open_store(url)) as mine, other.reading():
            assert archive.count_others(mine) == 0
