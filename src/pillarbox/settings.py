"""The only reader of environment, `.env` and secret files. Read once, frozen, seen by app and cli alone."""

import os
import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, NoDecode, SettingsConfigDict, SettingsError

_DOTENV = ".env"
_GMAIL = "smtp.gmail.com"

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

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DEFAULT_SCHEDULE = "10s,1m,5m,30m,2h,4h," + ",".join(["8h"] * 15)


class WrongSettings(Exception):
    """Settings that nothing can be started with; `sentences` say what, where, and what would be right."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = tuple(sentences)
        super().__init__("\n".join(self.sentences))


def secrets_folder() -> Path:
    """Return the folder whose files hold one setting each, named like it: SECRETS_DIR, or where containers have it."""
    return Path(os.environ.get("SECRETS_DIR") or "/run/secrets")


def _listed(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _address(value: str) -> str:
    """Owners' addresses may be internal (`forms@corp.local`, `me@localhost`), so only the syntax counts."""
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


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", value.strip())
    if not found:
        raise ValueError("write a duration like 500ms, 30s, 5m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2] or "s"]


def _durations(value: object) -> tuple[float, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(float(str(_duration(part))) for part in parts) if isinstance(parts, list | tuple) else ()


def _rate(value: str) -> str:
    if value != "off" and not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)s?", value):
        raise ValueError("write it like 10/minute (second, minute, hour or day), or off")
    return value


def _per_hour(value: object) -> object:
    return None if value == "off" else value


def _colour(value: str) -> str:
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", value):
        raise ValueError("write a colour like #0b5cad")
    return value.lower()


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment):
        raise ValueError("write it like https://forms.example.com")
    return value.rstrip("/")


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


_LOWERED = BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value)
Host = Annotated[str, AfterValidator(_host)]
Hosts = Annotated[tuple[Host, ...], NoDecode, BeforeValidator(_listed)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...] | None, NoDecode, BeforeValidator(_listed)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_listed)]
Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_listed)]
Seconds = Annotated[float, BeforeValidator(_duration), Field(gt=0)]


