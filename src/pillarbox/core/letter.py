"""A submission becomes a letter: who it is from, to whom, and what its headers say."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from urllib.parse import quote
from zoneinfo import ZoneInfo

from pillarbox.core import mime
from pillarbox.core.delivery import Purpose
from pillarbox.core.form import Form
from pillarbox.core.submission import Submission

_MAX_NAME = 60
_MAX_SUBJECT = 250

MAX_DIGEST = 100
"""Messages in one digest."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# What turns the reading order round or is not seen at all. Joiners (U+200C, U+200D) stay: scripts and emoji need them.
_INVISIBLE = re.compile(
    "[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_ADDRESS_LIKE = re.compile(r'[<>"\\@＠﹫]')


StillOurs = Callable[[], bool]
"""Whether a letter in hand is ours to send: once its lease is over, another machine may have it in its hands."""


def always() -> bool:
    """Say that it is."""
    return True


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail to one recipient, ready for any way out.

    `id` is the delivery's, unique and stable over every repeat. `sender` is the envelope's MAIL FROM and may be
    empty (the null reverse-path of RFC 5321 4.5.5). `content` is the whole message (RFC 5322) with CRLF line ends,
    lines of at most 998 octets, all of it ASCII unless `smtputf8` says that an address needs RFC 6531.
    """

    id: str
    message_id: str
    sender: str
    recipient: str
    content: bytes
    smtputf8: bool = False
    fallback_sender: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """What a letter says, in its reader's language: the subject as a text, the bodies as they will be read."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class Preface:
    """What an owner's letter begins with after an outage: no mail could leave from `since` (seconds since the epoch).

    `reason` is what the mail server said, foreign text; the letter shows its first 300 characters.
    """

    since: float
    reason: str


def one_line(text: str, max_length: int) -> str:
    """Return the text as one harmless line of at most `max_length` characters, an ellipsis where it was cut.

    Line breaks, control characters and runs of blanks become one blank; what changes the reading direction or
    cannot be seen is left out.
    """
    short = text[: 4 * max_length]
    if not (short.isascii() and short.isprintable()):
        short = _CONTROL.sub(" ", _INVISIBLE.sub("", short))
    clean = " ".join(short.split())
    return clean if len(clean) <= max_length else clean[: max_length - 1].rstrip("\u200d ") + "…"


def display_name(text: str) -> str:
    """Return the text as a name to stand before an address, without the characters that addresses are made of."""
    return one_line(_ADDRESS_LIKE.sub(" ", text[: 4 * _MAX_NAME]), _MAX_NAME)


def answerable(address: str) -> str | None:
    """Return the address as Reply-To may carry it, or None where it is not one plain address in ASCII."""
    try:
        wired = mime.wire_address(address)
    except ValueError:
        return None
    return wired if wired.isascii() else None


def mailto(address: str, subject: str) -> str | None:
    """Return the link (RFC 6068) to write to this address alone, or None where it is not one plain address."""
    try:
        local_part, _, domain = mime.wire_address(address).rpartition("@")
    except ValueError:
        return None
    return f"mailto:{quote(local_part, safe='')}@{quote(domain, safe='')}?subject={quote(subject, safe='')}"


def notification(submission: Submission, form: Form, *, delivery_id: int, recipient: str, words: Words) -> Letter:
    """Return the owner's letter; only its envelope and `id` differ between recipients.

    From is our own address; the visitor's stands in Reply-To alone, and not even there when it cannot be written in
    ASCII. Raises ValueError for a recipient, or an address of the form, that no mail can carry.
    """
    name, site = display_name(submission.value("name")), display_name(form.site_name)
    cc, reply_to = form.owners.cc, answerable(submission.email)
    message_id = _message_id(submission, form, Purpose.NOTIFICATION)
    fields = (
        mime.mailbox_field("From", form.sender, f"{name} via {site}" if name else site),
        mime.addresses_field("To", form.owners.to),
        *((mime.addresses_field("Cc", cc),) if cc else ()),
        *((mime.addresses_field("Reply-To", (reply_to,)),) if reply_to else ()),
        _owners_subject(form, words),
        *_marks(submission, form, message_id),
        mime.plain_field("Auto-Submitted", "auto-generated"),
    )
    ends = (mime.wire_address(form.sender), mime.wire_address(recipient), "")
    return _written(delivery_id, message_id, ends, fields, words)


