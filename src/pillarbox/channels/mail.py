"""News by mail, through a way out that is not the broken one."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from html import escape

from pillarbox.core import mime
from pillarbox.core.alarm import Message
from pillarbox.core.delivery import Outcome, Sent
from pillarbox.core.letter import Letter, display_name, one_line

Send = Callable[[Letter], Awaitable[Outcome]]
_MAX_SUBJECT = 250


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who mails of alarms are from and to, and the name that stands before the sender's address."""

    sender: str
    recipients: tuple[str, ...]
    site_name: str = "Pillarbox"


class MailChannel:
    """Sends each piece of news as a letter to every recipient through one way out.

    `transport` is the way's name, `send` its transport's. Raises ValueError for addresses that no mail can carry.
    """

    def __init__(self, transport: str, send: Send, *, envelope: Envelope) -> None:
        if not envelope.recipients:
            raise ValueError("a mail needs a recipient")
        try:
            for address in (envelope.sender, *envelope.recipients):
                mime.wire_address(address)
        except ValueError:
            raise ValueError("a mail's address is written like ada@example.org") from None
        self.transport = transport
        self.name = f"mailto:…?transport={transport}"
        self._send = send
        self._envelope = envelope

    async def tell(self, news: Message) -> str | None:
        """Send it; it is taken when one recipient's letter is."""
        outcomes = [await self._send(self._letter(news, recipient)) for recipient in self._envelope.recipients]
        if any(isinstance(outcome, Sent) for outcome in outcomes):
            return None
        return outcomes[0].note

    def _letter(self, news: Message, recipient: str) -> Letter:
        """Return the letter; the same news to the same recipient is the same letter, which a reader can know."""
        sender, to = mime.wire_address(self._envelope.sender), mime.wire_address(recipient)
        message_id = f"<{news.id}.alarm@{sender.rpartition('@')[2]}>"
        fields = (
            mime.mailbox_field("From", sender, display_name(self._envelope.site_name)),
            mime.addresses_field("To", (to,)),
            mime.text_field("Subject", one_line(news.title, _MAX_SUBJECT)),
            mime.plain_field("Date", format_datetime(datetime.fromtimestamp(int(news.at), UTC))),
            mime.plain_field("Message-ID", message_id),
            mime.plain_field("Auto-Submitted", "auto-generated"),
        )
        html = "".join(f"<p>{escape(line)}</p>\n" for line in news.text.splitlines())
        content = mime.message(fields, text=f"{news.text}\n", html=_PAGE.format(html), message_id=message_id)
        smtputf8 = not (content.isascii() and (sender + to).isascii())
        return Letter(f"alarm-{news.id}-{to}", message_id, sender, to, content, smtputf8)


_PAGE = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Pillarbox</title></head><body>\n{}</body>\n'
)
