"""What providers really say, and that the owner is then told what to do; nothing is said of what passes by itself."""

import re

import pytest

from pillarbox.core.advice import MAX_NOTE, REPLIES, advise, recognise
from pillarbox.core.delivery import Blocked
from pillarbox.transports.smtp_replies import Stage, judge

GMAIL, OFFICE, SES = "smtp.gmail.com", "smtp.office365.com", "email-smtp.eu-west-1.amazonaws.com"
OWN = "mail.example.org"

# (stage, code, the lines' text as the transport joins them, server) -> (whose reply, words of what to do)
SAID = [
    (Stage.AUTH, 534, ("5.7.9 Application-specific password required. For more information, go to\n"
     "5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor 5b1f17b1804b1-43e5 - gsmtp"), GMAIL,
     "Gmail", "app password"),
    (Stage.AUTH, 534, ("5.7.14 <https://accounts.google.com/signin/continue?sarp=1&scc=1> Please log in via your web\n"
     "5.7.14 browser and then try again."), GMAIL, "Gmail", "browser"),
    (Stage.AUTH, 535, ("5.7.8 Username and Password not accepted. For more information, go to\n"
     "5.7.8  https://support.google.com/mail/?p=BadCredentials ffacd0b85a97d-3a5 - gsmtp"), GMAIL,
     "Gmail", "app password"),
    (Stage.AUTH, 454, "4.7.0 Too many login attempts, please try again later. a640c23a62f3a-aa6 - gsmtp", GMAIL,
     "Gmail", "SMTP_CONNECTIONS=1"),
    (Stage.DOT, 550, ("5.4.5 Daily user sending limit exceeded. For more information on Gmail\n"
     "5.4.5 sending limits go to\n5.4.5  https://support.google.com/a/answer/166852 - gsmtp"), GMAIL,
     "Gmail", "CONFIRMATIONS_PER_HOUR"),
    (Stage.EHLO, 421, "4.7.0 Try again later, closing connection. (EHLO) d9443c01a7336-1fd9b - gsmtp", GMAIL,
     "Gmail", "SMTP_CONNECTIONS=1"),
    (Stage.DOT, 550, ("5.7.26 Unauthenticated email from example.org is not accepted due to domain's\n"
     "5.7.26 DMARC policy. Please contact the administrator of example.org domain"), "gmail-smtp-in.l.google.com",
     "Gmail", "SPF or DKIM"),
    (Stage.AUTH, 535, ("5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. "
     "Visit https://aka.ms/smtp_auth_disabled for more information. [FR0P281CA0001.DEUP281.PROD.OUTLOOK.COM]"), OFFICE,
     "Microsoft 365", "Turn off SMTP AUTH protocol"),
    (Stage.AUTH, 535, ("5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. "
     "Visit https://aka.ms/smtp_auth_disabled for more information."), OFFICE, "Microsoft 365", "Manage email apps"),
    (Stage.AUTH, 535, ("5.7.139 Authentication unsuccessful, user is locked by your organization's security "
     "defaults policy. Contact your administrator. [AM0PR01CA0001]"), OFFICE, "Microsoft 365", "Entra"),
    (Stage.AUTH, 535, ("5.7.139 Authentication unsuccessful, the request did not meet the criteria to be "
     "authenticated successfully. Contact your administrator."), OFFICE, "Microsoft 365", "Conditional Access"),
    (Stage.AUTH, 550, "5.7.30 Basic authentication is not supported for Client Submission.", OFFICE,
     "Microsoft 365", "no passwords"),
    (Stage.AUTH, 535, "5.7.139 Authentication unsuccessful, basic authentication is disabled. [YT3PR01CA0001]",
     "smtp-mail.outlook.com", "Outlook.com", "another mail service"),
    (Stage.AUTH, 535, "5.7.3 Authentication unsuccessful [AM0PR01CA0001.eurprd01.prod.exchangelabs.com]", OFFICE,
     "Microsoft 365", "EMAIL_PASSWORD"),
    (Stage.DOT, 554, ("5.2.252 SendAsDenied; ada@example.org not allowed to send as forms@example.org; "
     "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied"), OFFICE,
     "Microsoft 365", "Send as"),
    (Stage.MAIL, 550, "5.7.60 SMTP; Client does not have permissions to send as this sender", OFFICE,
     "Microsoft 365", "Send as"),
    (Stage.DOT, 432, ("4.3.2 Concurrent connections limit exceeded. Visit "
     "https://aka.ms/concurrent_sending for more information. [Hostname=AM0PR01MB0001]"), OFFICE,
     "Microsoft 365", "SMTP_CONNECTIONS=1"),
    (Stage.DOT, 430, "4.2.0 STOREDRV; mailbox logon failure; too many connections", OFFICE,
     "Microsoft 365", "SMTP_CONNECTIONS=1"),
    (Stage.MAIL, 530, "5.7.57 Client not authenticated to send mail. [AM0PR01CA0001]", OFFICE,
     "Microsoft 365", "saw no login"),
    (Stage.DOT, 550, ("5.7.515 Access denied, sending domain example.org does not meet the required "
     "authentication level."), "outlook-com.olc.protection.outlook.com", "Outlook.com", "SPF, DKIM and DMARC"),
    (Stage.DOT, 554, ("Message rejected: Email address is not verified. The following identities failed the check "
     "in region EU-WEST-1: ada@example.org"), SES, "Amazon SES", "sandbox"),
    (Stage.MAIL, 454, "Throttling failure: Daily message quota exceeded.", SES, "Amazon SES", "quota"),
    (Stage.MAIL, 454, "Throttling failure: Maximum sending rate exceeded.", SES, "Amazon SES", "SMTP_CONNECTIONS=1"),
    (Stage.AUTH, 535, "Authentication Credentials Invalid", SES, "Amazon SES", "SMTP credentials"),
    (Stage.DOT, 550, ("The from address does not match a verified Sender Identity. Mail cannot be sent until this "
     "error is resolved."), "smtp.sendgrid.net", "SendGrid", "Sender Authentication"),
    (Stage.AUTH, 451, "Authentication failed: Maximum credits exceeded", "smtp.sendgrid.net", "SendGrid", "plan"),
    (Stage.AUTH, 535, "Authentication failed: Bad username / password", "smtp.sendgrid.net", "SendGrid", "apikey"),
    (Stage.AUTH, 535, "Authentication failed: The provided authorization grant is invalid, expired, or revoked",
     "smtp.sendgrid.net", "SendGrid", "apikey"),
    (Stage.DOT, 421, ("Domain sandbox0.mailgun.org is not allowed to send: Sandbox subdomains are for test purposes "
     "only. Please add your own domain or add the address to authorized recipients in Account Settings."),
     "smtp.mailgun.org", "Mailgun", "sandbox"),
    (Stage.DOT, 550, "Domain example.org is not allowed to send: Account disabled", "smtp.mailgun.org",
     "Mailgun", "control panel"),
    (Stage.AUTH, 535, "Authentication failed", "smtp.mailgun.org", "Mailgun", "SMTP credentials"),
    (Stage.DOT, 550, "The 'From' address you supplied (ada@example.org) is not a Sender Signature on your account.",
     "smtp.postmarkapp.com", "Postmark", "Sender Signatures"),
    (Stage.DOT, 550, "You tried to send to a recipient that has been marked as inactive.", "smtp.postmarkapp.com",
     "Postmark", "reactivate"),
    (Stage.AUTH, 535, "5.7.8 Error: authentication failed", "smtp.postmarkapp.com", "Postmark", "token"),
    (Stage.AUTH, 525, "5.7.1 Unauthorized IP address", "smtp-relay.brevo.com", "Brevo", "Authorised IPs"),
    (Stage.AUTH, 535, "5.7.8 Authentication failed", "smtp-relay.brevo.com", "Brevo", "SMTP key"),
    (Stage.DOT, 550, "The example.org domain is not verified. Please, add and verify your domain", "smtp.resend.com",
     "Resend", "DNS records"),
    (Stage.AUTH, 535, "Authentication credentials invalid", "smtp.resend.com", "Resend", "the word resend"),
    (Stage.AUTH, 535, "5.7.8 Error: authentication failed:", "in-v3.mailjet.com", "Mailjet", "secret key"),
    (Stage.AUTH, 535, "5.7.0 (#AUTH005) Too many bad auth attempts.", "smtp.mail.yahoo.com", "Yahoo", "app password"),
    (Stage.AUTH, 535, "5.7.8 Error: authentication failed: This user does not have access rights to this service",
     "smtp.yandex.com", "Yandex", "app password"),
    (Stage.DOT, 553, "Sender is not allowed to relay emails", "smtp.zoho.eu", "Zoho", "EMAIL_ADDRESS"),
    (Stage.AUTH, 535, "Authentication Failed", "smtppro.zoho.eu", "Zoho", "region"),
    (Stage.MAIL, 550, "5.7.0 From address is not one of your addresses", "smtp.mail.me.com", "iCloud", "own addresses"),
    (Stage.AUTH, 535, "5.7.8 Error: authentication failed: authentication failure", "smtp.mail.me.com",
     "iCloud", "app-specific password"),
    (Stage.DOT, 550, "Requested action not taken: mailbox unavailable\nSender address is not allowed.",
     "smtp.ionos.de", "IONOS", "the address that logs in"),
    (Stage.AUTH, 535, "Authentication credentials invalid", "mail.gmx.net", "GMX", "POP3 & IMAP"),
    (Stage.AUTH, 535, "Authentication credentials invalid", "smtp.ionos.co.uk", "IONOS", "mailbox's own password"),
    (Stage.BANNER, 554, ("gmx.net (mxgmx116) Nemesis ESMTP Service not available\nNo SMTP service\n"
     "Bad DNS PTR resource record."), "mx01.emig.gmx.net", "IONOS", "mail.gmx.net"),
    (Stage.DOT, 554, ("Transaction failed\nReject due to policy restrictions.\nFor explanation visit "
     "https://www.ionos.com/help/index.php?id=2425"), "smtp.ionos.com", "IONOS", "SPF"),
    (Stage.DOT, 551, "5.7.1 Not authorised to send from this header address", "smtp.fastmail.com",
     "Fastmail", "Addresses"),
    (Stage.AUTH, 535, "5.7.0 Incorrect username or password", "smtp.fastmail.com", "Fastmail", "app password"),
    (Stage.AUTH, 535, "5.7.1 Authentication failed", "ssl0.ovh.net", "OVH", "customer account"),
    (Stage.RCPT, 553, "5.7.1 <forms@example.org>: Sender address rejected: not owned by user ada@example.org", OWN,
     "a mail server", "EMAIL_ADDRESS"),
    (Stage.RCPT, 554, "5.7.1 <bob@example.net>: Relay access denied", OWN, "a mail server", "EMAIL_PASSWORD"),
    (Stage.MAIL, 530, "5.7.0 Must issue a STARTTLS command first", OWN, "a mail server", "SMTP_SECURITY=plain"),
    (Stage.MAIL, 530, "5.7.0 Authentication Required. For more information, go to", OWN, "a mail server", "login"),
    (Stage.RCPT, 550, "5.1.1 <nobody@example.org>: Recipient address rejected: User unknown in local recipient table",
     OWN, "a mail server", "RECIPIENT_EMAIL"),
    (Stage.AUTH, 535, "5.7.8 Error: authentication failed: UGFzc3dvcmQ6", OWN, "a mail server", "SMTP_USERNAME"),
]  # fmt: skip

