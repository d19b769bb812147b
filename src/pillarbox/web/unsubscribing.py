"""The link in each confirmation by which its reader asks never to be written to again (RFC 8058).

Looking at it changes nothing, since mail programs do that by themselves. Posting to it does it at once: from the page's
button or, without page, cookie or origin, from a mail program. Its signature is the authority, and nobody's address
stands in it or on the page, since mails are passed on.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from pillarbox.core.errors import N_, NotKept, NotNoted, UnknownLink
from pillarbox.core.keys import Keys
from pillarbox.store.suppressions import Addressee, Asking
from pillarbox.telemetry import tell
from pillarbox.web.answering import Answers, path_of
from pillarbox.web.guards import ClientAddress
from pillarbox.web.limits import Limiter
from pillarbox.web.pages import Notice, Pages

PATH = "/unsubscribe"
_PURPOSE = "unsubscribe"
_LONGEST = 200
"""Characters of a signed id that are worth looking at."""

ASKS = Notice(
    N_("Never write to me again"),
    N_("%(site)s confirms by mail what comes in through its form. Press the button, and the address that this link was "
       "sent to gets no such mail any more."),
    N_("Did somebody else type your address into our form? We are sorry. After this, nobody can make it write to you."),
)  # fmt: skip
DONE = Notice(
    N_("That is done"),
    N_("%(site)s sends no more confirmations to the address that this link was sent to."),
    N_("You can still write to us, and an answer that a person writes still arrives."),
    is_good=True,
)
ERASED = Notice(
    N_("We no longer know that address"),
    N_("The message that this link belongs to has been erased, and with it the address that the link was sent to."),
    N_("Should such a mail come once more, the link in it will work."),
)


def link(public_url: str, keys: Keys, submission_id: str) -> str:
    """Return the link that stands in the confirmation of this message; an empty text without a public address.

    It names the message, not the letter: a letter's number may be given again once everything has been erased.
    """
    return f"{public_url}{PATH}?by={keys.sign(submission_id, _PURPOSE)}" if public_url else ""


@dataclass(frozen=True, slots=True)
class Unsubscribing:
    """Answers at the link; `find` and `ask` look the addressee of a message's confirmation up, and suppress it."""

    pages: Pages
    answers: Answers
    limiter: Limiter
    client_address: ClientAddress
    keys: Keys
    find: Callable[[str], Addressee | None]
    ask: Callable[[Asking], Awaitable[Addressee | None]]
    clock: Callable[[], float] = time.time

    def show(self, request: Request) -> Response:
        """Show what the link is for, with a button. Blocks while it reads."""
        submission_id = self._message_of(request)
        try:
            addressee = self.find(submission_id)
        except NotKept as reason:
            raise NotNoted from reason
        notice = ASKS if addressee and not addressee.has_asked else DONE if addressee else ERASED
        return self._say(request, notice, submission_id, addressee)

    async def confirm(self, request: Request) -> Response:
        """Do it, and answer once it is on disk; once more changes nothing."""
        self.limiter.admit(self.client_address(request))
        submission_id = self._message_of(request)
        try:
            addressee = await self.ask(Asking(submission_id, self.clock()))
        except NotKept as reason:
            raise NotNoted from reason
        tell("unsubscribed", id=submission_id, found=addressee is not None)
        return self._say(request, DONE if addressee else ERASED, submission_id, addressee)

    def _message_of(self, request: Request) -> str:
        """Return the id of the message that the link is about; raises UnknownLink."""
        signed = request.query_params.get("by", "")
        submission_id = self.keys.verified(signed, _PURPOSE) if len(signed) <= _LONGEST else None
        if submission_id is None:
            raise UnknownLink
        return submission_id

    def _say(self, request: Request, notice: Notice, submission_id: str, addressee: Addressee | None) -> Response:
        """Say it in the language of the confirmation, or, if nobody knows that any more, in the browser's."""
        language = self.answers.language(request, {"_language": (addressee.language,)} if addressee else None)
        action = f"{PATH[1:]}?by={request.query_params['by']}" if notice is ASKS else ""
        page = self.pages.notice(language, notice, action=action, path=path_of(request))
        return self.answers.tell(request, page, sentence=self.pages.sentence(language, notice), about=submission_id)
