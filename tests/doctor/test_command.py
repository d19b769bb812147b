"""`pillarbox doctor` as an operator runs it: everything well, several things wrong, and never more than a minute."""

import json
from collections.abc import Iterator

import pytest
from tests.running import Pillarbox
from tests.servers.name_server import NameServer
from tests.servers.scripted_smtp import ScriptedSmtp

from pillarbox.core.delivery import Sent
from pillarbox.core.errors import NotKept
from pillarbox.doctor import rounds
from pillarbox.store.condition import Condition

pytestmark = pytest.mark.anyio

ADA, PASSWORD = "forms@ada.dev", "pw7-secret"
RECORDS = {"ada.dev": ["v=spf1 mx -all"], "_dmarc.ada.dev": ["v=DMARC1; p=reject"]}


@pytest.fixture
def smtp(certificates) -> Iterator[ScriptedSmtp]:
    server = ScriptedSmtp(context=certificates.context, auth=("PLAIN",), accounts={ADA: PASSWORD})
    with server.in_thread() as running:
        yield running


@pytest.fixture
def zone() -> Iterator[NameServer]:
    server = NameServer()
    server.records = dict(RECORDS)
    with server.in_thread() as running:
        yield running


@pytest.fixture
def ada(pillarbox, smtp, zone, certificates) -> Pillarbox:
    """Ada's installation, set right in every way; it does not run yet."""
    pillarbox.settings |= {
        "SMTP_SERVER": "localhost",
        "SMTP_PORT": str(smtp.port),
        "SMTP_CA_FILE": str(certificates.ca_file),
        "EMAIL_ADDRESS": ADA,
        "EMAIL_PASSWORD": PASSWORD,
        "RECIPIENT_EMAIL": "ada@ada.dev",
        "NAMESERVER": f"127.0.0.1:{zone.address[1]}",
        "PUBLIC_URL": pillarbox.url,
        "ALARM_TO": "https://ada.dev/alarm",
        "DATA_IS_DURABLE": "true",
    }
    return pillarbox


def test_an_installation_that_is_well_says_so_in_a_line_a_step(ada, smtp):
    ada.serve()
    ended = ada.run("doctor")
    *lines, blank, sum_ = ended.stdout.splitlines()
    steps = [line.split()[1] for line in lines if not line.startswith(" ")]
    assert (ended.returncode, ended.stderr, blank, sum_) == (0, "", "", "All is well."), ended.stdout
    assert [step for step in steps if step != "visitor"] == [
        *("settings", "store", "disk", "letters", "clock", "dns", "tcp", "greeting", "tls", "login", "sender"),
        *("spf", "dmarc", "from", "public", "alarm"),
    ]
    assert all(line.startswith("ok ") for line in lines if not line.startswith(" "))
    assert smtp.accepted == []


def test_what_is_wrong_is_told_with_what_to_do_and_without_secrets(ada, smtp, zone):
    smtp.script(AUTH=f"535 5.7.8 Username and Password not accepted: {PASSWORD}")
    zone.records = {"ada.dev": ["v=spf1 +all"]}
    ended = ada.run("doctor", ALARM_TO="")
    lines = ended.stdout.splitlines()
    assert (ended.returncode, ended.stderr) == (1, "")
    verdicts = {line.split()[1]: line.split()[0] for line in lines[:-2] if not line.startswith(" ")}
    assert {step for step, verdict in verdicts.items() if verdict == "fail"} == {"login", "public"}
    assert {step for step, verdict in verdicts.items() if verdict == "warn"} == {"sender", "spf", "dmarc", "alarm"}
    assert "create an app password" in " ".join(ended.stdout.split())
    assert lines[-1] == f"Of {len(verdicts)}: 2 failed, 3 to look at, 1 not looked at."
    assert [line for line in lines if len(line) > 100 and str(ada.folder) not in line] == []  # a path stays whole
    assert PASSWORD not in ended.stdout


def test_programs_get_the_same_as_json(ada):
    ended = ada.run("doctor", "--json", SMTP_SERVER="mail.ada.invalid", ALARM_TO="mailto:ada@ada.dev")
    found = json.loads(ended.stdout)
    assert {frozenset(one) for one in found} == {frozenset(("step", "verdict", "seen", "advice"))}
    assert {one["verdict"] for one in found} <= {"ok", "warn", "fail"}
    assert [one["verdict"] for one in found if one["step"] == "dns"] == ["fail"]
    assert [one["seen"] for one in found if one["step"] == "alarm"] == ["told of by the very mail that can't leave"]
    assert PASSWORD not in ended.stdout


async def nothing():
    """Keep nothing."""


async def refuses():
    raise NotKept from OSError("disk is full")


def no_condition():
    raise NotKept


async def to_a_folder():
    return Sent("mail goes into mail")


async def test_a_store_that_can_neither_be_written_nor_read_hides_no_other_step(tmp_path):
    folder = rounds.Folder(tmp_path, to_a_folder)
    for beat in (nothing, refuses):
        broken = rounds.Store("p.db", beat, no_condition, tmp_path / "p.db")
        found = await rounds.examine(rounds.Installation(ADA, ("ada@ada.dev",), [folder], broken))
        steps = {one.step: one.verdict for one in found if one.verdict == "fail"}
        assert list(steps) == (["letters"] if beat is nothing else ["store"])
        assert {"settings", "disk", "clock", "mail", "public", "alarm"} <= {one.step for one in found}


async def test_a_step_that_breaks_is_a_finding_among_the_others(tmp_path):
    def breaks() -> Condition:
        raise RuntimeError("a bug")

    store = rounds.Store("p.db", nothing, breaks, tmp_path / "p.db")
    found = await rounds.examine(rounds.Installation(ADA, (ADA,), [rounds.Folder(tmp_path, to_a_folder)], store))
    assert [one.step for one in found if "stumbled" in one.seen] == ["store", "clock"]
    assert found[-1].step == "alarm"
