"""Design B as its readers would write it: FastAPI, aiosmtplib, a connection a mail, both mails before the answer.

uvicorn bench.opponents.design_b:app
"""

import logging
import os
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path
from typing import Annotated

import aiosmtplib
from fastapi import FastAPI, HTTPException
from fastapi.middleware.cors import CORSMiddleware
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel, EmailStr, Field

SMTP_SERVER = os.environ.get("SMTP_SERVER", "127.0.0.1")
SMTP_PORT = int(os.environ.get("SMTP_PORT", "25"))
EMAIL_ADDRESS = os.environ.get("EMAIL_ADDRESS", "forms@bench.example.com")
RECIPIENT_EMAIL = os.environ.get("RECIPIENT_EMAIL", "owner@example.org")

log = logging.getLogger("contact")
templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(["html"])
)

app = FastAPI(title="Contact API")
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["GET", "POST", "OPTIONS"], allow_headers=["*"])


class Contact(BaseModel):
    """What a visitor sends."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    email: EmailStr
    company: Annotated[str | None, Field(max_length=1_000)] = None
    message: Annotated[str, Field(min_length=1, max_length=20_000)]


class Thanks(BaseModel):
    """What the visitor hears."""

    success: bool
    message: str


def compose(template: str, contact: Contact, to: str, subject: str) -> MIMEMultipart:
    """Render one template, as text and as HTML, into a mail."""
    mail = MIMEMultipart("alternative")
    mail["Subject"] = subject
    mail["From"] = EMAIL_ADDRESS
    mail["To"] = to
    for kind in ("txt", "html"):
        text = templates.get_template(f"{template}.{kind}").render(contact=contact)
        mail.attach(MIMEText(text, "html" if kind == "html" else "plain", "utf-8"))
    return mail


async def send_mail(mail: MIMEMultipart) -> None:
    """Hand one mail over on a connection of its own."""
    await aiosmtplib.send(mail, hostname=SMTP_SERVER, port=SMTP_PORT, start_tls=False, use_tls=False, timeout=30)


@app.get("/health")
async def health() -> dict[str, str]:
    """Say that the process lives."""
    return {"status": "ok"}


@app.post("/api/contact")
async def contact(form: Contact) -> Thanks:
    """Send the notification and the confirmation, then answer."""
    notification = compose("notification", form, RECIPIENT_EMAIL, f"New message from {form.name}")
    notification["Reply-To"] = form.email
    confirmation = compose("confirmation", form, form.email, "We have received your message")
    try:
        await send_mail(notification)
        await send_mail(confirmation)
    except (aiosmtplib.SMTPException, OSError) as error:
        log.exception("the mail could not be sent")
        raise HTTPException(status_code=500, detail="Your message could not be sent.") from error
    return Thanks(success=True, message="Thank you for your message!")
