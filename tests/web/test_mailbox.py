"""The local mail page: this machine's alone, and unimpressed by what the mails contain."""

import os
from email.message import EmailMessage
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from pillarbox.core.errors import NotFound
from pillarbox.web.assets import Assets
from pillarbox.web.mailbox import SHOWN, Mailbox

ASSETS = Assets("#0b5cad")


def mail(subject: str = "Hello", **headers: str) -> bytes:
    made = EmailMessage()
    for name, value in {"From": "Bob via Ada <forms@example.org>", "To": "ada@example.org", **headers}.items():
        made[name.replace("_", "-")] = value
    made["Subject"] = subject
    made.set_content("plain <b>words</b>\n")
    made.add_alternative("<p>rich words</p><script>alert(1)</script>", subtype="html")
    return bytes(made)


def deliver(maildir: Path, name: str, content: bytes, *, folder: str = "new", at: int = 1_700_000_000) -> None:
    (maildir / folder).mkdir(parents=True, exist_ok=True)
    (maildir / folder / name).write_bytes(content)
    os.utime(maildir / folder / name, (at, at))


def client(maildir: Path, *, peer: str = "127.0.0.1", host: str = "127.0.0.1:8000") -> TestClient:
    box = Mailbox(maildir, ASSETS)
    site = Starlette(
        routes=[
            Route("/mail", box.list),
            Route("/mail/{name}", box.show),
            Route("/mail/{name}/html", box.html),
            Route("/mail/{name}/source", box.source),
        ],
        exception_handlers={NotFound: lambda request, error: PlainTextResponse(error.code, 404)},
    )
    return TestClient(site, base_url=f"http://{host}", client=(peer, 50_000))


def test_an_empty_or_missing_maildir_says_how_to_get_a_first_mail(tmp_path):
    for maildir in (tmp_path, tmp_path / "nowhere"):
        page = client(maildir).get("/mail")
        assert page.status_code == 200
        assert "No mail yet" in page.text


def test_mails_are_listed_newest_first_from_new_and_cur(tmp_path):
    deliver(tmp_path, "one", mail("first"), at=1_700_000_000)
    deliver(tmp_path, "two:2,S", mail("second"), folder="cur", at=1_700_000_100)
    deliver(tmp_path, "three", mail("third"), at=1_700_000_200)
    deliver(tmp_path, "half", mail("unfinished"), folder="tmp")
    page = client(tmp_path).get("/mail").text
    assert page.index("third") < page.index("second") < page.index("first")
    assert "unfinished" not in page
    assert "Bob via Ada" in page
    assert "to ada@example.org" in page


def test_the_list_is_bounded_and_says_what_it_leaves_out(tmp_path):
    for number in range(SHOWN + 3):
        deliver(tmp_path, f"m{number}", b"Subject: x\r\n\r\n")
    page = client(tmp_path).get("/mail").text
    assert page.count("<li>") == SHOWN
    assert "3 older" in page


def test_a_mail_shows_its_headers_and_its_parts(tmp_path):
    deliver(tmp_path, "one:2,S", mail("Grüße", Reply_To="bob@example.com", Date="Sun, 22 Nov 2026 21:40:00 +0000"))
    browser = client(tmp_path)
    page = browser.get("/mail/one%3A2%2CS").text
    for shown in ("Grüße", "forms@example.org", "ada@example.org", "bob@example.com", "22 Nov 2026 21:40:00"):
        assert shown in page
    assert "<iframe sandbox title" in page
    assert 'src="../mail/one%3A2%2CS/html"' in page
    assert "plain &lt;b&gt;words&lt;/b&gt;" in browser.get("/mail/one%3A2%2CS?view=text").text
    assert "rich words" in browser.get("/mail/one%3A2%2CS/html").text
    source = browser.get("/mail/one%3A2%2CS/source")
    assert source.headers["content-type"] == "text/plain; charset=utf-8"
    assert source.text.startswith("From: Bob via Ada")


