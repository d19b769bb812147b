"""No secret is ever printed: everything goes wrong at once, and every word of it is looked through."""

import ast
import json
import os
import re
import subprocess
import sys
import urllib.parse
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pillarbox.cli import commands
from tests.asking import Answer, ask, exchange, post, submit
from tests.running import BOB, Pillarbox, until
from tests.servers.certificates import make_certificates
from tests.servers.name_server import NameServer
from tests.servers.scripted_smtp import ScriptedSmtp

ADA = "ada@example.org"
ROOT = Path(__file__).parents[1]

SECRETS = {
    "EMAIL_PASSWORD": "quagga-Pass7/word",
    "SECRET_KEY": "okapi-of-the-first-signing-key-0123456789",
    "CAPTCHA_SECRET": "numbat-captcha-0x4AAAA",
    "METRICS_TOKEN": "dugong-metrics-token",
    "ALARM_TO": "tapir-in-the-alarms-path",
    "ALARM_LOGIN": "gerenuk-login-of-the-alarm",
    "PING_URL": "serval-ping-7f1c",
    "SHOP": "margay-password-of-the-shop",
    "FOLDER": "kinkajou-out-of-the-secrets-folder",
    "DATABASE": "ocelot-of-the-database",
}
"""Each once in the world, by the setting that it stands in."""


