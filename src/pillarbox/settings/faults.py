"""What is wrong with settings, as sentences: which one, where it stands, and what would be right."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pillarbox.settings.kinds import DEFAULT_WAY
from pillarbox.settings.model import Settings
from pillarbox.settings.sources import config_file, instead, secrets_folder, where
from pillarbox.settings.transports import Transport, WaySettings

THROWAWAY_DISKS = {
    "DYNO": "Heroku",
    "K_SERVICE": "Cloud Run",
    "CONTAINER_APP_NAME": "Azure Container Apps",
    "WEBSITE_INSTANCE_ID": "Azure App Service",
    "AWS_EXECUTION_ENV": "AWS",
    "RENDER": "Render",
    "VERCEL": "Vercel",
}
"""Platforms that throw the disk away at each start, by the environment variable that they set."""

_EXPECTED = {
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "greater_than_equal": "write a number from {ge} up",
    "less_than_equal": "write a number of {le} at most",
    "greater_than": "write more than {gt}",
    "finite_number": "write a number that has an end",
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "literal_error": "write {expected}",
    "string_type": "write a text, in quotes",
    "string_too_short": "write at least one character",
    "string_too_long": "write at most {max_length} characters",
    "path_type": "write a path, in quotes",
    "tuple_type": "write a list",
    "too_short": "write at least one",
    "dict_type": "describe ways out in tables like [transports.gmail] of pillarbox.toml, or by variables like "
    "TRANSPORTS__GMAIL__SMTP_SERVER",
    "model_type": "describe a way out in a table, like [transports.gmail]",
}
"""What would be right, by the validator's name for what is wrong."""

_HOST = r"(?:[\w.-]*|\[[\da-fA-F:.]+\]|%2F[\w.%-]+)(?::\d{1,5})?"
_POSTGRESQL = re.compile(
    rf"[\w+]+://(?:[^:/?#@]*(?::(?:[^/@%]|%[\da-fA-F]{{2}})*)?@)?{_HOST}(?:,{_HOST})*/[^/?#@]+(?:\?[^#@]*)?"
)
"""The address of a PostgreSQL database, several hosts with commas; a password's own signs as %40."""


def sentence(fault: Mapping[str, Any]) -> str:
    """Return what one of pydantic's errors says, in our words."""
    if not fault["loc"]:
        return f"The settings are not right: {fault['msg']}."
    place = _place(tuple(map(str, fault["loc"])))
    if fault["type"] == "extra_forbidden":
        return f"{place} is no setting{instead(str(fault['loc'][-1]), Transport.model_fields)}"
    expected = _EXPECTED.get(fault["type"], "{error}").format_map({"error": fault["msg"]} | fault.get("ctx", {}))
    return f"{place} is not right: {expected}."


def _place(path: tuple[str, ...]) -> str:
    """Return a setting's name, with its table if it stands in one, and where that is."""
    if path[0] != "transports" or len(path) == 1:
        return f"{path[0].upper()} ({where(path[0].upper())})"
    table = f"[transports.{path[1]}]"
    if len(path) == 2 or path[2] == "[key]":
        return f"{table} ({where(_variable(path[1]))})".replace("not set", "by its variables")
    variable = _variable(*path[1:3])
    found = where(variable)
    return f"{path[2]} in {table} ({found})" if found == f"in {config_file()}" else f"{variable} ({found})"


def _variable(*path: str) -> str:
    return "__".join(("TRANSPORTS", *path)).upper().replace("-", "_")


def find_faults(settings: Settings) -> Iterator[str]:
    """Yield what is wrong between settings that are right by themselves."""
    yield from _ways_faults(settings)
    if os.environ.get("SECRETS_DIR") and not secrets_folder().is_dir():
        yield f"SECRETS_DIR (in the environment) names {secrets_folder()}, which is not a folder."
    if settings.log_file and (settings.log_file.is_dir() or not settings.log_file.absolute().parent.is_dir()):
        yield f"LOG_FILE ({where('LOG_FILE')}) names {settings.log_file}, which is no file in a folder that exists."
    yield from _captcha_faults(settings)
    yield from _database_faults(settings)


def _captcha_faults(settings: Settings) -> Iterator[str]:
    keys = {
        "CAPTCHA_SITE_KEY": settings.captcha_site_key,
        "CAPTCHA_SECRET": settings.captcha_secret.get_secret_value(),
    }
    for name, key in keys.items():
        if settings.captcha and not key:
            yield (
                f"{name} is not set, and CAPTCHA ({where('CAPTCHA')}) is {settings.captcha}: set it to the key that "
                "its provider gives you, or take CAPTCHA out."
            )
        if key and not settings.captcha:
            yield (
                f"{name} ({where(name)}) is set, and CAPTCHA is not: name whose key it is (turnstile, hcaptcha, "
                "recaptcha or recaptcha3), or take it out."
            )


