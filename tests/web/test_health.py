"""Health is true: of keeping, of the mail, and of who asks; what may hold addresses is for operators alone."""

import sqlite3
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.asking import BROWSER, Answer, ask
from tests.running import BOB, Pillarbox, free_port, until

from pillarbox.core.errors import NotKept
from pillarbox.store.counts import Pile, ShutWay, Standing
from pillarbox.web.guards import ClientAddress
from pillarbox.web.health import Health, Insiders, judge

NOW = 1_000_000.0
SHUT = ShutWay("default", 5.0, "535 no login for ada@example.org")
TOKEN = "a token of Ada's"


def pile(state: str = "waiting", purpose: str = "notification", *, age: float = 1.0, number: int = 1) -> Pile:
    return Pile(state, "default", purpose, number, NOW - age)


def standing(*letters: Pile, shut: tuple[ShutWay, ...] = ()) -> Standing:
    return Standing(letters, shut, {})


@pytest.mark.parametrize(
    ("seen", "troubled"),
    [
        (standing(), False),
        (standing(pile(age=900.0)), False),
        (standing(pile(age=900.5)), True),
        (standing(pile(purpose="confirmation", age=5_000.0)), False),
        (standing(pile("held", age=5_000.0)), False),
        (standing(pile("failed")), True),
        (standing(pile("failed", "confirmation")), False),
        (standing(shut=(SHUT,)), True),
    ],
    ids=[
        "a quiet day",
        "a letter that waits for just as long as it may",
        "an owner's letter that waits for too long",
        "a confirmation that waits for long",
        "a held letter",
        "an owner's letter that failed for good",
        "a confirmation that failed",
        "a way out that is shut",
    ],
)
def test_what_counts_as_broken_mail(seen: Standing, troubled: bool):
    assert judge(seen, now=NOW, alarm_after=900.0).troubled is troubled


def test_the_figures_are_those_of_owners_letters_of_all_ways_out():
    other = Pile("waiting", "other", "notification", 2, NOW - 70.04)
    seen = standing(pile(number=3), other, pile(purpose="confirmation", age=90.0), pile("failed", number=4))
    mail = judge(seen, now=NOW, alarm_after=900.0)
    assert (mail.waiting, mail.oldest_seconds, mail.failed) == (5, 70.0, 4)


def test_a_clock_that_was_set_back_makes_no_letter_younger_than_none():
    assert judge(standing(pile(age=-3_600.0)), now=NOW, alarm_after=900.0).oldest_seconds == 0.0


def shut() -> Standing:
    return standing(shut=(SHUT,))


def away() -> Standing:
    raise NotKept


def served(survey: Callable[[], Standing] = standing, *, peer: str = "127.0.0.1", token: str = TOKEN) -> TestClient:
    """Serve health checks to a client that comes from this address."""

    async def beat() -> None:
        return None

    insiders = Insiders(token)
    trusted = ClientAddress((ip_network("10.0.0.0/8"),))
    health = Health(beat, survey, client_address=trusted, insiders=insiders, alarm_after=900.0)

    async def secrets(request: Request) -> PlainTextResponse:
        return PlainTextResponse("seen" if insiders.have(request) else "hidden")

    routes = [Route("/health", health.show), Route("/health/mail", health.show_mail), Route("/secrets", secrets)]

    def told(_request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(f"{error.code} {getattr(error, 'told', '')}", 503)  # type: ignore[attr-defined]

    site = Starlette(routes=routes, exception_handlers={Exception: told, NotKept: told})
    return TestClient(site, base_url="http://127.0.0.1", client=(peer, 50_000), raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("peer", "headers", "you"),
    [
        ("203.0.113.7", {}, "203.0.113.7"),
        ("203.0.113.7", {"X-Forwarded-For": "198.51.100.1"}, "203.0.113.7"),
        ("10.1.2.3", {"X-Forwarded-For": "198.51.100.1"}, "198.51.100.1"),
        ("2001:db8::7", {}, "2001:db8::/64"),
    ],
)
def test_health_says_who_you_are_to_the_rate_limit(peer, headers, you):
    assert served(peer=peer).get("/health", headers=headers).json()["you"] == you


def test_health_of_two_clients_within_one_look_at_the_store_names_each(pillarbox: Pillarbox):
    pillarbox.serve(TRUSTED_PROXIES="127.0.0.1")
    for visitor in ("198.51.100.1", "198.51.100.2"):
        assert ask(pillarbox.port, "GET", "/health", headers={"X-Forwarded-For": visitor}).json["you"] == visitor


def test_messages_can_be_kept_though_mail_is_broken():
    client = served(shut)
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["store"], answer.json()["mail"]) == (200, "ok", "failing")
    assert client.get("/health/mail").status_code == 503


@pytest.mark.parametrize("path", ["/health", "/health/mail"])
def test_while_the_store_is_away_nobody_can_tell(path):
    answer = served(away).get(path)
    assert (answer.status_code, answer.text.strip()) == (503, "NOT_KEPT")


