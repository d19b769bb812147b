"""Who is asking, how often, from where, and by which name: guards that no header of a visitor's can move."""

import socket
from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from tests.asking import BROWSER, ask, assert_failure, assert_thanks, exchange, post, read_answer, submit
from tests.road.test_servers import start_as_the_readme_says, start_from_the_root
from tests.running import BOB

from pillarbox.settings import Settings
from pillarbox.web.guards import ClientAddress, LastCatch, host_name

FOREIGN = {"Origin": "https://evil.example"}


def client(peer: str, *forwarded: str, trusted: str = "", rfc7239: Sequence[str] = ()) -> str:
    """Return who counts as the client of a request with these lines of X-Forwarded-For and of Forwarded."""
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    headers += [(b"forwarded", line.encode("latin-1")) for line in rfc7239]
    scope = {"type": "http", "headers": headers, "client": (peer, 1) if peer else None}
    return ClientAddress(Settings(trusted_proxies=trusted).trusted_proxies)(Request(scope))


def test_a_client_is_its_peer_and_an_ipv6_one_its_network():
    assert client("203.0.113.7") == "203.0.113.7"
    assert client("2001:db8:1:2:3:4:5:6") == client("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert client("2001:db8:1:3::1") != client("2001:db8:1:2::1")
    assert client("::ffff:203.0.113.7") == "203.0.113.7"
    assert client("fe80::1%eth0") == "fe80::/64"
    assert client("testclient") == "testclient"


def test_whoever_comes_through_a_unix_socket_is_on_this_machine():
    assert client("") == "127.0.0.1"
    assert client("", "198.51.100.1") == "127.0.0.1"
    assert client("", "198.51.100.1", trusted="127.0.0.1") == "198.51.100.1"


def test_a_forged_header_from_outside_changes_nothing():
    for trusted in ("", "10.0.0.0/8"):
        assert client("203.0.113.7", "198.51.100.1", trusted=trusted) == "203.0.113.7"
        assert client("203.0.113.7", trusted=trusted, rfc7239=["for=198.51.100.1"]) == "203.0.113.7"


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        (["198.51.100.1"], "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        (["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
        (["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        (["198.51.100.1:4711"], "198.51.100.1"),
        (["[2001:db8::1]:4711"], "2001:db8::/64"),
        (["2001:db8::1"], "2001:db8::/64"),
        (["::ffff:198.51.100.1"], "198.51.100.1"),
        (["198.51.100.1, nonsense"], "10.0.0.1"),
        (["198.51.100.1,"], "10.0.0.1"),
        ([""], "10.0.0.1"),
        ([], "10.0.0.1"),
        (["203.0.113.9, " * 5_000 + "198.51.100.1"], "198.51.100.1"),
        (["198.51.100.1, [2001:db8::1"], "10.0.0.1"),
        (["198.51.100.1, " + "9" * 1_500], "10.0.0.1"),
    ],
)
@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_behind_trusted_proxies_the_last_untrusted_address_counts(peer, forwarded, found):
    assert client(peer, *forwarded, trusted="10.0.0.0/8, 192.0.2.1") == found


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        (["for=198.51.100.1"], "198.51.100.1"),
        (["For=198.51.100.1;Proto=https;By=10.0.0.1;Host=forms.example.com"], "198.51.100.1"),
        (["proto=https ; for= 198.51.100.1"], "198.51.100.1"),
        (['for="198.51.100.1:4711"'], "198.51.100.1"),
        (['for="198.51.100.1:_port"'], "198.51.100.1"),
        (['for="[2001:db8::1]"'], "2001:db8::/64"),
        (['for="[2001:db8::1]:4711"'], "2001:db8::/64"),
        ([r'for="\[2001:db8::1\]"'], "2001:db8::/64"),
        (["for=[2001:db8::1]:4711"], "2001:db8::/64"),
        (["for=2001:db8::1"], "2001:db8::/64"),
        (['for="[::ffff:198.51.100.1]"'], "198.51.100.1"),
        (["for=203.0.113.9, for=198.51.100.1"], "198.51.100.1"),
        (["for=203.0.113.9, for=198.51.100.1, for=10.0.0.2"], "198.51.100.1"),
        (["for=203.0.113.9", "for=198.51.100.1"], "198.51.100.1"),
        (['for="203.0.113.9', "for=198.51.100.1"], "198.51.100.1"),
        (["for=203.0.113.9, " * 3_000 + "for=198.51.100.1"], "198.51.100.1"),
        (["for=10.0.0.9, for=10.0.0.8"], "10.0.0.9"),
        (["for=198.51.100.1, for=_hidden"], "10.0.0.1"),
        (["for=_hidden, for=10.0.0.2"], "10.0.0.2"),
        (["for=unknown"], "10.0.0.1"),
        (['for="_hidden:4711"'], "10.0.0.1"),
        (["for=198.51.100.1, proto=https"], "10.0.0.1"),
        (["for=198.51.100.1;for=203.0.113.9"], "10.0.0.1"),
        (['for="198.51.100.1'], "10.0.0.1"),
        (['for=198.51.100.1"'], "10.0.0.1"),
        (["for=198.51.100.1,"], "10.0.0.1"),
        (["for="], "10.0.0.1"),
        (["proto=https"], "10.0.0.1"),
    ],
)
def test_forwarded_is_read_as_the_standard_writes_it(forwarded, found):
    assert client("10.0.0.1", trusted="10.0.0.0/8", rfc7239=forwarded) == found


