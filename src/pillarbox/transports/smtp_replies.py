"""What a mail server's reply, or its silence, means for a letter: one pure rule for every stage."""

import re
from enum import StrEnum

from pillarbox.core.delivery import Blocked, Deferred, Outcome, Refused, Sent

MAX_NOTE = 300
"""Characters of an outcome's note."""


class Stage(StrEnum):
    """Where in the conversation we are; the value is what was said to the server."""

    CONNECT = "connecting"
    BANNER = "the greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    USERNAME = "AUTH LOGIN"
    AUTH = "AUTH"
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DOT = "the letter"


_ABOUT_A_LETTER = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT})

_EXPECTED = {Stage.BANNER: "2", Stage.EHLO: "2", Stage.STARTTLS: "2", Stage.RSET: "2"} | {
    Stage.USERNAME: "3",
    Stage.AUTH: "2",
    Stage.MAIL: "2",
    Stage.RCPT: "2",
    Stage.DATA: "3",
    Stage.DOT: "2",
}
"""First digits of the replies that let the conversation go on (RFC 5321, 4.3.2)."""

_ACCOUNT_CODES = frozenset({"5.4.5", "5.1.8", "5.7.30", "5.7.57", "5.7.60", "5.7.139"})
"""Enhanced codes (RFC 3463, and the two big hosters' own) about our account or sender, wherever they are said."""

_CLOSING = 421

_SESSION_CODES = frozenset({_CLOSING, 503, 530, 534, 535, 538})
"""Codes about the connection or the login, never about a letter (RFC 5321, 4.2.3 and 3.8; RFC 4954, 6)."""

_LOGIN_STAGES = frozenset({Stage.USERNAME, Stage.AUTH})
_LOGIN_REFUSED = frozenset({530, 534, 535, 538})
_LOGIN_REFUSED_ENHANCED = frozenset({"5.7.30", "5.7.57", "5.7.139"})

NO_EHLO = frozenset({500, 502})
"""How a server without extensions answers EHLO; it may still know HELO (RFC 5321, 3.2)."""

_ABOUT_THE_MAILBOX = re.compile(r"[45]\.(?:1\.[1-6]|2\.[0-4])$")
_ENHANCED = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?!\S)")
# White space between the words: an address that a server repeats can't hold any, so a visitor can't write this.
_OUR_LIMIT = re.compile(
    r"\b(?:daily|hourly|monthly|sending|outgoing|outbound|submission)\s+(?:(?!receiv)\w+\s+){0,3}(?:limit|quota)",
    re.IGNORECASE,
)
_NO_MAILBOX = re.compile(r"5\.(?:0\.0|1\.[0-6]|1\.10|2\.1|3\.0)$")
"""Enhanced codes that a mailbox is none, takes no mail, or that say nothing more (RFC 3463, 3.2 and 3.3; RFC 7505)."""
_VAGUE = frozenset({"", "5.0.0", "5.1.0", "5.3.0"})
_ABOUT_US = re.compile(
    r"\b(?:relay\w*|(?:un)?auth\w*|polic(?:y|ies)|spam\w*|reputation|black\w*|block\w*|listed|dns[bw]l|rbl|"
    r"senders?|client|host|denied|prohibited|not allowed|rate|quota|full|storage|size|large|try|later|temporar\w*)\b",
    re.IGNORECASE,
)
_LETTERS_OWN = re.compile(r"5\.(?:2\.3|3\.4|6\.\d+)$")
"""Enhanced codes about a letter's size and its kind (RFC 3463, 3.3, 3.4 and 3.7)."""

