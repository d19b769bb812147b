"""How many bytes of bodies are in hand at once: neither one visitor nor a crowd fills the memory with them.

The rate limit can't see to that. It is asked when a body is there, so that whoever is refused sees the text again.
"""

from collections import Counter

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pillarbox.core.errors import NotKept, PillarboxError, TooMany
from pillarbox.web.guards import ClientAddress

MAX_BYTES_OF_ONE = 4 * 1024 * 1024
"""So much one client may have in hand: sixteen of the longest bodies, or thousands of usual ones."""
MAX_BYTES_OF_ALL = 256 * 1024 * 1024
RETRY_AFTER_SECONDS = 30
"""Whatever holds the bytes now has come, or been given up, by then."""
_BODIES_OF_ONE = 16

_SHARE = "pillarbox.share"


class BodiesInHand:
    """Counts the bytes of each request's body as they are kept, and gives them back when the request is over.

    Stands behind the guard that names the peer: bytes count for the client that the rate limit counts by.
    """

    def __init__(self, app: ASGIApp, client_address: ClientAddress) -> None:
        self._app = app
        self._client_address = client_address
        self._of_all = 0
        self._of_one: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        share = scope[_SHARE] = Share(self)
        try:
            await self._app(scope, receive, send)
        finally:
            self._give_back(share)
        return None

    def add(self, share: "Share", request: Request, count: int) -> PillarboxError | None:
        """Count that many bytes more for this request, or return why they may not be kept."""
        if not share.count:
            share.client = self._client_address(request)
        if self._of_one[share.client] + count > MAX_BYTES_OF_ONE:
            return TooMany(RETRY_AFTER_SECONDS, _BODIES_OF_ONE, RETRY_AFTER_SECONDS)
        if self._of_all + count > MAX_BYTES_OF_ALL:
            return NotKept()
        share.count += count
        self._of_one[share.client] += count
        self._of_all += count
        return None

    def _give_back(self, share: "Share") -> None:
        if not share.count:
            return
        self._of_all -= share.count
        self._of_one[share.client] -= share.count
        if not self._of_one[share.client]:
            del self._of_one[share.client]


class Share:
    """The bytes that one request has in hand, and whose they are once there are any."""

    __slots__ = ("bodies", "client", "count")

    def __init__(self, bodies: BodiesInHand) -> None:
        self.bodies = bodies
        self.client = ""
        self.count = 0


def admit(request: Request, count: int) -> PillarboxError | None:
    """Count bytes that are about to be kept, or return why they may not be: TooMany, or NotKept when all is full."""
    share: Share | None = request.scope.get(_SHARE)
    return share.bodies.add(share, request, count) if share else None
