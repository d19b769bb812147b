"""Where a visitor is sent after a message: to our own pages, or to an origin that the settings name."""

import re
from collections.abc import Iterator

import pytest
from tests.asking import post, submit
from tests.running import BOB, Pillarbox


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Pillarbox]:
    made = Pillarbox(
        tmp_path_factory.mktemp("redirects"),
        PUBLIC_URL="https://forms.example.com",
        CORS_ORIGINS="https://www.example.com",
        ALLOWED_HOSTS="*",
    )
    made.serve()
    yield made
    made.stop()


ELSEWHERE = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https://evil.example",
    "HTTPS://www.example.com.evil.example/",
    "https://www.example.com@evil.example/",
    "https://www.example.com:x@evil.example/",
    "https://www.example.com\\@evil.example/",
    "https://evil.example#https://www.example.com",
    "https://evil.example?https://www.example.com/",
    "https://www.example.com:8443/",
    "http://www.example.com/",
    "https://WWW.EXAMPLE.COM.evil.example",
    "https://www.example.com%2eevil.example/",
    "https://www.example.com%00.evil.example/",
    "https://www。example。com/",
    "javascript:alert(1)",
    "JavaScript://www.example.com/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "\t//evil.example",
    " //evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r\nSet-Cookie: a=b",
    "/\r\n\r\n<script>alert(1)</script>",
    "/\x00/evil.example",
    "\x01javascript:alert(1)",
    "java\nscript:alert(1)",
    "/\u2028/evil.example",
    "／／evil.example",
    "evil.example",
    "?https://evil.example",
    "",
    "/" + "x" * 2_000,
]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_no_message_sends_its_visitor_to_a_place_that_is_not_ours(site, target):
    others = dict.fromkeys(("redirect", "_redirect", "redirectTo", "next", "url"), target)
    for fields in ([*BOB.items(), ("_next", target), ("_next", "//evil.example")], BOB | others):
        answer = submit(site.port, fields)
        assert answer.status in {303, 400}
        if answer.status == 303:
            assert re.fullmatch(r"thanks\?id=[0-9A-Z-]{14}", answer.headers["location"])
        assert "set-cookie" not in answer.headers
    answer = post(site.port, BOB | {"_next": target})
    assert answer.status == 200
    assert answer.json["next"].startswith("https://forms.example.com/thanks?id=")


@pytest.mark.parametrize("target", ["/danke", "https://www.example.com/danke?x=1#y", "https://forms.example.com/"])
def test_a_place_of_ours_is_gone_to(site, target):
    assert submit(site.port, BOB | {"_next": target}).headers["location"] == target
