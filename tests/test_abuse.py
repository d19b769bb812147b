"""Abuse, case by case: nothing that a visitor writes takes effect anywhere, and each known case has its test."""

import ast
import csv
import io
import json
import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from html import unescape
from html.parser import HTMLParser
from itertools import count
from pathlib import Path

import pytest

from tests.asking import Answer, ask, post, submit
from tests.running import BOB, Pillarbox, until
from tests.servers.http_sink import HttpSink
from tests.servers.scripted_smtp import ScriptedSmtp, Transaction

TESTS = Path(__file__).parent

CATALOGUE = {
    "confirmation bombing: one address": (
        "test_confirmations.py::test_a_bomb_of_confirmations_is_defused_whoever_throws_it"
    ),
    "confirmation bombing: many addresses": (
        "test_confirmations.py::test_sixty_leave_in_an_hour_whatever_comes_by_two_loops_at_once"
    ),
    "confirmation bombing: plus-tags, dots and case": (
        "core/test_confirming.py::test_ways_of_writing_a_mailbox_have_one_key"
    ),
    "confirmation bombing: by many clients": (
        "test_confirmations.py::test_neither_mailbox_nor_network_is_passed_by_mixing_them"
    ),
    "X-Forwarded-For forged, without a trusted proxy": (
        "web/test_guards.py::test_without_trusted_proxies_no_header_makes_a_new_client"
    ),
    "X-Forwarded-For forged, with a trusted proxy": (
        "web/test_guards.py::test_the_limit_counts_what_the_trusted_proxy_saw_not_what_the_visitor_says"
    ),
    "rate limit over IPv6 /64": "web/test_guards.py::test_a_client_is_its_peer_and_an_ipv6_one_its_network",
    "honeypot filled": "test_promises.py::test_what_a_robot_sends_is_thanked_for_and_kept_but_not_sent",
    "stamp missing": "web/test_stamps.py::test_a_program_has_no_stamp_and_is_no_robot_for_it",
    "stamp old": "core/test_stamp.py::test_who_is_faster_than_fingers_or_slower_than_a_day_is_a_weak_sign",
    "stamp forged": "web/test_stamps.py::test_a_forged_stamp_holds_the_message_behind_the_same_thanks",
    "stamp replayed": "web/test_stamps.py::test_one_page_is_good_for_ten_messages",
    "_next and redirect": "web/test_redirects.py::test_no_message_sends_its_visitor_to_a_place_that_is_not_ours",
    "Host forged": "test_abuse.py::test_links_come_from_the_settings_whatever_host_is_asked_for",
    "X-Forwarded-Host forged": "test_abuse.py::test_links_come_from_the_settings_whatever_host_is_asked_for",
    "_cc to strangers": "test_abuse.py::test_fields_that_steer_other_services_do_nothing_here",
    "_webhook, _url, _autoresponse, _blacklist": "test_abuse.py::test_fields_that_steer_other_services_do_nothing_here",
    "markup in the HTML mail": "test_stationery.py::test_no_visitor_adds_an_element_or_loses_a_letter",
    "markup in /mail": "web/test_attacker_in_chromium.py::test_what_the_attacker_wrote_is_text_wherever_it_is_shown",
    "markup in error pages": "test_abuse.py::test_an_error_page_shows_markup_as_text",
    "formulas in CSV": "test_abuse.py::test_what_is_stored_is_harmless_in_exports_and_in_a_terminal",
    "escape sequences in a terminal": "test_abuse.py::test_what_is_stored_is_harmless_in_exports_and_in_a_terminal",
    "CR, LF and escape sequences in logs": (
        "test_telemetry.py::test_no_visitor_and_no_mail_server_can_write_a_line_a_pair_or_an_escape"
    ),
    "SMTP smuggling": "test_abuse.py::test_no_line_end_of_a_visitors_ends_a_letter",
    "a line of 100,000 characters": "test_abuse.py::test_a_line_of_any_length_arrives_or_is_refused_with_its_reason",
    "lines that begin with dots": "test_abuse.py::test_no_line_end_of_a_visitors_ends_a_letter",
    "fetching from inside: 127.0.0.1, ::1, 169.254.169.254": (
        "test_fetching_inside.py::test_however_an_address_inside_is_written_nobody_is_connected_to"
    ),
    "fetching from inside: decimal and IPv4-mapped forms": (
        "test_fetching_inside.py::test_however_an_address_inside_is_written_nobody_is_connected_to"
    ),
    "fetching from inside: a name that changes its address": (
        "test_fetching_inside.py::test_a_name_that_changes_its_address_is_asked_for_once_and_what_was_judged_is_connected_to"
    ),
    "fetching from inside: a redirect there": "test_fetching.py::test_a_redirect_is_an_answer_that_nobody_follows",
    "slow bodies": "web/test_reading.py::test_a_body_that_takes_too_long_is_given_up_and_what_came_is_still_there",
    "idle connections": "web/test_protocol.py::test_a_request_that_does_not_come_is_not_waited_for",
    "1,000 connections at once": (
        "web/test_protocol.py::test_whoever_takes_all_connections_that_an_address_may_have_leaves_the_others_theirs"
    ),
    "a CORS preflight for anything": "test_abuse.py::test_no_origin_is_reflected_and_none_gets_credentials",
    "Origin: null": "test_abuse.py::test_no_origin_is_reflected_and_none_gets_credentials",
    "framing": "web/test_attacker_in_chromium.py::test_no_page_of_ours_shows_in_a_frame",
    "cache poisoning": "test_abuse.py::test_no_header_that_a_cache_does_not_know_of_changes_an_answer",
}
"""Each known abuse, and the test that shows it fail (`file::name`, the file below tests/)."""


