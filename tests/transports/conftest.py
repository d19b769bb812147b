"""Servers for the tests of the ways out."""

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.greylist import greylisting
from tests.servers.postfix import Postfix, running_postfix
from tests.servers.scripted_smtp import EXTENSIONS, ScriptedSmtp


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops that we run on: their transports differ where connections end and TLS begins."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority that only `ca_file` makes trusted, and its certificate for 127.0.0.1."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=[EXTENSIONS, EXTENSIONS[1:]], ids=["pipelining", "one-by-one"])
async def mail_server(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedSmtp]:
    """A mail server without TLS and login that takes every letter until it is told otherwise.

    A letter's outcome is the same whether or not the server lets us pipeline.
    """
    async with ScriptedSmtp(extensions=request.param) as server:
        yield server


@pytest.fixture(scope="session")
def postfix() -> Iterator[Postfix]:
    """A real Postfix that takes letters up to 200 kB; some of its addresses are never, or only later, to be had."""
    greylisted = {"grey450.example": "450 4.2.0 Greylisted", "grey451.example": "451 4.7.1 Try again later"}
    with (
        greylisting(greylisted) as policy,
        running_postfix(
            recipients={"grey@example.org": "450 4.2.0 Greylisted", "nobody@example.org": "550 5.1.1 No such user"},
            senders={"banned@pillarbox.example": "550 5.1.8 Not your sender"},
            size_limit=200_000,
            policy=policy,
        ) as running,
    ):
        yield running
