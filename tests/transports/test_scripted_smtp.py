"""The scripted server itself, where other proofs lean on it."""

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest
from tests.servers.scripted_smtp import SILENCE, ScriptedSmtp
from tests.transports.letters import PLAIN_LETTER, until, way_to

from pillarbox.core.delivery import Sent
from pillarbox.transports.smtp import SmtpServer, SmtpTransport

pytestmark = pytest.mark.anyio


def events(log: Path):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


async def test_as_a_process_it_prints_its_port_and_logs_every_dot(tmp_path):
    log = tmp_path / "dots.jsonl"
    command = (sys.executable, "-m", "tests.servers.scripted_smtp", "--port", "0", "--log", log, "--delay-dot", "0.05")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        port = int(await process.stdout.readline())
        way = SmtpTransport(SmtpServer("127.0.0.1", port, "plain"))
        before = time.time()
        assert isinstance(await way.send(PLAIN_LETTER), Sent)
        await way.close()
        [event] = events(log)
        assert (event["message_id"], event["recipient"]) == (PLAIN_LETTER.message_id, PLAIN_LETTER.recipient)
        assert before <= event["dot_received_at"] < event["dot_answered_at"] <= time.time()
    finally:
        process.terminate()
        assert await process.wait() == 0


async def test_a_dot_that_was_never_answered_is_logged_as_such(tmp_path):
    log = tmp_path / "dots.jsonl"
    async with ScriptedSmtp(log=log) as server:
        server.script(DOT=SILENCE)
        way = way_to(server, dot_seconds=0.1)
        await way.send(PLAIN_LETTER)
        await until(lambda: len(events(log)) == 1)
        [event] = events(log)
        assert event["dot_answered_at"] is None
        assert event["dot_received_at"] > 0


async def test_it_serves_from_a_thread_of_its_own():
    with ScriptedSmtp().in_thread() as server:
        server.script(RCPT=["550 5.1.1 no"])
        way = way_to(server)
        await way.send(PLAIN_LETTER)
        assert isinstance(await way.send(PLAIN_LETTER), Sent)
        await way.close()
        assert len(server.accepted) == 1
