"""The kinds of values that settings have: how each is written, and what is said of one that is not right."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

DEFAULT_WAY = "default"
"""The name of the way out that the settings at the top describe."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_SPANS = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0}


def _listed(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def address(value: str) -> str:
    """Return one address; raises ValueError. It may be internal (`forms@corp.local`): only its syntax counts."""
    local, _, domain = value.rpartition("@")
    try:
        found = validate_email(value, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        if (
            local
            and re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+", local)
            and re.fullmatch(r"[A-Za-z0-9.-]+", domain)
        ):
            return value
        raise ValueError("write one address, like name@example.com") from None
    return found.normalized


def duration(value: object) -> object:
    """Return the seconds of `500ms`, `30s`, `5m`, `2h`, `1d` or of a number; raises ValueError."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError("write a duration like 500ms, 30s, 5m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2] or "s"]


def _duration_or_none(value: object) -> object:
    value = _none_when_off(value)
    return None if value is None else duration(value)


def _durations(value: object) -> tuple[float, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(float(str(duration(part))) for part in parts) if isinstance(parts, list | tuple) else ()


def _rate(value: str) -> str:
    if value != "off" and not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)s?", value):
        raise ValueError("write it like 10/minute (second, minute, hour or day), or off")
    return value


def _budget(value: object) -> object:
    """Return (letters, seconds) for each bound; none for `off`, None where nothing is said."""
    if value is None:
        return None
    parts = _listed(value)
    if parts == ("off",):
        return ()
    bounds = []
    for part in parts if isinstance(parts, list | tuple) else [parts]:
        if isinstance(part, tuple):  # ours already
            bounds.append(part)
        elif found := re.fullmatch(r"([1-9]\d{0,8})/(second|minute|hour|day)s?", str(part).strip()):
            bounds.append((int(found[1]), _SPANS[found[2]]))
        else:
            raise ValueError("write it like 500/day, or 100/hour, 2000/day, or off")
    return tuple(bounds)


def _none_when_off(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "off" else value


def _colour(value: str) -> str:
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", value):
        raise ValueError("write a colour like #0b5cad")
    return value.lower()


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment):
        raise ValueError("write it like https://forms.example.com")
    if len(value) > 300:
        raise ValueError("write one of at most 300 characters: it stands in headers of mails")
    return value.rstrip("/")


def _ping(value: SecretStr) -> SecretStr:
    if value.get_secret_value() and not re.fullmatch(r"(?i)https?://[^\s/?#]+\S*", value.get_secret_value()):
        raise ValueError("write an address like https://ping.example.com/your-key")
    return value


def _channel(value: SecretStr) -> SecretStr:
    """Take a way to tell somebody; what its service makes of the rest is seen when it is used."""
    url = value.get_secret_value()
    kind, _, rest = url.partition(":")
    if kind.lower() == "mailto" and not rest.startswith("//"):
        address(rest.partition("?")[0])
    elif not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", url):
        raise ValueError("write addresses like https://…, ntfys://ntfy.sh/topic or mailto:ops@example.org")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("write a time zone like Europe/Berlin, or UTC") from None
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if value != "*" and (parts.scheme not in {"http", "https"} or value.lower() != f"{parts.scheme}://{parts.netloc}"):
        raise ValueError("write origins like https://www.example.com, without a path, or *")
    return value.lower()


def _host(value: str) -> str:
    """Take names, IP numbers and `*`, without scheme, port or path."""
    try:
        is_address = bool(ip_address(value))
    except ValueError:
        is_address = False
    if value != "*" and not is_address and not re.fullmatch(r"[A-Za-z0-9_.-]*", value):
        raise ValueError("write a host's name alone, like www.example.com, without https:// and without a port")
    return value


def _network(value: object) -> object:
    try:
        return ip_network(str(value).strip(), strict=False)
    except ValueError:
        raise ValueError("write addresses or networks, like 10.0.0.1 or 10.0.0.0/8") from None


def name_server(value: str) -> tuple[str, int]:
    """Return the (IP address, port) of `9.9.9.9`, `9.9.9.9:53`, `::1` or `[::1]:53`; raises ValueError."""
    found = re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?|([0-9.]+):(\d{1,5})|([0-9A-Fa-f.:]+)", value)
    if not found:
        raise ValueError("not an address")
    host = str(ip_address(found[1] or found[3] or found[5]))
    port = int(found[2] or found[4] or 53)
    if not 0 < port < 65_536:
        raise ValueError("not a port")
    return host, port


def _name_server(value: str) -> str:
    try:
        return value and ("[{}]:{}" if ":" in name_server(value)[0] else "{}:{}").format(*name_server(value))
    except ValueError:
        raise ValueError("write an IP address, like 9.9.9.9, 127.0.0.1:5353 or [::1]:5353") from None


def _way_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{0,40}", value):
        raise ValueError("name a way out with small letters, digits and dashes, 40 at most")
    return value


def _further_way_name(value: str) -> str:
    if not value:
        raise ValueError("give it a name, like [transports.gmail]")
    if value == DEFAULT_WAY:
        raise ValueError("`default` is what the settings at the top describe; give this way out another name")
    return _way_name(value)


def _secret_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 32:
        raise ValueError("write 32 random characters or more, as `openssl rand -hex 32` makes them")
    return value


def _private_host(value: str) -> str:
    """Take a name or a network, in the notation that networks are compared in."""
    try:
        return str(ip_network(value, strict=False))
    except ValueError:
        if value == "*":
            raise ValueError("name hosts or networks, like gotify.lan or 10.0.0.0/8") from None
        return _host(value).lower()


LOWERED = BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value)
NONE_WHEN_OFF = BeforeValidator(_none_when_off)
Host = Annotated[str, AfterValidator(_host)]
Hosts = Annotated[tuple[Host, ...], NoDecode, BeforeValidator(_listed)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...] | None, NoDecode, BeforeValidator(_listed)]
SecretKeys = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_secret_key)], ...], NoDecode, BeforeValidator(_listed)
]
PrivateHosts = Annotated[tuple[Annotated[str, AfterValidator(_private_host)], ...], NoDecode, BeforeValidator(_listed)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_listed)]
Address = Annotated[str, AfterValidator(address)]
Addresses = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_listed)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[_Positive, BeforeValidator(duration)]
SecondsOrNone = Annotated[_Positive | None, BeforeValidator(_duration_or_none)]
NumberOrOff = Annotated[int | None, NONE_WHEN_OFF]
Delay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Delays = Annotated[tuple[Delay, ...], NoDecode, BeforeValidator(_durations)]
Rate = Annotated[str, AfterValidator(_rate)]
Budget = tuple[tuple[int, float], ...]
"""(letters, seconds) of each bound; empty is no bound."""
BudgetOrUnsaid = Annotated[Budget | None, NoDecode, BeforeValidator(_budget)]
Colour = Annotated[str, AfterValidator(_colour)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
PingAddress = Annotated[SecretStr, AfterValidator(_ping)]
Channels = Annotated[tuple[Annotated[SecretStr, AfterValidator(_channel)], ...], NoDecode, BeforeValidator(_listed)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
NameServer = Annotated[str, AfterValidator(_name_server)]
WayName = Annotated[str, LOWERED, AfterValidator(_way_name)]
FurtherWayName = Annotated[str, AfterValidator(_further_way_name)]
