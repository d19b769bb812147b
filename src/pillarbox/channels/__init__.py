"""How a person is told of trouble: one small file a kind of channel."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from pillarbox.channels.apprise import AppriseChannel
from pillarbox.channels.mail import Envelope, MailChannel, Send
from pillarbox.channels.ntfy import NtfyChannel
from pillarbox.channels.webhook import WebhookChannel
from pillarbox.core.alarm import Message
from pillarbox.fetching import Fetcher

__all__ = ["Channel", "Envelope", "Outlet", "Send", "make"]

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://.", re.IGNORECASE | re.DOTALL)


class Channel(Protocol):
    """One way to tell somebody."""

    @property
    def name(self) -> str:
        """What it is called in the log: nothing in it is secret."""

    @property
    def transport(self) -> str | None:
        """The way out that it needs; None when it needs none."""

    async def tell(self, news: Message) -> str | None:
        """Tell it; return None once it was taken, else why not, in plain words without secrets or addresses."""


@dataclass(frozen=True, slots=True)
class Outlet:
    """A way out that news may leave by: what sends a letter, and the address that its letters are from."""

    send: Send
    sender: str


def make(url: str, *, fetcher: Fetcher, outlets: Mapping[str, Outlet], site_name: str) -> Channel:
    """Return the channel of an address; raises ValueError with a sentence for an operator.

    `https://…` is a webhook, `ntfy://…` and `ntfys://…` are ntfy, `mailto:ada@example.org?transport=backup` is a mail
    through the way out of that name (without one: the first there is), all else is Apprise's.
    """
    if url.lower().startswith("mailto:") and "//" not in url:
        return _by_mail(url, outlets, site_name)
    found = _SCHEME.match(url)
    if not found or not _can_be_read(url):
        raise ValueError("write an address with its kind, like https://example.org/hook or ntfys://ntfy.sh/topic")
    scheme = found[1].lower()
    if scheme in {"http", "https"}:
        return WebhookChannel(url, fetcher=fetcher)
    if scheme in {"ntfy", "ntfys"}:
        return NtfyChannel(url, fetcher=fetcher)
    return AppriseChannel(url)


def _can_be_read(url: str) -> bool:
    try:
        urlsplit(url)
    except ValueError:
        return False
    return url.isprintable() and " " not in url


def _by_mail(url: str, outlets: Mapping[str, Outlet], site_name: str) -> MailChannel:
    address, _, query = url.partition(":")[2].partition("?")
    name = parse_qs(query).get("transport", list(outlets)[:1])[0]
    outlet = outlets.get(name)
    if outlet is None:
        raise ValueError(f"there is no way out named {name}; there are {', '.join(sorted(outlets)) or 'none'}")
    return MailChannel(name, outlet.send, envelope=Envelope(outlet.sender, (unquote(address),), site_name))