HAPPENED = [
    ("the server does not offer STARTTLS; nothing was sent in the clear", "port 465"),
    ("the server offers no login we know: none", "587 or 465"),
    ("the server offers no login we know: XOAUTH2 GSSAPI", "SMTP login with a password"),
    ("TLS failed: certificate has expired (at STARTTLS)", "run out"),
    ("TLS failed: certificate is not yet valid (at STARTTLS)", "clock"),
    ("TLS failed: Hostname mismatch, certificate is not valid for 'mail.example.org'. (at STARTTLS)", "another name"),
    ("TLS failed: IP address mismatch, certificate is not valid for '192.0.2.1'. (at STARTTLS)", "another name"),
    ("TLS failed: self-signed certificate in certificate chain (at STARTTLS)", "SMTP_CA_FILE"),
    ("TLS failed: unable to get local issuer certificate (at STARTTLS)", "SMTP_CA_FILE"),
    ("could not connect to mail.example.org:587: TLS failed: WRONG_VERSION_NUMBER", "SMTP_PORT=465"),
    ("no answer in time (at the greeting)", "SMTP_SECURITY=tls"),
    ("the connection was cut (at the greeting)", "SMTP_SECURITY=tls"),
    ("could not connect to mail.exmaple.org:587: the name was not found: Name or service not known", "SMTP_SERVER"),
    ("could not connect to mail.example.org:25: no answer within 10 s", "port 25"),
    ("could not connect to mail.example.org:587: no answer within 10 s", "hosters"),
    ("could not connect to mail.example.org:465: network is unreachable", "hosters"),
    ("could not connect to mail.example.org:587: connection refused", "SMTP_PORT"),
]