def test_a_mails_own_markup_is_served_under_a_policy_that_lets_it_do_nothing(tmp_path):
    deliver(tmp_path, "one", mail())
    policy = client(tmp_path).get("/mail/one/html").headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data: https:")
    for page in ("/mail", "/mail/one"):
        headers = client(tmp_path).get(page).headers
        assert "script-src" not in headers["content-security-policy"]
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"


HOSTILE_MAILS = {
    "nothing": b"",
    "noise": bytes(range(256)) * 20,
    "no-charset": b"Content-Type: text/html; charset=nonsense\r\nSubject: odd\r\n\r\nx",
    "bad-base64": b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!",
    "bad-headers": b"From: =?utf-8?q?=?=@@@,;:<<\r\nTo: (((\r\nDate: never\r\nSubject: =?x?y?z?=\r\n\r\nx",
    "parens": b"From: " + b"(" * 3_000 + b"\r\nSubject: deep\r\n\r\nx",
    "no-boundary": b"Content-Type: multipart/alternative\r\n\r\nx",
    "surrogates": b"Subject: \xed\xa0\x80\r\n\r\n\xed\xa0\x80",
    "huge": b"Subject: " + b"a" * 200_000 + b"\r\n\r\nx",
}


@pytest.mark.parametrize("name", HOSTILE_MAILS)
def test_a_mail_that_cannot_be_read_is_listed_and_shown_all_the_same(tmp_path, name):
    deliver(tmp_path, name, HOSTILE_MAILS[name])
    browser = client(tmp_path)
    assert f'href="./mail/{name}"' in browser.get("/mail").text
    assert browser.get(f"/mail/{name}").status_code == 200
    assert browser.get(f"/mail/{name}?view=text").status_code == 200
    assert browser.get(f"/mail/{name}/source").status_code == 200
    assert browser.get(f"/mail/{name}/html").status_code in (200, 404)


def test_markup_in_headers_is_shown_as_text(tmp_path):
    deliver(tmp_path, "<b>&", mail("<script>alert(1)</script>", Reply_To='"<i>x</i>" <x@example.org>'))
    browser = client(tmp_path)
    for page in (browser.get("/mail").text, browser.get("/mail/%3Cb%3E%26").text):
        assert "<script>alert" not in page
        assert "<i>x" not in page
        assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(
    "name", ["..", ".", "nothing", "%2e%2e", "..%2fsecret", "new%2fone", "%00", "link", "folder", "on", "one%0a"]
)
@pytest.mark.parametrize("rest", ["", "/html", "/source"])
def test_only_exact_names_of_mails_in_the_folder_are_found(tmp_path, name, rest):
    deliver(tmp_path / "mail", "one", mail())
    (tmp_path / "secret").write_text("secret words")
    (tmp_path / "mail/new/link").symlink_to(tmp_path / "secret")
    (tmp_path / "mail/new/folder").mkdir()
    answer = client(tmp_path / "mail").get(f"/mail/{name}{rest}")
    assert "secret words" not in answer.text
    assert answer.status_code == 404 or "Inbox" in answer.text  # "." and ".." are resolved before they are sent


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
def test_this_machine_may_read(tmp_path, peer, host):
    assert client(tmp_path, peer=peer, host=host).get("/mail").status_code == 200


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "::2", "::ffff:10.0.0.1", "testclient", ""])
@pytest.mark.parametrize("path", ["/mail", "/mail/one", "/mail/one/html", "/mail/one/source"])
def test_another_machine_finds_nothing(tmp_path, peer, path):
    deliver(tmp_path, "one", mail())
    assert client(tmp_path, peer=peer).get(path).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1"])
def test_a_foreign_name_that_points_here_finds_nothing(tmp_path, host):
    assert client(tmp_path, host=host).get("/mail").status_code == 404


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_a_proxy_on_this_machine_does_not_open_the_mail_to_its_visitors(tmp_path, header):
    assert client(tmp_path).get("/mail", headers={header: "127.0.0.1"}).status_code == 404
