"""News to whatever Apprise can reach (chats, pagers, text messages), if that library is installed."""

import asyncio
import logging
import threading
from contextlib import suppress
from importlib.util import find_spec

from pillarbox.core.alarm import Event, Message

TELL_WITHIN = 30.0
NOT_INSTALLED = "it needs Apprise: run pip install 'pillarbox[apprise]'"

_KINDS = {Event.OPENED: "failure", Event.STILL: "warning", Event.WELL: "success"}


class AppriseChannel:
    """Tells through any Apprise URL. Raises ValueError when Apprise is not installed.

    The library asks by itself, not through our fetcher: its address may be inside whatever PRIVATE_HOSTS says. Only
    ALARM_TO names it, so nobody but the operator chooses it, and no redirect leads elsewhere.

    Importing Apprise takes a third of a second, so its first use finds out whether it knows the address.
    """

    transport = None

    def __init__(self, url: str, *, tell_within: float = TELL_WITHIN) -> None:
        if find_spec("apprise") is None:
            raise ValueError(NOT_INSTALLED)
        self._url = url
        self._tell_within = tell_within
        self._thread: threading.Thread | None = None
        self.name = f"{url.partition('://')[0]}://"  # what follows may be a token, even in the host's place

    async def tell(self, news: Message) -> str | None:
        """Hand it to Apprise, in a thread of its own: it blocks, and may do so for longer than we wait."""
        if self._thread and self._thread.is_alive():
            return "Apprise is still busy with the news before"
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str | None] = loop.create_future()

        def answer(reason: str | None) -> None:
            if not done.done():
                done.set_result(reason)

        def work() -> None:
            reason = self._notify(news)
            with suppress(RuntimeError):  # nobody waits any more: the loop is closed
                loop.call_soon_threadsafe(answer, reason)

        self._thread = threading.Thread(target=work, name="apprise", daemon=True)
        self._thread.start()
        try:
            return await asyncio.wait_for(done, self._tell_within)
        except TimeoutError:
            return f"Apprise did not end within {self._tell_within:g} seconds"

    def _notify(self, news: Message) -> str | None:
        try:
            import apprise  # noqa: PLC0415 - a third of a second, and an extra

            for name in ("apprise", "urllib3"):  # what they log may hold the address, and so its secrets
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
            asset = apprise.AppriseAsset(app_id="Pillarbox", async_mode=False, http_redirects=False)
            told = apprise.Apprise(asset=asset)
            if not told.add(self._url):
                return "Apprise does not know this kind of address, or something is missing in it"
            kind = apprise.NotifyType(_KINDS[news.event])
            taken = told.notify(body=news.text, title=news.title, notify_type=kind, body_format="text")
        except ImportError:
            return NOT_INSTALLED
        except Exception as error:  # a hundred plugins of other people's; the text of what they raise may hold secrets
            return f"Apprise failed ({type(error).__name__})"
        return None if taken else "the service that Apprise asked did not take it"
