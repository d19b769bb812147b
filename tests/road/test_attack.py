"""Under an attack of 300 posts a second every honest visitor is answered, and nobody is written to because of it."""

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.asking import resident_bytes
from tests.road import ledger
from tests.road.mail_process import MailProcess
from tests.road.results import write_table
from tests.running import UNLIMITED, Pillarbox, until

RATE = 300
"""Posts a second, begun whether the ones before were answered or not."""
PATIENCE = 2.0
"""Seconds after which an honest visitor goes away."""
MOST_GROWTH = 32 * 1024 * 1024
"""Bytes, however long the attack. The table of clients takes 7 MB when it is full; the rest are the database's cache,
the connections of one moment, and what the interpreter does not give back of it."""


@dataclass
class Attack:
    """What became of one attack: ids by who wrote, statuses of the attacker's posts, seconds, bytes of growth."""

    seconds: float
    honest: list[str | None] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    growth: int = 0
    kept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    span: float = 0.0

    @property
    def clean(self) -> set[str]:
        """Every message that is held for nothing."""
        return {identifier for identifier, reasons in self.kept.items() if not reasons}

    @property
    def most_clean(self) -> int:
        """So many messages a form takes in that time before it is a flood: 60 a minute, 60 at once."""
        return 60 + int(self.span) + 1


def with_default_limits(pillarbox: Pillarbox) -> int:
    """Start an installation as its owner would and return its process's number."""
    for name in UNLIMITED:
        del pillarbox.settings[name]
    return pillarbox.serve().pid


async def visit(port: int, number: int) -> str | None:
    """Post as an honest visitor, from an address of their own; return the message's id, or None without a thank-you."""
    fields = {"name": "Bob", "email": f"bob-{number}@example.org", "message": f"Do you have the blue one, {number}?"}
    body = json.dumps(fields).encode()
    head = "POST /api/contact HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.9.9.{number}", 0))
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.read()
            writer.close()
    except OSError:
        return None
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return str(found["id"]) if answer[9:12] == b"200" else None


async def visits(port: int, attacker: "asyncio.subprocess.Process") -> list[str | None]:
    """Have one honest visitor come each second until the attack is over; return what each of them got."""
    coming: list[asyncio.Task[str | None]] = []
    while attacker.returncode is None:
        coming.append(asyncio.create_task(visit(port, len(coming) + 1)))
        await asyncio.wait([asyncio.create_task(attacker.wait())], timeout=1.0)
    return list(await asyncio.gather(*coming))


async def attacked(pillarbox: Pillarbox, *words: str, seconds: float) -> Attack:
    """Attack the installation from one address, or with a word from many, and return what became of it."""
    process = with_default_limits(pillarbox)
    found = Attack(seconds)
    assert await visit(pillarbox.port, 250) is not None
    before = resident_bytes(process)
    attacker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.road.attacker", str(pillarbox.port), str(RATE), str(seconds), *words),
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    found.honest = await visits(pillarbox.port, attacker)
    assert attacker.stdout
    found.statuses = json.loads(await attacker.stdout.read())
    found.growth = resident_bytes(process) - before
    rows = ledger.ask(pillarbox.database, "SELECT id, held_for, received_at FROM submissions")
    found.kept = {identifier: tuple(json.loads(reasons)) for identifier, reasons, _ in rows}
    times = [at for *_, at in rows]
    found.span = max(times) - min(times)
    return found


def assert_honest_visitors_were_answered_and_kept(attack: Attack) -> None:
    assert len(attack.honest) >= attack.seconds
    assert None not in attack.honest
    assert set(attack.honest) <= set(attack.kept)


def assert_only_a_flood_is_held_and_only_clean_messages_are_confirmed(attack: Attack, mail_server: MailProcess) -> None:
    assert set(attack.kept.values()) <= {(), ("flood",)}
    assert len(attack.clean) <= attack.most_clean
    until(lambda: attack.clean <= mail_server.reached())
    until(lambda: len(mail_server.reached("confirmation")) >= min(len(attack.clean & {*attack.honest}), 50))
    assert mail_server.reached("confirmation") <= attack.clean
    assert len(mail_server.reached("confirmation")) <= 60


def row(attack: Attack, mail_server: MailProcess) -> dict[str, object]:
    honest = [identifier for identifier in attack.honest if identifier]
    statuses = ", ".join(f"{status}: {number}" for status, number in sorted(attack.statuses.items()))
    return {
        "the attacker's posts by status": statuses,
        "honest visitors, one a second": len(attack.honest),
        f"answered 200 within {PATIENCE:.0f} s": len(honest),
        "their messages on disk": len({*honest} & attack.kept.keys()),
        "of them held as a flood": len({*honest} & (attack.kept.keys() - attack.clean)),
        "messages kept in all": len(attack.kept),
        "held as a flood": len(attack.kept) - len(attack.clean),
        "confirmations sent": len(mail_server.reached("confirmation")),
        "memory of the process grew by": f"{attack.growth / 1024 / 1024:.1f} MB",
    }


def assert_one_address_is_refused(attack: Attack) -> None:
    """Ten at once, then one each six seconds."""
    assert set(attack.statuses) <= {"200", "429"}
    assert attack.statuses["200"] <= 10 + attack.span / 6 + 1
    assert sum(attack.statuses.values()) == RATE * attack.seconds
    assert attack.growth < MOST_GROWTH


def assert_many_addresses_are_held(attack: Attack) -> None:
    assert attack.statuses == {"200": RATE * attack.seconds}
    assert len(attack.kept) - len(attack.clean) >= RATE * attack.seconds - attack.most_clean
    assert attack.growth < MOST_GROWTH


@pytest.mark.alone
async def test_an_attacker_with_one_address_is_refused_and_every_honest_visitor_is_answered(mailing, mail_server):
    attack = await attacked(mailing, seconds=3)
    assert_honest_visitors_were_answered_and_kept(attack)
    assert_one_address_is_refused(attack)
    assert {*attack.honest} <= attack.clean
    assert_only_a_flood_is_held_and_only_clean_messages_are_confirmed(attack, mail_server)


@pytest.mark.alone
async def test_an_attack_from_as_many_addresses_as_posts_is_held_and_every_honest_visitor_is_answered(
    mailing, mail_server
):
    attack = await attacked(mailing, "many", seconds=3)
    assert_honest_visitors_were_answered_and_kept(attack)
    assert_many_addresses_are_held(attack)
    assert_only_a_flood_is_held_and_only_clean_messages_are_confirmed(attack, mail_server)


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_a_minute_of_either_attack(tmp_path):
    rows: dict[str, object] = {}
    attacks = []
    for whence, words in (("one address", ()), ("as many addresses as posts", ("many",))):
        folder = tmp_path / whence
        folder.mkdir()
        mail_server = MailProcess(folder)
        site = Pillarbox(folder, **mail_server.settings)
        try:
            attack = await attacked(site, *words, seconds=60)
            until(lambda: attack.clean <= mail_server.reached())  # noqa: B023 - asked before the next one comes
            rows |= {f"from {whence}: {what}": counted for what, counted in row(attack, mail_server).items()}
            attacks.append((attack, mail_server))
        finally:
            site.stop()
            mail_server.end()
    write_table("attack", "A minute of 300 posts a second", rows, test="tests/road/test_attack.py")
    for attack, mail_server in attacks:
        assert_honest_visitors_were_answered_and_kept(attack)
        assert_only_a_flood_is_held_and_only_clean_messages_are_confirmed(attack, mail_server)
    assert_one_address_is_refused(attacks[0][0])
    assert_many_addresses_are_held(attacks[1][0])
