"""Whether this machine knows what time it is: letters carry it, and what is due goes by it."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pillarbox.doctor import Finding

_FIRST_YEAR = 2026
_MUCH, _A_LITTLE = 120.0, 5.0
_DATE = re.compile(r"[A-Z][a-z]{2}, {1,2}\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d(?: (?:[+-]\d{4}|GMT))")
_ADVICE = "Set the clock, and let NTP keep it (timedatectl set-ntp true)."


def examine_clock(now: float, *, newest_at: float | None, ahead: Mapping[str, float]) -> Finding:
    """Judge this machine's clock, in seconds since the epoch.

    `newest_at` is the time of the newest message; `ahead` tells by how many seconds other clocks are ahead of ours.
    """
    year = datetime.fromtimestamp(now, UTC).year
    if not _FIRST_YEAR <= year < _FIRST_YEAR + 50:
        return Finding("clock", "fail", f"this machine thinks that it is the year {year}", _ADVICE)
    for whose, seconds in ahead.items():
        if abs(seconds) > _MUCH:
            way = "behind" if seconds > 0 else "ahead of"
            seen = f"this machine's clock is {_minutes(abs(seconds))} {way} that of {whose}"
            return Finding("clock", "warn", seen, _ADVICE)
    if newest_at is not None and newest_at - now > _MUCH:
        seen = f"the newest message was kept {_minutes(newest_at - now)} from now: the clock was set back"
        return Finding("clock", "warn", seen, _ADVICE)
    said_by = [whose + _off(seconds) for whose, seconds in ahead.items()]
    agrees = f", as {' and '.join(said_by)} {'says' if len(said_by) == 1 else 'say'}" if said_by else ""
    return Finding("clock", "ok", f"it is {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC{agrees}")


def _off(seconds: float) -> str:
    if abs(seconds) <= _A_LITTLE:
        return ""
    return f" ({abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'})"


def date_in(text: str) -> float | None:
    """Return the first full date (RFC 5322, 3.3) that a text holds, in seconds since the epoch; None without one."""
    found = _DATE.search(text)
    try:
        return parsedate_to_datetime(found[0]).timestamp() if found else None
    except ValueError:
        return None


def _minutes(seconds: float) -> str:
    if seconds < 2 * 3_600:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3_600:.0f} hours" if seconds < 3 * 86_400 else f"{seconds / 86_400:.0f} days"
