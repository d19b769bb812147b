"""Every bad input of the catalogue is refused in the one shape, shown again to a person, or kept and mailed as typed.

Afterwards an honest message is thanked for by the same process, which holds no more memory and no more files.
"""

import email.policy
import re
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from html import unescape
from itertools import product
from pathlib import Path
from urllib.parse import unquote_plus, urlencode

import pytest
from tests.asking import (
    BROWSER,
    FORM,
    JSON,
    Answer,
    ask,
    assert_failure,
    assert_thanks,
    exchange,
    multipart,
    post,
    resident_bytes,
)
from tests.running import BOB, Pillarbox, until
from tests.web import test_raw_http
from tests.web.bad_fields import FIELDS, LINE_BREAKS, Typed
from tests.web.bad_input import BODIES, MULTIPART, Body

PATHS = ("/api/contact", "/send-message")
PROGRAM = {"Accept": JSON}


class Door:
    """A running Pillarbox, and what has come out of its Maildir so far."""

    def __init__(self, running: Pillarbox) -> None:
        self.running = running
        self.port = running.port
        self._read: set[Path] = set()
        self._letters: dict[str, bytes] = {}
        self.usual = sorted(self.letter(post(self.port, BOB).json["id"]).keys())

    def letter(self, number: str) -> EmailMessage:
        """Return the owner's letter about the message with this number once it is there."""
        content = until(lambda: self._gather() or self._letters.get(number))
        return BytesParser(policy=email.policy.default).parsebytes(content)

    def _gather(self) -> None:
        folder = self.running.folder / "mail" / "new"
        for path in {*(folder.iterdir() if folder.exists() else ())} - self._read:
            self._read.add(path)
            content = path.read_bytes()
            if found := re.search(rb"^Message-ID: <([0-9A-Z-]+)\.notification@", content, re.M):
                self._letters[found[1].decode()] = content

    def files(self) -> set[str]:
        """Return what lies in its folders, but for the letters."""
        folder = self.running.folder
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if "mail/new" not in str(path)}

    def open_files(self) -> int:
        """Return how many files and connections it has open."""
        return len(list(Path(f"/proc/{self.running.processes[0].pid}/fd").iterdir()))

    def resident_bytes(self) -> int:
        return resident_bytes(self.running.processes[0].pid)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """What the table is thrown at; whatever it was, nothing of it is left when the table is through."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "tmp").mkdir()
    running = Pillarbox(folder, RECIPIENT_EMAIL="ada@example.org", TMPDIR=str(folder / "tmp"))
    running.serve()
    try:
        yield from unchanged(Door(running))
    finally:
        running.stop()


def unchanged(made: Door) -> Iterator[Door]:
    """Lend it out; afterwards it has to hold as much memory and as many files as before, and to thank for a message."""
    for number, encoding in product(range(5), (JSON, FORM, MULTIPART)):  # what is loaded when it is first needed
        typed = Typed({"email": f"bob-{number}@bücher.example", "message": "ä" * 20_000})
        made.letter(post_typed(made, PATHS[0], typed, encoding, PROGRAM).json["id"])
    memory, files, descriptors = made.resident_bytes(), made.files(), made.open_files()
    yield made
    until(lambda: made.open_files() <= descriptors + 2)  # the store's readers open a file when they are first needed
    until(lambda: made.resident_bytes() - memory < 16 * 1024 * 1024)
    until(lambda: made.files() == files)  # a letter may be on its way
    assert_thanks(post(made.port, BOB))


@pytest.fixture
def door(served: Door) -> Iterator[Door]:
    yield served
    assert_thanks(post(served.port, BOB))
    assert served.running.processes[0].poll() is None
    log = served.running.log.read_text()
    assert "request_failed" not in log
    assert "Traceback" not in log


def send(door: Door, path: str, body: Body, **headers: str) -> Answer:
    """Post the body as it is, under as many Content-Type lines as it has."""
    lines = [f"Content-Type: {one}" for one in body.types]
    lines += [f"{name}: {value}" for name, value in (headers | dict(body.headers or {})).items()]
    head = "".join(f"{line}\r\n" for line in (f"POST {path} HTTP/1.1", "Host: x", *lines))
    request = f"{head}Content-Length: {len(body.content)}\r\n\r\n".encode("latin-1") + body.content
    return exchange(door.port, request)


def from_a_page(body: Body) -> bool:
    """Tell whether a browser without JavaScript could have sent it: what comes as JSON is answered so."""
    return not any(one.startswith(JSON) for one in body.types)


def assert_letter(door: Door, number: str, *texts: str) -> None:
    """Assert that a mail program reads every text in the owner's letter, and finds no header but the usual ones."""
    letter = door.letter(number)
    assert sorted(letter.keys()) in (door.usual, sorted({*door.usual} - {"Reply-To"}))
    assert not letter.defects
    assert [one.addr_spec for one in letter["To"].addresses] == ["ada@example.org"]
    assert [one.addr_spec for one in letter["From"].addresses] == ["pillarbox@localhost"]
    assert len(letter["Reply-To"].addresses if letter["Reply-To"] else [""]) == 1
    plain = letter.get_body(("plain",)).get_content().replace("\r\n", "\n")
    assert [text for text in texts if text not in plain] == []


@pytest.mark.parametrize("case", BODIES)
def test_a_body_is_kept_or_refused_in_the_one_shape(door, case):
    thanked = []
    for path, body in product(PATHS, BODIES[case]):
        answer = send(door, path, body, **PROGRAM)
        status, code = body.answered
        assert answer.status == status, (body.types, body.content[:200], answer.body)
        if status == 200:
            assert_thanks(answer)
            thanked.append(answer.json["id"])
        else:
            assert_failure(answer, status, code or None)
    for number in thanked:
        assert_letter(door, number, f"Message:\n\n{BOB['message']}\n")