PASSES_BY_ITSELF = [
    "450 4.2.0 <bob@example.org>: Recipient address rejected: Greylisted, see http://example.org/ (to RCPT)",
    "451 4.7.1 Greylisting in action, please come back later (to RCPT)",
    "450 4.7.1 Try again later (to RCPT)",
    "452 4.2.2 The recipient's inbox is out of storage space. (to the letter)",
    "552 5.2.2 <bob@example.org>: Mailbox full / quota exceeded (to the letter)",
    "421 4.3.2 Service shutting down (to MAIL)",
    "451 4.3.0 Temporary lookup failure (to RCPT)",
    "550 5.7.1 Message looks like spam (to the letter)",
    "250 2.0.0 Ok: queued as 535 5.7.8",
    "it is over the hourly bound",
    "",
]


def note_of(stage, code, text):
    outcome = judge(stage, code, text)
    assert outcome is not None
    return outcome.note


@pytest.mark.parametrize(("stage", "code", "text", "host", "who", "words"), SAID)
def test_a_providers_own_words_bring_what_ends_them(stage, code, text, host, who, words):
    note = note_of(stage, code, text)
    found = recognise(note, host)
    assert found is not None
    assert found.who.startswith(who)
    assert words in advise(note, host)


@pytest.mark.parametrize(("note", "words"), HAPPENED)
def test_what_happens_before_the_server_speaks_brings_what_ends_it(note, words):
    assert words in advise(note, OWN)


