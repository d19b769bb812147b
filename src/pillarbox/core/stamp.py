"""The signed stamp that a page carries: when it was made, which no robot can write for itself."""

from pillarbox.core.keys import Keys
from pillarbox.core.screening import Signal

STAMP = "_stamp"
"""Name of the hidden field."""
SOONEST = 2.0
"""Seconds in which nobody fills in a form."""
LATEST = 86_400.0
"""Seconds after which a page is older than most that people leave open."""

MOST_USES = 10
"""Messages from one page: who writes so many has long loaded it again."""

_PURPOSE = "stamp"


def make(keys: Keys, nonce: str, *, now: float) -> str:
    """Return a stamp of this moment; `nonce` (letters and digits) makes it differ from every other."""
    return keys.sign(f"{int(now * 1000):x}-{nonce}", _PURPOSE)


def judge(keys: Keys, stamp: str, *, now: float, uses: int = 0) -> Signal | None:
    """Return the sign of spam that a stamp is; None for a good one, and for "": programs have none.

    `uses` says how often it was used before this time.
    """
    if not stamp:
        return None
    signed = keys.verified(stamp, _PURPOSE) if len(stamp) <= 200 else None
    if signed is None:
        return Signal("stamp_forged", 100)
    if uses >= MOST_USES:
        return Signal("stamp_replayed", 100)
    age = now - int(signed.partition("-")[0], 16) / 1000
    if age < SOONEST:
        return Signal("sent_too_fast", 60)
    return Signal("stamp_old", 20) if age > LATEST else None
