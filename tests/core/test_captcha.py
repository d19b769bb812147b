"""What a provider's answer comes to: a token is refused only if it is named as what is wrong."""

import pytest

from pillarbox.core.captcha import KINDS, Account, Word, host_name, judge

HOST = "forms.example.org"
ACCOUNT = Account(KINDS["recaptcha3"], "secret", "https://verify.example", frozenset({HOST}))
SOLVED = {"success": True, "hostname": HOST, "action": "contact", "score": 0.9}


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (SOLVED, Word.SOLVED),
        (SOLVED | {"score": 1}, Word.SOLVED),
        (SOLVED | {"score": 0.5}, Word.SOLVED),
        (SOLVED | {"score": 0.49}, Word.LOW_SCORE),
        (SOLVED | {"score": float("nan")}, Word.LOW_SCORE),
        (SOLVED | {"score": True}, Word.UNCLEAR),
        (SOLVED | {"score": "0.9"}, Word.UNCLEAR),
        (SOLVED | {"score": None}, Word.UNCLEAR),
        (SOLVED | {"hostname": None}, Word.UNCLEAR),
        (SOLVED | {"hostname": "not-provided"}, Word.UNCLEAR),
        (SOLVED | {"hostname": ["a"]}, Word.UNCLEAR),
        (SOLVED | {"hostname": f"{HOST}.evil.example"}, Word.ELSEWHERE),
        (SOLVED | {"hostname": "x" * 500 + "."}, Word.ELSEWHERE),
        (SOLVED | {"action": "login"}, Word.ELSEWHERE),
        (SOLVED | {"action": None}, Word.ELSEWHERE),
        (SOLVED | {"success": 1}, Word.AWAY),
        ([SOLVED], Word.AWAY),
        (None, Word.AWAY),
        ({"success": False, "error-codes": ["timeout-or-duplicate"]}, Word.REFUSED),
        ({"success": False, "error-codes": ["timeout-or-duplicate", "invalid-input-secret"]}, Word.AWAY),
        ({"success": False, "error-codes": ["timeout-or-duplicate", "new-word"]}, Word.UNCLEAR),
    ],
)
def test_an_answer_is_taken_at_its_word(answer, word):
    assert judge(ACCOUNT, answer).word is word


def test_nothing_that_a_provider_says_fills_the_log():
    assert len(judge(ACCOUNT, SOLVED | {"hostname": "x" * 9_000}).why) < 200
    assert len(judge(ACCOUNT, {"success": False, "error-codes": ["x" * 9_000]}).why) < 300


def test_names_in_other_scripts_are_compared_as_dns_carries_them():
    assert host_name("Bücher.example") == host_name("xn--bcher-kva.example") == "xn--bcher-kva.example"


def test_nothing_shows_the_secret():
    assert "do-not-show" not in repr(Account(KINDS["turnstile"], "do-not-show", "https://verify.example"))
