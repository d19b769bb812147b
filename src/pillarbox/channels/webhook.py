"""News by webhook: one POST of JSON."""

import json
from datetime import UTC, datetime
from urllib.parse import urlsplit

from pillarbox.core.alarm import Message
from pillarbox.fetching import Fetcher, Unreachable


class WebhookChannel:
    """Posts each piece of news to an `http://` or `https://` address. Raises ValueError for another."""

    transport = None

    def __init__(self, url: str, *, fetcher: Fetcher) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("a webhook is an address like https://example.org/hook")
        self._url = url
        self._fetcher = fetcher
        self.name = f"{parts.scheme}://{parts.hostname}"

    async def tell(self, news: Message) -> str | None:
        """Post it; any 2xx is taken."""
        said = {
            "id": news.id,
            "event": news.event.value,
            "kind": news.kind.value,
            "subject": news.subject,
            "title": news.title,
            "text": news.text,
            "since": datetime.fromtimestamp(news.since, UTC).isoformat(timespec="seconds"),
            "note": news.note,
        }
        headers = {"Content-Type": "application/json"}
        try:
            reply = await self._fetcher.fetch("POST", self._url, headers=headers, content=json.dumps(said).encode())
        except Unreachable as error:
            return str(error)
        return None if reply.is_good else f"it answered {reply.status}"