_TOO_BIG = 552
_MAILBOX_CODES = frozenset({550, 551, 553, 554})
_NO_SUCH_PARAMETER = frozenset({504, 555})
_SAYS_NO_MORE = re.compile(r"(?:5\.0\.0|5\.3\.0|5\.5\.\d+)?$")
_OURS_AT_MAIL = re.compile(r"5\.[124]\.")
_ITS_SIZE = re.compile(
    r"\b(?:e-?mail|message|content|data)\s+(?:size|length)\b|\btoo\s+(?:big|large|long)\b", re.IGNORECASE
)
_OUR_ROOM = re.compile(r"quota|mailbox|storage|allocat|account", re.IGNORECASE)
_SENDER_CODES = frozenset({"5.1.7", "5.1.8", "5.7.60"})
_ABOUT_THE_SENDER = re.compile(r"(?<!\S)(?:null|empty)\s+sender\b|\bsender\s+address\b|\bMAIL\s+FROM\b", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def plain(words: str) -> str:
    """Return the words as one line of at most MAX_NOTE characters without control characters or lone surrogates."""
    return _CONTROLS.sub(" ", words[: 4 * MAX_NOTE]).strip()[:MAX_NOTE]


def enhanced_code(text: str) -> str:
    """Return the enhanced status code (RFC 2034) that a reply's text begins with, or an empty text."""
    found = _ENHANCED.match(text)
    return found[1] if found else ""


def _is_a_reply(code: int, text: str) -> bool:
    """Return whether this is a reply of RFC 5321, 4.2.1 at all."""
    return 200 <= code <= 599 and "\0" not in text


def leaves_in_step(stage: Stage, code: int, text: str) -> bool:
    """Return whether the connection may be used further: the reply was the expected one, or refused just a letter."""
    if not _is_a_reply(code, text):
        return False
    if str(code)[0] in _EXPECTED[stage]:
        return True
    if stage is Stage.EHLO:
        return code in NO_EHLO
    return stage in _ABOUT_A_LETTER and code >= 400 and code not in _SESSION_CODES


def follows_a_refusal(code: int) -> bool:
    """Return whether a reply to what was written behind a refused command leaves the connection in step.

    It must refuse as well, with "503 bad sequence" for instance. Anything else is a server that goes on with a letter
    that we gave up (RFC 2920, 3.1), says goodbye, or does not speak SMTP.
    """
    return 400 <= code <= 599 and code != _CLOSING


def judge(stage: Stage, code: int, text: str, *, shown: str | None = None, special: bool = False) -> Outcome | None:
    """Return what a reply at this stage makes of the letter; None: go on.

    `shown` is the text as it may be written down, if that differs. `special` says that the letter's MAIL asked for
    what our other letters don't need (SMTPUTF8).

    What is about the connection, the login or our account is Blocked wherever it is said; only then does the stage
    decide. A 2xx after the letter is always Sent, whatever its words: the letter is now the server's (RFC 5321, 6.1).
    """
    words = text if shown is None else shown
    if stage is Stage.DOT and 200 <= code <= 299:
        return Sent(plain(f"{code} {words}"))
    if not _is_a_reply(code, text):
        return Blocked(plain(f"not an SMTP reply (to {stage}): {code} {words}"), by_letter=stage in _ABOUT_A_LETTER)
    if str(code)[0] in _EXPECTED[stage]:
        return None
    note = plain(f"{code} {words} (to {stage})")
    if (refusal := _refusal(stage, code, text, special=special)) is Refused:
        return Refused(note, no_mailbox=_says_that_there_is_no_mailbox(stage, code, text))
    if refusal is Blocked:
        login = _refuses_the_login(stage, code, text)
        return Blocked(note, login, at_recipient=stage is Stage.RCPT, by_letter=stage in _ABOUT_A_LETTER)
    return refusal(note)


def _refuses_the_login(stage: Stage, code: int, text: str) -> bool:
    """Return whether the login or the account was refused for good; a 4xx may pass by itself (RFC 4954, 6).

    A 530 that wants TLS first (RFC 3207, 4) has not looked at any login yet.
    """
    if stage in _LOGIN_STAGES and 500 <= code <= 599:
        return True
    if code in _LOGIN_REFUSED:
        return "starttls" not in text.lower()
    return enhanced_code(text) in _LOGIN_REFUSED_ENHANCED


def _refusal(stage: Stage, code: int, text: str, *, special: bool) -> type[Blocked] | type[Deferred] | type[Refused]:
    if stage not in _ABOUT_A_LETTER or code < 400 or _names_our_side(code, text):
        return Blocked
    if code < 500:
        return Deferred
    if stage is Stage.MAIL and not _refuses_the_letter_at_mail(code, text, special=special):
        return Blocked
    return Refused


def _says_that_there_is_no_mailbox(stage: Stage, code: int, text: str) -> bool:
    """Return whether a 5xx says of the recipient's mailbox that nobody's mail arrives there.

    Chosen narrowly, since a mailbox of which this is said gets no confirmation any more: only at RCPT, and by an
    enhanced code of an unknown or disabled mailbox or its domain (5.1.0 to 5.1.6, 5.1.10, 5.2.1). A code that says
    nothing more (none, 5.0.0, 5.1.0, 5.3.0) counts with 550, 551, 553 or 554, unless words about us, our reputation or
    a full mailbox stand beside it. Never policy about us (5.7.x), a full mailbox (5.2.2) or a letter's size.
    """
    enhanced = enhanced_code(text)
    if stage is not Stage.RCPT or code == _TOO_BIG or (enhanced and not _NO_MAILBOX.match(enhanced)):
        return False
    return enhanced not in _VAGUE or (code in _MAILBOX_CODES and not _ABOUT_US.search(text))


def _names_our_side(code: int, text: str) -> bool:
    enhanced = enhanced_code(text)
    if code in _SESSION_CODES or enhanced in _ACCOUNT_CODES:
        return True
    return not _ABOUT_THE_MAILBOX.match(enhanced) and bool(_OUR_LIMIT.search(text))


def _refuses_the_letter_at_mail(code: int, text: str, *, special: bool) -> bool:
    """Return whether a 5xx at MAIL is about this letter, though most there are about our sender.

    Too big (RFC 1870, 6.1) and "no SMTPUTF8" (RFC 6531, 3.5) are. An unknown parameter (RFC 5321, 4.1.1.11) is only in
    a letter that has one more than the others: else it would meet every letter.
    """
    enhanced = enhanced_code(text)
    if _LETTERS_OWN.match(enhanced) or (special and code in _NO_SUCH_PARAMETER):
        return True
    # 552 is also the code for a full mailbox, which can only be our account's here.
    if code != _TOO_BIG or _OURS_AT_MAIL.match(enhanced):
        return False
    return bool(_ITS_SIZE.search(text) or (_SAYS_NO_MORE.match(enhanced) and not _OUR_ROOM.search(text)))


def refuses_the_null_sender(stage: Stage, code: int, text: str) -> bool:
    """Return whether a letter with an empty MAIL FROM was refused for that, and is worth sending with another."""
    enhanced = enhanced_code(text)
    if not 500 <= code <= 599 or stage not in _ABOUT_A_LETTER or code in _SESSION_CODES:
        return False
    if enhanced in _SENDER_CODES:
        return True
    if _names_our_side(code, text):
        return False
    if stage is Stage.MAIL:
        return not _refuses_the_letter_at_mail(code, text, special=False)
    return bool(_ABOUT_THE_SENDER.search(text))


def lost(stage: Stage, words: str) -> Outcome:
    """Return what a connection that was cut or fell silent at this stage makes of the letter."""
    note = plain(f"{words} (at {stage})")
    return Deferred(note) if stage in _ABOUT_A_LETTER else Blocked(note)
