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

FORGED = Signal("stamp_forged", 100)

_PURPOSE = "stamp"
_LONGEST = 200


def make(keys: Keys, nonce: str, *, now: float) -> str:
    """Return a stamp of this moment; `nonce` (letters and digits) makes it differ from every other."""
    return keys.sign(f"{int(now * 1000):x}-{nonce}", _PURPOSE)


def verified(keys: Keys, stamp: str) -> str | None:
    """Return what is signed in a stamp of ours, which names it whatever its signature looks like; None for others."""
    return keys.verified(stamp, _PURPOSE) if len(stamp) <= _LONGEST else None


def judge(signed: str | None, *, now: float, uses: int) -> Signal | None:
    """Return the sign of spam that a stamp is; None for a good one.

    `signed` is what verified() found, `uses` how often it was used before.
    """
    if signed is None:
        return FORGED
    if uses >= MOST_USES:
        return Signal("stamp_replayed", 100)
    age = now - int(signed.partition("-")[0], 16) / 1000
    if age < SOONEST:
        return Signal("sent_too_fast", 60)
    return Signal("stamp_old", 20) if age > LATEST else None