class Settings(BaseSettings):
    """Every setting by its name in the environment (in upper case). A field's description is its documentation."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, str_strip_whitespace=True)

    smtp_server: Host = Field("", description="The mail server that takes your letters, like smtp.example.com.")
    smtp_port: int = Field(
        587, ge=1, le=65_535, description="Its port: 587 with STARTTLS, 465 with TLS from the start."
    )
    smtp_security: Annotated[Literal["starttls", "tls", "plain", ""], _LOWERED] = Field(
        "",
        description="`starttls` (default on 587), `tls` (default on 465), or `plain`, which is never a default.",
    )
    smtp_username: str = Field("", description="The login name; EMAIL_ADDRESS when empty.")
    smtp_ca_file: Path | None = Field(None, description="A file of certificates to trust beside the system's.")
    smtp_connections: int = Field(4, ge=1, le=64, description="How many connections to the mail server at once.")
    smtp_timeout: Seconds = Field(
        45.0, description="How long one SMTP command may take. The final answer gets ten times that."
    )
    email_address: Address | None = Field(None, description="Your own address: the From of every letter.")
    email_password: SecretStr = Field(SecretStr(""), description="Its password (an app password). Empty: no login.")
    recipient_email: Addresses = Field(
        (), description="Who gets the messages, comma-separated; EMAIL_ADDRESS when empty."
    )
    cc_email: Addresses = Field((), description="Who gets a copy, comma-separated.")
    bcc_email: Addresses = Field((), description="Who gets a copy that no header shows, comma-separated.")
    confirmation_email: bool = Field(True, description="Whether a visitor gets a confirmation.")
    confirmations_per_hour: Annotated[int | None, BeforeValidator(_per_hour)] = Field(
        60, ge=1, description="At most so many confirmations an hour over all forms; `off` for no bound."
    )
    maildir: Path | None = Field(
        None,
        description="A folder that gets the mail when no mail server is set; ./mail when empty (in development only).",
    )
    database_url: str = Field("sqlite:///./data/pillarbox.db", description="Where messages are kept.")
    data_is_durable: bool = Field(
        False,
        description="Say `true` where the platform's disk survives a restart although it usually does not.",
    )
    migrate: Annotated[Literal["on", "off"], _LOWERED] = Field(
        "on", description="`off`: the start does not change the schema; `pillarbox upgrade` does."
    )
    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="The port to listen on.")
    workers: int = Field(1, ge=1, le=64, description="How many processes serve.")
    dispatch: bool = Field(
        True, description="Whether serving processes also send mail; `serve --no-worker` turns it off."
    )
    public_url: Annotated[str, AfterValidator(_web_address)] = Field("", description="The address that visitors see.")
    allowed_hosts: Hosts = Field(
        (),
        description="Host names that are served; those of PUBLIC_URL and of this machine when empty, any without it.",
    )
    cors_origins: Origins = Field(
        None, description="Origins whose scripts may read the answers; `*` in development, none in production."
    )
    trusted_proxies: Networks = Field((), description="Addresses or networks of proxies whose X-Forwarded-For counts.")
    site_name: str = Field(
        "Contact", min_length=1, max_length=80, description="What the page and the letters call the site."
    )
    accent_color: Annotated[str, AfterValidator(_colour)] = Field(
        "#0b5cad", description="The colour of buttons and letters."
    )
    logo_url: Annotated[str, AfterValidator(_web_address)] = Field("", description="A picture for page and letters.")
    default_language: str = Field(
        "en", description="The language of the owner's letters, and the visitor's when unknown."
    )
    timezone: Annotated[str, AfterValidator(_time_zone)] = Field("UTC", description="The time zone of the letters.")
    rate_limit: Annotated[str, AfterValidator(_rate)] = Field(
        "10/minute", description="Messages from one client, or `off`."
    )
    retry_schedule: Annotated[tuple[float, ...], NoDecode, BeforeValidator(_durations)] = Field(
        _durations(_DEFAULT_SCHEDULE),
        min_length=1,
        description='How long to wait after each "later", like 10s,1m,5m,30m,2h.',
    )
    probe_interval: Seconds = Field(60.0, description="How often a mail server that is shut is tried again.")
    poll_interval: Seconds = Field(5.0, description="How long the dispatcher trusts that it would be woken.")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _LOWERED] = Field(
        "info", description="The least that is logged."
    )
    log_format: Annotated[Literal["text", "json", ""], _LOWERED] = Field(
        "", description="`text` in development, `json` in production."
    )
    log_file: Path | None = Field(None, description="A file to log to instead of standard error.")
    environment: Annotated[Literal["development", "production"], _LOWERED] = Field(
        "development", description="`production` closes /mail, opens no CORS by itself and wants a way out."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: dict[str, Any]) -> dict[str, Any]:
        password = values.get("email_password")
        if password and not values.get("smtp_server"):
            values["smtp_server"] = _GMAIL
        if isinstance(password, str) and values["smtp_server"] == _GMAIL:
            values["email_password"] = "".join(password.split())  # it shows them in groups of four letters
        return values

    @property
    def mails_to_a_folder(self) -> bool:
        """Whether letters go into the Maildir."""
        return not self.smtp_server

    @property
    def is_production(self) -> bool:
        """Whether visitors from outside are to be expected."""
        return self.environment == "production"

    @property
    def security(self) -> Literal["starttls", "tls", "plain"]:
        """How the connection to the mail server is kept secret."""
        return self.smtp_security or ("tls" if self.smtp_port == 465 else "starttls")

    @property
    def sender(self) -> str:
        """Our own address; one of this machine's while the mail goes into a folder."""
        return self.email_address or "pillarbox@localhost"

    @property
    def recipients(self) -> tuple[str, ...]:
        """The owner's addresses."""
        return self.recipient_email or ((self.email_address,) if self.email_address else ("you@localhost",))

    @property
    def mail_folder(self) -> Path:
        """The Maildir, whether it is used or not."""
        return self.maildir or Path("mail")


