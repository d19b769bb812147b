"""Captchas as their providers document them: where they are asked, what their widgets need, what their words mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from urllib.parse import quote

ACTION = "contact"
"""What the page calls the thing that is done with it (reCAPTCHA v3)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One provider's captcha.

    `field` is the form field in which its token comes, of `max_token` characters at most. `box` is the class of the
    element that it draws in (empty: it draws nothing), with these `attributes`, and `api` the global object of its
    script. In `script` and attributes stand places for `site_key` and `language`. `sources` say by directive what its
    script needs of a Content-Security-Policy. `test_secrets` are public: their verdicts are for any host.
    """

    provider: str
    verify_url: str
    field: str
    max_token: int
    api: str
    box: str
    script: str
    sources: Mapping[str, tuple[str, ...]]
    attributes: tuple[tuple[str, str], ...] = ()
    test_secrets: frozenset[str] = frozenset()
    has_score: bool = False


_CLOUDFLARE = ("https://challenges.cloudflare.com",)
_HCAPTCHA = ("https://hcaptcha.com", "https://*.hcaptcha.com")
_GOOGLE = {
    "script-src": ("https://www.google.com/recaptcha/", "https://www.gstatic.com/recaptcha/"),
    "frame-src": ("https://www.google.com/recaptcha/", "https://recaptcha.google.com/recaptcha/"),
    "connect-src": ("https://www.google.com/recaptcha/",),
}
_GOOGLE_VERIFIES = "https://www.google.com/recaptcha/api/siteverify"
_GOOGLE_SCRIPT = "https://www.google.com/recaptcha/api.js"
_WHEN_BROKEN = ("data-error-callback", "captchaFailed")
"""Whom the provider calls when its widget can't go on: page.js has it."""

KINDS: Mapping[str, Kind] = {
    # developers.cloudflare.com/turnstile: validation, widget configurations, content security policy, testing
    "turnstile": Kind(
        provider="Cloudflare Turnstile",
        verify_url="https://challenges.cloudflare.com/turnstile/v0/siteverify",
        field="cf-turnstile-response",
        max_token=2_048,
        api="turnstile",
        box="cf-turnstile",
        script="https://challenges.cloudflare.com/turnstile/v0/api.js",
        sources={"script-src": _CLOUDFLARE, "frame-src": _CLOUDFLARE},
        attributes=(
            ("data-theme", "auto"),
            ("data-size", "flexible"),
            ("data-language", "{language}"),
            ("data-unsupported-callback", "captchaFailed"),
            _WHEN_BROKEN,
        ),
        test_secrets=frozenset(f"{digit}x0000000000000000000000000000000AA" for digit in (1, 2, 3)),
    ),
    # docs.hcaptcha.com: developer guide, configuration
    "hcaptcha": Kind(
        provider="hCaptcha",
        verify_url="https://api.hcaptcha.com/siteverify",
        field="h-captcha-response",
        max_token=8_192,
        api="hcaptcha",
        box="h-captcha",
        script="https://js.hcaptcha.com/1/api.js?hl={language}&recaptchacompat=off",
        sources=dict.fromkeys(("script-src", "frame-src", "style-src", "connect-src"), _HCAPTCHA),
        attributes=(_WHEN_BROKEN,),
        test_secrets=frozenset({"0x0000000000000000000000000000000000000000"}),
    ),
    # developers.google.com/recaptcha: v2 checkbox, verifying the user's response, FAQ
    "recaptcha": Kind(
        provider="Google reCAPTCHA",
        verify_url=_GOOGLE_VERIFIES,
        field="g-recaptcha-response",
        max_token=8_192,
        api="grecaptcha",
        box="g-recaptcha",
        script=_GOOGLE_SCRIPT + "?hl={language}",
        sources=_GOOGLE,
        attributes=(_WHEN_BROKEN,),
        test_secrets=frozenset({"6LeIxAcTAAAAAGG-vFI1TnRWxMZNFuojJ4WifJWe"}),
    ),
    # developers.google.com/recaptcha: v3
    "recaptcha3": Kind(
        provider="Google reCAPTCHA",
        verify_url=_GOOGLE_VERIFIES,
        field="g-recaptcha-response",
        max_token=8_192,
        api="grecaptcha",
        box="",
        script=_GOOGLE_SCRIPT + "?render={site_key}&hl={language}",
        sources=_GOOGLE,
        has_score=True,
    ),
}
FIELDS = frozenset(kind.field for kind in KINDS.values())
"""What comes in these fields is for a provider, and no answer to a form's question."""


