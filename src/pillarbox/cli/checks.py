"""`pillarbox doctor`, `send-test` and `upgrade`: whether all is well, and making it so."""

import asyncio
import json
import textwrap
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from pillarbox.cli.kept import AsJson
from pillarbox.terminal import FAILED, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pillarbox.doctor import Finding


def send_test(as_json: AsJson = False) -> None:
    """Send one test letter to the owner through the way out, now, and say what became of it."""
    from pillarbox.app import send_test_letter
    from pillarbox.core.delivery import Sent
    from pillarbox.settings import load

    settings = load()
    outcome = asyncio.run(send_test_letter(settings))
    was_sent = isinstance(outcome, Sent)
    if as_json:
        say(json.dumps({"sent": was_sent, "outcome": type(outcome).__name__.lower(), "note": outcome.note}))
    elif was_sent:
        say(f"Sent to {settings.recipients[0]}: {outcome.note}")
    else:
        say(f"Not sent: {outcome.note}")
    raise typer.Exit(0 if was_sent else FAILED)


def doctor(
    as_json: AsJson = False,
    test_alarm: Annotated[
        bool, typer.Option("--test-alarm", help="Only send a test to everybody who is told of trouble.")
    ] = False,
) -> None:
    """Check settings, store and way out; each line says what was seen and what to do."""
    from pillarbox.app import examine
    from pillarbox.settings import load

    if test_alarm:
        _rehearse_alarm(as_json)
    findings = asyncio.run(examine(load()))
    if as_json:
        say(
            json.dumps(
                [{"step": one.step, "verdict": one.verdict, "seen": one.seen, "advice": one.advice} for one in findings]
            )
        )
    else:
        _say_findings(findings)
    raise typer.Exit(FAILED if any(one.verdict == "fail" for one in findings) else 0)


def _rehearse_alarm(as_json: bool) -> NoReturn:
    from pillarbox.app import rehearse_alarm
    from pillarbox.settings import load

    told = asyncio.run(rehearse_alarm(load()))
    if as_json:
        say(json.dumps([{"channel": name, "taken": why_not is None, "note": why_not or ""} for name, why_not in told]))
    elif not told:
        say("Nobody is told when mail can't leave: set ALARM_TO.")
    else:
        for name, why_not in told:
            say(f"{name}: {f'not taken: {why_not}' if why_not else 'taken'}")
    raise typer.Exit(0 if told and all(why_not is None for _, why_not in told) else FAILED)


def _say_findings(findings: "Sequence[Finding]") -> None:
    """Print a line a finding, its advice indented below, and the sum; no line is wider than 100 columns."""
    widest = max(len(one.step) for one in findings)
    margin = " " * (widest + 8)
    for one in findings:
        say(textwrap.fill(one.seen, 100, initial_indent=f"{one.verdict:<5} {one.step:<{widest}}  ", **_wrapped(margin)))
        if one.advice:
            say(textwrap.fill(one.advice, 100, initial_indent=f"{margin}  ", **_wrapped(f"{margin}  ")))
    say(f"\n{_sum_of(findings)}")


def _sum_of(findings: "Sequence[Finding]") -> str:
    from pillarbox.doctor import NOT_LOOKED_AT

    skipped = sum(one.seen.startswith(NOT_LOOKED_AT) for one in findings)
    failed, warned = (sum(one.verdict == verdict for one in findings) for verdict in ("fail", "warn"))
    parts = [
        f"{failed} failed" if failed else "",
        f"{warned - skipped} to look at" if warned - skipped else "",
        f"{skipped} not looked at" if skipped else "",
    ]
    return f"Of {len(findings)}: {', '.join(filter(None, parts))}." if any(parts) else "All is well."


def _wrapped(margin: str) -> dict[str, Any]:
    return {"subsequent_indent": margin, "break_long_words": False, "break_on_hyphens": False}


def upgrade() -> None:
    """Bring the database up to date; an SQLite file is copied aside first."""
    from pillarbox.app import upgrade_store
    from pillarbox.settings import load

    say(upgrade_store(load()))
