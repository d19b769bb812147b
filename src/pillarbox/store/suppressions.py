"""The suppression list: mailboxes that get no confirmation. Owners' letters never ask it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from operator import attrgetter

from sqlalchemy import Connection, delete, select, text

from pillarbox.store.tables import suppressions


class Reason(StrEnum):
    """Why a mailbox is on the list: its owner asked for it, its mail server doesn't know it, or we listed it."""

    ASKED = "asked"
    REFUSED = "refused"
    LISTED = "listed"


@dataclass(frozen=True, slots=True)
class Suppression:
    """A mailbox (folded as deliveries.mailbox) on the list since a time; `note`: the server's words, or who asked."""

    mailbox: str
    reason: Reason
    since: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Asking:
    """Whoever got the confirmation of this message asks, now, never to be written to again."""

    submission_id: str
    now: float


@dataclass(frozen=True, slots=True)
class Addressee:
    """Who got the confirmation of a message: in which language, and whether there will be no other."""

    language: str
    has_asked: bool


# What somebody asked for stands, whatever else is known; a mail server's word takes the place of nothing.
_SUPPRESS = text("""
    INSERT INTO suppressions (mailbox, reason, since, note) VALUES (:mailbox, :reason, :since, :note)
    ON CONFLICT (mailbox) DO UPDATE SET reason = excluded.reason, since = excluded.since, note = excluded.note
    WHERE excluded.reason <> 'refused' AND suppressions.reason NOT IN ('asked', excluded.reason)
""")
_CANCEL = text("""
    UPDATE deliveries SET state = 'cancelled', settled_at = :since, unanswered = 0, note = :why
    WHERE state = 'waiting' AND purpose = 'confirmation' AND mailbox = :mailbox
""")
_OF_A_MESSAGE = """
    FROM deliveries AS d JOIN submissions AS s ON s.id = d.submission_id
    LEFT JOIN suppressions AS listed ON listed.mailbox = d.mailbox
    WHERE d.submission_id = :id AND d.purpose = 'confirmation'
"""
_ADDRESSEE = text(f"SELECT s.language, coalesce(listed.reason = 'asked', false) {_OF_A_MESSAGE}")
_MAILBOX = text(f"SELECT d.mailbox {_OF_A_MESSAGE}")
_WHY = {
    Reason.ASKED: "this address asked never to be written to again",
    Reason.LISTED: "this address was put on the suppression list",
}


def note_refused(connection: Connection, items: Sequence[Suppression]) -> None:
    """Put mailboxes on the list that their mail server does not know; what waits for them is cancelled when claimed."""
    for item in sorted(items, key=attrgetter("mailbox")):  # two writers must not wait for each other in a ring
        connection.execute(_SUPPRESS, asdict(item))


def suppress(connection: Connection, items: Sequence[Suppression]) -> Sequence[int]:
    """Put mailboxes on the list and cancel what waits for them, of every form; return how many letters each."""
    return [_suppress(connection, item) for item in items]


def _suppress(connection: Connection, item: Suppression) -> int:
    connection.execute(_SUPPRESS, asdict(item))
    # Also what is in hand: if it has left already, its outcome still counts, and otherwise it is not sent again.
    return connection.execute(_CANCEL, asdict(item) | {"why": _WHY[item.reason]}).rowcount


def ask(connection: Connection, items: Sequence[Asking]) -> Sequence[Addressee | None]:
    """Suppress who got the confirmations of these messages, and return them; None where a message was erased."""
    for item in items:
        for (mailbox,) in connection.execute(_MAILBOX, {"id": item.submission_id}).all():
            _suppress(connection, Suppression(mailbox, Reason.ASKED, item.now, "by the link in a confirmation"))
    return [fetch_addressee(connection, item.submission_id) for item in items]


def fetch_addressee(connection: Connection, submission_id: str) -> Addressee | None:
    """Return who got the confirmation of a message, or None when it was erased."""
    row = connection.execute(_ADDRESSEE, {"id": submission_id}).first()
    return Addressee(str(row[0]), bool(row[1])) if row else None


def release(connection: Connection, items: Sequence[str]) -> Sequence[Suppression | None]:
    """Take mailboxes off the list, and return what was said of them; None for one that was not on it."""
    return [_release(connection, mailbox) for mailbox in items]


def _release(connection: Connection, mailbox: str) -> Suppression | None:
    found = fetch(connection, mailbox)
    connection.execute(delete(suppressions).where(suppressions.c.mailbox == mailbox))
    return found


def fetch(connection: Connection, mailbox: str) -> Suppression | None:
    """Return what is said of this mailbox, or None when it is not on the list."""
    row = connection.execute(select(*_SHOWN).where(suppressions.c.mailbox == mailbox)).one_or_none()
    return _shown(row) if row else None


def find(connection: Connection, *, limit: int | None = None) -> list[Suppression]:
    """Return what is on the list, the newest first; None as limit is no limit."""
    query = select(*_SHOWN).order_by(suppressions.c.since.desc(), suppressions.c.mailbox).limit(limit)
    return [_shown(row) for row in connection.execute(query)]


_SHOWN = [suppressions.c[name] for name in Suppression.__dataclass_fields__]


def _shown(row: Sequence[object]) -> Suppression:
    mailbox, reason, since, note = row
    return Suppression(str(mailbox), Reason(str(reason)), float(str(since)), str(note))