def shapes_of(secret: str) -> set[str]:
    """Return the secret as programs write it: plain, in a URL, in hexadecimal, in Base64 at each of three offsets."""
    raw = secret.encode()
    found = {secret, urllib.parse.quote(secret, safe=""), raw.hex()}
    for before in range(3):
        encoded = b64encode(b"\0" * before + raw).decode()
        found.add(encoded[(before * 8 + 5) // 6 :].rstrip("=")[:-1])  # without the digits that its neighbours share
    return found


def leaks(text: str) -> list[str]:
    """Return the settings whose secret stands in the text."""
    lowered = text.lower()
    return [name for name, secret in SECRETS.items() if any(shape.lower() in lowered for shape in shapes_of(secret))]


@dataclass(frozen=True)
class Trouble:
    """An installation on which everything goes wrong: what it ever said, by where."""

    pillarbox: Pillarbox
    said: dict[str, str]


def settings(folder: Path, smtp: ScriptedSmtp) -> dict[str, str]:
    """Return settings that hold every secret, and a way out that refuses us."""
    (folder / "secrets").mkdir()
    (folder / "secrets/transports__post__email_password").write_text(SECRETS["FOLDER"])
    ca_file = str(folder / "ca.pem")
    ways = {}
    for name in ("SHOP", "POST"):
        ways |= {
            f"TRANSPORTS__{name}__SMTP_SERVER": "127.0.0.1",
            f"TRANSPORTS__{name}__SMTP_PORT": str(smtp.port),
            f"TRANSPORTS__{name}__SMTP_CA_FILE": ca_file,
            f"TRANSPORTS__{name}__EMAIL_ADDRESS": f"{name.lower()}@example.org",
        }
    return ways | {
        "SMTP_SERVER": "127.0.0.1",
        "SMTP_PORT": str(smtp.port),
        "SMTP_CA_FILE": ca_file,
        "SMTP_FALLBACK": "shop",
        "EMAIL_ADDRESS": ADA,
        "EMAIL_PASSWORD": SECRETS["EMAIL_PASSWORD"],
        "TRANSPORTS__SHOP__EMAIL_PASSWORD": SECRETS["SHOP"],
        "SECRETS_DIR": str(folder / "secrets"),
        "SECRET_KEY": f"{SECRETS['SECRET_KEY']},{SECRETS['SECRET_KEY'][::-1]}",
        "METRICS_TOKEN": SECRETS["METRICS_TOKEN"],
        "CAPTCHA": "turnstile",
        "CAPTCHA_SITE_KEY": "known-to-everybody",
        "CAPTCHA_SECRET": SECRETS["CAPTCHA_SECRET"],
        "CAPTCHA_VERIFY_URL": "http://127.0.0.1:9/verify",
        "ALARM_TO": f"http://127.0.0.1:9/{SECRETS['ALARM_TO']}, json://ops:{SECRETS['ALARM_LOGIN']}@127.0.0.1:9/",
        "PING_URL": f"http://127.0.0.1:9/{SECRETS['PING_URL']}",
        "PRIVATE_HOSTS": "127.0.0.1",
        "PING_EVERY": "1s",
        "ALARM_AFTER": "1s",
        "PROBE_INTERVAL": "1s",
        "SMTP_TIMEOUT": "2s",
        "LOG_LEVEL": "debug",
    }


@pytest.fixture(scope="module")
def trouble(tmp_path_factory) -> Iterator[Trouble]:
    """Let everything go wrong once, and gather what was said about it."""
    folder = tmp_path_factory.mktemp("secrets")
    server = ScriptedSmtp(context=make_certificates(folder).context, auth=("PLAIN", "LOGIN"), accounts={})
    server.script(AUTH=lambda moment: f"535 5.7.8 what is {moment.line} supposed to be?")
    with server.in_thread() as smtp, NameServer().in_thread() as names:
        made = Pillarbox(folder, **settings(folder, smtp), NAMESERVER=f"127.0.0.1:{names.address[1]}")
        try:
            said = dict(go_wrong(made))
        finally:
            made.stop()
        yield Trouble(made, said | {"the log": made.log.read_text()})


def go_wrong(made: Pillarbox) -> Iterator[tuple[str, str]]:
    """Yield what each page, command and process says, by its name."""
    made.serve(**NO_CAPTCHA)
    assert post(made.port, BOB).status == 200
    until(lambda: "535" in made.log.read_text())
    made.stop()
    made.really_starts = True  # for the command line
    process = made.serve()
    assert post(made.port, BOB | {"message": "Again", "cf-turnstile-response": "solved"}).status == 200
    yield from pages(made)
    yield "the command line", Path(f"/proc/{process.pid}/cmdline").read_text()
    yield "commands", typed(made, *[(line, {}) for line in COMMANDS])
    until(lambda: "alarm_untold" in made.log.read_text() and "ping_failed" in made.log.read_text())
    made.stop()
    yield "wrong settings", typed(made, *[("serve", wrong) for wrong in WRONG.values()])
    made.database.write_bytes(made.database.read_bytes()[:100] + b"\xff" * 50_000)
    yield "no database", typed(made, *[(line, {"DATABASE_URL": url}) for line in READING for url in NO_DATABASES])
    yield "a broken database", typed(made, ("messages list", {}), ("doctor --json", {"LOG_FORMAT": "json"}))
    yield "uvicorn", as_imported(made, WRONG["values"])


TYPING = """
import json, os, sys, traceback
from pillarbox.cli import main
for line, wrong in json.loads(sys.argv[1]):
    print("$", line, flush=True)
    sys.argv = ["pillarbox", *line.split()]
    before = dict(os.environ)
    os.environ.update(wrong)
    try:
        main()
    except SystemExit as ended:
        print("ended with", ended.code)
    except BaseException:
        traceback.print_exc()
    os.environ.clear()
    os.environ.update(before)
"""


def typed(made: Pillarbox, *lines: tuple[str, dict[str, str]]) -> str:
    """Return all that is said to these lines, one after the other, each with settings of its own."""
    return subprocess.run(
        [sys.executable, "-c", TYPING, json.dumps(lines)],
        cwd=made.folder,
        env=made.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=True,
    ).stdout


NO_CAPTCHA = {"CAPTCHA": "", "CAPTCHA_SITE_KEY": "", "CAPTCHA_SECRET": "", "CAPTCHA_VERIFY_URL": ""}
COMMANDS = (
    "doctor",
    "doctor --json",
    "doctor --test-alarm --json",
    "send-test --json",
    "messages list --json",
    "deliveries show 1",
    "deliveries show 1 --json",
)
READING = ("upgrade", "messages list", "doctor --json")
NO_DATABASES = [
    f"postgresql://forms:{SECRETS['DATABASE']}@127.0.0.1:9/pillarbox",
    f"postgresql://forms:{SECRETS['DATABASE']}@no-such.invalid/pillarbox?sslmode=require",
    f"postgresql://127.0.0.1:9/pillarbox?user=forms&password={SECRETS['DATABASE']}",
    f"postgresql://127.0.0.1:9/pillarbox?{SECRETS['DATABASE']}=1",
    f"postgresql://forms:{SECRETS['DATABASE']}@x@127.0.0.1/pillarbox",
    f"postgresql://forms@127.0.0.1:{SECRETS['DATABASE']}/pillarbox",
    f"mysql://forms:{SECRETS['DATABASE']}@127.0.0.1/pillarbox",
]
"""Addresses that hold a password, right and in every wrong place."""
WRONG = {
    "values": {
        "PORT": "nonsense",
        "SECRET_KEY": SECRETS["SECRET_KEY"][:20],
        "ALARM_TO": SECRETS["ALARM_TO"],
        "PING_URL": SECRETS["PING_URL"],
        "TRANSPORTS__SHOP__EMAIL_PASSWORT": SECRETS["SHOP"],
    },
    "names": {"TRANSPORT": "nowhere", "SMTP_FALLBACK": "nowhere"},
    "shapes": {"TRANSPORTS": SECRETS["SHOP"], "ALARM_TO": f"mailto:{SECRETS['ALARM_TO']}"},
}
"""What is wrong with the settings, those that hold a secret among them."""


def pages(made: Pillarbox) -> Iterator[tuple[str, str]]:
    """Yield every page, well and as an error."""
    token = {"Authorization": f"Bearer {SECRETS['METRICS_TOKEN']}"}
    for path in ("/", "/health", "/health/mail", "/metrics", "/openapi.json", "/thanks?id=x", "/mail", "/nothing"):
        for method in ("GET", "PUT"):
            yield f"{method} {path}", as_text(ask(made.port, method, path))
        yield f"GET {path} with the token", as_text(ask(made.port, "GET", path, headers=token))
        wrong = {"Authorization": token["Authorization"] + "x"}
        yield f"GET {path} with a wrong token", as_text(ask(made.port, "GET", path, headers=wrong))
    yield "bad JSON", as_text(post(made.port, b"{"))
    yield "a plain form", as_text(submit(made.port, {"name": ""}))
    yield "too much", as_text(post(made.port, b" " * 400_000))
    yield "no HTTP", as_text(exchange(made.port, b"nonsense\r\n\r\n"))


def as_text(answer: Answer) -> str:
    """Return all of an answer."""
    return f"{answer.status} {answer.headers} {answer.body.decode('utf-8', 'replace')}"


def as_imported(made: Pillarbox, wrong: dict[str, str]) -> str:
    """Return what a foreign server says of an application that can't start; it ends by itself."""
    ended = subprocess.run(
        [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", ROOT, "--port", "0"],
        cwd=made.folder,
        env=made.environment | wrong,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    return ended.stdout + ended.stderr


def test_no_page_log_or_command_holds_a_secret_whatever_goes_wrong(trouble):
    assert {name: found for name, text in trouble.said.items() if (found := leaks(text))} == {}


def test_what_was_looked_through_really_told_of_the_trouble(trouble):
    said = trouble.said
    assert "535" in said["the log"]
    assert said["commands"].count("535") >= 3
    assert '"taken": false' in said["commands"]
    assert said["wrong settings"].count("ended with 2") == len(WRONG)
    assert said["no database"].count("ended with 2") == len(READING) * len(NO_DATABASES)
    assert said["a broken database"].count("ended with 2") == 2
    assert "pillarbox_" in said["GET /metrics with the token"]
    assert said["GET /metrics with a wrong token"].startswith("404")
    assert "Traceback" in said["uvicorn"]
    assert all(text.strip() for text in said.values())


def test_no_file_of_the_data_folder_holds_a_secret(trouble):
    files = list(trouble.pillarbox.database.parent.rglob("*"))
    assert len(files) > 1
    for file in files:
        assert leaks(file.read_bytes().decode("latin-1")) == [], file.name


def test_a_secret_in_the_log_would_be_found():
    password = SECRETS["EMAIL_PASSWORD"]
    for user in ("a", "ad", "ada"):
        assert leaks(b64encode(f"\0{user}\0{password}".encode()).decode()) == ["EMAIL_PASSWORD"]
    assert leaks(urllib.parse.quote(f"x{password}", safe="")) == ["EMAIL_PASSWORD"]
    assert leaks("nothing at all") == []


def test_a_settings_secrets_are_no_part_of_how_python_writes_them(trouble):
    with_them = trouble.pillarbox.environment
    shown = subprocess.run(
        [sys.executable, "-c", "from pillarbox.settings import load; s = load(); print(s, repr(s), s.ways)"],
        cwd=trouble.pillarbox.folder,
        env=with_them | {"DATABASE_URL": f"postgresql://forms:{SECRETS['DATABASE']}@127.0.0.1:9/pillarbox"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "shop@example.org" in shown
    assert leaks(shown) == []


def test_a_command_that_crashes_shows_no_variables():
    assert commands.pretty_exceptions_enable is False


SECRET_WORDS = re.compile("secret|password|token|hmac|signed", re.IGNORECASE)


COMPARED_OPENLY = {
    "code not in _ABOUT_THE_TOKEN": "a captcha provider's codes of errors, which are in its manual",
    "secret in kind.test_secrets": "our own setting with the keys for tests that are in the provider's manual",
}
"""What the search finds and is none, with the reason."""


def comparisons() -> Iterator[tuple[str, str]]:
    """Yield (file, comparison) for each `==`, `!=` and `in` between things whose names speak of a secret."""
    for path in sorted((ROOT / "src/pillarbox").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn):
                names = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node)}
                if any(SECRET_WORDS.search(name) for name in names):
                    yield os.path.relpath(path, ROOT / "src/pillarbox"), ast.unparse(node)


def test_secrets_are_compared_in_constant_time():
    found = [(file, comparison) for file, comparison in comparisons() if comparison not in COMPARED_OPENLY]
    assert found == []
    compared = (ROOT / "src/pillarbox/web/health.py").read_text()
    assert "compare_digest(token" in compared
