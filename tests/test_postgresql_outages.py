"""When the PostgreSQL server is away nobody is thanked; when it is back, the same process goes on by itself."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx2
import psycopg
import pytest

from pillarbox.app import Parts, assemble, create_app
from pillarbox.core.delivery import State
from pillarbox.core.errors import NotKept
from pillarbox.intake import new_id
from pillarbox.settings import Settings, WrongSettings
from pillarbox.store import condition
from pillarbox.store.submissions import Kept
from tests.house import message, to_ada, to_bob, until
from tests.running import BOB, UNLIMITED
from tests.running import until as blocking_until
from tests.servers.pgbouncer import running_pgbouncer
from tests.servers.postgresql import UNSAFE, Postgresql, running_postgresql
from tests.servers.scripted_smtp import ScriptedSmtp

pytestmark = pytest.mark.anyio

PASSWORD = "genet-of-the-database"
"""Which this server does not ask for."""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A server with room for few connections."""
    with running_postgresql(**UNSAFE, max_connections="20") as running:
        yield running


def settings(url: str, mail: ScriptedSmtp, **others: Any) -> Settings:
    """Return settings of an installation that keeps there and mails through this."""
    unlimited = {name.lower(): value for name, value in UNLIMITED.items()}
    way = {"smtp_server": "127.0.0.1", "smtp_port": mail.port, "smtp_security": "plain", "email_address": "f@ada.dev"}
    unlimited["log_level"] = "warning"
    return Settings(database_url=url, secret_key="k" * 64, **(unlimited | way | others))


@asynccontextmanager
async def running(
    url: str, mail: ScriptedSmtp, *, dispatching: bool = True, lease: float = 30.0, **others: Any
) -> AsyncIterator[Parts]:
    """Run the parts of a process without its HTTP; `lease` is longer than until() waits."""
    parts = assemble(settings(url, mail, **others), lease=lease)
    async with parts.running(dispatching=dispatching):
        yield parts


@asynccontextmanager
async def serving(url: str, mail: ScriptedSmtp) -> AsyncIterator[httpx2.AsyncClient]:
    """Run a whole process's application, and give who asks it."""
    app = create_app(settings(url, mail))
    inner: Any = app
    while not hasattr(inner, "router"):
        inner = getattr(inner, "_app", None) or inner.app
    async with (
        inner.router.lifespan_context(inner),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost", timeout=30) as client,
    ):
        yield client


@contextmanager
def administering(server: Postgresql) -> Iterator[psycopg.Connection]:
    """Give a connection that is none of ours."""
    with psycopg.connect(server.url(), autocommit=True, application_name="administrator") as connection:
        yield connection


def cut_off(connection: psycopg.Connection) -> int:
    """End every connection of ours; return how many there were."""
    ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pillarbox'"
    return len(connection.execute(ours).fetchall())


@contextmanager
def stopped(server: Postgresql) -> Iterator[None]:
    """Have the server stopped while the block runs."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def read_only(server: Postgresql) -> Iterator[None]:
    """Have the server take nothing while the block runs, as one that was fenced off."""
    with administering(server) as connection:

        def set_to(value: str) -> None:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            connection.execute("SELECT pg_reload_conf()")
            blocking_until(lambda: shown(server, "default_transaction_read_only") == value)

        set_to("on")
        try:
            yield
        finally:
            set_to("off")


def shown(server: Postgresql, name: str) -> str:
    """Return a setting as a new connection has it: the server has told the older ones before."""
    with administering(server) as connection:
        return str(connection.execute(f"SHOW {name}").fetchone()[0])  # type: ignore[index]


@contextmanager
def full(server: Postgresql) -> Iterator[None]:
    """Have others hold every connection while the block runs, ours cut off."""
    with ExitStack() as others, administering(server) as connection:
        for _ in range(100):
            with suppress(psycopg.OperationalError):
                while True:
                    others.enter_context(psycopg.connect(server.url()))
            if not cut_off(connection):
                break
        yield


Fault = Callable[[Postgresql], AbstractContextManager[None]]
FAULTS: dict[str, Fault] = {"stopped": stopped, "read-only": read_only, "every connection another's": full}


async def assert_says_that_it_is_not_kept(client: httpx2.AsyncClient) -> None:
    """Fail unless both endpoints say so, in the one shape and with the right status, and /health too."""
    for path, status in {"/api/contact": 503, "/send-message": 500}.items():
        answer = await client.post(path, json=BOB | {"message": f"{path} is away"})
        assert (answer.status_code, answer.json()["code"], answer.json()["errors"]) == (status, "NOT_KEPT", [])
        assert int(answer.headers["retry-after"]) >= 1
        assert "could not keep your message" in answer.json()["message"]
    health = await client.get("/health")
    assert (health.status_code, health.json()["code"]) == (503, "NOT_KEPT")


def letters(mail: ScriptedSmtp) -> Counter[str]:
    """Return how often each letter was taken, by its Message-ID."""
    lines = (line for one in mail.accepted for line in one.content.split(b"\r\n"))
    return Counter(line.decode() for line in lines if line.startswith(b"Message-ID:"))


def notifications(mail: ScriptedSmtp) -> dict[str, int]:
    """Return how often each message's notification was taken."""
    return {
        line.removeprefix("Message-ID: <").partition(".")[0]: times
        for line, times in letters(mail).items()
        if ".notification@" in line
    }


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_what_cannot_be_kept_is_not_thanked_for_and_it_goes_on_by_itself(
    server: Postgresql, fault: Fault, capfd: pytest.CaptureFixture[str]
) -> None:
    url = server.create().replace("pillarbox@", f"pillarbox:{PASSWORD}@")
    async with ScriptedSmtp() as mail, serving(url, mail) as client:
        thanked = {(await client.post("/api/contact", json=BOB)).json()["id"]}
        with fault(server):
            await assert_says_that_it_is_not_kept(client)

        async def is_thanked() -> bool:
            answer = await client.post("/api/contact", json=BOB | {"message": "And now?"})
            thanked.update([answer.json()["id"]] if answer.status_code == 200 else [])
            return answer.status_code == 200

        await until(is_thanked)
        await until(lambda: notifications(mail) == dict.fromkeys(thanked, 1), within=60)
    said = "".join(capfd.readouterr())
    assert ("not_kept" in said, PASSWORD in said) == (True, False)


