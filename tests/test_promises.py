"""What is written is true: settings and codes are documented, ways in are limited, promises have their tests."""

import ast
import json
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from typer.testing import CliRunner

from pillarbox import wording
from pillarbox.app import create_app
from pillarbox.cli import commands
from pillarbox.core import errors
from pillarbox.core.form import CONTACT_FIELDS, HONEYPOT
from pillarbox.settings import Settings
from pillarbox.web.answering import STATUS
from pillarbox.web.openapi import FAILURES
from tests.running import BOB, until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs/api.md").read_text(encoding="utf-8")
PROMISING = [ROOT / "README.md", ROOT / "docs/guarantees.md", ROOT / "SECURITY.md"]

PROOF = re.compile(r"\[`(test_\w+)`\]\(([^)#]+\.py)\)")
GROUPS = {"messages", "held", "deliveries", "suppressions"}
"""Commands that have commands of their own."""
ELSEWHERE = {"git", "cd", "apt-get"}
"""Commands in shell blocks that are not ours."""


def made(tmp_path: Path, **settings: object) -> httpx2.AsyncClient:
    """Return a client that talks to an application of its own, without a network between."""
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path / 'pillarbox.db'}", maildir=tmp_path, **settings))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost")


def web_application(app: object) -> Starlette:
    """Return what the guards stand around."""
    while not isinstance(app, Starlette):
        app = getattr(app, "_app", None) or getattr(app, "app")  # noqa: B009 - the framework's guards call it so
    return app


def routes(tmp_path: Path, method: str) -> list[str]:
    """Return the path of every route that takes the method, mounted ones included."""
    waiting = list(web_application(made(tmp_path)._transport.app).routes)
    found = []
    while waiting:
        route = waiting.pop()
        waiting.extend(getattr(route, "routes", None) or ())
        if method in (getattr(route, "methods", None) or ()):
            found.append(route.path)
    return sorted(found)


def test_the_routes_are_found(tmp_path):
    assert {"/api/contact", "/send-message"} <= set(routes(tmp_path, "POST"))
    assert {"/", "/health"} <= set(routes(tmp_path, "GET"))


