"""The pages that people read: their links lead somewhere, their pictures are there, and they describe this tree."""

import re
import struct
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench/README.md"])
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")


def where(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(path: Path) -> str:
    """Return the page without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", text(path), flags=re.S))


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_are_there():
    expected = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"} | {
        f"docs/{name}.md" for name in ("index", "start", "settings", "api", "design", "guarantees")
    }
    assert expected <= {where(path) for path in PAGES}
    assert [path.name[:3] for path in DECISIONS] == [f"{number:03}" for number in range(1, len(DECISIONS) + 1)]


@pytest.mark.parametrize("page", PAGES, ids=where)
def test_every_link_leads_somewhere(page):
    lost = []
    for _picture, link in LINK.findall(text(page)):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        found = (page.parent / target).resolve() if target else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            lost.append(link)
    assert lost == []


def test_every_page_can_be_reached_from_the_readme():
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page in PAGES:
            reached.add(page)
            waiting.extend((page.parent / link.partition("#")[0]).resolve() for _, link in LINK.findall(text(page)))
    reached |= {ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"}  # every forge shows these itself
    assert {where(page) for page in PAGES} - {where(page) for page in reached} == set()


def test_the_readme_shows_the_page_and_a_mail():
    pictures = [link for picture, link in LINK.findall(text(ROOT / "README.md")) if picture]
    assert any("form" in link for link in pictures)
    assert any("mail" in link for link in pictures)
    for link in pictures:
        header = (ROOT / link).read_bytes()[:24]
        assert header[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", header[16:24])
        assert width >= 360
        assert height >= 300


def test_every_picture_of_the_readme_says_what_it_shows():
    assert "![](" not in text(ROOT / "README.md")


def test_the_design_names_every_file_of_the_program_and_no_other():
    tree = text(ROOT / "docs/design.md").split("src/pillarbox/\n")[1].split("\ntests/")[0]
    named, folder = set(), ""
    for line in tree.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        if name.endswith("/"):
            folder = name if len(indent) == 2 else folder
            if (ROOT / "src/pillarbox" / name).is_dir():
                named.add(name)
        elif name.endswith(".py"):
            named.add(f"{folder if len(indent) > 2 else ''}{name}")
    root = ROOT / "src/pillarbox"
    files = {str(path.relative_to(root)) for path in root.rglob("*.py") if "migrations" not in path.parts}
    folders = {f"{path.name}/" for path in root.iterdir() if path.is_dir() and path.name != "__pycache__"}
    rooms = {name for name in files if not name.endswith("__init__.py")} | {"__init__.py"}
    assert named == rooms | folders


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_says_why_what_and_what_follows(page):
    bold = [word.rstrip(".") for word in re.findall(r"^\*\*([^*]+)\*\*", text(page), re.M)]
    assert bold[:2] == ["Context", "Decision"]
    assert bold[-1] == "Consequences"
    assert "Measured" in bold
    assert text(page).startswith(f"# {page.stem[:3]}: ")
    assert page.name in text(ROOT / "docs/index.md")
    assert 15 <= len(text(page).splitlines()) <= 45


@pytest.mark.parametrize("page", PAGES, ids=where)
def test_a_page_is_written_for_people_who_have_only_this_repository(page):
    words = prose(page)
    assert not re.search(r"localhost:\d|/home/\w|/root/", words)
    assert not re.search(r"\b(TODO|FIXME|XXX|TBD)\b", words)


def test_the_version_in_the_changes_is_the_programs():
    from pillarbox import __version__

    newest = re.search(r"^## (\S+?),? ", text(ROOT / "CHANGELOG.md"), re.M)
    assert newest
    assert newest[1] == __version__
