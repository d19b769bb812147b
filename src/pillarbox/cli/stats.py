"""`pillarbox stats`: how many came, left, wait and failed, and what is in their way."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pillarbox.cli.kept import NOBODY_IS_TOLD, AsJson, moment, reading
from pillarbox.terminal import say, shortened, when

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pillarbox.store.ways import Shut

_NAMES = {"accepted": "accepted", "held": "held", "sent": "delivered", "failed": "failed", "cancelled": "cancelled"}
"""What is counted, by what the store calls it."""


def stats(
    days: Annotated[int, typer.Option(min=1, max=3_650, help="How many days back.")] = 14, as_json: AsJson = False
) -> None:
    """Count per day (UTC) what was accepted, held, delivered and failed, what waits, and what is in its way."""
    import time

    from pillarbox.settings import load
    from pillarbox.store import deliveries, held, submissions, ways

    settings = load()
    with reading(settings) as connection:
        table = _by_day(submissions.count_by_day(connection, since=time.time() - days * 86_400))
        now = {state.value: number for state, number in deliveries.count_by_state(connection).items()}
        shut = ways.find_shut(connection)
        suspects = held.count(connection)
    waiting, failed = now.get("waiting", 0) + now.get("digested", 0), now.get("failed", 0)
    if as_json:
        ways_shut = [{"way": one.way, "since": moment(one.since), "reason": one.note} for one in shut]
        told = {"alarm_channel": bool(settings.alarm_to), "shut": ways_shut}
        say(json.dumps({"days": table, "waiting": waiting, "failed": failed, "held": suspects} | told))
        return
    _say_table(table)
    say(f"\nLetters waiting: {waiting}, failed for good: {failed}.")
    if suspects:
        say(f"Messages held as spam, to be judged by you: {suspects}. See `pillarbox held list`.")
    say("Accepted and held are messages; the rest are letters, of which a message has more than one. Days are UTC.")
    _say_troubles(shut, failed=failed)
    if not settings.alarm_to:
        say(NOBODY_IS_TOLD)


def _by_day(counted: "Iterable[tuple[str, str, int]]") -> list[dict[str, Any]]:
    by_day: dict[str, dict[str, int]] = {}
    for day, what, number in counted:
        by_day.setdefault(day, {})[what] = number
    return [{"day": day} | {title: by_day[day].get(key, 0) for key, title in _NAMES.items()} for day in sorted(by_day)]


def _say_table(table: "Sequence[dict[str, Any]]") -> None:
    say("day         " + "".join(f"{title:>11}" for title in _NAMES.values()))
    for row in table:
        say(f"{row['day']}  " + "".join(f"{row[title]:>11}" for title in _NAMES.values()))


def _say_troubles(shut: "Sequence[Shut]", *, failed: int) -> None:
    for one in shut:
        say(f"No mail leaves through {one.way} since {when(one.since)}: {shortened(one.note, 300)}")
    if failed:
        say("What failed: `pillarbox deliveries list --state failed`; to try again: `pillarbox deliveries retry`.")
