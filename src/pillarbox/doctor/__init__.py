"""What is well and what is not, in plain words: one finding a step, with what was seen and what to do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one step saw; `advice` is empty when there is nothing to do."""

    step: str
    verdict: Verdict
    seen: str
    advice: str = ""


NOT_LOOKED_AT = "not looked at: "
"""What the finding of a skipped step begins with."""


def skipped(step: str, because: str) -> Finding:
    """Return the finding of a step that was not taken, since an earlier one failed."""
    return Finding(step, "warn", f"{NOT_LOOKED_AT}{because}")


async def look(step: str, at: Callable[[], Awaitable[Sequence[Finding]]], *, within: float) -> list[Finding]:
    """Return what a look at something found; when it takes more than so many seconds, or breaks, that is a finding."""
    try:
        async with asyncio.timeout(within):
            return list(await at())
    except TimeoutError:
        return [Finding(step, "fail", f"it took longer than {within:g} s", "Try again; if it stays so, look there.")]
    except Exception as error:  # one look that breaks must not hide what the others see
        seen = f"the doctor itself stumbled here ({type(error).__name__})"
        return [Finding(step, "warn", seen, "Everything else was looked at all the same. Please report this.")]
