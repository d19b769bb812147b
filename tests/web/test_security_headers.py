"""Every answer keeps a browser strict, by whatever name and at whatever address it was asked for."""

import pytest
from starlette.routing import Route
from tests.asking import Answer, ask, assert_failure, exchange, post, submit
from tests.running import BOB, Pillarbox
from tests.test_promises import made, web_application

from pillarbox.web.guards import host_name

STRICT = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "strict-origin-when-cross-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cross-origin-opener-policy": "same-origin",
}
HTTPS = {"public_url": "https://forms.example.com"}


def assert_strict(headers: dict[str, str]) -> None:
    """Assert that a browser is kept strict; the page of the local mails has stricter rules of its own."""
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert {name: headers.get(name) for name in STRICT} | {"referrer-policy": ""} == STRICT | {"referrer-policy": ""}
    assert headers["referrer-policy"] in {"no-referrer", "strict-origin-when-cross-origin"}
    assert "server" not in headers
    assert "x-powered-by" not in headers


def test_every_route_and_every_error_has_them(pillarbox: Pillarbox, tmp_path):
    (tmp_path / "app").mkdir()
    routes = web_application(made(tmp_path / "app", **HTTPS)._transport.app).routes
    paths = [route.path for route in routes if isinstance(route, Route)]
    assert len(paths) > 8
    pillarbox.serve(PUBLIC_URL=HTTPS["public_url"])
    statuses = set()
    for path in [*paths, "/nothing", "/static/../app.py"]:
        for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS"):
            answer = ask(pillarbox.port, method, path.replace("{name}", "x"))
            statuses.add(answer.status)
            assert_strict(answer.headers)
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
    unknown = ask(pillarbox.port, "GET", "/", headers={"Host": "evil.example"})
    assert unknown.status == 421
    assert_strict(unknown.headers)
    assert {200, 404, 405, 415} <= statuses
    assert max(statuses) < 500


def test_only_a_site_that_says_https_tells_browsers_to_keep_to_it(pillarbox: Pillarbox):
    pillarbox.serve(PUBLIC_URL="http://forms.example.com")
    assert "strict-transport-security" not in ask(pillarbox.port, "GET", "/health").headers
    pillarbox.stop()
    pillarbox.serve(PUBLIC_URL="HTTPS://forms.example.com")
    for answer in (ask(pillarbox.port, "GET", "/health"), post(pillarbox.port, {}), submit(pillarbox.port, {})):
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert "server" not in answer.headers


def head(port: int, *lines: str, target: str = "/") -> Answer:
    return exchange(port, "\r\n".join((f"GET {target} HTTP/1.1", *lines, "Connection: close", "", "")).encode())


def test_what_is_for_operators_is_closed_to_everybody_else_and_only_known_names_are_served(pillarbox: Pillarbox):
    pillarbox.serve(ALLOWED_HOSTS="forms.example.com, ::1", TRUSTED_PROXIES="127.0.0.1")
    port = pillarbox.port
    outside = {"X-Forwarded-For": "203.0.113.9", "Host": "forms.example.com"}
    for path in ("/metrics", "/mail", "/mail/x", "/mail/x/html", "/mail/x/source"):
        assert_failure(ask(port, "GET", path, headers=outside), 404, "NOT_FOUND")
    for path in ("/docs", "/redoc", "/admin", "/.env", "/.git/config", "/data/pillarbox.db", "/data/secret_key"):
        assert_failure(ask(port, "GET", path, headers=outside), 404, "NOT_FOUND")
    for host in ("forms.example.com", "FORMS.example.COM", "forms.example.com.", "forms.example.com.:443", "[::1]:80"):
        assert head(port, f"Host: {host}").status == 200, host
    for host in (
        "evil.example",
        "forms.example.com.evil.example",
        "x.forms.example.com",
        "forms.example.com@evil.example",
        "forms.example.com:80@evil.example",
        "forms.example.com:\xb2",
        "localhost",
        "",
    ):
        assert head(port, f"Host: {host}").status in {400, 421}, host
    assert head(port, "Host: forms.example.com", "Host: evil.example").status in {400, 421}
    assert head(port).status in {400, 421}


def test_the_authority_of_a_whole_address_in_the_first_line_is_shown_nowhere(pillarbox: Pillarbox):
    pillarbox.serve(PUBLIC_URL="https://forms.example.com")
    for target in ("http://evil.example/", "http://forms.example.com@evil.example/", "//evil.example/"):
        answer = head(pillarbox.port, "Host: forms.example.com", target=target)
        assert answer.status in {200, 400, 404, 421}
        assert "evil" not in f"{answer.headers}{answer.text}"
    assert head(pillarbox.port, "Host: evil.example", target="http://forms.example.com/").status in {400, 421}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("a.example.", "a.example"),
        ("a.example:", "a.example"),
        ("a.example.:80", "a.example"),
        ("a.example..", "a.example."),
        ("a.example:80:80", "a.example:80"),
        ("a.example:\xb2", "a.example:\xb2"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
    ],
)
def test_a_host_is_its_name_however_it_is_written(header, name):
    assert host_name(header) == name


def test_a_message_sent_by_another_of_our_names_is_kept(pillarbox: Pillarbox):
    pillarbox.serve(PUBLIC_URL="https://forms.example.com")
    assert post(pillarbox.port, BOB, headers={"Host": "forms.example.com."}).status == 200
