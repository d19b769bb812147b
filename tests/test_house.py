"""The rules that hold the house together, as docs/design.md tells them: sizes, names, floors, what stays outside."""

import ast
import functools
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src/pillarbox").rglob("*.py"))
TOOLS = sorted([*(ROOT / "bench").rglob("*.py"), *(ROOT / "docs").rglob("*.py"), *ROOT.glob("*.py")])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SHOWN = sorted(
    path
    for folder in ("web/templates", "web/static", "letters")
    for path in (ROOT / "src/pillarbox" / folder).glob("*")
    if path.is_file()
)
LOCKS = sorted(ROOT.glob("requirements*.lock"))

NAMELESS = {
    "utils",
    "util",
    "helpers",
    "helper",
    "manager",
    "managers",
    "service",
    "services",
    "base",
    "common",
    "misc",
}
FLOORS = {
    "aiosmtplib": "5.1.2",  # CRLF in commands; replies buffered before TLS; late answers taken for the next letter
    "starlette": "1.10",  # limits ignored for urlencoded forms
    "python-multipart": "0.0.31",  # unlimited part headers, path traversal
    "h11": "0.16",  # request smuggling by chunk ends
    "gunicorn": "23",  # request smuggling by Transfer-Encoding
    "idna": "3.7",  # quadratic time
}
"""The oldest versions without a hole that we know of; what the hole was."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function


def where(path: Path, node: ast.AST | None = None) -> str:
    line = f":{node.lineno}" if node and hasattr(node, "lineno") else ""
    return f"{path.relative_to(ROOT)}{line}"


@functools.lru_cache(maxsize=1)  # a test asks the same file several times over
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(paths: list[Path]) -> Iterator[tuple[str, Function]]:
    for path in paths:
        for node in ast.walk(tree(path)):
            if isinstance(node, Function):
                yield f"{where(path, node)} {node.name}", node


def docstring_lines(node: Documented) -> int:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return (first.end_lineno or first.lineno) - first.lineno + 1
    return 0


def size(function: Function) -> int:
    """Return a function's lines from `def` to its end, without its docstring."""
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring_lines(function)


def arguments(function: Function) -> int:
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return sum(argument.arg not in {"self", "cls"} for argument in every)


def test_there_is_something_to_look_at():
    assert len(SOURCES) > 40
    assert len(TESTS) > 20
    assert len(SHOWN) > 10
    assert len(LOCKS) == 2


def test_no_function_is_longer_than_fifty_lines():
    assert [name for name, one in functions([*SOURCES, *TOOLS, *TESTS]) if size(one) > 50] == []


def test_the_usual_function_is_short():
    sizes = [size(one) for _name, one in functions(SOURCES)]
    assert median(sizes) <= 9
    assert quantiles(sizes, n=10)[8] <= 25


def test_no_file_is_longer_than_four_hundred_lines():
    lengths = {where(path): len(path.read_text(encoding="utf-8").splitlines()) for path in [*SOURCES, *TOOLS, *TESTS]}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_function_takes_more_than_six_arguments():
    assert [name for name, one in functions([*SOURCES, *TOOLS]) if arguments(one) > 6] == []


def test_no_file_has_a_name_that_says_nothing():
    names = {where(path): path.stem if path.stem != "__init__" else path.parent.name for path in [*SOURCES, *TESTS]}
    assert {place for place, name in names.items() if name in NAMELESS or name.split("_")[-1] in NAMELESS} == set()


def public(path: Path) -> Iterator[tuple[str, Documented]]:
    """Yield the module and everything in it that somebody else may use, named as people would."""
    module = tree(path)
    yield where(path), module
    inside: list[tuple[str, Documented]] = [("", module)]
    while inside:
        prefix, holder = inside.pop()
        for node in holder.body:
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
                yield f"{where(path, node)} {prefix}{node.name}", node
                if isinstance(node, ast.ClassDef):
                    inside.append((f"{node.name}.", node))


def answers_for_another(path: Path, qualified: str) -> bool:
    """Tell whether this is a method that a library calls by its own name, whose promise is the library's."""
    holder, dot, method = qualified.rpartition(".")
    if not dot or path not in SOURCES:
        return False
    module = importlib.import_module(".".join(path.relative_to(ROOT / "src").with_suffix("").parts))
    ancestors = functools.reduce(getattr, holder.split("."), module).__mro__[1:]
    return any(method in vars(one) for one in ancestors if not one.__module__.startswith("pillarbox"))


@pytest.mark.parametrize("path", [*SOURCES, *TOOLS], ids=where)
def test_everything_public_says_what_it_promises(path):
    silent = [name for name, node in public(path) if not ast.get_docstring(node)]
    assert [name for name in silent if not answers_for_another(path, name.rpartition(" ")[2])] == []


@pytest.mark.parametrize("path", TESTS, ids=where)
def test_every_test_file_says_what_it_is_about(path):
    assert ast.get_docstring(tree(path)) or not path.read_text().strip()


