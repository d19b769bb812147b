"""Whoever solved the captcha is believed; whoever can't, or whose provider is in trouble, is held and never lost."""

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pillarbox.core.captcha import FIELDS, KINDS, Word, judge
from pillarbox.fetching import Fetcher
from pillarbox.fittings import make_witnesses
from pillarbox.settings import Settings
from pillarbox.settings.faults import find_faults
from tests.asking import BROWSER, Answer, ask, assert_failure, assert_thanks, multipart, post, submit
from tests.running import BOB, Pillarbox
from tests.servers.siteverify import HOST, SECRETS, SILENCE, Siteverify


class Site:
    """Ada's form with a captcha, and its provider."""

    def __init__(self, pillarbox: Pillarbox, provider: Siteverify) -> None:
        self.pillarbox = pillarbox
        self.provider = provider
        self._numbers = count()
        self.field = KINDS[provider.kind].field

    def post(self, token: object = None, **fields: object) -> Answer:
        """Send what Bob writes, with this token."""
        return post(self.pillarbox.port, self.words() | fields | ({} if token is None else {self.field: token}))

    def words(self) -> dict[str, str]:
        """Return what Bob writes, another question each time."""
        return BOB | {"message": f"Question {next(self._numbers)}"}

    def kept(self, answer: Answer) -> tuple[list[str], list[Any]]:
        """Return what the message that was thanked for is held for, and its answers."""
        assert_thanks(answer)
        with closing(sqlite3.connect(self.pillarbox.database)) as database:
            (row,) = database.execute("SELECT held_for, answers FROM submissions WHERE id = ?", [answer.json["id"]])
        return json.loads(row[0]), json.loads(row[1])

    def held_for(self, answer: Answer) -> list[str]:
        """Return what the message is held for; nothing of what its letters will say is a token's."""
        held_for, answers = self.kept(answer)
        assert [name for name, *_ in answers] == list(BOB)
        return held_for

    def letters(self, answer: Answer) -> set[str]:
        """Return the states of the message's letters."""
        with closing(sqlite3.connect(self.pillarbox.database)) as database:
            found = database.execute("SELECT state FROM deliveries WHERE submission_id = ?", [answer.json["id"]])
            return {state for (state,) in found}

    def count(self) -> int:
        """Return how many messages are kept."""
        with closing(sqlite3.connect(self.pillarbox.database)) as database:
            return int(database.execute("SELECT count(*) FROM submissions").fetchone()[0])

    def assert_refused(self, token: object, **fields: object) -> bytes:
        """A token that is not believed: nothing is kept, and the visitor is told to try again; return the answer."""
        before = self.count()
        refused = self.post(token, **fields)
        assert_failure(refused, 400, "CAPTCHA_REFUSED")
        assert "confirm once more that you are a person" in refused.json["message"]
        assert self.count() == before
        return refused.body


@contextmanager
def serving(folder: Path, kind: str, **settings: str) -> Iterator[Site]:
    with Siteverify(kind).running() as provider:
        pillarbox = Pillarbox(folder, **provider.settings | settings)
        try:
            pillarbox.serve()
            yield Site(pillarbox, provider)
        finally:
            pillarbox.stop()


@pytest.fixture(scope="module", params=["turnstile", "recaptcha3"])  # one with a box, and the one without
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp(request.param), request.param, CAPTCHA_SCORE="0.7") as made:
        yield made
        # Whatever the tests sent: neither the secret nor a token is in the log.
        made.post(made.provider.solve("elsewhere.example"))
        log = made.pillarbox.log.read_text()
        assert "captcha_elsewhere" in log
        for question in made.provider.asked:
            assert [word for word in question.fields["response"] + question.fields["secret"] if word in log] == []


def test_a_solved_captcha_lets_the_message_through_and_its_token_is_no_answer(site):
    token = site.provider.solve()
    assert site.held_for(site.post(token)) == []
    asked = site.provider.asked[-1]
    assert asked.fields == {"secret": [SECRETS[site.provider.kind]], "response": [token]}  # and no address
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"


