"""The only reader of environment, `.env` and secret files. Read once, frozen, seen by app and cli alone."""

import os
import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, NoDecode, SettingsConfigDict

SECRETS_FOLDER = Path("/run/secrets")

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


def _networks(value: object) -> object:
    return tuple(ip_network(part, strict=False) for part in str(_as_text(value)).split(",") if part.strip())


def _as_text(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else value


Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_listed)]
Seconds = Annotated[float, BeforeValidator(_duration), Field(gt=0)]


class Settings(BaseSettings):
    """Every setting by its name in the environment (in upper case). A field's description is its documentation."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=False)

    smtp_server: str = Field("", description="The mail server that takes your letters, like smtp.example.com.")
    smtp_port: int = Field(
        587, ge=1, le=65_535, description="Its port: 587 with STARTTLS, 465 with TLS from the start."
    )
    smtp_security: Literal["starttls", "tls", "plain", ""] = Field(
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
    migrate: Literal["on", "off"] = Field(
        "on", description="`off`: the start does not change the schema; `pillarbox upgrade` does."
    )
    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="The port to listen on.")
    workers: int = Field(1, ge=1, le=64, description="How many processes serve.")
    dispatch: bool = Field(
        True, description="Whether serving processes also send mail; `serve --no-worker` turns it off."
    )
    public_url: Annotated[str, AfterValidator(_web_address)] = Field("", description="The address that visitors see.")
    allowed_hosts: Listed = Field(
        (),
        description="Host names that are served; those of PUBLIC_URL and of this machine when empty, any without it.",
    )
    cors_origins: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_listed)] = Field(
        None, description="Origins whose scripts may read the answers; `*` in development, none in production."
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_networks)] = Field(
        (), description="Addresses or networks of proxies whose X-Forwarded-For counts."
    )
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
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    log_format: Literal["text", "json", ""] = Field("", description="`text` in development, `json` in production.")
    log_file: Path | None = Field(None, description="A file to log to instead of standard error.")
    environment: Literal["development", "production"] = Field(
        "development", description="`production` closes /mail, opens no CORS by itself and wants a way out."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("email_password") and not values.get("smtp_server"):
            values["smtp_server"] = "smtp.gmail.com"
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
    """Return the settings from (in this order) the arguments, the environment, `.env` and /run/secrets.

    Raises WrongSettings with one sentence for each thing that is wrong.
    """
    secrets = SECRETS_FOLDER if SECRETS_FOLDER.is_dir() else None
    try:
        settings = Settings(**given, _env_file=".env", _secrets_dir=secrets)  # type: ignore[call-arg]
    except ValidationError as error:
        raise WrongSettings(
            _sentence(fault) for fault in error.errors(include_input=False, include_url=False)
        ) from None
    if faults := tuple(_faults(settings)):
        raise WrongSettings(faults)
    return settings


def _sentence(fault: Any) -> str:
    name = str(fault["loc"][0]).upper() if fault["loc"] else "The settings"
    reason = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{name} ({where(name)}) is not right: {reason}."


def where(name: str) -> str:
    """Say in plain words where a setting's value comes from."""
    if any(key.upper() == name for key in os.environ):
        return "in the environment"
    if name.lower() in DotEnvSettingsSource(Settings, env_file=".env").env_vars:
        return "in the file .env"
    if (SECRETS_FOLDER / name.lower()).exists():
        return f"in {SECRETS_FOLDER}"
    return "not set"


def _faults(settings: Settings) -> Iterable[str]:
    """Yield what is wrong between settings that are right by themselves."""
    if settings.smtp_server and not settings.email_address:
        yield "EMAIL_ADDRESS is not set: set it to your own address, which every letter comes from."
    if settings.smtp_server and settings.maildir:
        yield "SMTP_SERVER and MAILDIR are both set: mail leaves through the one or lies in the other; take one out."
    if settings.smtp_ca_file and not settings.smtp_ca_file.is_file():
        yield f"SMTP_CA_FILE ({where('SMTP_CA_FILE')}) names {settings.smtp_ca_file}, which is not a file."
    if settings.is_production and settings.mails_to_a_folder and not settings.maildir:
        yield (
            "ENVIRONMENT is production and there is no way out for mail: set SMTP_SERVER, EMAIL_ADDRESS and "
            "EMAIL_PASSWORD, or name a MAILDIR."
        )
    yield from _database_faults(settings)


def _database_faults(settings: Settings) -> Iterable[str]:
    url = settings.database_url
    if not url.startswith("sqlite:///") or url in {"sqlite:///", "sqlite:///:memory:"}:
        yield (
            f"DATABASE_URL ({where('DATABASE_URL')}) has to name an SQLite file, like sqlite:///./data/pillarbox.db; "
            "this version keeps messages nowhere else."
        )
    elif not settings.data_is_durable:
        for variable, platform in THROWAWAY_DISKS.items():
            if os.environ.get(variable):
                yield (
                    f"{variable} says that this is {platform}, whose disk is thrown away: messages would be lost. "
                    "Mount a lasting disk and set DATA_IS_DURABLE=true."
                )