async def answers_to(app: Starlette, visitor: str, *ways_in: tuple[str, str]) -> list[httpx2.Response]:
    """Return what one visitor is answered on these ways in, one after another."""
    transport = httpx2.ASGITransport(app, client=(visitor, 50_000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return [
            await client.request(method, re.sub(r"{[^}]*}", "something", path), json={} if method == "POST" else None)
            for method, path in ways_in
        ]


async def test_every_route_has_a_limit(tmp_path):
    """And one that is used up leaves the others open: a probe of /health never meets what a visitor asked for."""
    ways_in = [(method, path) for method in ("GET", "POST") for path in routes(tmp_path, method)]
    assert len(ways_in) >= 12
    app = made(tmp_path, rate_limit="2/day", page_rate_limit="2/day", dispatch=False)._transport.app
    async with app.router.lifespan_context(app):
        for number, way_in in enumerate(ways_in):
            visitor = f"198.51.100.{number}"
            answers = await answers_to(app, visitor, *[way_in] * 4)
            assert [answer.status_code == 429 for answer in answers] == [False, False, True, True], way_in
            assert int(answers[-1].headers["retry-after"]) > 3_600
            assert answers[-1].headers["ratelimit-limit"] == "2"
            others = [other for other in ways_in if other[0] == "GET" and other[1] != way_in[1]]
            assert 429 not in {answer.status_code for answer in await answers_to(app, visitor, *others)}, way_in


async def test_every_route_that_takes_a_message_has_a_limit(tmp_path):
    async with made(tmp_path, rate_limit="2/day") as client:
        statuses = [(await client.post(path, json={})).status_code for path in ("/api/contact", "/send-message") * 2]
        late = await client.post("/api/contact", json={})
    assert statuses == [400, 400, 429, 429]
    assert late.json()["code"] == "TOO_MANY_REQUESTS"


async def test_a_forged_forwarding_header_buys_no_further_message(tmp_path):
    async with made(tmp_path, rate_limit="2/day") as client:
        for number in range(4):
            headers = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
            status = (await client.post("/api/contact", json={}, headers=headers)).status_code
            assert status == (400 if number < 2 else 429)


async def test_a_trusted_proxys_visitors_are_counted_one_by_one(tmp_path):
    async with made(tmp_path, rate_limit="1/day", trusted_proxies="127.0.0.1") as client:
        statuses = [
            (
                await client.post("/api/contact", json={}, headers={"X-Forwarded-For": f"198.51.100.9, {visitor}"})
            ).status_code
            for visitor in ("203.0.113.1", "203.0.113.2", "203.0.113.1")
        ]
    assert statuses == [400, 400, 429]


def test_what_a_robot_sends_is_thanked_for_and_kept_but_not_sent(pillarbox):
    pillarbox.serve()
    status, thanked = pillarbox.post(BOB | {HONEYPOT: "http://spam.example"})
    honest_status, honest = pillarbox.post(BOB | {"message": "An honest question."})
    assert status == honest_status == 200
    assert thanked | {"id": "", "next": ""} == honest | {"id": "", "next": ""}
    until(lambda: len(pillarbox.mails()) == 2)
    kept = json.loads(pillarbox.run("messages", "show", thanked["id"], "--json").stdout)
    assert kept["held_for"] == ["honeypot"]
    assert {letter["state"] for letter in kept["letters"]} == {"held"}
    assert all(honest["id"].encode() in mail for mail in pillarbox.mails())


def test_fields_of_your_own_are_kept_and_steer_nothing(pillarbox):
    pillarbox.serve(RECIPIENT_EMAIL="ada@example.org")
    own = {"to": "mallory@example.net", "bcc": "mallory@example.net", "subject": "Hello", "Date of stay": "1 May"}
    _status, thanked = pillarbox.post(BOB | own | {"_cc": "mallory@example.net"})
    until(lambda: len(pillarbox.mails()) == 2)
    kept = json.loads(pillarbox.run("messages", "show", thanked["id"], "--json").stdout)
    assert own.items() <= {field["name"]: field["values"][0] for field in kept["fields"]}.items()
    assert [letter["recipient"] for letter in kept["letters"]] == ["ada@example.org", BOB["email"]]
    headers = b"".join(mail.partition(b"\n\n")[0].partition(b"\r\n\r\n")[0] for mail in pillarbox.mails())
    assert b"mallory" not in headers


async def test_no_route_takes_anything_else_that_changes_something(tmp_path):
    for method in ("PUT", "PATCH", "DELETE"):
        assert routes(tmp_path, method) == []


def test_the_page_of_settings_is_what_the_settings_are():
    written = runpy.run_path(str(ROOT / "docs/make_settings.py"))["page"]()
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == written, "run make docs"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is_for(name):
    assert str(Settings.model_fields[name].description).endswith(".")
    (row,) = re.findall(rf"^\| `{name.upper()}` \| .+ \| .{{15,}} \|$", (ROOT / "docs/settings.md").read_text(), re.M)
    assert row


def test_no_page_names_a_setting_that_is_not_there():
    known = {name.upper() for name in Settings.model_fields} | {"SECRETS_DIR", "CONFIG_FILE"}
    for path in [*PROMISING, *ROOT.glob("docs/*.md"), *ROOT.glob("*.md")]:
        for block in re.findall(r"```ini\n(.*?)```", path.read_text(encoding="utf-8"), re.S):
            assert set(re.findall(r"^(\w+)=", block, re.M)) <= known, path.name


def documented_codes() -> dict[str, int]:
    return {code: int(status) for code, status in re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", API, re.M)}


def test_every_code_is_documented_with_its_status_and_no_other():
    of_fields = dict.fromkeys(errors.FIELD_SENTENCES, STATUS[errors.InvalidFields])
    of_answers = {error.code: status for error, status in STATUS.items() if error is not errors.InvalidFields}
    assert documented_codes() == of_fields | of_answers
    assert "500 on `/send-message`" in API


def test_every_error_has_a_status_and_every_status_a_description():
    classes = [errors.PillarboxError]
    for one in classes:
        classes.extend(sub for sub in one.__subclasses__() if sub.__module__.startswith("pillarbox."))
    assert set(classes[1:]) == set(STATUS)
    assert set(STATUS.values()) == set(FAILURES)


@pytest.mark.parametrize("language", wording.languages()[1:])
def test_every_code_is_explained_in_every_language(language):
    sentences = {error.code: error.sentence for error in STATUS} | dict(errors.FIELD_SENTENCES)
    for code, sentence in sentences.items():
        assert wording.translate(language, sentence) != sentence, code


def test_the_contract_names_every_field_with_its_bound():
    rows = re.findall(r"^\| `(\w+)` \| (\w*) ?\| (\d+(?:,\d+)?)", API, re.M)
    table = {name: (needed, most) for name, needed, most in rows}
    assert table == {field.name: ("yes" if field.required else "", f"{field.max_length:,}") for field in CONTACT_FIELDS}
    assert f"`{HONEYPOT}`" in API


def test_every_address_is_in_the_contract(tmp_path):
    paths = [*routes(tmp_path, "POST"), "/health", "/openapi.json"]
    assert [path for path in paths if f"{path}`" not in API] == []


def shell_lines() -> list[str]:
    """Return every line that the README tells people to type, and every command it lists."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    typed = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    listed = re.findall(r"^\| `((?:make|pillarbox) [^`]+)` \|", README, re.M)
    return typed + listed


def test_the_readme_begins_with_the_two_commands():
    assert shell_lines()[:2] == ["make run", "make test"]
    assert README.index("make run") < 1_000


@pytest.mark.parametrize("line", sorted({line for line in shell_lines() if line.startswith("make ")}))
def test_a_make_command_of_the_readme_is_there(line):
    target = line.split()[1]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.M)


def pillarbox_lines() -> set[str]:
    bare = {line.removeprefix(".venv/bin/") for line in shell_lines()}
    return {" ".join(word for word in line.split()[1:] if not word.isupper()) for line in bare if _is_ours(line)}


def _is_ours(line: str) -> bool:
    return line.startswith("pillarbox ")


def help_of(*words: str) -> str:
    """Return what a command says of itself."""
    shown = CliRunner().invoke(commands, [*words, "--help"], prog_name="pillarbox")
    assert shown.exit_code == 0, shown.output
    return shown.output


@pytest.mark.parametrize("command", sorted(pillarbox_lines()))
def test_a_pillarbox_command_of_the_readme_is_there(command):
    words = command.split()
    plain = [word for word in words if not word.startswith("-")]
    shown = help_of(*plain)
    assert plain[-1] in shown.partition("\n\n")[0]
    assert [word for word in words if word.startswith("--") and word not in shown] == []


def test_the_readme_lists_every_command():
    def below(*words: str) -> Iterator[str]:
        for name in re.findall(r"^[│ ] ([a-z][a-z-]+) {2,}\S", help_of(*words), re.M):
            yield from below(*words, name) if name in GROUPS else [" ".join((*words, name))]

    assert set(below()) == pillarbox_lines()


def test_what_else_the_readme_tells_people_to_type_is_installed():
    others = {line.split()[0] for line in shell_lines()} - {"make", "pillarbox", ".venv/bin/pillarbox"} - ELSEWHERE
    assert others == {"gunicorn", "uvicorn"}
    assert all(Path(sys.executable).with_name(name).exists() for name in others)
    named = {word for line in shell_lines() for word in line.split() if word.endswith(":app")}
    assert named == {"app:app"}
    assert "app = create_app()" in (ROOT / "app.py").read_text()


def test_every_promise_of_the_readme_names_its_test():
    chapter = README.split("## What it promises")[1].split("\n## ")[0]
    promises = re.split(r"\n(?=- )", chapter.strip())[1:]
    assert len(promises) >= 7
    assert [promise for promise in promises if not PROOF.search(promise)] == []


def test_every_row_of_the_guarantees_names_its_test():
    rows = re.findall(r"^\| .+ \|$", (ROOT / "docs/guarantees.md").read_text(encoding="utf-8"), re.M)
    promises = [row for row in rows if not row.startswith(("| promise", "|---"))]
    assert len(promises) >= 12
    assert [row for row in promises if not PROOF.search(row)] == []


def test_every_row_of_the_threat_model_names_its_test():
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    chapter = page.partition("## What is defended")[2].partition("\n## ")[0]
    threats = re.findall(r"^\| .+ \|$", chapter, re.M)[1:]
    assert len(threats) >= 15
    assert [row for row in threats if row.count(" | ") != 3 or not PROOF.search(row)] == []


@pytest.mark.parametrize("page", PROMISING, ids=lambda path: path.name)
def test_the_tests_that_prove_the_promises_exist(page):
    missing = []
    for name, link in PROOF.findall(page.read_text(encoding="utf-8")):
        path = (page.parent / link).resolve()
        if not path.is_file() or name not in functions(path):
            missing.append(f"{link}: {name}")
    assert missing == []


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
