"""Who takes part, and the exact command that starts each."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

UVICORN_QUIET = ("--no-access-log", "--log-level", "warning")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server under test: its command ({port} is filled in), settings, path to post to, mails a message causes."""

    name: str
    command: tuple[str, ...]
    path: str
    mails: int
    settings: Mapping[str, str] = field(default_factory=dict)

    def command_for(self, port: int) -> list[str]:
        """Return the command for a port, run by this very Python."""
        return [sys.executable, *(word.format(port=port) for word in self.command)]

    def settings_for(self, port: int, *, mail_port: int, folder: Path) -> dict[str, str]:
        """Return the environment for ports and a folder of its own."""
        common = {"SMTP_SERVER": "127.0.0.1", "SMTP_PORT": str(mail_port), "PORT": str(port)}
        return common | {name: value.format(folder=folder) for name, value in self.settings.items()}

    @property
    def shown(self) -> str:
        """The command as a person would type it, without what differs at each start."""
        settings = " ".join(f"{name}={value}" for name, value in self.settings.items()).format(folder="/tmp/…")
        words = " ".join(self.command).format(port="PORT")
        return f"taskset -c 0 env SMTP_SERVER=127.0.0.1 SMTP_PORT=… PORT=PORT {settings} python {words}".replace(
            "  ", " "
        )


MAIL = {"EMAIL_ADDRESS": "forms@bench.example.com", "RECIPIENT_EMAIL": "owner@example.org"}

OUR_SETTINGS = MAIL | {
    "SMTP_SECURITY": "plain",
    "RATE_LIMIT": "off",
    "FORM_RATE_LIMIT": "off",
    "SITE_RATE_LIMIT": "off",
    "PAGE_RATE_LIMIT": "off",
    "CONFIRMATIONS_PER_HOUR": "off",
    "CONFIRMATIONS_PER_CLIENT": "off",
    "DATABASE_URL": "sqlite:///{folder}/pillarbox.db",
    "ENVIRONMENT": "production",
    "ALLOWED_HOSTS": "*",
}

DESIGN_A = Contestant(
    "design A",
    ("-m", "gunicorn", "--workers", "4", "--worker-class", "sync", "--log-level", "warning",
     "--bind", "127.0.0.1:{port}", "bench.opponents.design_a:app"),
    "/send-message",
    mails=1,
    settings=MAIL,
)  # fmt: skip
DESIGN_B = Contestant(
    "design B",
    ("-m", "uvicorn", *UVICORN_QUIET, "--port", "{port}", "bench.opponents.design_b:app"),
    "/api/contact",
    mails=2,
    settings=MAIL,
)
OURS = Contestant("pillarbox", ("-m", "pillarbox", "serve"), "/api/contact", mails=2, settings=OUR_SETTINGS)
OURS_ACCEPTING = Contestant(
    "pillarbox, no worker", ("-m", "pillarbox", "serve", "--no-worker"), "/api/contact", mails=0, settings=OUR_SETTINGS
)
KEEPS_NOTHING = Contestant(
    "keeps nothing",
    ("-m", "uvicorn", *UVICORN_QUIET, "--port", "{port}", "bench.opponents.keeps_nothing:app"),
    "/api/contact",
    mails=0,
)
BARE = Contestant(
    "bare ASGI", ("-m", "uvicorn", *UVICORN_QUIET, "--port", "{port}", "bench.opponents.bare:app"), "/", mails=0
)