@pytest.mark.parametrize("case", CATALOGUE)
def test_every_case_has_its_test(case):
    file, _, name = CATALOGUE[case].partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


OURS = {"PUBLIC_URL": "https://forms.example.com", "CORS_ORIGINS": "https://www.example.com", "ALLOWED_HOSTS": "*"}


@pytest.fixture(scope="module")
def smtp() -> Iterator[ScriptedSmtp]:
    with ScriptedSmtp().in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory, smtp) -> Iterator[Pillarbox]:
    """A site that mails, may reach what is on this machine, and is served by any name."""
    made = Pillarbox(
        tmp_path_factory.mktemp("abuse"),
        **OURS,
        SMTP_SERVER="127.0.0.1",
        SMTP_PORT=str(smtp.port),
        SMTP_SECURITY="plain",
        EMAIL_ADDRESS="forms@ada.example",
        RECIPIENT_EMAIL="ada@ada.example",
        PRIVATE_HOSTS="127.0.0.1",
        LOG_LEVEL="debug",
    )
    made.serve()
    yield made
    made.stop()


def letters(server: ScriptedSmtp, submission_id: str) -> list[Transaction]:
    """Return the owner's letter and the confirmation of a message, once they have come."""

    def come() -> list[Transaction]:
        mine = [one for one in list(server.transactions) if submission_id in one.message_id and one.accepted]
        return mine if len(mine) >= 2 else []

    return sorted(until(come), key=lambda one: one.mail_from == "")


FORGED = {
    "Host": "evil.example",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Server": "evil.example",
    "X-Host": "evil.example",
    "X-HTTP-Host-Override": "evil.example",
    "Forwarded": "host=evil.example;proto=gopher",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Scheme": "gopher",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Prefix": "/evil",
    "X-Script-Name": "/evil",
    "X-Original-URL": "/evil",
    "X-Rewrite-URL": "/evil",
    "X-HTTP-Method-Override": "POST",
    "X-Forwarded-For": "evil.example",
    "Origin": "https://evil.example",
    "Referer": "https://evil.example/",
    "Cookie": "evil=evil",
    "User-Agent": "evil",
    "Accept-Encoding": "gzip, br",
    "Accept-Language": "de",
    "Range": "bytes=0-3",
    "If-None-Match": "*",
    "X-Requested-With": "evil",
    "Sec-Fetch-Mode": "cors",
    "Accept": "application/json",
}


def test_links_come_from_the_settings_whatever_host_is_asked_for(site, smtp):
    forged = {name: value for name, value in FORGED.items() if "evil.example" in value or "Forwarded" in name}
    answer = post(site.port, somebody(), headers=forged)
    assert answer.json["next"].startswith("https://forms.example.com/thanks?id=")
    for letter in letters(smtp, answer.json["id"]):
        text = message_from_bytes(letter.content, policy=policy.default).as_bytes()
        assert b"evil" not in text
        assert all(b"evil" not in part.get_content().encode() for part in _parts(letter))
    page = submit(site.port, {"name": ""}, headers=forged)
    assert "evil" not in f"{page.headers}{page.text}"