@pytest.mark.parametrize("case", [name for name, bodies in BODIES.items() if any(map(from_a_page, bodies))])
def test_a_person_is_shown_a_page_with_what_can_still_be_made_out(door, case):
    for path, body in product(PATHS, filter(from_a_page, BODIES[case])):
        answer = send(door, path, body, **BROWSER)
        status, _ = body.answered
        assert answer.status == (303 if status == 200 else status), (body.types, body.content[:200], answer.body)
        if status != 200:
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            is_whole = BOB["message"] in unquote_plus(body.content.decode("latin-1"))
            is_shown = BOB["message"] in unescape(answer.text)
            assert is_shown == (is_whole and not body.gone), (body.types, body.content[:200])


def post_typed(door: Door, path: str, typed: Typed, encoding: str, headers: dict[str, str]) -> Answer:
    fields = BOB | dict(typed.fields)
    if encoding == JSON:
        return post(door.port, fields, path, headers)
    pairs = [(f'name="{name}"', text) for name, text in fields.items()]
    content = urlencode(fields).encode() if encoding == FORM else multipart(*pairs)
    return ask(door.port, "POST", path, content, headers | {"Content-Type": encoding})


@pytest.mark.parametrize("case", FIELDS)
def test_what_is_typed_is_mailed_as_it_was_meant_or_refused(door, case):
    typed, thanked = FIELDS[case], []
    for path, encoding in product(PATHS, (JSON, FORM, MULTIPART)):
        answer = post_typed(door, path, typed, encoding, PROGRAM)
        if typed.fault:
            assert_failure(answer, 400, typed.fault)
            assert answer.json["errors"][0]["field"] == next(iter(typed.fields))
        else:
            assert_thanks(answer)
            thanked.append(answer.json["id"])
    for number in thanked:
        assert_letter(door, number, *typed.texts)


@pytest.mark.parametrize("case", [name for name, typed in FIELDS.items() if typed.fault])
def test_a_person_is_shown_again_what_was_typed_and_refused(door, case):
    typed = FIELDS[case]
    for path, encoding in product(PATHS, (FORM, MULTIPART)):
        page = post_typed(door, path, typed, encoding, BROWSER)
        assert (page.status, page.headers["content-type"]) == (400, "text/html; charset=utf-8")
        shown = unescape(page.text)
        assert [text for text in (BOB | dict(typed.fields)).values() if text not in shown] == []


@pytest.mark.parametrize("piece", ["(", "@", "a.", "\\", "=?", "xn--", "\u0300", "é", "<", "[", "ß."])
def test_hostile_addresses_are_refused_by_their_length_first(door, piece):
    assert_failure(post(door.port, BOB | {"email": f"{piece * 30_000}@b.example"}), 400, "TOO_LONG")
    assert_failure(post(door.port, BOB | {"email": "a@" + (piece * 110)[:200]}), 400, "TYPE_EMAIL")


CATALOGUE = (
    *("empty", "null", "[]", '"x"', "1e999", "nested 10,000 deep", "nested 100,000 deep", "cut JSON"),
    *("two JSON values", "BOM", "UTF-16", "invalid UTF-8", "overlong UTF-8", "lone surrogates", "NUL"),
    *("duplicate keys", "10,000 keys", "a key of 100 kB", "numbers where text belongs"),
    *("booleans where text belongs", "objects where text belongs", "a body one byte over the limit"),
    "test_a_content_length_that_is_too_short_ends_the_connection_behind_the_answer",
    *("test_a_content_length_that_is_too_long_keeps_nothing_when_the_client_goes", "chunked without end"),
    *("Content-Encoding: gzip (a bomb)", "multipart without boundary", "a boundary of 1,000 characters"),
    *("multipart cut", "multipart nested", "10,000 parts", "parts without names", "the same name twice"),
    *("part headers of 100 kB", "a part with Content-Transfer-Encoding", "a file"),
    *("Content-Type missing", "Content-Type doubled", "Content-Type text/plain", "charset=utf-7"),
    *("only blanks", "only zero-width characters", "name of 201", "message of 20,001", "right-to-left overrides"),
    *("50 combining marks on a letter", "emoji with joiners", "=?utf-8?q?…?= in the name"),
    *("=?utf-8?q?…?= in the subject", *(f"{mark} in a name" for mark in '"\\<>,;:@')),
    *(f"{end} in the {field}" for end in LINE_BREAKS for field in BOB | {"company": "", "subject": ""}),
    *("quoted local part", "IDN", "Unicode local part (SMTPUTF8)", "64-character local part"),
    *("65-character local part", "two addresses", "group syntax", "comments", "user%host@relay", "IP literal"),
    *("trailing dot", "mixed script", "200 headers", "a header of 64 kB", "a header of 100 kB", "two Hosts"),
    *("absolute-form targets", "X-Forwarded-For of 10,000 entries", "Accept: */*;q=x", "cookies of 64 kB"),
    *("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "test_head_is_refused_without_a_body"),
)
"""What broke others' doors: each is a case above or in test_raw_http.py, or a test there of its own."""


def tried() -> Iterator[object]:
    """Return every test's name and every value that it is run with, as pytest itself is told."""
    for module in (test_raw_http, sys.modules[__name__]):
        for name, test in vars(module).items():
            yield name
            for mark in getattr(test, "pytestmark", ()):
                yield from mark.args[1]


def test_nothing_of_the_catalogue_is_left_out():
    known = {one for one in tried() if isinstance(one, str)}
    assert [case for case in CATALOGUE if case not in known] == []
