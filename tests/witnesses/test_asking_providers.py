"""Many ask one provider under a clock that the tests turn: it is bounded, and its trouble waits for nobody."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from tests.running import free_port
from tests.servers.siteverify import GARBAGE, HOST, SECRETS, SILENCE, TEST_KEYS, Judged, Siteverify

from pillarbox.core.captcha import KINDS, Account
from pillarbox.core.errors import CaptchaRefused
from pillarbox.core.submission import Incoming
from pillarbox.fetching import Fetcher
from pillarbox.fittings import make_witnesses
from pillarbox.settings import Settings
from pillarbox.witnesses import captcha
from pillarbox.witnesses.captcha import ELSEWHERE, LOW_SCORE, MISSING, UNANSWERED, Captcha

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def asking(kind: str, clock: Clock | None = None, **options: Any) -> Iterator[tuple[Siteverify, Captcha]]:
    with options.pop("double", Siteverify)(kind).running() as provider:
        account = Account(KINDS[kind], SECRETS[kind], provider.url, frozenset({HOST}))
        yield provider, Captcha(account, Fetcher(private=("127.0.0.0/8",)), clock=clock or Clock(), **options)


def with_token(kind: str, token: object) -> Incoming:
    return Incoming({KINDS[kind].field: (token,)}, "client", "en")


@pytest.mark.parametrize(
    ("mood", "why"),
    [
        (SILENCE, "no answer within 1 seconds"),
        (500, "it answered 500"),
        (302, "it answered 302, and nothing that is JSON"),
        (GARBAGE, "it answered 200, and nothing that is JSON"),
        ({"success": "yes"}, "what it said was no verdict"),
        ({"error-codes": ["internal-error"]}, "what it said was no verdict"),
    ],
)
async def test_whatever_is_no_verdict_holds_and_the_next_is_not_even_asked(mood, why, capsys):
    with asking("hcaptcha", patience=1.0) as (provider, witness):
        provider.mood = mood
        seen = [await witness(with_token("hcaptcha", provider.solve())) for _ in range(2)]
        assert (seen, len(provider.asked)) == ([UNANSWERED, UNANSWERED], 1)
        assert why in capsys.readouterr().out


async def test_where_nobody_listens_for_a_provider_messages_are_held(capsys):
    account = Account(KINDS["recaptcha3"], "secret", f"http://127.0.0.1:{free_port()}/siteverify")
    witness = Captcha(account, Fetcher(private=("127.0.0.0/8",)), clock=Clock())
    assert await witness(with_token("recaptcha3", "token")) == UNANSWERED
    assert "connection refused" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
async def test_every_provider_is_believed_once_for_a_token_and_never_for_one_of_another_host(kind, capsys):
    with asking(kind) as (provider, witness):
        token = provider.solve()
        assert await witness(with_token(kind, token)) is None
        with pytest.raises(CaptchaRefused):
            await witness(with_token(kind, token))
        assert await witness(with_token(kind, provider.solve("new.example"))) == ELSEWHERE
        assert "captcha_elsewhere" in capsys.readouterr().out


async def test_what_comes_with_a_servers_error_vouches_for_nobody():
    with asking("turnstile") as (provider, witness):
        provider.mood = (502, {"success": True, "hostname": HOST})
        assert await witness(with_token("turnstile", "token")) == UNANSWERED


@pytest.mark.parametrize("code", ["missing-input-secret", "invalid-input-secret", "internal-error"])
async def test_what_a_provider_says_of_us_is_no_visitors_fault(code):
    with asking("turnstile") as (provider, witness):
        provider.mood = {"success": False, "error-codes": [code]}
        assert await witness(with_token("turnstile", "token")) == UNANSWERED
        provider.mood = ""
        assert await witness(with_token("turnstile", provider.solve())) == UNANSWERED  # for ten seconds


@pytest.mark.parametrize("codes", [[], ["bad-request"], ["sitekey-secret-mismatch"], [7], "text", None])
async def test_what_a_strange_token_may_bring_about_stops_nobody_else(codes):
    with asking("hcaptcha") as (provider, witness):
        provider.mood = {"success": False, "error-codes": codes}
        assert await witness(with_token("hcaptcha", "strange")) == UNANSWERED
        provider.mood = ""
        assert await witness(with_token("hcaptcha", provider.solve())) is None


async def test_after_ten_seconds_one_asks_for_all_and_an_answer_ends_the_pause():
    clock = Clock()
    with asking("turnstile", clock, patience=1.0) as (provider, witness):
        provider.mood = 500
        assert await witness(with_token("turnstile", provider.solve())) == UNANSWERED
        clock.now += captcha.PAUSE - 0.1
        assert await witness(with_token("turnstile", provider.solve())) == UNANSWERED
        assert len(provider.asked) == 1
        clock.now += 0.1
        provider.mood = SILENCE
        crowd = [witness(with_token("turnstile", provider.solve())) for _ in range(20)]
        assert await asyncio.gather(*crowd) == [UNANSWERED] * 20
        assert len(provider.asked) == 2
        clock.now += captcha.PAUSE
        provider.mood = ""
        assert await witness(with_token("turnstile", provider.solve())) is None
        crowd = [witness(with_token("turnstile", provider.solve())) for _ in range(20)]
        assert await asyncio.gather(*crowd) == [None] * 20


async def test_a_crowd_before_a_silent_provider_is_bounded_waits_once_and_tells_once(capsys):
    with asking("turnstile", patience=1.0) as (provider, witness):
        provider.mood = SILENCE
        crowd = [witness(with_token("turnstile", provider.solve())) for _ in range(500)]
        assert await asyncio.gather(*crowd) == [UNANSWERED] * 500
        assert len(provider.asked) <= captcha.AT_ONCE
        assert capsys.readouterr().out.count("captcha_unanswered") == 1


async def test_of_a_crowd_before_a_provider_that_answers_only_who_would_wait_too_long_is_held():
    with asking("hcaptcha") as (provider, witness):
        tokens = [provider.solve() for _ in range(captcha.MOST_IN_HAND + 20)]
        seen = await asyncio.gather(*(witness(with_token("hcaptcha", token)) for token in tokens))
        assert seen == [None] * captcha.MOST_IN_HAND + [UNANSWERED] * 20
        assert await witness(with_token("hcaptcha", "")) == MISSING
        assert await witness(with_token("hcaptcha", provider.solve())) is None  # nobody was away


class Slow(Siteverify):
    """Answers as many as may ask at once, and while it is slow no other."""

    def _judge(self, fields: Mapping[str, list[str]]) -> Judged:
        if len(self.asked) > captcha.AT_ONCE and self.mood == "slow":
            self._ending.wait(60)
        return super()._judge(fields)


async def test_a_provider_that_answers_some_of_a_crowd_too_late_is_not_away(capsys):
    with asking("turnstile", double=Slow, patience=1) as (provider, witness):
        provider.mood = "slow"
        crowd = [witness(with_token("turnstile", provider.solve())) for _ in range(3 * captcha.AT_ONCE)]
        seen = await asyncio.gather(*crowd)
        assert {None, UNANSWERED} == set(seen)
        provider.mood = ""
        assert await witness(with_token("turnstile", provider.solve())) is None
        assert "captcha_unanswered" not in capsys.readouterr().out


async def test_of_a_token_at_once_from_many_posts_one_counts():
    with asking("recaptcha") as (provider, witness):
        token = provider.solve()
        crowd = [witness(with_token("recaptcha", token)) for _ in range(10)]
        seen = await asyncio.gather(*crowd, return_exceptions=True)
        assert seen.count(None) == 1
        assert [type(one) for one in seen if one is not None] == [CaptchaRefused] * 9


async def test_turnstiles_longest_token_is_taken_and_a_longer_one_is_not_asked_about():
    with asking("turnstile") as (provider, witness):
        for token in ("x" * 2_048, "x" * 2_049):
            with pytest.raises(CaptchaRefused):
                await witness(with_token("turnstile", token))
        assert [question.fields["response"] for question in provider.asked] == [["x" * 2_048]]


async def test_a_score_below_the_bound_holds():
    with asking("recaptcha3") as (provider, witness):
        assert await witness(with_token("recaptcha3", provider.solve(score=0.1))) == LOW_SCORE


@pytest.mark.parametrize("secret", TEST_KEYS)
async def test_a_test_keys_verdict_counts_whatever_host_it_names_and_the_log_says_what_it_is(secret, capsys):
    token, judged = TEST_KEYS[secret]
    kind = next(name for name, kind in KINDS.items() if secret in kind.test_secrets)
    with Siteverify(kind).running() as provider:
        settings = Settings(
            captcha_verify_url=provider.url, captcha=kind, captcha_secret=secret, public_url=f"https://{HOST}"
        )
        (witness,) = make_witnesses(settings, Fetcher(private=("127.0.0.0/8",)))
        said = await asyncio.gather(witness(with_token(kind, token or "any")), return_exceptions=True)
    assert (said == [None]) is judged["success"]
    assert judged["success"] or isinstance(said[0], CaptchaRefused)
    logged = capsys.readouterr().out
    assert "captcha_test_key" in logged
    assert secret not in logged
