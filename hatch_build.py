"""What a build makes and git does not hold: Bootstrap's stylesheet from its package, and the compiled languages.

Runs by itself whenever hatchling builds (`pip install .`, `pip install -e .`, sdist, wheel); run as a script it does
the same in a checkout.
"""

import hashlib
import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # as a plain script, where only the assets are wanted
    BuildHookInterface = object

PACKAGE = "bootstrap-wrapper"
FILES = {
    "bootstrap/css/bootstrap.min.css": (
        "bootstrap.min.css",
        "d85327d99c7a3ee1f9b5d0500d1370acea3ad2db39c163c2f51f232baedbdede",
    ),
    "bootstrap/LICENSE": (
        "bootstrap.LICENSE.txt",
        "4620c84ad5ce8602ff65640ed6b7c8b78ebb9e036584f0ebc1ccc88206a4bb51",
    ),
}
"""Path in the package: name here, SHA-256. Another file than the one we read is never shipped."""


def fetch_vendor_file(path: str, sha256: str) -> bytes:
    """Return a file of the installed Bootstrap package; ends the build when it is missing or another one."""
    try:
        content = Path(str(distribution(PACKAGE).locate_file(path))).read_bytes()
    except (PackageNotFoundError, FileNotFoundError) as missing:
        raise SystemExit(f"{path} is missing: install the pinned {PACKAGE} first (make setup does).") from missing
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SystemExit(f"{path} of {PACKAGE} is not the file we know (SHA-256 {found}, expected {sha256}).")
    return content


def write(target: Path, content: bytes) -> None:
    """Replace the file whole, so that a process starting meanwhile never reads half of it."""
    if target.is_file() and target.read_bytes() == content:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f".{target.name}.{os.getpid()}")
    half.write_bytes(content)
    half.replace(target)


def make_assets(root: Path) -> None:
    """Put Bootstrap's stylesheet and its licence where the pages look for them."""
    for path, (name, sha256) in FILES.items():
        write(root / "src/pillarbox/web/static/vendor" / name, fetch_vendor_file(path, sha256))


def make_languages(root: Path) -> None:
    """Compile every catalogue next to its source."""
    for source in sorted(root.glob("src/pillarbox/locales/*/LC_MESSAGES/pillarbox.po")):
        with source.open("rb") as text:
            catalogue = read_po(text, locale=source.parts[-3], abort_invalid=True)
        half = source.with_name(f".{source.name}.{os.getpid()}")
        with half.open("wb") as compiled:
            write_mo(compiled, catalogue)
        half.replace(source.with_suffix(".mo"))


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc,valid-type]
    """Hatchling's way in: runs before it collects the files of an sdist, a wheel or an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Make what the build is about to pick up as `artifacts`."""
        make_assets(Path(self.root))
        make_languages(Path(self.root))


if __name__ == "__main__":
    make_assets(Path(__file__).parent)
    make_languages(Path(__file__).parent)
