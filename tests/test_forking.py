"""A forked process does what a started one does, so that tests may take one for the other."""

import signal

import pytest

from tests.asking import ask
from tests.forking import Forked, can_take
from tests.running import Pillarbox, until


@pytest.mark.parametrize("command", ["--version", "nonsense", "messages show --json 7K3M-9QXP-2AFD"])
def test_a_forked_command_says_the_same_and_ends_as_one_that_is_started(pillarbox: Pillarbox, command: str):
    ended = []
    for really in (False, True):
        pillarbox.really_starts = really
        done = pillarbox.run(*command.split(), DATABASE_URL=f"sqlite:///{pillarbox.folder}/nothing.db")
        ended.append((done.returncode, done.stdout, done.stderr))
    assert ended[0] == ended[1]
    assert any(ended[0][1:])


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -9)])
def test_a_forked_server_is_our_own_child_that_a_signal_ends(pillarbox: Pillarbox, sign: int, status: int):
    process = pillarbox.serve()
    assert isinstance(process, Forked)
    process.send_signal(sign)
    assert process.wait(20) == status
    until(lambda: not pillarbox.answers())


def test_each_forked_process_has_settings_and_a_folder_of_its_own(tmp_path):
    sites = [Pillarbox(tmp_path / name, SITE_NAME=f"{name} & Sons") for name in ("Ada", "Bob")]
    try:
        for site in sites:
            site.folder.mkdir()
            site.serve()
        for site, other in (sites, sites[::-1]):
            page = ask(site.port, "GET", "/").text
            assert site.settings["SITE_NAME"].replace("&", "&amp;") in page
            assert other.settings["SITE_NAME"].replace("&", "&amp;") not in page
            assert site.database.exists()
    finally:
        for site in sites:
            site.stop()


@pytest.mark.parametrize(
    ("name", "taken"), [("SITE_NAME", True), ("PYTHONPATH", True), ("PYTHONIOENCODING", False), ("LD_PRELOAD", False)]
)
def test_what_is_settled_before_the_first_line_runs_is_left_to_a_real_start(name: str, *, taken: bool):
    assert can_take({name: "x"}) is taken