def test_every_reply_of_the_table_is_proved_by_words_that_were_said():
    proved = {recognise(note_of(*said[:3]), said[3]) for said in SAID} | {recognise(note) for note, _ in HAPPENED}
    assert [reply.words.pattern for reply in REPLIES if reply not in proved] == []


def test_there_are_two_dozen_providers_replies_and_more():
    assert len([reply for reply in REPLIES if reply.who != "a mail server"]) >= 24


@pytest.mark.parametrize("host", [OWN, GMAIL, OFFICE, "mail.gmx.net", ""])
@pytest.mark.parametrize("note", PASSES_BY_ITSELF)
def test_what_passes_by_itself_brings_no_false_advice(note, host):
    assert advise(note, host) == ""


def test_words_that_several_say_are_told_apart_by_the_server():
    note = note_of(Stage.AUTH, 535, "Authentication credentials invalid")
    whose = {host: recognise(note, host).who for host in (SES, "SMTP.Resend.com.", "mail.gmx.net", "smtp.ionos.de", "")}
    assert list(whose.values()) == ["Amazon SES", "Resend", "GMX, WEB.DE", "IONOS", "a mail server"]


def test_a_name_that_only_ends_alike_is_another_server():
    note = note_of(Stage.AUTH, 535, "5.7.8 Authentication failed")
    assert recognise(note, "smtp.notbrevo.com").who == "a mail server"


def test_what_ends_a_reply_is_short_plain_and_without_links():
    for reply in REPLIES:
        assert len(reply.advice) <= 330, reply.advice
        assert reply.advice.endswith("."), reply.advice
        assert not re.search(r"https?:|www\.|  ", reply.advice), reply.advice


def test_a_visitor_cannot_write_advice_into_a_refusal_of_his_address():
    address = "x@daily.user.sending.limit.exceeded.application-specific.password.example"
    assert advise(note_of(Stage.RCPT, 452, f"4.2.2 <{address}> is full"), GMAIL) == ""


@pytest.mark.parametrize(
    "filling", ["5.7.57 ", "could not connect to ", "domain x", "a", "\0", "\u2028", "550 5.4.5 daily ", "TLS failed: "]
)
def test_hostile_text_is_answered_as_quickly_as_any_other(filling):
    """Only the note's beginning counts, so that a word behind it changes nothing."""
    long = filling * 1_000_000
    assert advise(long, long) == advise(long[:MAX_NOTE], "")
    assert "no passwords" not in advise(long[: MAX_NOTE * 4] + " basic authentication is disabled")


def test_a_wrong_login_blocks_the_way_and_is_explained():
    outcome = judge(Stage.AUTH, 535, "5.7.8 Username and Password not accepted.")
    assert isinstance(outcome, Blocked)
    assert "app password" in advise(outcome.note)
