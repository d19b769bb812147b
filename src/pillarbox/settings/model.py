"""Every setting: its name, kind, default and what it is for."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pillarbox.settings import kinds
from pillarbox.settings.kinds import DEFAULT_WAY, LOWERED
from pillarbox.settings.transports import GMAIL, Transport, WayOut, WaySettings, join_gmail_password

_DEFAULT_DELAYS = (10.0, 60.0, 300.0, 1_800.0, 7_200.0, 14_400.0, *[28_800.0] * 15)

_POLLED_ON_A_SERVER = 1.0


class Settings(WaySettings, BaseSettings):
    """Every setting by its name in the environment (in upper case). A field's description is its documentation."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, env_nested_delimiter="__", str_strip_whitespace=True
    )

    transport: kinds.WayName = Field(
        "",
        description="The way out that the contact form uses: `default`, which the settings above describe, or the name "
        "of one of TRANSPORTS. When empty: `default`, or the only one of TRANSPORTS where nothing describes `default`.",
    )
    transports: Annotated[dict[kinds.FurtherWayName, Transport], NoDecode] = Field(
        {}, description="Further ways out, a table each in `pillarbox.toml`; see [below](#several-ways-out)."
    )
    recipient_email: kinds.Addresses = Field(
        (), description="Who gets the messages, comma-separated; EMAIL_ADDRESS when empty."
    )
    cc_email: kinds.Addresses = Field((), description="Who gets a copy, comma-separated.")
    bcc_email: kinds.Addresses = Field((), description="Who gets a copy that no header shows, comma-separated.")
    confirmation_email: bool = Field(True, description="Whether a visitor gets a confirmation.")
    confirmations_per_hour: kinds.NumberOrOff = Field(
        60, ge=1, description="At most so many confirmations an hour over all forms; `off` for no bound."
    )
    database_url: str = Field(
        "sqlite:///./data/pillarbox.db",
        repr=False,  # it may hold a password
        description="Where messages are kept: an SQLite file, or a PostgreSQL database as "
        "`postgresql://user:password@host:5432/pillarbox`; see [PostgreSQL](operations.md#postgresql).",
    )
    data_is_durable: bool = Field(
        False,
        description="Say `true` where the platform's disk survives a restart although it usually does not.",
    )
    retention: kinds.SecondsOrNone = Field(
        None,
        description="How old messages may become, like 180d: older ones are erased with their letters. Not what still "
        "waits to be sent, and what is held or failed not before 30 days. `off` keeps everything.",
    )
    secret_key: kinds.SecretKeys = Field(
        (),
        description="What stamps and links are signed with: 32 random characters or more. Several with commas: the "
        "first signs, all count, so that a key can be replaced. When empty, one is made at the first start and lies in "
        "`secret_key` beside the database; with PostgreSQL it has to be set, to the same on every machine.",
    )
    migrate: Annotated[Literal["on", "off"], LOWERED] = Field(
        "on", description="`off`: the start does not change the schema; `pillarbox upgrade` does."
    )
    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="The port to listen on.")
    workers: int = Field(1, ge=1, le=64, description="How many processes serve.")
    dispatch: bool = Field(
        True, description="Whether serving processes also send mail; `serve --no-worker` turns it off."
    )
    public_url: kinds.WebAddress = Field("", description="The address that visitors see.")
    allowed_hosts: kinds.Hosts = Field(
        (),
        description="Host names that are served; those of PUBLIC_URL and of this machine when empty, any without it.",
    )
    cors_origins: kinds.Origins = Field(
        None, description="Origins whose scripts may read the answers; `*` in development, none in production."
    )
    trusted_proxies: kinds.Networks = Field(
        (), description="Addresses or networks of proxies whose X-Forwarded-For counts."
    )
    site_name: str = Field(
        "Contact", min_length=1, max_length=80, description="What the page and the letters call the site."
    )
    accent_color: kinds.Colour = Field("#0b5cad", description="The colour of buttons and letters.")
    logo_url: kinds.WebAddress = Field("", description="A picture for page and letters.")
    default_language: str = Field(
        "en", description="The language of the owner's letters, and the visitor's when unknown."
    )
    timezone: kinds.TimeZone = Field("UTC", description="The time zone of the letters.")
    rate_limit: kinds.Rate = Field(
        "10/minute", description="Messages from one client; more are refused for a while. Or `off`."
    )
    form_rate_limit: kinds.Rate = Field(
        "60/minute", description="Messages to one form; more are kept, but held as a flood. Or `off`."
    )
    site_rate_limit: kinds.Rate = Field("600/minute", description="The same over all forms.")
    page_rate_limit: kinds.Rate = Field(
        "1200/minute", description="How often one client may ask for a page, or for anything else that is only read."
    )
    confirmations_per_client: kinds.NumberOrOff = Field(
        3, ge=1, description="At most so many confirmations an hour to visitors of one network; `off` for no bound."
    )
    captcha: Annotated[Literal["turnstile", "hcaptcha", "recaptcha", "recaptcha3", ""], LOWERED] = Field(
        "", description="Whose captcha the form asks for, if any; `recaptcha` is version 2, `recaptcha3` version 3."
    )
    captcha_site_key: str = Field("", description="Its site key, which the page shows to everybody.")
    captcha_secret: SecretStr = Field(SecretStr(""), description="Its secret key.")
    captcha_hostnames: kinds.Hosts = Field(
        (),
        description="Hosts on which it may have been solved; those of PUBLIC_URL and CORS_ORIGINS when empty, any "
        "without these.",
    )
    captcha_score: float = Field(0.5, ge=0, le=1, description="With `recaptcha3`: a message that scores less is held.")
    captcha_verify_url: kinds.WebAddress = Field(
        "", description="Where answers are verified; the provider's when empty."
    )
    retry_schedule: kinds.Delays = Field(
        _DEFAULT_DELAYS,
        min_length=1,
        description='How long to wait after each "later", like 10s,1m,5m,30m,2h.',
    )
    probe_interval: kinds.Seconds = Field(
        60.0,
        description="How soon a mail server that is shut is tried again; then at growing intervals up to 15 minutes.",
    )
    poll_interval: kinds.Seconds = Field(
        5.0,
        description="How long the dispatcher trusts that it would be woken. With PostgreSQL `1s` unless you set it: "
        "behind a pooler nothing wakes it for what other processes keep.",
    )
    digest_above: kinds.NumberOrOff = Field(
        20,
        ge=1,
        description="When more notifications of one form than this have been waiting for five minutes, they leave as "
        "one digest; `off` for never.",
    )
    alarm_to: kinds.Channels = Field(
        (),
        description="Who is told when mail can't leave, comma-separated: a webhook (`https://…`), "
        "`ntfys://ntfy.sh/topic`, `mailto:ops@example.org?transport=other` (through another way out), or any other "
        "Apprise URL.",
    )
    alarm_after: kinds.Seconds = Field(900.0, description="How long a letter may wait before somebody is told.")
    quiet_after: kinds.SecondsOrNone = Field(
        None, description="How long a form may be silent before somebody is told, like 3d; `off` for never."
    )
    ping_url: kinds.PingAddress = Field(
        SecretStr(""),
        description="A web address that is asked for while all is well, so that its service notices silence.",
    )
    ping_every: kinds.Seconds = Field(60.0, description="How often PING_URL is asked for.")
    metrics_token: SecretStr = Field(
        SecretStr(""), description="Who shows it may read `/metrics`; only this machine may when empty."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], LOWERED] = Field(
        "info", description="The least that is logged."
    )
    log_format: Annotated[Literal["text", "json", ""], LOWERED] = Field(
        "", description="`text` in development, `json` in production."
    )
    log_file: Path | None = Field(None, description="A file to log to instead of standard error.")
    private_hosts: kinds.PrivateHosts = Field(
        (),
        description="Hosts and networks inside, like `gotify.lan` or `10.0.0.0/8`, that ALARM_TO, PING_URL and "
        "CAPTCHA_VERIFY_URL may reach; without it only public addresses are asked.",
    )
    nameserver: kinds.NameServer = Field(
        "",
        description="The name server that `pillarbox doctor` asks, like 9.9.9.9 or 127.0.0.1:5353; the system's when "
        "empty.",
    )
    environment: Annotated[Literal["development", "production"], LOWERED] = Field(
        "development", description="`production` closes /mail, opens no CORS by itself and wants a way out."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("email_password") and not values.get("smtp_server"):
            values["smtp_server"] = GMAIL
        if isinstance(values.get("transports"), dict):
            values["transports"] = _with_dashes(values["transports"])
        return join_gmail_password(values)

    @property
    def way(self) -> str:
        """The name of the way out that the contact form uses."""
        if self.transport:
            return self.transport
        return next(iter(self.transports)) if len(self.transports) == 1 and not self._describes_a_way else DEFAULT_WAY

    @property
    def ways(self) -> tuple[WayOut, ...]:
        """Every way out: the default one first, unless nothing describes it and the form uses another."""
        further = tuple(one.way_out(name, sender=self.email_address) for name, one in self.transports.items())
        if self._describes_a_way or self.way == DEFAULT_WAY:
            return (self.way_out(DEFAULT_WAY, folder=Path("mail")), *further)
        return further

    @property
    def used_way(self) -> WayOut:
        """The way out that the contact form uses. Raises KeyError where TRANSPORT names none (load() does not)."""
        return {one.name: one for one in self.ways}[self.way]

    @property
    def _describes_a_way(self) -> bool:
        return bool(self.smtp_server or self.maildir)

    @property
    def mails_to_a_folder(self) -> bool:
        """Whether the form's letters go into a Maildir."""
        return self.used_way.maildir is not None

    @property
    def mail_folder(self) -> Path:
        """The form's Maildir, whether it is used or not."""
        return self.used_way.maildir or Path("mail")

    @property
    def is_production(self) -> bool:
        """Whether visitors from outside are to be expected."""
        return self.environment == "production"

    @property
    def sender(self) -> str:
        """Our own address; one of this machine's while the mail goes into a folder."""
        return self.used_way.sender

    @property
    def recipients(self) -> tuple[str, ...]:
        """The owner's addresses."""
        address = self.email_address or (
            self.transports[self.way].email_address if self.way in self.transports else None
        )
        return self.recipient_email or ((address,) if address else ("you@localhost",))

    @property
    def is_on_postgresql(self) -> bool:
        """Whether messages are kept by a PostgreSQL server, and so by any number of machines."""
        return self.database_url.startswith(("postgresql://", "postgres://", "postgresql+psycopg://"))

    @property
    def polls_every(self) -> float:
        """Seconds that the dispatcher trusts that it would be woken."""
        is_set = "poll_interval" in self.model_fields_set
        return self.poll_interval if is_set or not self.is_on_postgresql else _POLLED_ON_A_SERVER

    @property
    def data_folder(self) -> Path:
        """Where what we keep beside the database lies; with PostgreSQL that is only what can be made anew."""
        if self.is_on_postgresql:
            return Path("data")
        return Path(self.database_url.removeprefix("sqlite:///")).parent

    @property
    def name_server(self) -> tuple[str, int] | None:
        """The (IP address, port) of the name server to ask; None for the system's."""
        return kinds.name_server(self.nameserver) if self.nameserver else None


def _with_dashes(tables: dict[str, Any]) -> dict[str, Any]:
    """Return the tables with the underscores that a variable's name needs read as the dashes that they stand for."""
    found: dict[str, Any] = {}
    for name, table in tables.items():
        known = found.get(dashed := str(name).replace("_", "-"))
        found[dashed] = {**known, **table} if isinstance(known, dict) and isinstance(table, dict) else table
    return found
