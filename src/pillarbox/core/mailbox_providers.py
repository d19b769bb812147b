"""What providers of mailboxes say to a letter or a login that they do not like, and what ends it."""

from pillarbox.core.known_reply import Reply, known

_ZOHO = ("zoho.com", "zoho.eu", "zoho.in", "zoho.com.au", "zoho.jp", "zohocloud.ca", "zoho.sa")
_IONOS = ("ionos.de", "ionos.com", "ionos.co.uk", "ionos.fr", "ionos.es", "ionos.it", "1und1.de", "1and1.com")
_UNITED = ("gmx.net", "gmx.com", "gmx.de", "web.de", "mail.com")

_AT_GOOGLE = (
    "Turn on 2-Step Verification in the Google account (Security), create an app password there, "
    "and set EMAIL_PASSWORD to its 16 letters."
)

REPLIES: tuple[Reply, ...] = (
    known(
        "Gmail",
        "534 5.7.9",
        "application-specific password",
        advice="Gmail takes an app password here, not the account's own. " + _AT_GOOGLE,
    ),
    known(
        "Gmail",
        "534 5.7.14",
        "",
        advice="Google wants the owner to sign in once in a browser before it lets programs in. "
        "Do that, then use an app password as EMAIL_PASSWORD.",
    ),
    known(
        "Gmail",
        "535 5.7.8",
        "username and password not accepted",
        advice="Google refused the login. The user name has to be the whole address, and the password an app "
        "password. " + _AT_GOOGLE,
    ),
    known(
        "Gmail",
        "454 4.7.0",
        "too many login attempts",
        advice="Google saw too many logins. Set SMTP_CONNECTIONS=1, see to it that EMAIL_PASSWORD is right, and wait "
        "some hours.",
    ),
    known(
        "Gmail",
        "550 5.4.5",
        "daily (?:user |smtp )?(?:relay |sending )",
        advice="This Google account has sent all it may in 24 hours (500 letters, 2,000 with Workspace). Letters wait "
        "and leave when the day is over; lower CONFIRMATIONS_PER_HOUR, or use a mail service with a higher limit.",
    ),
    known(
        "Gmail",
        "421 4.7.0",
        "(?:try again later, closing connection|temporary system problem).*gsmtp",
        advice="Google turns connections away for a while. Nothing is lost; if it lasts for hours, set "
        "SMTP_CONNECTIONS=1 and send through an account with a login rather than without one.",
    ),
    known(
        "Gmail",
        "",
        r"^(?:550 5|421 4)\.7\.26\b|unauthenticated email from \S+ is not accepted due",
        advice="Google takes mail from this domain only when SPF or DKIM prove it. Publish both records as your mail "
        "provider shows them, and send through that provider.",
    ),
    known(
        "Microsoft 365",
        "",
        "smtpclientauthentication is disabled for the mailbox",
        advice="The administrator has to allow it for this mailbox: Microsoft 365 admin center > Users > Active users "
        "> the user > Mail > Manage email apps > Authenticated SMTP. It takes up to an hour.",
    ),
    known(
        "Microsoft 365",
        "",
        "smtpclientauthentication is disabled",
        advice="Microsoft 365 has SMTP login turned off for the organisation. An administrator allows it in the "
        "Exchange admin center > Settings > Mail flow (untick 'Turn off SMTP AUTH protocol'), and for the mailbox "
        "under Users > Active users > the user > Mail > Manage email apps > Authenticated SMTP.",
    ),
    known(
        "Microsoft 365",
        "",
        "security defaults policy",
        advice="The organisation's security defaults refuse logins by password. An administrator can turn them off in "
        "the Entra admin center > Identity > Overview > Properties, or let you send through another mail service.",
    ),
    known(
        "Microsoft 365",
        "",
        "did not meet the criteria to be authenticated",
        advice="Microsoft 365 refused the login: a Conditional Access rule forbids it, or the account has two-step "
        "login and needs an app password. Ask the administrator to allow authenticated SMTP for this mailbox.",
    ),
    known(
        "Microsoft 365",
        "550 5.7.30",
        "",
        advice="Microsoft 365 takes no passwords for sending any more. Send through an SMTP relay or connector of "
        "your organisation, or through another mail service.",
    ),
    known(
        "Outlook.com",
        "",
        "basic authentication is disabled",
        advice="Outlook.com, Hotmail and Microsoft 365 take no passwords here any more, app passwords included. "
        "Use another mail service for sending, and keep this address in RECIPIENT_EMAIL.",
    ),
    known(
        "Microsoft 365",
        "",
        r"5\.2\.252\b|sendasdenied|^5\d\d 5\.7\.60\b|permissions to send as this sender",
        advice="The account that logs in may not send as EMAIL_ADDRESS. Set EMAIL_ADDRESS to the account's own "
        "address, or have an administrator grant it 'Send as' for that mailbox.",
    ),
    known(
        "Microsoft 365",
        "",
        r"^432 4\.3\.2\b|^430 4\.2\.0\b|concurrent connections limit exceeded",
        advice="Microsoft 365 allows three connections of one mailbox at a time. Set SMTP_CONNECTIONS=1.",
    ),
    known(
        "Microsoft 365",
        "",
        r"5\.7\.57\b",
        advice="Microsoft 365 saw no login. Set SMTP_USERNAME (or EMAIL_ADDRESS) and EMAIL_PASSWORD, use port 587, "
        "and have authenticated SMTP allowed for the mailbox.",
    ),
    known(
        "Microsoft 365",
        "535 5.7.3",
        "",
        advice="The Microsoft server refused the login. Check the user name (the whole address) and EMAIL_PASSWORD; "
        "then see that authenticated SMTP is allowed for the mailbox and that no rule wants two-step login of it.",
    ),
    known(
        "Outlook.com",
        "550 5.7.515",
        "",
        advice="Outlook.com takes mail from this domain only when SPF, DKIM and DMARC all hold. Publish the three "
        "records as your mail provider shows them.",
    ),
    known(
        "Yahoo",
        "",
        r"\(#auth005\)",
        advice="Yahoo and AOL take an app password here, not the account's own: create one under Account security > "
        "App passwords, set EMAIL_PASSWORD to it, and wait an hour before the next try.",
    ),
    known(
        "Yandex",
        "535 5.7.8",
        "access rights to this service",
        advice="Allow mail programs in the mailbox's settings (All settings > Email clients), create an app password, "
        "and set EMAIL_PASSWORD to it.",
    ),
    known(
        "Zoho",
        "553",
        "sender is not allowed to relay emails",
        advice="Zoho sends only from addresses of the account that logs in. Set EMAIL_ADDRESS to the account's "
        "address, or add it there as an alias that may send.",
    ),
    known(
        "Zoho",
        "535",
        "",
        hosts=_ZOHO,
        advice="Zoho refused the login. Take the server of your region (smtp.zoho.eu, smtp.zoho.com; smtppro. for own "
        "domains) and, with two-step login, an application-specific password (Accounts > Security).",
    ),
    known(
        "iCloud",
        "550 5.7.0",
        "from address is not one of your addresses",
        advice="iCloud sends only from the account's own addresses. Set EMAIL_ADDRESS to one of them.",
    ),
    known(
        "iCloud",
        "535",
        "",
        hosts=("mail.me.com", "mail.icloud.com"),
        advice="iCloud takes an app-specific password here (Apple account > Sign-In and Security), and as "
        "SMTP_USERNAME the whole address at icloud.com.",
    ),
    known(
        "IONOS, GMX, WEB.DE",
        "",
        "sender address is not allowed",
        hosts=_IONOS + _UNITED,
        advice="This provider sends only from the address that logs in. Set EMAIL_ADDRESS to the same address as "
        "SMTP_USERNAME, or add it there as an alias.",
    ),
    known(
        "GMX, WEB.DE",
        "535",
        "",
        hosts=_UNITED,
        advice="Allow other programs first: in the mailbox under Settings > POP3 & IMAP. With two-step login create "
        "an app-specific password, and set EMAIL_PASSWORD to it.",
    ),
    known(
        "IONOS",
        "535",
        "",
        hosts=_IONOS,
        advice="IONOS wants the whole address as user name and the mailbox's own password, which is not that of the "
        "customer account. Set SMTP_USERNAME and EMAIL_PASSWORD to them.",
    ),
    known(
        "IONOS, GMX, WEB.DE",
        "",
        "reject due to policy restrictions|nemesis esmtp service not available",
        advice="The provider refuses this sender or this server's address. Send with a login through smtp.ionos.de, "
        "mail.gmx.net or your own provider, from an address of that account, and check SPF of its domain.",
    ),
    known(
        "Fastmail",
        "551",
        "not authori[sz]ed to send from this header address",
        advice="Fastmail sends only from addresses of the account. Add EMAIL_ADDRESS there under Settings > "
        "Addresses, or set EMAIL_ADDRESS to one that is there.",
    ),
    known(
        "Fastmail",
        "535",
        "",
        hosts=("fastmail.com", "messagingengine.com"),
        advice="Fastmail takes an app password here: create one for SMTP under Settings > Privacy & Security, and "
        "set EMAIL_PASSWORD to it.",
    ),
    known(
        "OVH, Strato",
        "535",
        "",
        hosts=("ovh.net", "ovh.ca", "ovhcloud.com", "strato.de", "strato.com", "rzone.de"),
        advice="The user name is the whole address, and the password that of this mailbox, not of the customer "
        "account. Set SMTP_USERNAME and EMAIL_PASSWORD to them.",
    ),
)
"""The most specific first."""
