"""What becomes of the posts that a page sends by itself, and of the time between them."""

import json
from collections.abc import Callable

from playwright.sync_api import Page, Request, Route
from tests.running import until

STEP = 4
"""How many seconds pass at once."""


class Server:
    """Answers posts out of a list, the last one again and again; None lets a post through to the real server."""

    def __init__(self, page: Page, *answers: Callable[[Route], None] | None) -> None:
        self.keys: list[str] = []
        self._on_their_way: set[Request] = set()
        self._answers = answers
        page.route("**/send-message", self._take)
        page.on("requestfinished", self._end)
        page.on("requestfailed", self._end)

    def at_rest(self) -> bool:
        """Tell whether the page knows the end of every post."""
        return not self._on_their_way

    def _take(self, route: Route) -> None:
        self._on_their_way.add(route.request)
        self.keys.append(route.request.headers["idempotency-key"])
        reply = self._answers[min(len(self.keys), len(self._answers)) - 1]
        if reply:
            reply(route)
        else:
            route.continue_()

    def _end(self, request: Request) -> None:
        self._on_their_way.discard(request)


def saying(status: int, body: object, **headers: str) -> Callable[[Route], None]:
    """Answer a post so."""
    text = body if isinstance(body, str) else json.dumps(body)
    return lambda route: route.fulfill(status=status, body=text, content_type="application/json", headers=headers)


def broken(route: Route) -> None:
    """Let nothing arrive."""
    route.abort("connectionrefused")


def answer_lost(route: Route) -> None:
    """Let the real server have it, and the browser no answer."""
    route.fetch()
    route.abort("connectionreset")


def unanswered(route: Route) -> None:
    """Leave it as it is."""


def let_time_pass(page: Page, *, until_shown: str, at_rest: Callable[[], bool] = lambda: True) -> int:
    """Let time pass whenever `at_rest`, until this is shown; returns how many seconds it took."""
    passed = 0

    def shown() -> int:
        nonlocal passed
        count = page.locator(until_shown).count()
        if not count and at_rest():
            page.clock.run_for(STEP * 1_000)
            passed += STEP
        return count

    until(shown)
    return passed
