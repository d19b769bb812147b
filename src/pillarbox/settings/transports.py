"""What describes one way out for mail: the settings at the top, or a table [transports.<name>] of the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from pillarbox.settings.kinds import LOWERED, Address, Budget, BudgetOrUnsaid, Host, Seconds, SecondsOrNone, WayName

GMAIL = "smtp.gmail.com"
NOBODY = "pillarbox@localhost"
"""Whose letters they are while they go into a folder and no address is set."""

_DAY = 86_400.0
# Google's published sending limits: letters a day of a Gmail account, and of one of Google Workspace.
_OF_GMAIL, _OF_WORKSPACE = ((500, _DAY),), ((2_000, _DAY),)
_DOTS_TIME = 10
"""The answer after the final dot may take so many times as long as any other: the server stores the letter first."""


@dataclass(frozen=True, slots=True)
class WayOut:
    """One way out with every value as it counts: nothing is left to be filled in.

    `maildir` is the folder of a way that has no server; None when there is one. `budget` holds (letters, seconds) for
    each bound; empty is no bound. `fallback` is another way's name, or "". Time-outs are in seconds.
    """

    name: str
    server: str
    port: int
    security: Literal["starttls", "tls", "plain"]
    username: str
    password: SecretStr
    ca_file: Path | None
    connections: int
    connect_timeout: float
    timeout: float
    dot_timeout: float
    budget: Budget
    fallback: str
    sender: str
    maildir: Path | None


class WaySettings(BaseModel):
    """What can be said of a way out, by the same names at the top and in a table."""

    smtp_server: Host = Field("", description="The mail server that takes your letters, like smtp.example.com.")
    smtp_port: int = Field(
        587, ge=1, le=65_535, description="Its port: 587 with STARTTLS, 465 with TLS from the start."
    )
    smtp_security: Annotated[Literal["starttls", "tls", "plain", ""], LOWERED] = Field(
        "",
        description="`starttls` (default on 587), `tls` (default on 465), or `plain`, which is never a default.",
    )
    smtp_username: str = Field("", description="The login name; EMAIL_ADDRESS when empty.")
    email_address: Address | None = Field(None, description="Your own address: the From of every letter.")
    email_password: SecretStr = Field(SecretStr(""), description="Its password (an app password). Empty: no login.")
    smtp_ca_file: Path | None = Field(None, description="A file of certificates to trust beside the system's.")
    smtp_connections: int = Field(
        4, ge=1, le=64, description="How many connections to the mail server at once, of each process that sends."
    )
    smtp_connect_timeout: Seconds = Field(
        10.0, description="How long it may take to reach the mail server; SMTP_TIMEOUT when that is set lower."
    )
    smtp_timeout: Seconds = Field(45.0, description="How long the mail server may take to answer one command.")
    smtp_dot_timeout: SecondsOrNone = Field(
        None, description="How long its answer to a whole letter may take; ten times SMTP_TIMEOUT when empty."
    )
    smtp_budget: BudgetOrUnsaid = Field(
        None,
        description="How many letters may leave, like `500/day` or `100/hour, 2000/day`; the rest waits. `off` for no "
        "bound. When empty: what Google allows for smtp.gmail.com, no bound elsewhere.",
    )
    smtp_fallback: WayName = Field(
        "", description="The name of another way out that takes the letters while this one is shut."
    )
    maildir: Path | None = Field(
        None,
        description="A folder that gets the mail when no mail server is set; ./mail when empty (in development only).",
    )

    @property
    def security(self) -> Literal["starttls", "tls", "plain"]:
        """How the connection to the mail server is kept secret."""
        return self.smtp_security or ("tls" if self.smtp_port == 465 else "starttls")

    @property
    def connect_timeout(self) -> float:
        """How many seconds it may take to reach the mail server."""
        if "smtp_connect_timeout" in self.model_fields_set:
            return self.smtp_connect_timeout
        return min(self.smtp_connect_timeout, self.smtp_timeout)

    @property
    def dot_timeout(self) -> float:
        """How many seconds the mail server's answer to a whole letter may take."""
        return self.smtp_dot_timeout or self.smtp_timeout * _DOTS_TIME

    def way_out(self, name: str, *, sender: str | None = None, folder: Path | None = None) -> WayOut:
        """Return the way out that this describes; `sender` and `folder` are taken where it names none itself."""
        address = self.email_address or sender or NOBODY
        return WayOut(
            name=name,
            server=self.smtp_server,
            port=self.smtp_port,
            security=self.security,
            username=self.smtp_username or address,
            password=self.email_password,
            ca_file=self.smtp_ca_file,
            connections=self.smtp_connections,
            connect_timeout=self.connect_timeout,
            timeout=self.smtp_timeout,
            dot_timeout=self.dot_timeout,
            budget=_usual_budget(self.smtp_server, address) if self.smtp_budget is None else self.smtp_budget,
            fallback=self.smtp_fallback,
            sender=address,
            maildir=None if self.smtp_server else self.maildir or folder,
        )


class Transport(WaySettings):
    """A table [transports.<name>]: a further way out."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        return join_gmail_password(values) if isinstance(values, dict) else values


def join_gmail_password(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with a Gmail app password in one piece: Google shows it in groups of four letters."""
    password = values.get("email_password")
    if isinstance(password, str) and str(values.get("smtp_server", "")).strip().lower() == GMAIL:
        return values | {"email_password": "".join(password.split())}
    return values


def _usual_budget(server: str, sender: str) -> Budget:
    if server.lower() != GMAIL:
        return ()
    return _OF_GMAIL if sender.lower().endswith(("@gmail.com", "@googlemail.com")) else _OF_WORKSPACE
