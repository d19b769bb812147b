"""The wheel is whole: built from a clean copy, installed elsewhere, it serves, speaks German and delivers."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.asking import BROWSER, ask
from tests.running import BOB, Pillarbox, until

CHECKOUT = Path(__file__).parents[1]
SOURCES = ("src", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "NOTICE")
# Debian's environments have no pip of their own; the system's then works on them from outside.
PIP = (sys.executable if find_spec("pip") else "/usr/bin/python3", "-m", "pip", "--python")
QUIETLY = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
NOT_IN_GIT = shutil.ignore_patterns("vendor", "*.mo", "__pycache__")


def run(*command: str | Path, cwd: Path) -> None:
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, folder / name, ignore=NOT_IN_GIT)
        else:
            shutil.copy(CHECKOUT / name, folder / name)
    run(*PIP, sys.executable, "wheel", *QUIETLY, "--no-build-isolation", "-w", folder, folder, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


class Installed(Pillarbox):
    """An installation that runs from the wheel, in an environment that sees our libraries but not our sources."""

    @property
    def environment(self) -> dict[str, str]:
        seen = super().environment
        del seen["PYTHONPATH"]
        return seen


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(*PIP, python, "install", *QUIETLY, wheel, cwd=folder)
    (packages,) = (folder / "venv" / "lib").glob("*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    made = Installed(folder)
    yield made
    made.stop()


def test_the_wheel_holds_the_licences_and_everything_that_is_no_code(wheel):
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        legal = [name for name in names if "LICENSE" in name or "NOTICE" in name]
        read = {Path(name).name: opened.read(name).decode() for name in legal}
    assert read.keys() == {"LICENSE", "NOTICE", "bootstrap.LICENSE.txt"}
    assert "MIT" in read["LICENSE"]
    assert "Bootstrap" in read["NOTICE"]
    assert "The Bootstrap Authors" in read["bootstrap.LICENSE.txt"]
    package = CHECKOUT / "src" / "pillarbox"
    ours = {".html", ".txt", ".css", ".js", ".py", ".mo"}
    wanted = {str(path.relative_to(CHECKOUT / "src")) for path in package.rglob("*.*") if path.suffix in ours}
    assert wanted <= set(names)
    assert not [name for name in names if not name.startswith(("pillarbox/", "pillarbox-"))]


def test_the_installed_program_serves_its_page_speaks_german_and_delivers(installed):
    program = installed.folder / "venv" / "bin" / "pillarbox"
    with installed.log.open("ab") as log:
        server = subprocess.Popen(
            [program, "serve"], cwd=installed.folder, env=installed.environment, stdout=log, stderr=log
        )
    installed.processes.append(server)
    until(lambda: installed.answers() or server.poll() is not None)
    page = ask(installed.port, "GET", "/", headers=BROWSER | {"Accept-Language": "de"}).text
    assert '<html lang="de"' in page
    assert "Nachricht" in page
    link = page.partition('href="./static/bootstrap-')[2].partition('"')[0]
    assert b".form-control" in ask(installed.port, "GET", f"/static/bootstrap-{link}").body
    assert "Nachricht" in installed.post(BOB | {"_language": "de"})[1]["message"]
    until(lambda: len(installed.mails()) == 2)
    assert any(b"Bob" in mail for mail in installed.mails())