def test_a_host_is_the_same_in_capitals(site):
    assert site.held_for(site.post(site.provider.solve(HOST.upper()))) == []


def test_a_token_counts_once(site):
    token = site.provider.solve()
    assert_thanks(site.post(token))
    site.assert_refused(token)


def test_who_repeats_a_message_is_thanked_again_and_nobody_asked_about_the_token_it_used_up(site):
    token, written, key = site.provider.solve(), site.words(), {"Idempotency-Key": "once"}
    first = post(site.pillarbox.port, written | {site.field: token}, headers=key)
    asked = len(site.provider.asked)
    for spent in (token, "made-up", ""):
        again = post(site.pillarbox.port, written | {site.field: spent}, headers=key)
        assert (again.status, again.body) == (200, first.body)
    fresh = site.provider.solve()
    reused = post(site.pillarbox.port, site.words() | {site.field: fresh}, headers=key)
    assert_failure(reused, 422, "IDEMPOTENCY_KEY_REUSED")
    assert len(site.provider.asked) == asked
    assert site.held_for(site.post(fresh)) == []  # which the refusal did not use up


def test_of_copies_that_come_at_once_only_one_spends_the_token(site):
    sent = site.words() | {site.field: site.provider.solve()}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: post(site.pillarbox.port, sent), range(8)))
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert site.held_for(answers[0]) == []


def test_a_token_that_nobody_gave_out_is_refused(site):
    site.assert_refused("made-up")


def test_a_captcha_that_was_solved_elsewhere_holds_the_message_and_the_owner_can_read_why(site):
    answer = site.post(site.provider.solve("new.example"))
    assert site.held_for(answer) == ["captcha_elsewhere"]
    assert not {"sent", "waiting"} & site.letters(answer)
    log = site.pillarbox.log.read_text()
    assert "it was solved on new.example: CAPTCHA_HOSTNAMES may name that host" in log


@pytest.mark.parametrize("token", ["two words", "x" * 8_193, "líne", "a\x00b", 7, ["one", "two"], {"a": "b"}])
def test_what_can_be_no_token_is_refused_and_its_provider_is_not_asked(site, token):
    before = len(site.provider.asked)
    site.assert_refused(token)
    assert len(site.provider.asked) == before


def test_two_tokens_are_refused(site):
    both = [*site.words().items(), (site.field, site.provider.solve()), (site.field, site.provider.solve())]
    refused = submit(site.pillarbox.port, both, headers={"Accept": "application/json"})
    assert_failure(refused, 400, "CAPTCHA_REFUSED")


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_a_token_the_message_is_kept_and_held(site, nothing):
    before = len(site.provider.asked)
    answer = site.post(nothing)
    assert site.held_for(answer) == ["captcha_missing"]
    assert "sent" not in site.letters(answer)
    assert "waiting" not in site.letters(answer)
    assert len(site.provider.asked) == before


def test_whether_another_sign_was_seen_cannot_be_told_from_what_becomes_of_a_token(site):
    spam = {"_gotcha": "http://spam.example"}
    token = site.provider.solve()
    assert site.held_for(site.post(token, **spam)) == ["honeypot"]
    assert len({site.assert_refused(bad, **more) for bad in (token, "made-up") for more in (spam, {})}) == 1
    assert site.held_for(site.post(**spam)) == ["honeypot", "captcha_missing"]


def test_a_wrong_field_is_told_before_the_token_is_spent(site):
    token = site.provider.solve()
    assert_failure(site.post(token, email="bob"), 400, "TYPE_EMAIL")
    assert site.held_for(site.post(token)) == []


def test_every_way_of_posting_may_carry_the_token(site):
    port, fields = site.pillarbox.port, site.words() | {site.field: site.provider.solve()}
    thanked = submit(port, fields, headers={"Accept": "application/json"})
    assert site.held_for(thanked) == []
    parts = [(f'name="{name}"', text) for name, text in (site.words() | {site.field: site.provider.solve()}).items()]
    headers = {"Content-Type": "multipart/form-data; boundary=cut", "Accept": "application/json"}
    assert site.held_for(submit(port, multipart(*parts), headers=headers)) == []