def test_the_store_is_looked_at_once_however_many_ask():
    looks = []
    client = served(lambda: looks.append(1) or standing())
    assert {client.get(path).status_code for path in ["/health", "/health/mail"] * 5} == {200}
    assert len(looks) == 1


INSIDERS = [
    ("127.0.0.1", {}),
    ("::1", {}),
    ("127.0.0.1", {"Host": "localhost:8000"}),
    ("127.0.0.1", {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "203.0.113.7"}),
    ("203.0.113.7", {"Authorization": f"Bearer {TOKEN}"}),
    ("203.0.113.7", {"Authorization": f"bearer  {TOKEN}", "Host": "forms.example.com"}),
]
OUTSIDERS = [
    ("203.0.113.7", {}),
    ("203.0.113.7", {"Authorization": "Bearer"}),
    ("203.0.113.7", {"Authorization": "Bearer "}),
    ("203.0.113.7", {"Authorization": f"Bearer {TOKEN}!"}),
    ("203.0.113.7", {"Authorization": f"Basic {TOKEN}"}),
    ("203.0.113.7", {"Authorization": TOKEN}),
    ("203.0.113.7", {"Authorization": "Bearer \u00e4\u00f6\u00fc".encode("latin-1")}),
    ("127.0.0.1", {"Authorization": "Bearer wrong"}),
    ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
    ("127.0.0.1", {"X-Forwarded-Host": "forms.example.com"}),
    ("127.0.0.1", {"X-Real-IP": "127.0.0.1"}),
    ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}),
    ("127.0.0.1", {"Via": "1.1 proxy"}),
    ("127.0.0.1", {"Host": "forms.example.com"}),
]


@pytest.mark.parametrize(("peer", "headers"), INSIDERS)
def test_this_machine_and_whoever_shows_the_token_are_insiders(peer, headers):
    assert served(peer=peer).get("/secrets", headers=headers).text == "seen"


@pytest.mark.parametrize(("peer", "headers"), OUTSIDERS)
def test_nobody_else_is_an_insider_not_even_through_a_proxy_on_this_machine(peer, headers):
    assert served(peer=peer).get("/secrets", headers=headers).text == "hidden"


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer"}, {"Authorization": "Bearer "}, {}])
def test_without_a_token_set_none_is_right(headers):
    assert served(peer="203.0.113.7", token="").get("/secrets", headers=headers).text == "hidden"


def test_a_token_in_the_address_is_none_because_addresses_are_logged():
    assert served(peer="203.0.113.7").get(f"/secrets?token={TOKEN}").text == "hidden"


def test_the_servers_words_are_for_insiders():
    for peer, is_told in (("127.0.0.1", True), ("203.0.113.7", False)):
        answer = served(shut, peer=peer).get("/health/mail")
        assert answer.status_code == 503
        assert ("ada@example.org" in answer.text, "'ways'" in answer.text) == (is_told, is_told)


def is_shut(database: Path) -> bool:
    with sqlite3.connect(database) as connection:
        return bool(connection.execute("SELECT 1 FROM ways WHERE shut_since IS NOT NULL").fetchone())


def takes_a_message(site: Pillarbox) -> bool:
    try:
        return site.post(BOB)[0] == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Iterator[Pillarbox]:
    """A site whose mail server is not there, and whose health nobody asked for until that was seen."""
    made = Pillarbox(tmp_path_factory.mktemp("broken"), EMAIL_ADDRESS="ada@example.org", SMTP_SERVER="127.0.0.1")
    made.start(SMTP_PORT=str(free_port()))
    until(lambda: takes_a_message(made))
    until(lambda: is_shut(made.database))
    yield made
    made.stop()


def mail_of(site: Pillarbox, headers: dict[str, str] | None = None) -> Answer:
    return ask(site.port, "GET", "/health/mail", headers=headers)


def test_a_mail_server_that_is_not_there_is_told_in_the_one_shape_with_the_figures(broken: Pillarbox):
    answer = mail_of(broken)
    assert answer.status == 503
    found = answer.json
    assert list(found)[:6] == ["success", "ok", "message", "error", "code", "errors"]
    assert (found["success"], found["ok"], found["code"], found["errors"]) == (False, False, "MAIL_FAILING", [])
    assert "pillarbox doctor" in found["message"]
    assert (found["mail"], found["waiting"], found["failed"]) == ("failing", 1, 0)
    assert found["oldest_seconds"] >= 0
    (way,) = found["ways"]
    assert way["name"] == "default"
    assert way["note"]
    assert ask(broken.port, "GET", "/health").json["mail"] == "failing"


def test_through_a_proxy_the_same_is_told_without_the_servers_words(broken: Pillarbox):
    found = mail_of(broken, {"X-Forwarded-For": "203.0.113.7"}).json
    assert "ways" not in found
    assert found["waiting"] == 1


def test_a_person_with_a_browser_gets_a_page(broken: Pillarbox):
    page = mail_of(broken, BROWSER | {"Accept-Language": "de"})
    assert page.status == 503
    assert "pillarbox doctor" in page.text
    assert "Jede Nachricht" in page.text
