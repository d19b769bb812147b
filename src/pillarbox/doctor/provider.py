"""Who a mail server belongs to, and what the sender's domain has to say in DNS for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider by its servers' names, and the `include` that its customers write into SPF.

    `own_path`: it sends under a return path of its own, so that the sender's SPF need not name it; there DKIM counts.
    `domains` are those of its own mailboxes.
    """

    name: str
    servers: tuple[str, ...]
    include: str
    own_path: bool = False
    domains: tuple[str, ...] = ()


PROVIDERS: tuple[Provider, ...] = (
    Provider("Google", ("gmail.com", "googlemail.com"), "_spf.google.com", domains=("gmail.com", "googlemail.com")),
    Provider(
        "Microsoft",
        ("office365.com", "outlook.com"),
        "spf.protection.outlook.com",
        domains=("outlook.com", "outlook.de", "outlook.fr", "hotmail.com", "live.com", "msn.com", "onmicrosoft.com"),
    ),
    Provider("Amazon SES", ("amazonaws.com",), "amazonses.com", own_path=True),
    Provider("SendGrid", ("sendgrid.net",), "sendgrid.net", own_path=True),
    Provider("Mailgun", ("mailgun.org", "mailgun.net"), "mailgun.org", own_path=True),
    Provider("Postmark", ("postmarkapp.com",), "spf.mtasv.net", own_path=True),
    Provider("Brevo", ("brevo.com", "sendinblue.com"), "spf.brevo.com", own_path=True),
    Provider("Resend", ("resend.com",), "amazonses.com", own_path=True),
    Provider("Mailjet", ("mailjet.com",), "spf.mailjet.com", own_path=True),
    Provider("Zoho", ("zoho.com", "zoho.eu", "zoho.in"), "zohomail.com", domains=("zohomail.com", "zohomail.eu")),
    Provider("Yahoo", ("yahoo.com", "aol.com"), "_spf.mail.yahoo.com", domains=("yahoo.com", "ymail.com", "aol.com")),
    Provider("iCloud", ("mail.me.com",), "icloud.com", domains=("icloud.com", "me.com", "mac.com")),
    Provider("Fastmail", ("fastmail.com", "messagingengine.com"), "spf.messagingengine.com", domains=("fastmail.com",)),
    Provider(
        "IONOS", ("ionos.de", "ionos.com", "ionos.co.uk", "ionos.fr", "ionos.es", "1und1.de"), "_spf.kundenserver.de"
    ),
    Provider(
        "GMX and WEB.DE",
        ("gmx.net", "gmx.com", "web.de"),
        "",
        domains=("gmx.de", "gmx.net", "gmx.com", "gmx.at", "gmx.ch", "web.de"),
    ),
    Provider("OVH", ("ovh.net",), "mx.ovh.com"),
    Provider("Strato", ("strato.de", "rzone.de"), "_spf.strato.com"),
)


def provider_of(server: str) -> Provider | None:
    """Return whom a mail server belongs to by its name, None when nobody known."""
    name = f".{server.rstrip('.').lower()}"
    return next((one for one in PROVIDERS if any(name.endswith(f".{own}") for own in one.servers)), None)