def test_a_page_keeps_what_the_visitor_wrote_and_shows_no_token(site):
    written = site.words()
    refused = submit(site.pillarbox.port, written | {site.field: "made-up"})
    assert refused.status == 400
    assert written["message"] in refused.text
    assert "confirm once more that you are a person" in refused.text
    assert "made-up" not in refused.text
    assert 'action="./send-message"' in refused.text  # the form itself, to be sent again
    assert refused.headers["content-security-policy"] == page(site).headers["content-security-policy"]


def test_only_the_fields_of_captchas_are_no_answers_and_only_ours_is_asked_about(site):
    token = site.provider.solve()
    others = {name: "x" * 3_000 for name in FIELDS if name != site.field}
    assert site.held_for(site.post(token, **others)) == []
    assert site.provider.asked[-1].fields["response"] == [token]
    held_for, answers = site.kept(site.post(site.provider.solve(), **{"cf-colour": "blue"}))
    assert (held_for, answers[-1]) == ([], ["cf-colour", "cf-colour", ["blue"]])


def test_version_3_says_how_sure_it_is_and_of_what_and_no_other_is_asked(site):
    low, other = site.provider.solve(score=0.6), site.provider.solve(action="login")
    if site.provider.kind == "recaptcha3":
        assert site.held_for(site.post(site.provider.solve(score=0.7))) == []
        assert site.held_for(site.post(low)) == ["captcha_score"]
        assert site.held_for(site.post(other)) == ["captcha_elsewhere"]
        assert "it was solved for another action than contact" in site.pillarbox.log.read_text()
    else:
        assert site.held_for(site.post(low)) == site.held_for(site.post(other)) == []


def page(site: Site) -> Answer:
    return ask(site.pillarbox.port, "GET", "/", headers=BROWSER)


