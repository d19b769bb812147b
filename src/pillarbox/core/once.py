"""What stands for one message, so that a double click, a client's retry and a flaky network make no second one."""

import json
from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from pillarbox.core.submission import Answer, Incoming

LONGEST_KEY = 255
WEEK = 7 * 86_400.0
"""Seconds that a key which somebody gave stands for its message."""
A_MOMENT = 10.0
"""Seconds in which the same fields from the same network are one message where nobody gave a key."""


@dataclass(frozen=True, slots=True)
class Key:
    """Stands for one message of a form until a time (seconds since the epoch).

    `digest` is of the message's fields; empty where the name is of them already, and stands for no others.
    """

    name: str
    digest: str
    kept_until: float


def key_of(incoming: Incoming, answers: Sequence[Answer], *, now: float) -> Key:
    """Return what stands for this message: the client's key, or its page's token with the fields, or the fields alone.

    A page's token stands for each text that is sent from it: somebody went back and edited.
    """
    fields = sorted([answer.name, *answer.values] for answer in answers)
    if incoming.key:
        return Key(_digest(["key", incoming.key]), _digest(fields), now + WEEK)
    if incoming.page:
        return Key(_digest(["page", incoming.page, fields]), "", now + WEEK)
    return Key(_digest(["network", incoming.client, fields]), "", now + A_MOMENT)


def is_good_key(key: str) -> bool:
    """Tell whether a client may call its message so: 1 to 255 printable ASCII characters."""
    return 0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()


_ENCODE = json.JSONEncoder().encode


def _digest(parts: object) -> str:
    """Return 120 bits of them in 20 characters; they are no proof of anything, but nobody meets them by chance."""
    # Short, since each accepted message writes one: the shorter, the fewer pages of the database it touches.
    return b2a_base64(blake2b(_ENCODE(parts).encode(), digest_size=15).digest(), newline=False).decode()