def digest(submissions: Sequence[Submission], form: Form, *, delivery_id: int, recipient: str, words: Words) -> Letter:
    """Return the owner's letter that holds many messages of one form, the oldest first.

    No Reply-To, since it could name one visitor alone; X-Pillarbox-Id names every message. The Message-ID is the
    delivery's, so that two digests which begin with the same message are two letters. Raises ValueError as the
    notification does.
    """
    message_id = f"<{submissions[0].id}.digest-{delivery_id}@{_message_domain(form)}>"
    cc, newest = form.owners.cc, max(one.received_at for one in submissions)
    fields = (
        mime.mailbox_field("From", form.sender, display_name(form.site_name)),
        mime.addresses_field("To", form.owners.to),
        *((mime.addresses_field("Cc", cc),) if cc else ()),
        _owners_subject(form, words),
        mime.plain_field("Date", _date(int(newest), form.timezone)),
        mime.plain_field("Message-ID", message_id),
        mime.text_field("X-Pillarbox-Id", " ".join(one.id for one in submissions)),
        mime.plain_field("Auto-Submitted", "auto-generated"),
    )
    ends = (mime.wire_address(form.sender), mime.wire_address(recipient), "")
    return _written(delivery_id, message_id, ends, fields, words)


def confirmation(
    submission: Submission, form: Form, *, delivery_id: int, recipient: str, words: Words, unsubscribe: str = ""
) -> Letter:
    """Return the visitor's letter: an automatic reply (RFC 3834) that no machine answers, since its sender is null.

    Its headers hold nothing that the visitor wrote but the address it goes to, and the link to `unsubscribe` (in
    ASCII) if there is one. Raises ValueError as the notification does.
    """
    message_id = _message_id(submission, form, Purpose.CONFIRMATION)
    fields = (
        mime.mailbox_field("From", form.sender, display_name(form.site_name)),
        mime.addresses_field("To", (recipient,)),
        _subject(words.subject),
        *_marks(submission, form, message_id),
        mime.plain_field("Auto-Submitted", "auto-replied"),
        mime.plain_field("X-Auto-Response-Suppress", "All"),
        *_way_out(unsubscribe),
    )
    ends = ("", mime.wire_address(recipient), mime.wire_address(form.sender))
    return _written(delivery_id, message_id, ends, fields, words)


def _way_out(link: str) -> tuple[mime.HeaderField, ...]:
    """Return how a mail program stops such letters for its user (RFC 2369, 3.2): at once where that is safe (RFC 8058).

    One click needs https (RFC 8058, 3.1). A link can't be folded: it stands on one line, however long it is.
    """
    if not link:
        return ()
    one_click = mime.plain_field("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
    return (
        mime.plain_field("List-Unsubscribe", f"<{link}>"),
        *((one_click,) if link.startswith("https:") else ()),
    )


def _message_id(submission: Submission, form: Form, purpose: Purpose) -> str:
    return f"<{submission.id}.{purpose}@{_message_domain(form)}>"


def _message_domain(form: Form) -> str:
    named = f"id@{form.message_domain}" if form.message_domain else form.sender
    return mime.wire_address(named).rpartition("@")[2]


def _owners_subject(form: Form, words: Words) -> mime.HeaderField:
    return _subject(f"[{one_line(form.site_name, _MAX_NAME)}] {words.subject}")


def _subject(text: str) -> mime.HeaderField:
    return mime.text_field("Subject", one_line(text, _MAX_SUBJECT))


def _marks(submission: Submission, form: Form, message_id: str) -> tuple[mime.HeaderField, ...]:
    return (
        mime.plain_field("Date", _date(int(submission.received_at), form.timezone)),
        mime.plain_field("Message-ID", message_id),
        mime.plain_field("X-Pillarbox-Id", submission.id),
    )


@lru_cache(maxsize=256)
def _date(at: int, timezone: str) -> str:
    """Return the time (whole seconds since the epoch) as RFC 5322 section 3.3 writes it."""
    return format_datetime(datetime.fromtimestamp(at, ZoneInfo(timezone)))


def _written(
    delivery_id: int, message_id: str, ends: tuple[str, str, str], fields: Sequence[mime.HeaderField], words: Words
) -> Letter:
    """Return the letter; `ends` are sender, recipient and fallback sender as the envelope has them."""
    content = mime.message(fields, text=words.text, html=words.html, message_id=message_id)
    sender, recipient, fallback = ends
    smtputf8 = not (content.isascii() and "".join(ends).isascii())
    return Letter(str(delivery_id), message_id, sender, recipient, content, smtputf8, fallback)