def load(**given: Any) -> Settings:
    """Return the settings from (in this order) the arguments, the environment, `.env` and the secrets folder.

    Raises WrongSettings with one sentence for each thing that is wrong.
    """
    folder = secrets_folder()
    try:
        settings = Settings(**given, _env_file=_DOTENV, _secrets_dir=folder if folder.is_dir() else None)  # type: ignore[call-arg]
    except ValidationError as error:
        raise WrongSettings(
            dict.fromkeys(_sentence(fault) for fault in error.errors(include_input=False, include_url=False))
        ) from None
    except (UnicodeDecodeError, SettingsError):
        sentence = f"The file {_DOTENV}, or one in {folder}, is not text in UTF-8: save it as such."
        raise WrongSettings([sentence]) from None
    except OSError as error:
        raise WrongSettings([f"{error.filename} can't be read: {error.strerror}."]) from None
    if faults := tuple(_faults(settings)):
        raise WrongSettings(faults)
    return settings


_EXPECTED = {
    "int_parsing": "write a whole number",
    "greater_than_equal": "write a number from {ge} up",
    "less_than_equal": "write a number of {le} at most",
    "greater_than": "write more than {gt}",
    "bool_parsing": "write true or false",
    "literal_error": "write {expected}",
    "string_too_short": "write at least one character",
    "string_too_long": "write at most {max_length} characters",
    "too_short": "write at least one",
}
"""What would be right, by the validator's name for what is wrong."""


def _sentence(fault: Any) -> str:
    if not fault["loc"]:
        return f"The settings are not right: {fault['msg']}."
    name = str(fault["loc"][0]).upper()
    expected = _EXPECTED.get(fault["type"], "{error}").format_map({"error": fault["msg"]} | fault.get("ctx", {}))
    return f"{name} ({where(name)}) is not right: {expected}."


def where(name: str) -> str:
    """Say in plain words where a setting's value comes from."""
    if any(key.upper() == name for key in os.environ):
        return "in the environment"
    if name.lower() in DotEnvSettingsSource(Settings, env_file=_DOTENV).env_vars:
        return f"in the file {_DOTENV}"
    if (secrets_folder() / name.lower()).exists():
        return f"in {secrets_folder()}"
    return "not set"


def _faults(settings: Settings) -> Iterable[str]:
    """Yield what is wrong between settings that are right by themselves."""
    if settings.smtp_server and not settings.email_address:
        yield "EMAIL_ADDRESS is not set: set it to your own address, which every letter comes from."
    if settings.smtp_server and settings.maildir:
        yield "SMTP_SERVER and MAILDIR are both set: mail leaves through the one or lies in the other; take one out."
    if settings.smtp_ca_file and not settings.smtp_ca_file.is_file():
        yield f"SMTP_CA_FILE ({where('SMTP_CA_FILE')}) names {settings.smtp_ca_file}, which is not a file."
    if os.environ.get("SECRETS_DIR") and not secrets_folder().is_dir():
        yield f"SECRETS_DIR (in the environment) names {secrets_folder()}, which is not a folder."
    if settings.maildir and settings.maildir.exists() and not settings.maildir.is_dir():
        yield f"MAILDIR ({where('MAILDIR')}) names {settings.maildir}, which is not a folder."
    if settings.log_file and (settings.log_file.is_dir() or not settings.log_file.absolute().parent.is_dir()):
        yield f"LOG_FILE ({where('LOG_FILE')}) names {settings.log_file}, which is no file in a folder that exists."
    if settings.is_production and settings.mails_to_a_folder and not settings.maildir:
        yield (
            "ENVIRONMENT is production and there is no way out for mail: set SMTP_SERVER, EMAIL_ADDRESS and "
            "EMAIL_PASSWORD, or name a MAILDIR."
        )
    yield from _database_faults(settings)


def _database_faults(settings: Settings) -> Iterable[str]:
    url = settings.database_url
    path = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or url in {"sqlite:///", "sqlite:///:memory:"}:
        yield (
            f"DATABASE_URL ({where('DATABASE_URL')}) has to name an SQLite file, like sqlite:///./data/pillarbox.db; "
            "this version keeps messages nowhere else."
        )
    elif not _may_be_sqlite(path):
        yield f"DATABASE_URL ({where('DATABASE_URL')}) names {path}, which is not an SQLite file: name a new one."
    elif not settings.data_is_durable:
        for variable, platform in THROWAWAY_DISKS.items():
            if os.environ.get(variable):
                yield (
                    f"{variable} says that this is {platform}, whose disk is thrown away: messages would be lost. "
                    "Mount a lasting disk and set DATA_IS_DURABLE=true."
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
