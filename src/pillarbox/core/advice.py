"""What to do about a mail server's refusal: the words of well-known providers first, then what any server says."""

from pillarbox.core import mailbox_providers, sending_providers
from pillarbox.core.known_reply import Reply, known

MAX_NOTE = 300
"""Characters of a note that are looked at."""

_HOST = 253

_ANYBODYS: tuple[Reply, ...] = (
    known(
        "a mail server",
        "",
        r"not owned by user|sender address rejected: not (?:owned|logged)",
        advice="The login may not send as EMAIL_ADDRESS. Set EMAIL_ADDRESS to an address of the account that logs "
        "in, or SMTP_USERNAME and EMAIL_PASSWORD to the account that owns it.",
    ),
    known(
        "a mail server",
        "",
        r"relay access denied|relaying denied|relay not permitted|unable to relay",
        advice="The server takes mail for others only after a login. Set EMAIL_PASSWORD (and SMTP_USERNAME) and use "
        "port 587, or have the server's administrator allow this machine.",
    ),
    known(
        "a mail server",
        "530",
        r"must issue a starttls|starttls (?:is )?required|encryption required",
        advice="The server wants encryption: take out SMTP_SECURITY=plain, and use port 587 or 465.",
    ),
    known(
        "a mail server",
        "530",
        r"authentication required|\b5\.7\.0\b",
        advice="The server wants a login: set EMAIL_PASSWORD, and SMTP_USERNAME where it is not EMAIL_ADDRESS.",
    ),
    known(
        "a mail server",
        "550 5.1.1",
        r"\(to RCPT\)",
        advice="There is no such mailbox. For your own letters mend RECIPIENT_EMAIL; a visitor's address was mistyped.",
    ),
    known(
        "a mail server",
        "535",
        "",
        advice="The server refused the login. Check SMTP_USERNAME (mostly the whole address) and EMAIL_PASSWORD; with "
        "two-step login an app password is needed.",
    ),
    known(
        "a mail server",
        "",
        r"does not offer starttls",
        advice="Use port 465 (TLS from the start) if the provider has it; if the server is your own, turn STARTTLS on. "
        "SMTP_SECURITY=plain only where nobody can listen.",
    ),
    known(
        "a mail server",
        "",
        r"offers no login we know: none",
        advice="The server lets nobody log in on this port. Use port 587 or 465, or take EMAIL_PASSWORD out if it "
        "takes your mail without a login.",
    ),
    known(
        "a mail server",
        "",
        r"offers no login we know",
        advice="The server takes none of the logins by password. Ask the provider for an SMTP login with a password, "
        "or use another mail service.",
    ),
    known(
        "a certificate",
        "",
        r"TLS failed: certificate has expired",
        advice="The mail server's certificate has run out: its administrator has to renew it. If you run neither "
        "server nor proxy, see whether this machine's clock is right.",
    ),
    known(
        "a certificate",
        "",
        r"TLS failed: certificate is not yet valid",
        advice="This machine's clock is most likely wrong: set it.",
    ),
    known(
        "a certificate",
        "",
        r"TLS failed: (?:hostname|ip address) mismatch",
        advice="The certificate belongs to another name. Set SMTP_SERVER to the name that the provider gives for "
        "SMTP, not to an alias or a number.",
    ),
    known(
        "a certificate",
        "",
        r"TLS failed: (?:self-signed certificate|unable to get (?:local )?issuer|unable to verify)",
        advice="Nobody whom this machine trusts signed the certificate. If the server is your own, set SMTP_CA_FILE "
        "to its authority's certificate; else somebody stands in between.",
    ),
    known(
        "a mix-up",
        "",
        r"wrong_version_number|record_layer_failure|unexpected_message|http_request|packet_length_too_long",
        advice="The port does not speak TLS from the start. Use SMTP_PORT=465 with SMTP_SECURITY=tls, or "
        "SMTP_PORT=587 with SMTP_SECURITY=starttls.",
    ),
    known(
        "a mix-up",
        "",
        r"(?:no answer in time|connection was cut) \(at the greeting\)",
        advice="The server says nothing to a plain connection. If this is port 465, set SMTP_SECURITY=tls; else "
        "something between here and there, or the server's block list, holds it up.",
    ),
    known(
        "the network",
        "",
        r"the name was not found",
        advice="Check how SMTP_SERVER is written, and whether this machine can ask a name server.",
    ),
    known(
        "the network",
        "",
        r"could not connect to \S{1,255}:25: ",
        advice="Many hosters close port 25 to keep spam in. Use your provider's port 587 or 465 instead: set "
        "SMTP_PORT.",
    ),
    known(
        "the network",
        "",
        r"could not connect to .{1,260}: (?:no answer within|no route|network is unreachable|host is unreachable)",
        advice="Nothing comes back. Many hosters and firewalls close the mail ports 25, 465 and 587: try the other "
        "one, ask the hoster to open it, or use a mail service with port 2525.",
    ),
    known(
        "the network",
        "",
        r"could not connect to .{1,260}: connection refused",
        advice="Nothing takes mail at this name and port. Check SMTP_SERVER and SMTP_PORT (587, or 465), and whether "
        "a firewall or the hoster refuses the port.",
    ),
)

REPLIES: tuple[Reply, ...] = mailbox_providers.REPLIES + sending_providers.REPLIES + _ANYBODYS
"""What is known, the most specific first."""


def advise(note: str, host: str = "") -> str:
    """Return what to do about a mail server's reply, as an outcome's note tells it; "" when nothing is known.

    `host` is the mail server's name: some replies are worded alike by several providers. Takes any text.
    """
    found = recognise(note, host)
    return found.advice if found else ""


def recognise(note: str, host: str = "") -> Reply | None:
    """Return the first reply of the table that this note is, or None."""
    looked_at, asked = note[:MAX_NOTE].strip(), host[:_HOST].strip().rstrip(".").lower()
    return next((reply for reply in REPLIES if reply.is_in(looked_at, asked)), None)
