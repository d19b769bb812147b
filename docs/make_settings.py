"""Writes docs/settings.md from the settings themselves: their names, defaults, bounds and descriptions.

Run it with `make docs`; a test compares the page with what this would write.
"""

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from types import NoneType
from typing import Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from pillarbox.settings import THROWAWAY_DISKS, Settings
from pillarbox.settings.transports import Transport

PAGE = Path(__file__).with_name("settings.md")

CHAPTERS = {
    "smtp_server": "The way out",
    "recipient_email": "To whom",
    "database_url": "Where messages are kept",
    "host": "Serving",
    "site_name": "How it looks and speaks",
    "rate_limit": "Limits",
    "captcha": "Against robots",
    "retry_schedule": "Patience",
    "alarm_to": "Who is told",
    "log_level": "Running it",
}
"""The first setting of each chapter, in the order of the model: its heading."""

HEAD = """\
# Settings

Each setting has one name. Pillarbox looks for it in this order and takes the first it finds:

1. the environment, as in `PORT=9000 pillarbox serve`;
2. the file `.env` in the folder it is started in, one `NAME=value` a line;
3. a file of that name in `/run/secrets`, as container platforms put them there (`email_password`); the environment
   variable `SECRETS_DIR` names another folder;
4. the file `pillarbox.toml` in the folder it is started in, by the name in small letters (`port = 9000`); the
   environment variable `CONFIG_FILE` names another file.

A wrong value stops the start with one sentence: which setting, where it stands, and what would be right. So does a name
in `pillarbox.toml` that is no setting. Settings are read once; restart to change one.

Durations are written like `500ms`, `30s`, `5m`, `2h` or `1d`. Lists have commas between their parts; in
`pillarbox.toml` they may be lists. An empty value is the same as none.
"""

TAIL = """\
## Several ways out

The settings at the top describe one way out for mail, `default`. A table of `pillarbox.toml` describes another by the
same names: {names}.

```toml
smtp_server = "mail.example.com"          # the way out `default`
email_address = "forms@example.com"
smtp_fallback = "gmail"                   # takes over while mail.example.com is shut

[transports.gmail]
smtp_server = "smtp.gmail.com"
email_address = "ada@gmail.com"           # EMAIL_ADDRESS when left out
smtp_budget = "100/hour, 500/day"

[transports.archive]
maildir = "/srv/mail/archive"
```

The table's name has small letters, digits and dashes. Passwords are better kept elsewhere: as the variable
`TRANSPORTS__GMAIL__EMAIL_PASSWORD`, in the environment or in `.env`, or as the file `transports__gmail__email_password`
of the secrets folder. A dash in the table's name is an underscore there. Every other value can be set in the same way.

Each way out has its own connections, its own budget, and its own rest while its server is shut: trouble of one does not
hold up another's letters. `TRANSPORT` says which one the contact form uses.

## What follows from what

- A password without a mail server means Gmail: `SMTP_SERVER` is then `smtp.gmail.com`. In a table the server has to be
  named.
- Google shows app passwords in groups of four letters. For `smtp.gmail.com` the spaces are taken out.
- `SMTP_BUDGET` for `smtp.gmail.com` is `500/day` when the sender is at gmail.com or googlemail.com, otherwise
  `2000/day`: the limits that Google publishes. It is a bound of each way out, not of the account: two ways out with one
  account share what the account may send.
- Without a mail server, letters go into the Maildir. In development that happens by itself; in production only where
  `MAILDIR` names the folder. `SMTP_SERVER` and `MAILDIR` together are a mistake and stop the start.
- While there is no mail server, `EMAIL_ADDRESS` may be left out: letters then come from `pillarbox@localhost` and go to
  `you@localhost`. It may also be left out where the way out in use has an address of its own.
- An address in `ALARM_TO` that has a comma in it needs the list of `pillarbox.toml`.
- `WORKERS` counts processes. With SQLite exactly one of them sends mail, and the others wait to take over; limits count
  in each process by itself. With PostgreSQL all send, on any number of machines, and `RATE_LIMIT`,
  `FORM_RATE_LIMIT` and `SITE_RATE_LIMIT` count over all of them; `PAGE_RATE_LIMIT` still counts in each process.
- Some platforms throw the disk away at every start:
  {platforms}.
  There a start with SQLite is refused until `DATA_IS_DURABLE=true` says that this disk stays.
- `DATABASE_URL` begins with `sqlite:///`, `postgresql://`, `postgres://` or `postgresql+psycopg://`. With PostgreSQL,
  `SECRET_KEY` has to be set, and nothing is written beside it on the disk.
"""


def page() -> str:
    """Return the whole page."""
    platforms = ", ".join(sorted(set(THROWAWAY_DISKS.values())))
    names = ", ".join(f"`{name}`" for name in Transport.model_fields)
    return "\n".join([HEAD, *chapters(), TAIL.format(platforms=platforms, names="\n".join(wrap(names, 118)))])


def chapters() -> Iterator[str]:
    """Yield headings, tables and rows in the order of the model."""
    for name, field in Settings.model_fields.items():
        if name in CHAPTERS:
            first = name == next(iter(CHAPTERS))
            yield f"{'' if first else chr(10)}## {CHAPTERS[name]}\n\n| setting | default | what it is |\n|---|---|---|"
        yield f"| `{name.upper()}` | {default(name, field)} | {described(field)} |"
    yield ""


def default(name: str, field: FieldInfo) -> str:
    """Return the default as somebody would write it, or a dash."""
    value = field.default
    if name == "quiet_after":
        return "`off`"
    if isinstance(value, SecretStr) or not (value or value is False):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if name == "retry_schedule":
        return f"`{','.join(map(duration, value))}`"
    return f"`{duration(value) if isinstance(value, float) and name != 'captcha_score' else value}`"


def duration(seconds: float) -> str:
    """Return so many seconds in the largest unit that needs no fraction."""
    for unit, length in (("h", 3_600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


def described(field: FieldInfo) -> str:
    """Return the description, with the choices and bounds that the model knows."""
    sentences = [str(field.description)]
    if choices := [choice for choice in literals(field.annotation) if choice]:
        named = [choice for choice in choices if f"`{choice}`" not in sentences[0]]
        if named:
            sentences.append("One of " + ", ".join(f"`{choice}`" for choice in choices) + ".")
    bounds = {type(one).__name__: one for one in field.metadata}
    low, high = getattr(bounds.get("Ge"), "ge", None), getattr(bounds.get("Le"), "le", None)
    if low is not None and high is not None:
        sentences.append(f"From {low} to {high}.")
    return " ".join(sentences)


def literals(annotation: object) -> Iterator[str]:
    """Yield the texts that an annotation allows, if it counts them up."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    for part in get_args(annotation):
        if part is not NoneType and not isinstance(part, str):
            yield from literals(part)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.name}: {len(Settings.model_fields)} settings")


if __name__ == "__main__":
    main()
