"""How often is too often: the generic cell rate algorithm (ITU-T I.371), one number a client."""

from dataclasses import dataclass

_UNITS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` at once if need be, then one more each time another `period / count` seconds are over."""

    count: int
    period: float

    @classmethod
    def parse(cls, text: str) -> "Rate | None":
        """Return the rate that a text like `10/minute` names, None for `off`; raises ValueError for anything else."""
        if text.strip().lower() in {"off", "none", "0"}:
            return None
        count, _, unit = text.strip().lower().partition("/")
        seconds = _UNITS.get(unit.removesuffix("s"))
        if not count.isdigit() or int(count) < 1 or seconds is None:
            raise ValueError("write it like 10/minute (second, minute, hour or day), or off")
        return cls(int(count), seconds)


def admit(arrival: float | None, rate: Rate, now: float) -> tuple[float, float]:
    """Return (the client's new theoretical arrival time, seconds to wait: 0 when admitted).

    `arrival` is what the last call returned for this client, None at first. A refused call changes nothing.
    """
    gap = rate.period / rate.count
    expected = max(arrival or now, now)
    wait = expected + gap - rate.period - now
    return (expected, wait) if wait > 1e-9 else (expected + gap, 0.0)


def give_back(arrival: float, rate: Rate) -> float:
    """Return what `arrival` would be if the last one admitted had not come."""
    return arrival - rate.period / rate.count
