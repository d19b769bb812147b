"""News by ntfy (https://ntfy.sh, or a server of one's own): published as JSON, which carries any title."""

import json
import re
from base64 import b64encode
from urllib.parse import parse_qs, unquote, urlsplit

from pillarbox.core.alarm import Event, Message
from pillarbox.fetching import Fetcher, Unreachable

_TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")
_PRIORITY = {Event.OPENED: 4, Event.STILL: 4, Event.WELL: 3}  # high, high, default
_TAGS = {Event.OPENED: "rotating_light", Event.STILL: "rotating_light", Event.WELL: "white_check_mark"}
_REFUSED = {401: "it refused the login", 403: "it refused the login", 429: "it had too much from us today"}


class NtfyChannel:
    """Publishes to `ntfy://host[:port]/topic` (http) or `ntfys://…` (https). Raises ValueError for another address.

    `user:password@` before the host or `?auth=tk_…` behind the topic log in.
    """

    transport = None

    def __init__(self, url: str, *, fetcher: Fetcher) -> None:
        parts = urlsplit(url)
        topic = parts.path.strip("/")
        if parts.scheme not in {"ntfy", "ntfys"} or not parts.hostname or not _TOPIC.fullmatch(topic):
            raise ValueError("an ntfy address is written ntfys://ntfy.example.org/topic")
        self._topic = topic
        self._url = f"{'https' if parts.scheme == 'ntfys' else 'http'}://{parts.netloc.rpartition('@')[2]}/"
        self._headers = {"Content-Type": "application/json"}
        if token := parse_qs(parts.query).get("auth"):
            self._headers["Authorization"] = f"Bearer {token[0]}"
        elif parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {b64encode(login).decode()}"
        self._fetcher = fetcher
        self.name = f"{parts.scheme}://{parts.hostname}"

    async def tell(self, news: Message) -> str | None:
        """Publish it; any 2xx is taken."""
        said = {
            "topic": self._topic,
            "title": news.title,
            "message": news.text,
            "priority": _PRIORITY[news.event],
            "tags": [_TAGS[news.event]],
        }
        content = json.dumps(said).encode()
        try:
            reply = await self._fetcher.fetch("POST", self._url, headers=self._headers, content=content)
        except Unreachable as error:
            return str(error)
        return None if reply.is_good else _REFUSED.get(reply.status, f"it answered {reply.status}")