def somebody() -> dict[str, str]:
    """Return what somebody writes who has not written today, and gets a confirmation."""
    return BOB | {"email": f"bob{next(_NUMBERS)}@example.org"}


_NUMBERS = count(1)


def _parts(letter: Transaction) -> list:
    return list(message_from_bytes(letter.content, policy=policy.default).iter_parts())


def static_paths(site: Pillarbox) -> list[str]:
    return [
        f"/{path}" for path in re.findall(r'(?:href|src)="(?:\./)?(static/[^"]+)"', ask(site.port, "GET", "/").text)
    ]


def test_no_header_that_a_cache_does_not_know_of_changes_an_answer(site):
    paths = ["/", "/thanks?id=7K3M-9QXP-2AFD", "/openapi.json", "/nothing", *static_paths(site)[:2]]
    assert len(paths) == 6
    for path in paths:
        usual = ask(site.port, "GET", path)
        for name, value in FORGED.items():
            changed = ask(site.port, "GET", path, headers={name: value})
            if without_what_is_new_each_time(changed) != without_what_is_new_each_time(usual):
                named = {one.strip().lower() for one in usual.headers.get("vary", "").split(",")}
                stored = usual.headers.get("cache-control", "")
                assert name.lower() in named or "no-store" in stored or changed.status in {206, 304}, (path, name)
            assert b"evil" not in changed.body


def without_what_is_new_each_time(answer: Answer) -> tuple[int, str, str]:
    """Return what a cache would give to others; the stamp in the page is another each time."""
    text = re.sub(r'(name="_stamp" value=")[^"]*', r"\1", answer.body.decode("utf-8", "replace"))
    return answer.status, answer.headers.get("location", ""), text


def test_fields_that_steer_other_services_do_nothing_here(site, smtp):
    with HttpSink().running() as sink:
        weapons = {
            **dict.fromkeys(("_cc", "_bcc", "_to", "_replyto", "ccemail", "to", "cc", "bcc", "from"), MALLORY),
            **dict.fromkeys(("_webhook", "_url", "webhook", "_blacklist", "_autoresponse", "_template"), sink.url),
            "_subject": "Bcc: " + MALLORY,
            "_captcha": "false",
        }
        _, thanked = site.post((bob := somebody()) | weapons)
        owners, visitors = letters(smtp, thanked["id"])
        assert sink.asked == []
    assert (owners.recipients, visitors.recipients) == (["ada@ada.example"], [bob["email"]])
    assert (owners.mail_from, visitors.mail_from) == ("forms@ada.example", "")
    for letter in (owners, visitors):
        head = letter.content.partition(b"\r\n\r\n")[0]
        assert b"mallory" not in head
        assert sink.url.encode() not in head
    assert MALLORY.encode() not in visitors.content
    assert sum(thanked["id"] in one.message_id for one in list(smtp.transactions)) == 2


MALLORY = "mallory@evil.example"
MARKUP = {
    "an element": "<script>owned()</script>",
    "an attribute": '" onfocus="owned()" autofocus x="\' onmouseover=\'owned()',
    "the end of the field": "</textarea></title></style><img src=x onerror=owned()>",
    "a template": "{{ 7*7 }}{% raw %}${7*7}<%= 7*7 %>#{7*7}",
    "entities": "&lt;script&gt;&#60;img src=x&#62;",
}