def test_two_headers_that_lead_to_one_client_count_and_two_that_do_not_leave_the_proxy():
    def both(forwarded_for: str, forwarded: str) -> str:
        return client("10.0.0.1", forwarded_for, trusted="10.0.0.0/8", rfc7239=[forwarded])

    assert both("198.51.100.1", 'for="198.51.100.1:4711"') == "198.51.100.1"
    assert both("2001:db8::1", 'for="[2001:db8::2]"') == "2001:db8::/64"
    assert both("203.0.113.9, 198.51.100.1, 10.0.0.2", "for=198.51.100.1") == "198.51.100.1"
    assert both("198.51.100.1", "proto=https") == "198.51.100.1"
    # A visitor who writes the header that the proxy passes on unread chooses no bucket but the proxy's own.
    for forwarded in ("for=203.0.113.9", "for=_hidden", "for=unknown", "for=", "for=198.51.100.1, for=203.0.113.9"):
        assert both("198.51.100.1", forwarded) == "10.0.0.1"
    assert both("203.0.113.9", "for=198.51.100.1") == both("nonsense", "for=198.51.100.1") == "10.0.0.1"


PROXY, NOT_A_PROXY = "127.0.0.2", "127.0.0.1"
TOLD = [
    ("", "", PROXY),
    ("203.0.113.9, 198.51.100.1", "", "198.51.100.1"),
    ("203.0.113.9, 198.51.100.1:4711, 10.0.0.2", "", "198.51.100.1"),
    ("2001:db8::1", "", "2001:db8::/64"),
    ("", 'for=203.0.113.9, for="[2001:db8::1]:4711";proto=https', "2001:db8::/64"),
    ("198.51.100.1", "for=198.51.100.1", "198.51.100.1"),
    ("198.51.100.1", "for=203.0.113.9", PROXY),
    ("198.51.100.1, nonsense", "", PROXY),
    ("", "for=unknown", PROXY),
]
"""X-Forwarded-For, Forwarded, and who counts when a trusted proxy says so."""


def named(peer: str, port: int, forwarded_for: str, forwarded: str) -> str:
    """Return who counts as the client of a request that comes from this address of this machine."""
    lines = f"X-Forwarded-For: {forwarded_for}\r\n" if forwarded_for else ""
    lines += f"Forwarded: {forwarded}\r\n" if forwarded else ""
    with socket.create_connection(("127.0.0.1", port), 20, source_address=(peer, 0)) as connection:
        connection.sendall(f"GET /health HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        return read_answer(connection).json["you"]


@pytest.mark.parametrize("server", ["pillarbox", "uvicorn", "gunicorn"])
def test_the_same_client_counts_whatever_server_it_is(pillarbox, server):
    # uvicorn and gunicorn have rules of their own for 127.0.0.1, which we trust no more than anybody here.
    pillarbox.settings |= {"TRUSTED_PROXIES": f"{PROXY}, 10.0.0.0/8"}
    if server == "pillarbox":
        pillarbox.serve()
    else:
        start_as_the_readme_says(pillarbox, server)
    for forwarded_for, forwarded, client in TOLD:
        assert named(PROXY, pillarbox.port, forwarded_for, forwarded) == client
        assert named(NOT_A_PROXY, pillarbox.port, forwarded_for, forwarded) == NOT_A_PROXY


def test_a_proxy_on_this_machine_may_come_through_a_unix_socket(pillarbox):
    pillarbox.settings |= {"TRUSTED_PROXIES": "127.0.0.1"}
    path = pillarbox.folder / "socket"
    start_from_the_root(
        pillarbox, "gunicorn", "--bind", f"127.0.0.1:{pillarbox.port}", "--bind", f"unix:{path}", "app:app"
    )
    for told, client in (("X-Forwarded-For: 198.51.100.1\r\n", "198.51.100.1"), ("", "127.0.0.1")):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(path))
            connection.sendall(f"GET /health HTTP/1.1\r\nHost: localhost\r\n{told}\r\n".encode())
            assert read_answer(connection).json["you"] == client