async def test_who_was_thanked_is_heard_once_though_every_connection_is_cut_off_again_and_again(
    server: Postgresql,
) -> None:
    thanked: set[str] = set()
    cut = 0

    async def write(parts: Parts) -> None:
        while len(thanked) < 120:
            one = message(identifier=new_id())
            with suppress(NotKept):
                await parts.keep(Kept(one, (to_ada(), to_bob(f"{one.id}@example.net"))))
                thanked.add(one.id)

    # A letter whose claim was cut off comes due again when the lease ends.
    async with ScriptedSmtp(dot_delay=0.01) as mail, running(server.create(), mail, lease=3.0) as parts:
        crowd = [asyncio.create_task(write(parts)) for _ in range(4)]
        with administering(server) as connection:
            for goal in range(20, 120, 20):
                await until(lambda goal=goal: len(thanked) >= goal)
                cut += await asyncio.to_thread(cut_off, connection)
        await asyncio.gather(*crowd)
        assert cut > 5
        await until(lambda: thanked <= set(notifications(mail)), within=60)
        await until(lambda: is_idle(parts), within=60)
    assert [one for one, times in letters(mail).items() if times > 1] == []


async def test_after_a_server_took_nothing_it_is_looked_for_anew(server: Postgresql) -> None:
    """Behind the same address another server may be the one that takes changes now."""
    async with ScriptedSmtp() as mail, running(server.create(), mail, dispatching=False) as parts:
        with parts.store.reading() as connection:
            before = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with read_only(server):
            await until(lambda: refuses(parts))
        with parts.store.reading() as connection:
            assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != before


def is_idle(parts: Parts) -> bool:
    """Whether no letter waits, nor is in hand: what a dispatcher has done wakes it once more."""
    return State.WAITING not in {pile.state for pile in parts.books.survey().letters}


async def refuses(parts: Parts) -> bool:
    """Whether nothing can be kept."""
    try:
        await parts.beat()
    except NotKept:
        return True
    return False


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "behind a pooler"])
async def test_what_another_process_keeps_leaves_at_once_and_behind_a_pooler_within_a_second(
    server: Postgresql, *, pooled: bool
) -> None:
    url = server.create()
    polling = {} if pooled else {"poll_interval": "1h"}  # then nothing but being told wakes it
    async with AsyncExitStack() as stack:
        if pooled:
            port = stack.enter_context(running_pgbouncer(server))
            url = url.replace(f":{server.port}/", f":{port}/")
        mail = await stack.enter_async_context(ScriptedSmtp())
        await stack.enter_async_context(running(url, mail, **polling))
        keeping = await stack.enter_async_context(running(url, mail, dispatching=False))
        with keeping.store.reading() as connection:
            seen = condition.look(connection).server
        assert seen is not None
        assert seen.is_pooled is pooled
        for number in range(1, 4):
            await keeping.keep(Kept(message(number), (to_ada(), to_bob(f"bob{number}@example.net"))))
            await until(lambda number=number: len(mail.accepted) == 2 * number)
            await until(lambda: is_idle(keeping))


async def test_a_server_that_is_stopped_at_the_start_is_told_of_in_plain_words(server: Postgresql) -> None:
    url = server.create()
    async with ScriptedSmtp() as mail:
        with stopped(server), pytest.raises(WrongSettings) as told:
            assemble(settings(url, mail))
    (sentence,) = told.value.sentences
    assert sentence == (
        f'DATABASE_URL: the database can\'t be used: connection to server at "127.0.0.1", port {server.port} failed: '
        "Connection refused. Start the server, or mend host and port in DATABASE_URL."
    )