class Elements(HTMLParser):
    """What a page is made of: each element with the names of its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, *(name for name, _ in attrs)))


def error_pages(port: int, text: str) -> list[Answer]:
    """Return the pages that show this text again, or its path."""
    path = "/" + "".join(f"%{byte:02x}" for byte in text.encode())
    return [
        submit(port, {"name": "Bob", "email": "nobody", "message": text, "subject": text[:100]}),
        submit(port, {"name": "", "email": text, "message": text, text: text}, path="/api/contact"),
        ask(port, "GET", path, headers={"Accept": "text/html"}),
    ]


@pytest.mark.parametrize("markup", MARKUP.values(), ids=MARKUP)
def test_an_error_page_shows_markup_as_text(site, markup):
    shown, usual = error_pages(site.port, markup), error_pages(site.port, "words")
    assert [page.status for page in shown] == [page.status for page in usual] == [400, 400, 404]
    for page, other in zip(shown, usual, strict=True):
        assert page.headers["content-type"].startswith("text/html")
        assert Elements(page.text).found == Elements(other.text).found
    typed_again = re.search(r'<textarea[^>]*name="message"[^>]*>([^<]*)</textarea>', shown[0].text)
    assert unescape(typed_again[1]).strip() == markup


def test_what_is_stored_is_harmless_in_exports_and_in_a_terminal(site):
    signs = {"=": "=1+1", "+": "+1", "-": "-1", "@": "@SUM(A1)", "tab": "\t=1", "return": "\r=1", "wide": "＝1+1"}
    escapes = (
        "\x1b[31m\x1b]0;owned\x07\x9b2J\x1b]8;;https://evil.example\x07\x08\x7f\u202egpj.exe\u2066\u200f\x00".replace(
            "\x00", ""
        )
    )
    ids = [
        site.post(BOB | {"name": text.strip() or text, "message": f"{text}\n{escapes}", f"{text.strip()}": text})
        for text in signs.values()
    ]
    kept = [answer["id"] for status, answer in ids if status == 200]
    assert len(kept) >= 5
    exported = site.run("messages", "export").stdout
    for row in csv.reader(io.StringIO(exported)):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝")) for cell in row)
    commands = [("messages", "list"), ("messages", "show", kept[0]), ("deliveries", "list")]
    for command in commands:
        shown = site.run(*command).stdout
        assert shown
        assert [char for char in shown if not (char.isprintable() or char == "\n")] == []
    as_json = site.run("messages", "show", kept[0], "--json").stdout
    assert as_json.isascii()
    assert json.loads(as_json)["id"] == kept[0]


SMUGGLED = (
    "MAIL FROM:<mallory@evil.example>\r\nRCPT TO:<ada@ada.example>\r\nDATA\r\nFrom: boss@ada.example\r\n\r\nPay.\r\n"
)


@pytest.mark.parametrize(
    "end", ["\n.\n", "\r.\r", "\r\n.\n", "\n.\r\n", "\r\n.\r\n", "\r\n.\r", "\r.\r\n", "\n.\r", "\x85.\x85"]
)
def test_no_line_end_of_a_visitors_ends_a_letter(site, smtp, end):
    before = len(smtp.transactions)
    typed = f".one\n..two\n.\nHello{end}{SMUGGLED}{end}.last"
    _, thanked = site.post(somebody() | {"message": typed})
    owners, _visitors = letters(smtp, thanked["id"])
    wanted = re.sub("\r\n|\r|\x85", "\n", typed)
    text = _parts(owners)[0].get_content()
    assert re.sub(r"[ \t]+", " ", wanted.replace("\n", " ")) in re.sub(r"\s+", " ", text)
    assert len(smtp.transactions) - before == 2
    assert [one.recipients for one in smtp.transactions[before:] if one.mail_from == "mallory@evil.example"] == []
    assert b"\n" not in owners.content.replace(b"\r\n", b"")
    assert b"\r" not in owners.content.replace(b"\r\n", b"")


def test_a_line_of_any_length_arrives_or_is_refused_with_its_reason(site, smtp):
    refused, told = site.post(BOB | {"message": "x" * 100_000})
    assert (refused, told["code"]) == (400, "TOO_LONG")
    _, thanked = site.post(somebody() | {"message": "." * 20_000})
    owners, _visitors = letters(smtp, thanked["id"])
    assert max(map(len, owners.raw.split(b"\r\n"))) <= 998
    assert "." * 20_000 in _parts(owners)[0].get_content()


@pytest.mark.parametrize(
    "origin", ["null", "https://evil.example", "https://www.example.com.evil.example", "*", "file://"]
)
def test_no_origin_is_reflected_and_none_gets_credentials(site, origin):
    wish = {"Origin": origin, "Cookie": "a=b", "Access-Control-Request-Private-Network": "true"}
    found = [
        ask(site.port, "OPTIONS", path, headers=wish | {"Access-Control-Request-Method": method})
        for path in ("/api/contact", "/send-message", "/mail", "/metrics", "/nothing")
        for method in ("POST", "PUT", "DELETE", "TRACE")
    ]
    found += [
        post(site.port, BOB, headers=wish),
        submit(site.port, {}, headers=wish),
        ask(site.port, "GET", "/", headers=wish),
    ]
    for answer in found:
        assert answer.status < 500
        told = {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}
        assert {
            "access-control-allow-origin",
            "access-control-allow-credentials",
            "access-control-allow-private-network",
        } & told.keys() == set()