@dataclass(frozen=True, slots=True)
class Widget:
    """A captcha as a page shows it."""

    kind: Kind
    site_key: str

    def script(self, language: str) -> str:
        """Return the address of the provider's script."""
        return self.kind.script.format(site_key=quote(self.site_key, safe=""), language=quote(language, safe=""))

    def attributes(self, language: str) -> dict[str, str]:
        """Return the attributes of the element that the provider draws in."""
        named = {name: value.format(language=language) for name, value in self.kind.attributes}
        return {"data-sitekey": self.site_key} | named


@dataclass(frozen=True, slots=True)
class Account:
    """What we have with a provider.

    `hosts`, as `host_name` writes them, are where a captcha may have been solved; none for anywhere. A solved one
    that scores less than `least_score` is doubted.
    """

    kind: Kind
    secret: str = field(repr=False)
    verify_url: str
    hosts: frozenset[str] = frozenset()
    least_score: float = 0.5


class Word(Enum):
    """What a provider's answer comes to."""

    SOLVED = auto()
    REFUSED = auto()
    """This token is no good: the visitor has to solve another."""
    LOW_SCORE = auto()
    ELSEWHERE = auto()
    """A person solved it, but not for us: on another host, or for another action."""
    UNCLEAR = auto()
    """It neither vouches for the token nor names it as what is wrong."""
    AWAY = auto()
    """It can answer nobody now."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a provider's answer comes to, and why in words for the log."""

    word: Word
    why: str = ""


_ABOUT_THE_TOKEN = frozenset(
    {
        "missing-input-response",
        "invalid-input-response",
        "expired-input-response",
        "already-seen-response",
        "invalid-or-already-seen-response",
        "timeout-or-duplicate",
    }
)
_ABOUT_US = {
    "missing-input-secret": "it does not know our secret: look at CAPTCHA_SECRET",
    "invalid-input-secret": "it does not know our secret: look at CAPTCHA_SECRET",
    "internal-error": "it has a fault of its own",
}
_UNTOLD = frozenset({"", "not-provided"})


def judge(account: Account, answer: object) -> Opinion:
    """Return what the JSON of a provider's answer comes to. A token is refused only if it is named as what is wrong."""
    if not isinstance(answer, dict) or not isinstance(answer.get("success"), bool):
        return Opinion(Word.AWAY, "what it said was no verdict")
    if not answer["success"]:
        return _refusal(answer.get("error-codes"))
    host = answer.get("hostname")
    if account.hosts and (not isinstance(host, str) or host in _UNTOLD):
        return Opinion(Word.UNCLEAR, "it does not say on which host it was solved")
    if account.hosts and host_name(str(host)) not in account.hosts:
        return Opinion(Word.ELSEWHERE, f"it was solved on {str(host)[:100]}: CAPTCHA_HOSTNAMES may name that host")
    return _scored(account, answer) if account.kind.has_score else Opinion(Word.SOLVED)


def _refusal(codes: object) -> Opinion:
    named = [code for code in codes if isinstance(code, str)] if isinstance(codes, list) else []
    for code in named:
        if code in _ABOUT_US:
            return Opinion(Word.AWAY, _ABOUT_US[code])
    # What a visitor's token may bring about stops nobody else's from being looked at.
    if not named or any(code not in _ABOUT_THE_TOKEN for code in named):
        return Opinion(Word.UNCLEAR, f"it refuses, and says {', '.join(named)[:200] or 'nothing'}")
    return Opinion(Word.REFUSED)


def _scored(account: Account, answer: Mapping[str, object]) -> Opinion:
    if answer.get("action") != ACTION:
        return Opinion(Word.ELSEWHERE, f"it was solved for another action than {ACTION}")
    score = answer.get("score")
    if not isinstance(score, int | float) or isinstance(score, bool):
        return Opinion(Word.UNCLEAR, "it gives no score: look if the keys are for reCAPTCHA v3")
    return Opinion(Word.SOLVED if score >= account.least_score else Word.LOW_SCORE)


def host_name(host: str) -> str:
    """Return a host's name as it is compared: small letters, and other scripts as DNS carries them (RFC 3490)."""
    try:
        return host.lower().encode("idna").decode()
    except UnicodeError:
        return host.lower()
