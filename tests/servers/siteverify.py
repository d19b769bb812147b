"""The providers of captchas on loopback: they give out tokens as their widgets do, and vouch once for each."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_urlsafe
from typing import Any
from urllib.parse import parse_qs

SILENCE = "silence"
"""Take the question and never answer."""
GARBAGE = "garbage"
"""Answer 200 and a page, as a gate in between does."""

Mood = int | str | dict[str, Any] | tuple[int, dict[str, Any]]
"""A status, one of the words above, or the JSON that everybody gets, or both. An empty text for the truth."""

SPENT = {"turnstile": "timeout-or-duplicate", "hcaptcha": "invalid-or-already-seen-response"}
"""What is said of a token that was shown before; reCAPTCHA's word is Turnstile's."""
SECRETS = {kind: f"our-{kind}-secret" for kind in ("turnstile", "hcaptcha", "recaptcha", "recaptcha3")}
HOST = "forms.example.org"

Judged = Mapping[str, Any]
DUMMY_TOKEN = "XXXX.DUMMY.TOKEN.XXXX"
"""What the widgets of Turnstile's test keys give."""
NOT_GOOD: Judged = {"success": False, "error-codes": ["invalid-input-response"]}
TEST_KEYS: Mapping[str, tuple[str, Judged]] = {
    "1x0000000000000000000000000000000AA": (
        DUMMY_TOKEN,
        {"success": True, "error-codes": [], "hostname": "example.com", "metadata": {"result_with_testing_key": True}},
    ),
    "2x0000000000000000000000000000000AA": (DUMMY_TOKEN, NOT_GOOD),
    "3x0000000000000000000000000000000AA": (
        DUMMY_TOKEN,
        {"success": False, "error-codes": ["timeout-or-duplicate"]},
    ),
    "0x0000000000000000000000000000000000000000": (
        "10000000-aaaa-bbbb-cccc-000000000001",
        {"success": True, "credit": False, "hostname": "dummy-key-pass"},
    ),
    "6LeIxAcTAAAAAGG-vFI1TnRWxMZNFuojJ4WifJWe": ("", {"success": True, "hostname": "testkey.google.com"}),
}
"""Secrets for tests: the one token that each takes (empty: any), and what is said of it."""


@dataclass(frozen=True)
class Question:
    """What was asked: the fields of the form, and the headers by lower-case name."""

    fields: Mapping[str, list[str]]
    headers: Mapping[str, str]


class Siteverify:
    """One provider. `mood` says what everybody gets until it is changed; `asked` remembers all questions."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.mood: Mood = ""
        self.asked: list[Question] = []
        self._solved: dict[str, dict[str, Any]] = {}
        self._spent: set[str] = set()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with suppress(OSError):
                    provider._answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/siteverify"

    @property
    def settings(self) -> dict[str, str]:
        """What lets a Pillarbox ask here."""
        return {
            "CAPTCHA": self.kind,
            "CAPTCHA_SITE_KEY": "our-site-key",
            "CAPTCHA_SECRET": SECRETS[self.kind],
            "CAPTCHA_VERIFY_URL": self.url,
            "CAPTCHA_HOSTNAMES": HOST,
            "PRIVATE_HOSTS": "127.0.0.0/8",
        }

    def solve(self, host: str = HOST, **judged: object) -> str:
        """Return the token of a captcha that a person solved on this host, with what else is known of it."""
        token = f"0.{token_urlsafe(200)}"
        known: dict[str, Any] = {"action": "contact", "score": 0.9} if self.kind == "recaptcha3" else {}
        self._solved[token] = known | {"hostname": host} | judged
        return token

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0)).decode()
        question = Question(parse_qs(body), {name.lower(): value for name, value in handler.headers.items()})
        self.asked.append(question)
        if self.mood == SILENCE:
            self._ending.wait(60)
            return
        status, said = 200, json.dumps(self._judge(question.fields))
        if isinstance(self.mood, int):
            status, said = self.mood, "Sorry"
        elif self.mood == GARBAGE:
            said = "<h1>Please log in to this network</h1>"
        elif isinstance(self.mood, dict):
            said = json.dumps(self.mood)
        elif isinstance(self.mood, tuple):
            status, said = self.mood[0], json.dumps(self.mood[1])
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(said.encode())))
        handler.end_headers()
        handler.wfile.write(said.encode())

    def _judge(self, fields: Mapping[str, list[str]]) -> Judged:
        secret, token = fields.get("secret", [""])[0], fields.get("response", [""])[0]
        if not secret or not token:
            return {"success": False, "error-codes": [f"missing-input-{'response' if secret else 'secret'}"]}
        if secret in TEST_KEYS:
            taken, judged = TEST_KEYS[secret]
            return judged if taken in {token, ""} else NOT_GOOD
        if secret != SECRETS[self.kind]:
            return {"success": False, "error-codes": ["invalid-input-secret"]}
        return self._spend(token)

    def _spend(self, token: str) -> Judged:
        with self._lock:
            if token in self._spent:
                return {"success": False, "error-codes": [SPENT.get(self.kind, "timeout-or-duplicate")]}
            if token not in self._solved:
                return NOT_GOOD
            self._spent.add(token)
        return {"success": True, "challenge_ts": "2026-11-22T12:00:00Z"} | self._solved[token]

    @contextmanager
    def running(self) -> Iterator["Siteverify"]:
        """Serve while the block runs."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ending.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join(10)