def _ways_faults(settings: Settings) -> Iterator[str]:
    names = [one.name for one in settings.ways]
    there = (
        f"there are {', '.join(names)}" if len(names) > 1 else f"there is only {names[0]}" if names else "there is none"
    )
    if settings.way not in names:
        yield f"TRANSPORT ({where('TRANSPORT')}) names the way out {settings.way}, which is not there: {there}."
    for name, way in ((DEFAULT_WAY, settings), *settings.transports.items()):
        yield from _way_faults(settings, name, way)
        if way.smtp_fallback and (way.smtp_fallback == name or way.smtp_fallback not in names):
            wrong = "is this way out itself" if way.smtp_fallback == name else "is not there"
            yield f"{_at(name, 'smtp_fallback')} names {way.smtp_fallback}, which {wrong}: {there}."
    for channel in settings.alarm_to:
        for name in _transports_of(channel.get_secret_value()):
            if name not in names:
                yield f"ALARM_TO ({where('ALARM_TO')}) names the way out {name}, which is not there: {there}."
    if settings.is_production and settings.way == DEFAULT_WAY and not (settings.smtp_server or settings.maildir):
        yield (
            "ENVIRONMENT is production and there is no way out for mail: set SMTP_SERVER, EMAIL_ADDRESS and "
            "EMAIL_PASSWORD, or name a MAILDIR" + (", or set TRANSPORT." if settings.transports else ".")
        )


def _way_faults(settings: Settings, name: str, way: WaySettings) -> Iterator[str]:
    if way.smtp_server and not way.email_address and not settings.email_address:
        yield (
            "EMAIL_ADDRESS is not set: set it to your own address, which every letter comes from."
            if name == DEFAULT_WAY
            else f"{_at(name, 'email_address')} is missing: give it the address that its letters come from."
        )
    if way.smtp_server and way.maildir:
        keys = (
            "SMTP_SERVER and MAILDIR are"
            if name == DEFAULT_WAY
            else f"smtp_server and maildir of [transports.{name}] are"
        )
        yield f"{keys} both set: mail leaves through the one or lies in the other; take one out."
    if name != DEFAULT_WAY and not way.smtp_server and not way.maildir:
        others = [one for one in settings.transports if one != name]
        yield f"[transports.{name}] describes no way out: give it an smtp_server or a maildir{instead(name, others)}"
    if way.smtp_ca_file and not way.smtp_ca_file.is_file():
        yield f"{_at(name, 'smtp_ca_file')} names {way.smtp_ca_file}, which is not a file."
    if way.maildir and way.maildir.exists() and not way.maildir.is_dir():
        yield f"{_at(name, 'maildir')} names {way.maildir}, which is not a folder."


def _at(name: str, key: str) -> str:
    """Return where a way's setting stands."""
    return _place((key,) if name == DEFAULT_WAY else ("transports", name, key))


def _transports_of(channel: str) -> list[str]:
    """Return the ways out that an alarm by mail asks for."""
    parts = urlsplit(channel)
    return parse_qs(parts.query).get("transport", []) if parts.scheme == "mailto" and not parts.netloc else []


def _database_faults(settings: Settings) -> Iterator[str]:
    if settings.is_on_postgresql:
        yield from _postgresql_faults(settings)
    else:
        yield from _sqlite_faults(settings)


def _postgresql_faults(settings: Settings) -> Iterator[str]:
    if not _POSTGRESQL.fullmatch(settings.database_url):  # not a word of it is shown: it may hold the password
        yield (
            f"DATABASE_URL ({where('DATABASE_URL')}) is not right: write it like "
            "postgresql://user:password@host:5432/pillarbox; in a password, write % as %25, @ as %40, / as %2F, ? as "
            "%3F and # as %23."
        )
    if not settings.secret_key:
        yield (
            "SECRET_KEY has to be set with PostgreSQL, to the same on every machine: links and limits depend on it. "
            "`openssl rand -hex 32` makes a good one."
        )


def _sqlite_faults(settings: Settings) -> Iterator[str]:
    url = settings.database_url
    path = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or url in {"sqlite:///", "sqlite:///:memory:"}:
        yield (
            f"DATABASE_URL ({where('DATABASE_URL')}) has to name an SQLite file, like sqlite:///./data/pillarbox.db, "
            "or a PostgreSQL database, like postgresql://user:password@host/pillarbox."
        )
    elif not _may_be_sqlite(path):
        yield f"DATABASE_URL ({where('DATABASE_URL')}) names {path}, which is not an SQLite file: name a new one."
    elif not settings.data_is_durable:
        for variable, platform in THROWAWAY_DISKS.items():
            if os.environ.get(variable):
                yield (
                    f"{variable} says that this is {platform}, whose disk is thrown away: messages would be lost. "
                    "Mount a lasting disk and set DATA_IS_DURABLE=true, or keep them in PostgreSQL."
                )


def _may_be_sqlite(path: Path) -> bool:
    """Tell whether the file is empty or begins as SQLite's do; one not there, or that can't be read, may yet be."""
    try:
        if path.exists() and not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(16) in {b"", b"SQLite format 3\0"}
    except OSError:
        return True
