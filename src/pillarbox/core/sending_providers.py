"""What services that send mail for programs say to a letter or a login that they do not like, and what ends it."""

from pillarbox.core.known_reply import Reply, known

_AMAZON = ("amazonaws.com", "amazonaws.com.cn", "awsapps.com")

REPLIES: tuple[Reply, ...] = (
    known(
        "Amazon SES",
        "554",
        "email address is not verified",
        advice="Amazon SES sends only from verified addresses, and only to verified ones while the account is in its "
        "sandbox. In the SES console of this region, verify EMAIL_ADDRESS (or its domain) and ask for production "
        "access.",
    ),
    known(
        "Amazon SES",
        "454",
        "daily message quota exceeded",
        advice="The account has sent all that Amazon SES allows it in 24 hours. Letters wait; ask for a higher quota "
        "in the SES console.",
    ),
    known(
        "Amazon SES",
        "454",
        "maximum sending rate exceeded",
        advice="Amazon SES allows fewer letters a second than we sent. Set SMTP_CONNECTIONS=1, or ask for a higher "
        "rate in the SES console.",
    ),
    known(
        "Amazon SES",
        "535",
        "authentication credentials invalid",
        hosts=_AMAZON,
        advice="Amazon SES wants SMTP credentials, which are not the AWS access keys. Create them in the SES console "
        "(SMTP settings) in the region of SMTP_SERVER, and set SMTP_USERNAME and EMAIL_PASSWORD to them.",
    ),
    known(
        "SendGrid",
        "550",
        "does not match a verified sender identity",
        advice="SendGrid sends only from verified addresses. In SendGrid under Settings > Sender Authentication, "
        "verify EMAIL_ADDRESS or, better, its domain.",
    ),
    known(
        "SendGrid",
        "",
        "maximum credits exceeded",
        advice="The SendGrid plan's letters are used up. Letters wait until the next period, or take a larger plan.",
    ),
    known(
        "SendGrid",
        "",
        "bad username ?/ ?password|unauthenticated senders not allowed",
        hosts=("sendgrid.net",),
        advice="For SendGrid set SMTP_USERNAME to the word apikey, and EMAIL_PASSWORD to an API key that may send "
        "mail (Settings > API Keys).",
    ),
    known(
        "SendGrid",
        "535",
        "authentication failed",
        hosts=("sendgrid.net",),
        advice="For SendGrid set SMTP_USERNAME to the word apikey, and EMAIL_PASSWORD to an API key that may send "
        "mail (Settings > API Keys).",
    ),
    known(
        "Mailgun",
        "",
        "is not allowed to send: (?:sandbox|free accounts)",
        advice="Mailgun's sandbox domain sends only to recipients that were confirmed first. Add your own domain in "
        "Mailgun (Sending > Domains) and use its SMTP login, or authorize the recipient.",
    ),
    known(
        "Mailgun",
        "",
        r"domain \S+ is not allowed to send:",
        advice="Mailgun has stopped this domain for the reason that it gives. Settle it in Mailgun's control panel; "
        "letters wait until then.",
    ),
    known(
        "Mailgun",
        "535",
        "",
        hosts=("mailgun.org", "mailgun.net"),
        advice="Mailgun knows SMTP logins of a domain only: take one from Sending > Domain settings > SMTP "
        "credentials. A domain in the EU has the server smtp.eu.mailgun.org.",
    ),
    known(
        "Postmark",
        "",
        "not a sender signature|sender signature (?:was )?not (?:found|confirmed|defined)",
        advice="Postmark sends only from confirmed addresses. Add EMAIL_ADDRESS or its domain in Postmark under "
        "Sender Signatures, and confirm it.",
    ),
    known(
        "Postmark",
        "",
        "marked as inactive|inactive recipient",
        advice="Postmark stopped sending to this address after a bounce or a complaint. See why, then reactivate it "
        "in Postmark under Suppressions.",
    ),
    known(
        "Postmark",
        "535",
        "",
        hosts=("postmarkapp.com",),
        advice="Postmark takes the token of a server (not of the account) as user name and as password: set "
        "SMTP_USERNAME and EMAIL_PASSWORD to it.",
    ),
    known(
        "Brevo",
        "525",
        "unauthorized ip address",
        advice="Brevo takes mail from listed addresses only. In Brevo under Security > Authorised IPs add this "
        "server's address, or turn the blocking off for SMTP keys.",
    ),
    known(
        "Brevo",
        "535",
        "",
        hosts=("brevo.com", "sendinblue.com"),
        advice="Brevo wants the login and an SMTP key (not an API key) from SMTP & API > SMTP: set SMTP_USERNAME and "
        "EMAIL_PASSWORD to them.",
    ),
    known(
        "Resend",
        "",
        r"the \S+ domain is not verified|testing domain restriction|only send testing emails",
        advice="Resend sends only from verified domains. Add the domain of EMAIL_ADDRESS in Resend under Domains, and "
        "publish the DNS records that it shows.",
    ),
    known(
        "Resend",
        "535",
        "",
        hosts=("resend.com",),
        advice="For Resend set SMTP_USERNAME to the word resend, and EMAIL_PASSWORD to an API key.",
    ),
    known(
        "Mailjet",
        "535",
        "",
        hosts=("mailjet.com",),
        advice="For Mailjet set SMTP_USERNAME to the API key and EMAIL_PASSWORD to the secret key, and validate "
        "EMAIL_ADDRESS under Senders & Domains.",
    ),
)
"""The most specific first."""
