"""What is well and what is not, in plain words: one finding a step, with what was seen and what to do."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from pillarbox.core.delivery import Outcome, Sent
from pillarbox.core.errors import NotKept
from pillarbox.store.engine import reason


@dataclass(frozen=True, slots=True)
class Finding:
    """What one step saw; `advice` is empty when there is nothing to do."""

    step: str
    verdict: Literal["ok", "warn", "fail"]
    seen: str
    advice: str = ""


async def examine_store(beat: Callable[[], Awaitable[None]], *, where: str) -> Finding:
    """Find out whether messages can be kept, by keeping something."""
    try:
        await beat()
    except NotKept as error:
        seen = f"{where} can't be written: {reason(error)}"
        return Finding("store", "fail", seen, "Free the disk, or mend path and rights.")
    return Finding("store", "ok", f"{where} can be written and synced")


async def examine_way(check: Callable[[], Awaitable[Outcome]]) -> Finding:
    """Find out whether mail can leave, without sending any."""
    outcome = await check()
    if isinstance(outcome, Sent):
        return Finding("mail", "ok", outcome.note)
    return Finding("mail", "fail", outcome.note, "Mend the settings that begin with SMTP_ and EMAIL_.")
