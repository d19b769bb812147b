"""Which visitors' addresses get a confirmation, and what counts as one mailbox."""

import unicodedata
from functools import lru_cache

from pillarbox.core import mime
from pillarbox.core.form import Form, Owners

ROLE_NAMES = frozenset(
    (
        # RFC 2142 sections 3 to 5: mailboxes of a network's and its services' operators. Its business names (info,
        # sales, support, marketing) are left out: at a small firm they are people, and they do write to others.
        *("abuse", "noc", "security", "postmaster", "hostmaster", "usenet", "news", "webmaster", "www", "uucp", "ftp"),
        # Machines and system accounts: nobody reads what comes here, or a program answers it.
        *("noreply", "donotreply", "mailerdaemon", "daemon", "bounce", "bounces", "nobody", "root", "autoreply"),
        *("admin", "administrator", "sysadmin", "hostadmin", "spam", "phishing", "devnull", "null"),
        # Programs that run mailing lists: a mail to them is a command (RFC 2142 section 6).
        *("majordomo", "listserv", "listproc", "mailman", "sympa"),
    )
)
"""Local parts that get no confirmation, written without `.`, `-` and `_` (no-reply is noreply)."""

LIST_ENDINGS = ("-request", "-owner", "-bounces", "-subscribe", "-unsubscribe", "-join", "-leave", "-confirm")
"""Ends of the service addresses beside a mailing list (RFC 2142 section 6): one mail may subscribe somebody."""

PUBLIC_PROVIDERS = frozenset(
    (
        *("gmail.com", "googlemail.com", "outlook.com", "outlook.de", "outlook.fr", "hotmail.com", "hotmail.co.uk"),
        *("hotmail.de", "hotmail.fr", "hotmail.it", "hotmail.es", "live.com", "live.de", "live.nl", "msn.com"),
        *("yahoo.com", "yahoo.co.uk", "yahoo.co.jp", "yahoo.co.in", "yahoo.de", "yahoo.fr", "yahoo.it", "ymail.com"),
        *("icloud.com", "me.com", "mac.com", "aol.com", "gmx.de", "gmx.net", "gmx.com", "gmx.at", "gmx.ch", "web.de"),
        *(
            "t-online.de",
            "freenet.de",
            "posteo.de",
            "posteo.net",
            "mailbox.org",
            "proton.me",
            "protonmail.com",
            "pm.me",
        ),
        *("tutanota.com", "tuta.com", "fastmail.com", "fastmail.fm", "zoho.com", "mail.com", "orange.fr", "wanadoo.fr"),
        *("free.fr", "laposte.net", "libero.it", "virgilio.it", "tiscali.it", "bluewin.ch", "ziggo.nl", "kpnmail.nl"),
        *("btinternet.com", "sky.com", "comcast.net", "verizon.net", "att.net", "sbcglobal.net", "cox.net", "shaw.ca"),
        *("bigpond.com", "uol.com.br", "bol.com.br", "terra.com.br", "wp.pl", "o2.pl", "onet.pl", "interia.pl"),
        *("seznam.cz", "centrum.cz", "mail.ru", "bk.ru", "list.ru", "inbox.ru", "yandex.ru", "yandex.com", "ukr.net"),
        *("qq.com", "163.com", "126.com", "sina.com", "naver.com", "daum.net", "hanmail.net", "rediffmail.com"),
    )
)
"""Domains where anybody has a mailbox, so that sharing one with the owner says nothing."""

_GMAIL = frozenset(("gmail.com", "googlemail.com"))
_IGNORED_IN_ROLES = str.maketrans("", "", "._-")


@lru_cache(maxsize=4_096)
def fold(address: str) -> str:
    """Return the key by which mailboxes are counted: the same for every way of writing one.

    Lower case, the domain in ASCII, without a +tag (RFC 5233), at Gmail without dots. For counting only: a mail
    always goes to the address as it was written.
    """
    local_part, _, domain = unicodedata.normalize("NFKC", address.strip()).lower().rpartition("@")
    domain = _ascii_domain(domain.rstrip("."))
    name, _, _ = local_part.partition("+")
    if domain in _GMAIL:
        name, domain = name.replace(".", ""), "gmail.com"
    return f"{name or local_part}@{domain}"


def has_tag(address: str) -> bool:
    """Say whether the address names a +tag of its mailbox: a mail server may know the one and not the other."""
    return "+" in address.rpartition("@")[0]


def why_not_confirm(address: str, form: Form) -> str | None:
    """Return why a visitor's address gets no confirmation, in short plain English, or None when it gets one.

    What is refused here could make us write to ourselves, to a machine that answers, or to a place beyond the
    address that was typed.
    """
    if not form.confirms:
        return "confirmations are off for this form"
    if not address:
        return "no address was given"
    if not _is_plain(address):
        return "the address is not one plain address"
    return _why_not_mailbox(fold(address), form)


def _why_not_mailbox(mailbox: str, form: Form) -> str | None:
    local_part, _, domain = mailbox.rpartition("@")
    if mailbox in _own_mailboxes(form.sender, form.owners):
        return "the address is one of the form's own"
    if local_part.translate(_IGNORED_IN_ROLES) in ROLE_NAMES:
        return "the address belongs to a role or a machine"
    if local_part.endswith(LIST_ENDINGS) or local_part.startswith("owner-"):
        return "the address belongs to a mailing list's program"
    if domain == fold(form.sender).rpartition("@")[2] and domain not in PUBLIC_PROVIDERS:
        return "the address is in the sender's own domain"
    return None


@lru_cache(maxsize=1_024)
def _own_mailboxes(sender: str, owners: Owners) -> frozenset[str]:
    return frozenset(fold(own) for own in (sender, *owners.everyone))


def _is_plain(address: str) -> bool:
    """Say whether a mail can carry the address and none of it is an old routing trick (user%host@relay, host!user)."""
    try:
        return not set("%!") & set(mime.wire_address(address).rpartition("@")[0])
    except ValueError:
        return False


def _ascii_domain(domain: str) -> str:
    try:
        return mime.wire_address(f"x@{domain}").rpartition("@")[2]
    except ValueError:
        return domain
