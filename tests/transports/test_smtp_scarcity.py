"""What this machine runs out of is about the way, never about a letter, and passes by itself."""

import asyncio
import os
import resource
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from tests.servers.scripted_smtp import ScriptedSmtp
from tests.transports.letters import PLAIN_LETTER, way_to

from pillarbox.core.delivery import Blocked, Sent
from pillarbox.transports.smtp_session import tls_context

pytestmark = pytest.mark.anyio

on_asyncio = pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"])
"""uvloop looks names up in threads of its own."""


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more meanwhile."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


@contextmanager
def no_threads() -> Iterator[None]:
    """Let the event loop start no thread meanwhile."""
    loop, spent = asyncio.get_running_loop(), ThreadPoolExecutor()
    spent.shutdown()
    loop.set_default_executor(spent)
    try:
        yield
    finally:
        loop.set_default_executor(ThreadPoolExecutor())


async def test_without_descriptors_the_way_is_shut_until_there_are_some(mail_server):
    way = way_to(mail_server)
    with no_descriptors():
        outcome = await way.send(PLAIN_LETTER)
    assert isinstance(outcome, Blocked)
    assert outcome.note.endswith("too many open files")
    assert isinstance(await way.send(PLAIN_LETTER), Sent)
    await way.close()


@on_asyncio
async def test_without_a_thread_to_look_the_name_up_the_way_is_shut_until_there_is_one():
    async with ScriptedSmtp() as server:
        way = way_to(server, host="localhost")
        with no_threads():
            outcome = await way.send(PLAIN_LETTER)
        assert isinstance(outcome, Blocked)
        assert outcome.note.startswith(f"could not connect to localhost:{server.port}: ")
        assert isinstance(await way.send(PLAIN_LETTER), Sent)
        await way.close()


async def test_without_a_thread_to_read_certificates_in_the_way_is_shut_until_there_is_one(certificates):
    async with ScriptedSmtp(context=certificates.context) as server:
        way = way_to(server, security="starttls", ca_file=certificates.ca_file)
        with no_threads():
            outcome = await way.send(PLAIN_LETTER)
        assert isinstance(outcome, Blocked)
        assert outcome.note.startswith(f"the certificates in {certificates.ca_file} could not be read: ")
        assert isinstance(await way.send(PLAIN_LETTER), Sent)
        await way.close()


async def test_certificates_that_no_descriptor_was_left_for_are_read_at_the_next_try(certificates, monkeypatch):
    """The system's store is read without an error: an empty one would be kept for as long as we run."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
    async with ScriptedSmtp(context=certificates.context) as server:
        way = way_to(server, security="starttls")
        await asyncio.to_thread(int)  # a thread to read in is there
        with no_descriptors():
            outcome = await way.send(PLAIN_LETTER)
        assert outcome == Blocked("the certificates of this system could not be read: too many open files")
        assert isinstance(await way.send(PLAIN_LETTER), Sent)
        await way.close()


def test_a_system_without_certificates_trusts_nobody(tmp_path, monkeypatch):
    (tmp_path / "none.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    context = tls_context(None)
    assert (context.cert_store_stats()["x509"], context.verify_mode) == (0, ssl.CERT_REQUIRED)
