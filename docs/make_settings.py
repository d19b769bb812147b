"""Writes docs/settings.md from the settings themselves: their names, defaults, bounds and descriptions.

Run it with `make docs`; a test compares the page with what this would write.
"""

from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from pillarbox.settings import THROWAWAY_DISKS, Settings

PAGE = Path(__file__).with_name("settings.md")

CHAPTERS = {
    "smtp_server": "The way out",
    "email_address": "Whose letters, and to whom",
    "database_url": "Where messages are kept",
    "host": "Serving",
    "site_name": "How it looks and speaks",
    "rate_limit": "Limits and patience",
    "log_level": "Running it",
}
"""The first setting of each chapter, in the order of the model: its heading."""

HEAD = """\
# Settings

Each setting has one name. Pillarbox looks for it in this order and takes the first it finds:

1. the environment, as in `PORT=9000 pillarbox serve`;
2. the file `.env` in the folder it is started in, one `NAME=value` a line;
3. a file of that name in `/run/secrets`, as container platforms put them there (`email_password`); the environment
   variable `SECRETS_DIR` names another folder.

A wrong value stops the start with one sentence: which setting, where it stands, and what would be right. Settings are
read once; restart to change one.

Durations are written like `500ms`, `30s`, `5m`, `2h` or `1d`. Lists have commas between their parts. An empty value is
the same as none.
"""

TAIL = """\
## What follows from what

- A password without a mail server means Gmail: `SMTP_SERVER` is then `smtp.gmail.com`.
- Without a mail server, letters go into the Maildir. In development that happens by itself; in production only where
  `MAILDIR` names the folder. `SMTP_SERVER` and `MAILDIR` together are a mistake and stop the start.
- While there is no mail server, `EMAIL_ADDRESS` may be left out: letters then come from `pillarbox@localhost` and go to
  `you@localhost`.
- `WORKERS` counts processes. However many there are, exactly one of them sends mail; the others wait to take over.
  The rate limit counts in each process by itself.
- Some platforms throw the disk away at every start:
  {platforms}.
  There the start is refused until `DATA_IS_DURABLE=true` says that this disk stays.
"""


def page() -> str:
    """Return the whole page."""
    platforms = ", ".join(sorted(set(THROWAWAY_DISKS.values())))
    return "\n".join([HEAD, *chapters(), TAIL.format(platforms=platforms)])


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
    if isinstance(value, SecretStr) or not (value or value is False):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if name == "retry_schedule":
        return f"`{','.join(map(duration, value))}`"
    return f"`{duration(value) if isinstance(value, float) else value}`"


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