CLOSED = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The policy of a site without captcha, logo and other origins."""
OPENED = {
    "turnstile": CLOSED.replace("script-src 'self'", "script-src 'self' https://challenges.cloudflare.com").replace(
        "form-action", "frame-src https://challenges.cloudflare.com; form-action"
    ),
    "hcaptcha": CLOSED.replace("script-src 'self'", "script-src 'self' https://hcaptcha.com https://*.hcaptcha.com")
    .replace("style-src 'self'", "style-src 'self' https://hcaptcha.com https://*.hcaptcha.com")
    .replace("connect-src 'self'", "connect-src 'self' https://hcaptcha.com https://*.hcaptcha.com")
    .replace("form-action", "frame-src https://hcaptcha.com https://*.hcaptcha.com; form-action"),
    "recaptcha": CLOSED.replace(
        "script-src 'self'",
        "script-src 'self' https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/",
    )
    .replace("connect-src 'self'", "connect-src 'self' https://www.google.com/recaptcha/")
    .replace(
        "form-action",
        "frame-src https://www.google.com/recaptcha/ https://recaptcha.google.com/recaptcha/; form-action",
    ),
}
OPENED["recaptcha3"] = OPENED["recaptcha"]


def test_the_policy_is_opened_for_the_provider_and_on_the_forms_own_page_alone(site):
    assert page(site).headers["content-security-policy"] == OPENED[site.provider.kind]
    thanks = "/thanks?id=7K3M-9QXP-2AFD"
    for path in (thanks, "/nowhere", "/health", "/openapi.json"):
        found = ask(site.pillarbox.port, "GET", path, headers=BROWSER)
        assert found.headers["content-security-policy"] == CLOSED, path
    assert "https:" not in ask(site.pillarbox.port, "GET", "/mail").headers["content-security-policy"]
    assert site.post().headers["content-security-policy"] == CLOSED


def test_without_a_captcha_the_page_and_its_policy_know_of_none(pillarbox):
    pillarbox.serve()
    shown = page(Site(pillarbox, Siteverify("turnstile")))
    assert shown.headers["content-security-policy"] == CLOSED
    assert "captcha" not in shown.text
    assert shown.text.count("<script") == 1
    fields = BOB | dict.fromkeys(FIELDS, "x" * 3_000)
    assert_thanks(post(pillarbox.port, fields))  # a site that moves here may still send them


@pytest.mark.parametrize(
    ("kind", "mood", "why"),
    [
        ("hcaptcha", SILENCE, "no answer within 3 seconds"),
        (
            "recaptcha",
            {"success": False, "error-codes": ["invalid-input-secret"]},
            "it does not know our secret: look at CAPTCHA_SECRET",
        ),
    ],
)
def test_a_provider_that_vouches_for_nobody_holds_messages_and_loses_none(tmp_path, kind, mood, why):
    with serving(tmp_path, kind) as site:
        tokens = [site.provider.solve() for _ in range(4)]
        assert page(site).headers["content-security-policy"] == OPENED[kind]
        assert site.held_for(site.post(tokens[0])) == []
        site.assert_refused(tokens[0])  # each counts once, also where the providers' words for it differ
        site.provider.mood, before = mood, len(site.provider.asked)
        answers = [site.post(token) for token in tokens[1:]]
        assert [site.held_for(answer) for answer in answers] == [["captcha_unanswered"]] * 3
        assert len(site.provider.asked) == before + 1  # the next two did not wait for it
        site.assert_refused("no token")  # what can't be one is seen without asking
        log = site.pillarbox.log.read_text()
        assert log.count("captcha_unanswered") == 1 + 3  # one line of its own, and the reasons of three held messages
        assert why in log
        assert [word for word in (*tokens, SECRETS[kind]) if word in log] == []


@pytest.mark.parametrize(
    ("settings", "solved_on", "is_believed"),
    [
        ({"PUBLIC_URL": "https://Forms.Example.com/contact", "ALLOWED_HOSTS": "*"}, "forms.example.com", True),
        ({"PUBLIC_URL": "https://forms.example.com", "ALLOWED_HOSTS": "*"}, "evil.example", False),
        ({"CORS_ORIGINS": "https://shop.example.com:8443"}, "shop.example.com", True),
        ({"CORS_ORIGINS": "https://shop.example.com:8443"}, "evil.example", False),
        ({"CAPTCHA_HOSTNAMES": "www.example.com", "CORS_ORIGINS": "https://a.example"}, "a.example", False),
        ({"CAPTCHA_HOSTNAMES": "*"}, "anywhere.example", True),
        ({}, "anywhere.example", True),
    ],
)
def test_the_hosts_are_those_of_the_settings(settings, solved_on, is_believed):
    told = {"captcha": "turnstile", "captcha_secret": "secret"} | {
        name.lower(): text for name, text in settings.items()
    }
    (witness,) = make_witnesses(Settings(**told), Fetcher())
    said = {"success": True, "hostname": solved_on}
    assert judge(witness._account, said).word is (Word.SOLVED if is_believed else Word.ELSEWHERE)


def test_a_captcha_without_its_keys_is_a_fault_and_keys_without_a_captcha_are_too():
    keys = ("CAPTCHA_SITE_KEY", "CAPTCHA_SECRET")
    for name, found in zip(keys, find_faults(Settings(captcha="turnstile")), strict=True):
        assert found.startswith(f"{name} is not set, and CAPTCHA (")
        assert "is turnstile: set it to the key that its provider gives you" in found
    for name, found in zip(keys, find_faults(Settings(captcha_site_key="key-1", captcha_secret="key-2")), strict=True):
        assert found.startswith(f"{name} (")
        assert "is set, and CAPTCHA is not" in found
        assert "key-" not in found
    assert list(find_faults(Settings(captcha="hcaptcha", captcha_site_key="key-1", captcha_secret="key-2"))) == []