def test_every_floor_imports_only_what_lies_below():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9]\d* kept, 0 broken", done.stdout), done.stdout


def contracts() -> dict[str, dict]:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert written["include_external_packages"]
    assert not written["exclude_type_checking_imports"]
    return {contract["name"]: contract for contract in written["contracts"]}


def test_every_room_has_its_floor():
    """A file that no floor names could import anything."""
    floors = {
        part.strip()
        for floor in contracts()["Floors: each imports only what lies below"]["layers"]
        for part in floor.split("|")
    }
    rooms = {f"pillarbox.{path.stem}" for path in (ROOT / "src/pillarbox").glob("*.py")} | {
        f"pillarbox.{path.parent.name}" for path in (ROOT / "src/pillarbox").glob("*/__init__.py")
    }
    assert rooms - floors == {"pillarbox.__init__"}
    assert floors - rooms == set()


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def shortens_a_bound(call: ast.Call) -> bool:
    """Tell whether only a number in capitals gets another value: a limit that a test need not wait for."""
    name, value = (ast.unparse(argument).strip("'\"") for argument in call.args[1:3])
    return name.isupper() and value.replace(".", "").replace("_", "").isdigit()


@pytest.mark.parametrize("path", TESTS, ids=where)
def test_no_test_replaces_a_part_by_a_puppet(path):
    module = tree(path)
    assert not {name for name in imported(path) if re.match(r"(unittest\.)?mock\b|pytest_mock\b", name)}
    assert "mocker" not in {argument.arg for _name, one in functions([path]) for argument in one.args.args}
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    attributes = {node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute)}
    names = {ast.unparse(call.func) for call in calls} if attributes & {"patch", "MonkeyPatch"} else set()
    assert not {name for name in names if name.rpartition(".")[2] in {"patch", "MonkeyPatch"} or ".patch." in name}
    setting = [call for call in calls if last_name(call.func) == "setattr"]
    assert all(shortens_a_bound(call) for call in setting if ast.unparse(call.func) == "monkeypatch.setattr")


def sleeps(node: ast.AST) -> list[str]:
    """Return the sleeps within; `sleep(0)` lets others run, and one until a random moment waits for nothing."""
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call) and last_name(one.func) == "sleep"]
    names = [ast.unparse(one.func) for one in calls if not re.search(r"sleep\(0\)|random\.", ast.unparse(one))]
    return [name for name in names if name in {"sleep", "time.sleep", "asyncio.sleep", "anyio.sleep"}]


def last_name(called: ast.expr) -> str:
    """Return `c` of `a.b.c`; to write all that is called out as text would take most of a second a file."""
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


@pytest.mark.parametrize("path", [path for path in TESTS if path.name.startswith("test_")], ids=where)
def test_no_test_sleeps(path):
    assert sleeps(tree(path)) == []


def test_who_waits_for_a_server_looks_again_until_a_deadline():
    waiting = [(name, one) for name, one in functions(TESTS) if "time.sleep" in sleeps(one)]
    assert waiting
    assert [
        name for name, one in waiting if "deadline" not in ast.unparse(one) or "while" not in ast.unparse(one)
    ] == []


@pytest.mark.parametrize("path", SHOWN, ids=where)
def test_a_page_or_letter_asks_nobody_else_for_anything(path):
    content = path.read_text(encoding="utf-8")
    assert re.findall(r"""https?://|["'(]//\w|@import|url\(""", content.replace("http://www.w3.org/2000/svg", "")) == []


@pytest.mark.parametrize("path", LOCKS, ids=where)
def test_a_lock_pins_by_hash_and_names_no_place(path):
    content = path.read_text()
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==", content, re.MULTILINE)
    assert len(pinned) > 20
    for block in re.split(r"\n(?=\S)", content.strip()):
        if "==" in block:
            assert "--hash=sha256:" in block, block.splitlines()[0]
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|git\+| @ ", content)


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_no_dependency_is_older_than_its_last_known_hole(name, floor):
    assert Version(version(name)) >= Version(floor)
    for lock in LOCKS:
        (pinned,) = re.findall(rf"^{re.escape(name)}==(\S+)", lock.read_text(), re.MULTILINE)
        assert Version(pinned) >= Version(floor), where(lock)
    (allowed,) = re.findall(rf'"{re.escape(name)}[>=~]=([\d.]+)', (ROOT / "pyproject.toml").read_text())
    assert Version(allowed) >= Version(floor)


def test_git_holds_no_file_that_somebody_else_made():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = done.stdout.splitlines()
    assert [name for name in tracked if re.search(r"vendor/|\.min\.|\.mo$|node_modules|\.whl$", name)] == []


def test_help_imports_neither_the_web_framework_nor_the_database(tmp_path):
    program = """
import sys
from pillarbox.__main__ import main
sys.argv = ["pillarbox", "--help"]
try:
    main()
finally:
    print("HEAVY", sorted({"fastapi", "starlette", "sqlalchemy", "alembic", "uvicorn", "babel"} & set(sys.modules)))
"""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr
