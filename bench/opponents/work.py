"""The work that every queue gets: what a visitor wrote, and the two mails that it brings.

Runs in the opponents' own environment: nothing here imports Pillarbox.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from bench.message import visitor

SENDER = "forms@bench.example.com"
OWNER = "owner@example.org"
RETRY_SECONDS = 1.0
"""How long everybody waits after a 451."""
PURPOSES = ("notification", "confirmation")
SUBJECTS = {"notification": "New message", "confirmation": "We have received your message"}
FILLED_UP_TO = {"notification": 6_100, "confirmation": 5_050}
"""Bytes of the same mail as Pillarbox composes it."""
LINE = "." * 76 + "\r\n"
BORDER = "=_bench"

templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(["html"])
)


def jobs(count: int, run: str) -> list[dict[str, Any]]:
    """Return the mails of so many submissions, two each, as a producer would enqueue them."""
    return [
        {"id": f"{run}-{number}", "purpose": purpose, "contact": visitor(number, run)}
        for number in range(count)
        for purpose in PURPOSES
    ]


def recipient(job: dict[str, Any]) -> str:
    """Return whom the mail is for."""
    return OWNER if job["purpose"] == "notification" else str(job["contact"]["email"])


def compose(job: dict[str, Any]) -> bytes:
    """Render one mail, as text and as HTML, and fill it up to the size of ours.

    Joined by hand: email.message takes longer for it than a queue for its own work, and the queues are compared here.
    """
    purpose, contact = job["purpose"], job["contact"]
    head = (
        f"Subject: {SUBJECTS[purpose]}\r\nFrom: {SENDER}\r\nTo: {recipient(job)}\r\n"
        f"Message-ID: <{job['id']}.{purpose}@bench.example.com>\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/alternative; boundary="{BORDER}"\r\n\r\n'
    )
    parts = "".join(
        f"--{BORDER}\r\nContent-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        f"{templates.get_template(f'{purpose}.{ending}').render(contact=contact)}\r\n"
        for kind, ending in (("plain", "txt"), ("html", "html"))
    ).replace("\r\n", "\n").replace("\n", "\r\n")  # fmt: skip
    missing = FILLED_UP_TO[purpose] - len(head) - len(parts)
    return f"{head}{parts}{LINE * (missing // len(LINE))}--{BORDER}--\r\n".encode()