def test_the_limit_counts_what_the_trusted_proxy_saw_not_what_the_visitor_says(pillarbox):
    pillarbox.serve(RATE_LIMIT="1/hour", TRUSTED_PROXIES="127.0.0.1")
    port = pillarbox.port
    assert_thanks(post(port, BOB, headers={"X-Forwarded-For": "203.0.113.1"}))
    assert_thanks(post(port, BOB, headers={"X-Forwarded-For": "203.0.113.2"}))
    assert_failure(post(port, BOB, headers={"X-Forwarded-For": "198.51.100.9, 203.0.113.1"}), 429)
    assert_failure(post(port, BOB, headers={"X-Forwarded-For": "203.0.113.1, 127.0.0.1"}), 429)


def test_a_proxy_that_nobody_told_us_of_is_told_of_once_and_fails_no_health_check_of_this_machine(pillarbox):
    pillarbox.serve(PAGE_RATE_LIMIT="2/hour")
    through = [ask(pillarbox.port, "GET", "/health", headers={"X-Forwarded-For": "203.0.113.1"}) for _ in range(4)]
    assert [answer.status for answer in through] == [200, 200, 429, 429]
    assert {ask(pillarbox.port, "GET", "/health").status for _ in range(4)} == {200}
    assert pillarbox.log.read_text().count("proxy_not_trusted") == 1


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_either_header_gives_such_a_proxy_away(pillarbox, header):
    pillarbox.serve()
    ask(pillarbox.port, "GET", "/health", headers={header: "for=203.0.113.1"})
    assert "proxy_not_trusted" in pillarbox.log.read_text()


def test_without_trusted_proxies_no_header_makes_a_new_client(pillarbox):
    pillarbox.serve(RATE_LIMIT="1/hour")
    assert_thanks(post(pillarbox.port, BOB))
    for headers in ({"X-Forwarded-For": "203.0.113.1"}, {"X-Real-IP": "203.0.113.1"}, {"Forwarded": "for=203.0.113.1"}):
        assert_failure(post(pillarbox.port, BOB, headers=headers), 429)


def preflight(port: int, origin: str, method: str = "POST"):
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type,formspree-client"}
    return ask(port, "OPTIONS", "/api/contact", headers={"Origin": origin} | asked)


def test_in_development_any_origin_may_read_the_answers_but_never_with_credentials(pillarbox):
    pillarbox.serve()
    answer = preflight(pillarbox.port, "https://evil.example")
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "content-type,formspree-client"
    for found in (answer, post(pillarbox.port, BOB, headers=FOREIGN), post(pillarbox.port, {}, headers=FOREIGN)):
        assert found.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in found.headers
        assert ("retry-after" in found.headers.get("access-control-expose-headers", "").lower()) == (found != answer)
    with_cookie = post(pillarbox.port, BOB, headers=FOREIGN | {"Cookie": "a=b"})
    assert "access-control-allow-credentials" not in with_cookie.headers


PRODUCTION = {"ENVIRONMENT": "production", "MAILDIR": "mail"}


def test_in_production_no_foreign_script_may_read_but_the_message_is_kept(pillarbox):
    pillarbox.serve(**PRODUCTION)
    answer = preflight(pillarbox.port, "https://evil.example")
    assert_failure(answer, 405)
    kept = post(pillarbox.port, BOB, headers=FOREIGN)
    assert_thanks(kept)
    assert not [name for found in (answer, kept) for name in found.headers if name.startswith("access-control")]


