"""Two versions of Pillarbox work on one PostgreSQL while the newer one brings the schema forward: nobody notices."""

import re
import shutil
from pathlib import Path

import pytest
from tests.road.crowd import Crowd
from tests.road.fleet import Fleet, Member, on_postgresql, repeats, settled, times_kept
from tests.road.mail_process import MailProcess
from tests.road.results import write_table
from tests.running import Pillarbox, free_port, until
from tests.servers import require
from tests.servers.postgresql import Postgresql

from pillarbox.store import migrating

REVISION = '''"""Made up."""

import sqlalchemy as sa
from alembic import op

revision = "{number}"
down_revision = "{before}"


def upgrade() -> None:
    for table in ("submissions", "deliveries"):
        op.add_column(table, sa.Column("mood_{number}", sa.Text))
    op.create_table("moods_{number}", sa.Column("name", sa.Text, primary_key=True))
'''


class Newer:
    """A copy of Pillarbox with revisions of the schema that this one does not know."""

    def __init__(self, mailing: Pillarbox) -> None:
        folder = mailing.folder / "newer"
        shutil.copytree(Path(migrating.__file__).parents[2], folder)
        self._revisions = folder / "pillarbox" / "store" / "migrations" / "versions"
        self._newest = migrating.newest()
        self._mailing = Pillarbox(mailing.folder)
        self._mailing.settings = mailing.settings | {"PYTHONPATH": str(folder)}
        self._mailing.processes = mailing.processes  # they are stopped with the others

    def invent(self) -> None:
        """Add a revision."""
        number = str(max(int(self._newest), 9_000) + 1)
        text = REVISION.format(number=number, before=self._newest)
        (self._revisions / f"{number}_made_up.py").write_text(text)
        self._newest = number

    def start(self, port: int = 0) -> Member:
        """Start a web process, which migrates, or a worker."""
        return Member(self._mailing, port, wrapper=(require("env"),))


@pytest.mark.parametrize(
    ("revisions", "pause"),
    [
        pytest.param(1, 0.3, id="small"),
        pytest.param(10, 0.05, id="full", marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
)
def test_two_versions_work_on_one_database_while_it_is_migrated_under_load(
    mailing: Pillarbox, mail_server: MailProcess, postgresql: Postgresql, revisions: int, pause: float
) -> None:
    mailing.settings["LOG_LEVEL"] = "warning"
    fleet = Fleet.of(on_postgresql(mailing, postgresql.create()), webs=1, workers=1)
    newer, web, port = Newer(mailing), None, free_port()
    with fleet.visited(older := Crowd(fleet.webs[0].port, pause, clients=16)):
        for _ in range(revisions):
            if web:
                web.stop()
            before = fleet.thanked
            until(lambda before=before: fleet.thanked > before + 50, within=60)
            newer.invent()
            web = newer.start(port)
            until(lambda web=web: web.answers or web.process.poll() is not None, within=60)
            assert web.process.poll() is None, mailing.log.read_text()
        worker = newer.start()
        fleet.workers[0].stop_and_start()  # the older one starts on a schema that it does not know, too
        with fleet.visited(young := Crowd(port, pause, 1_000_000, clients=16)):
            until(lambda: len(young.thanked) > 100, within=60)
        fleet.is_up()
    settled(mailing, within=300)
    again, log = repeats(mail_server), mailing.log.read_text()
    if revisions > 1:
        counts = {
            "revisions, each a table and two columns more": revisions,
            "thanked by the older version": len(older.thanked),
            "thanked by the newer version": len(young.thanked),
            "requests that failed": sum(len(one.refused) + one.cut_off for one in (older, young)),
            "transactions that failed": log.count("not_kept"),
            "thanked, owner's letter missing": len(fleet.ids - mail_server.reached()),
            "thanked, confirmation missing": len(fleet.ids - mail_server.reached("confirmation")),
            "letters sent again": len(again),
        }
        title = "Two versions on one PostgreSQL while it is migrated under load"
        write_table("two-versions", title, counts, test="tests/road/test_two_versions.py")
    assert worker.process.poll() is None, log
    assert [(one.refused, one.cut_off) for one in (older, young)] == [([], 0)] * 2, log
    assert "schema_is_newer" in log
    assert not re.search("not_kept|Traceback", log), log
    assert fleet.ids == mail_server.reached() == mail_server.reached("confirmation")
    assert set(times_kept(mailing).values()) == {1}
    assert again == []
