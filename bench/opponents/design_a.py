"""Design A as its readers would write it: Flask, smtplib, a connection a mail, sent before the answer.

gunicorn --workers 4 --bind 127.0.0.1:8000 bench.opponents.design_a:app
"""

import os
import smtplib
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from html import escape
from typing import Any

from email_validator import EmailNotValidError, validate_email
from flask import Flask, jsonify, request

SMTP_SERVER = os.environ.get("SMTP_SERVER", "127.0.0.1")
SMTP_PORT = int(os.environ.get("SMTP_PORT", "25"))
EMAIL_ADDRESS = os.environ.get("EMAIL_ADDRESS", "forms@bench.example.com")
RECIPIENT_EMAIL = os.environ.get("RECIPIENT_EMAIL", "owner@example.org")

TEXT = """You have a new message from your website.

Name:    {name}
Email:   {email}
Subject: {subject}

{message}
"""

HTML = """<!doctype html>
<html>
  <body style="font-family: Arial, sans-serif; color: #222">
    <h2 style="color: #0b5cad">New message from your website</h2>
    <p><strong>Name:</strong> {name}</p>
    <p><strong>Email:</strong> <a href="mailto:{email}">{email}</a></p>
    <p><strong>Subject:</strong> {subject}</p>
    <hr>
    <p style="white-space: pre-wrap">{message}</p>
  </body>
</html>
"""

app = Flask(__name__)


def send_mail(fields: dict[str, str]) -> None:
    """Compose the mail and hand it over on a connection of its own."""
    mail = MIMEMultipart("alternative")
    mail["Subject"] = f"Contact form: {fields['subject']}"
    mail["From"] = EMAIL_ADDRESS
    mail["To"] = RECIPIENT_EMAIL
    mail["Reply-To"] = fields["email"]
    mail.attach(MIMEText(TEXT.format(**fields), "plain", "utf-8"))
    mail.attach(MIMEText(HTML.format(**{name: escape(value) for name, value in fields.items()}), "html", "utf-8"))
    with smtplib.SMTP(SMTP_SERVER, SMTP_PORT, timeout=30) as server:
        server.send_message(mail)


@app.get("/health")
def health() -> Any:
    """Say that the process lives."""
    return jsonify(status="ok")


@app.post("/send-message")
def send_message() -> Any:
    """Check the form, send the mail, answer."""
    data = request.get_json(silent=True) or request.form
    fields = {name: str(data.get(name, "")).strip() for name in ("name", "email", "subject", "message")}
    if not (fields["name"] and fields["email"] and fields["message"]):
        return jsonify(success=False, message="Please fill in all required fields."), 400
    try:
        # Without its DNS look-up, which would cost this design far more than anything measured here.
        fields["email"] = validate_email(fields["email"], check_deliverability=False).normalized
    except EmailNotValidError:
        return jsonify(success=False, message="Please enter a valid email address."), 400
    fields["subject"] = fields["subject"] or "New message"
    try:
        send_mail(fields)
    except (smtplib.SMTPException, OSError):
        app.logger.exception("the mail could not be sent")
        return jsonify(success=False, message="Your message could not be sent. Please try again later."), 500
    return jsonify(success=True, message="Your message has been sent.")