def test_listed_origins_may_read_and_no_others(pillarbox):
    pillarbox.serve(**PRODUCTION, CORS_ORIGINS="https://www.example.com, https://shop.example.com")
    for origin in ("https://www.example.com", "https://shop.example.com"):
        assert preflight(pillarbox.port, origin).headers["access-control-allow-origin"] == origin
        assert post(pillarbox.port, BOB, headers={"Origin": origin}).headers["access-control-allow-origin"] == origin
    for origin in ("https://evil.example", "null", "https://www.example.com.evil.example", "http://www.example.com"):
        asked, posted = preflight(pillarbox.port, origin), post(pillarbox.port, BOB, headers={"Origin": origin})
        assert (asked.status, asked.body) == (204, b"")  # a stranger is no error, and gets no permission
        assert [name for name in asked.headers if name.startswith("access-control-")] == []
        assert_thanks(posted)
        assert "access-control-allow-origin" not in posted.headers
    health = [ask(pillarbox.port, "GET", "/health", headers={"Origin": "https://www.example.com"}) for _ in range(3)]
    assert {found.headers["vary"] for found in health} == {"Origin"}


def test_a_method_that_nothing_here_takes_is_not_allowed_to_a_listed_origin_either(pillarbox):
    pillarbox.serve(CORS_ORIGINS="https://www.example.com")
    asked = preflight(pillarbox.port, "https://www.example.com", "DELETE")
    assert (asked.status, asked.body) == (204, b"")
    assert asked.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"


def test_mail_is_shown_in_development_to_this_machine_only_and_never_in_production(pillarbox):
    pillarbox.serve()
    assert ask(pillarbox.port, "GET", "/mail").status == 200
    assert_failure(ask(pillarbox.port, "GET", "/mail", headers={"X-Forwarded-For": "127.0.0.1"}), 404)
    assert_failure(ask(pillarbox.port, "GET", "/mail", headers={"Host": "evil.example"}), 404)
    pillarbox.stop()
    pillarbox.serve(**PRODUCTION)
    assert_failure(ask(pillarbox.port, "GET", "/mail"), 404)


def test_hosts_that_are_not_ours_are_refused_but_health_checks_pass(pillarbox):
    pillarbox.serve(ALLOWED_HOSTS="Forms.example.com, ::1")
    port = pillarbox.port
    for host in ("forms.example.com", "FORMS.EXAMPLE.COM:8443", "[::1]:8000"):
        assert_thanks(post(port, BOB, headers={"Host": host}))
    for host in ("evil.example", "forms.example.com.evil.example", "forms.example.com@evil.example", "", "127.0.0.1"):
        assert_failure(post(port, BOB, headers={"Host": host}), 421, "UNKNOWN_HOST")
        assert ask(port, "GET", "/health", headers={"Host": host}).status == 200
    assert submit(port, BOB, headers={"Host": "evil.example"}).status == 421
    two = exchange(port, b"GET / HTTP/1.1\r\nHost: forms.example.com\r\nHost: evil.example\r\n\r\n")
    assert_failure(two, 400)


def test_a_public_url_names_the_host_and_this_machine_still_gets_in(pillarbox):
    pillarbox.serve(PUBLIC_URL="https://forms.example.com/contact/")
    for host in ("forms.example.com", "localhost:8000", "127.0.0.1"):
        found = post(pillarbox.port, BOB, headers={"Host": host, "X-Forwarded-Host": "evil.example"})
        assert found.json["next"].startswith("https://forms.example.com/contact/thanks?id=")
    assert_failure(ask(pillarbox.port, "GET", "/", headers={"Host": "evil.example"} | BROWSER | {"Accept": "*/*"}), 421)


@pytest.mark.parametrize(
    ("header", "name"),
    [("a.example", "a.example"), ("A.example:80", "a.example"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("", "")],
)
def test_a_host_is_its_name_without_the_port(header, name):
    assert host_name(header) == name


async def test_what_nobody_foresaw_is_answered_once_and_logged_without_the_words(capsys):
    async def broken(scope, receive, send):
        raise RuntimeError("what the visitor wrote")

    async def refuse(request, error):
        return PlainTextResponse(type(error).__name__, 500)

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    sent: list = []
    await LastCatch(broken, refuse)({"type": "http", "path": "/", "headers": []}, receive, send)
    assert [message.get("status") for message in sent] == [500, None]
    assert sent[1]["body"] == b"Unexpected"
