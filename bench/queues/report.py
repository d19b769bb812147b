"""The queues' page: what was promised, whether it holds, and the figures behind it."""

from collections.abc import Sequence
from statistics import median

from bench.promises import AtLeast, AtMost
from bench.queues.drains import Drain
from bench.queues.engines import Celery, PgQueuer, Pillarbox
from bench.queues.measures import KEEPERS, REPLY_MS, Filled, KeptSeen, Results
from bench.report import table

Promise = AtLeast | AtMost
DUE = "SELECT array_agg"
"""How the statement begins that finds the letters which are due."""


def rate(rounds: Sequence[Drain] | Sequence[KeptSeen]) -> float:
    """Return the median of mails or messages a second."""
    return median(each.rate for each in rounds)


def judge(results: Results) -> list[Promise]:
    """Return every promise that this run can judge."""
    found: list[Promise] = []
    if results.kept:
        mine, theirs = (rate(results.kept[KEEPERS[place]]) for place in (0, 2))
        found.append(AtLeast("keep() with 64 callers against a transaction a call (asyncpg)", mine / theirs, 3,
                             f"{mine:,.0f} against {theirs:,.0f} messages a second"))  # fmt: skip
    if results.drains:
        mine, theirs = (rate(results.drains[engine.name]) for engine in (Pillarbox, PgQueuer))
        found.append(AtLeast("one worker draining against PgQueuer", mine / theirs, 2,
                             f"{mine:,.0f} against {theirs:,.0f} mails a second"))  # fmt: skip
        lost = sum(each.lost for each in results.drains[Pillarbox.name])
        found.append(AtMost("our letters lost or sent twice in it",
                            lost + sum(each.twice for each in results.drains[Pillarbox.name]), 0, ""))  # fmt: skip
    if results.killed:
        found.append(AtMost("our letters lost by a worker killed -9",
                            sum(each.lost for each in results.killed[Pillarbox.name]), 0, ""))  # fmt: skip
    if results.shared:
        one, two = rate(results.shared[1]), rate(results.shared[2])
        found.append(AtLeast(f"two workers against one, {REPLY_MS:.0f} ms a reply", two / one, 1.7,
                             f"{two:,.0f} against {one:,.0f} mails a second"))  # fmt: skip
    if results.filled:
        found += of_the_full_store(results.filled)
    return found


def of_the_full_store(filled: Filled) -> list[Promise]:
    """Return what was promised of a store that is full."""
    found: list[Promise] = []
    for work in ("accept", "claim"):
        full, empty = (median(filled.rounds[store][work]) for store in ("full", "empty"))
        what = f"{work} with {filled.letters:,} letters waiting against an empty store"
        found.append(AtMost(what, full / empty, 1.5, f"{full:.1f} against {empty:.1f} ms, 64 at once"))
    due = [look for look in filled.looks if look.statement.startswith(DUE)]
    read = max((look.rows for look in due), default=float("inf"))
    indexes = ", ".join(sorted({index for look in due for index in look.indexes})) or "no index"
    uses = bool(due) and all("deliveries_due" in look.indexes and not look.sequential for look in due)
    found.append(AtMost("rows read to find what is due, in limits", read / filled.limit if uses else float("inf"), 2,
                        f"{read} rows for {filled.limit} letters, by {indexes}"))  # fmt: skip
    return found


def promise_table(results: Results) -> list[str]:
    """Return every promise with its figure and its target."""
    rows = [
        (each.what, f"{each.value:.2f}", f"{each.sign} {each.target:g}", "holds" if each.holds else "**does not hold**",
         each.detail)
        for each in judge(results)
    ]  # fmt: skip
    return table(("promise", "measured", "target", "", "medians"), rows)


def engine_table(results: Results) -> list[str]:
    """Return the engines side by side."""
    if not (results.drains or results.killed):
        return []
    rows = []
    for name in (Pillarbox.name, PgQueuer.name, Celery.name):
        drains, killed = results.drains.get(name, []), results.killed.get(name, [])
        rows.append((
            name,
            f"{rate(drains):,.0f}" if drains else "–",
            " ".join(f"{each.rate:.0f}" for each in drains),
            f"{median(each.processor for each in drains):.2f}" if drains else "–",
            f"{sum(each.lost for each in drains)} / {sum(each.twice for each in drains)}" if drains else "–",
            f"{median(each.disturbed for each in drains):.0%}" if drains else "–",
            f"{median(each.seconds for each in killed):.1f}" if killed else "–",
            " ".join(f"{each.seconds:.1f}" for each in killed),
            f"{sum(each.lost for each in killed)} / {sum(each.twice for each in killed)}" if killed else "–",
        ))  # fmt: skip
    headings = ("", "mails/s", "rounds", "ms of processor a mail", "lost / twice", "others on the core",
                "s after kill -9", "rounds", "lost / twice")  # fmt: skip
    return ["## One worker, the same work", "", "`python -m bench.queues --only drain --only killed`", "",
            *table(headings, rows)]  # fmt: skip


def keep_table(results: Results) -> list[str]:
    """Return messages kept a second."""
    if not results.kept:
        return []
    rows = [
        (
            name,
            f"{rate(rounds):,.0f}",
            " ".join(f"{each.rate:.0f}" for each in rounds),
            f"{median(each.processor for each in rounds):.2f}",
            f"{median(each.disturbed for each in rounds):.0%}",
        )
        for name, rounds in results.kept.items()
    ]
    headings = ("", "messages/s", "rounds", "ms of processor each", "others on the core")
    title = "## Kept a second, 64 callers, a message and two letters each"
    return [title, "", "`python -m bench.queues --only keep`", "", *table(headings, rows)]


def share_table(results: Results) -> list[str]:
    """Return one worker and two."""
    if not results.shared:
        return []
    rows = [
        (str(workers), f"{rate(rounds):.1f}", " ".join(f"{each.rate:.1f}" for each in rounds),
         f"{sum(each.lost for each in rounds)} / {sum(each.twice for each in rounds)}")
        for workers, rounds in results.shared.items()
    ]  # fmt: skip
    title = f"## A mail server that takes {REPLY_MS:.0f} ms for each reply, four connections a worker"
    return [title, "", "`python -m bench.queues --only two`", "",
            *table(("workers", "mails/s", "rounds", "lost / twice"), rows)]  # fmt: skip


def full_table(filled: Filled | None) -> list[str]:
    """Return the full store beside the empty one, and the plans of a claim."""
    if filled is None:
        return []
    rows = [
        (store, *(f"{median(filled.rounds[store][work]):.2f}" for work in ("accept", "claim")))
        for store in ("empty", "full")
    ]
    plans = [
        (f"`{look.statement}`", ", ".join(look.indexes) or "–", ", ".join(look.sequential) or "–", str(look.rows),
         str(look.pages))
        for look in filled.looks
    ]  # fmt: skip
    rounds = len(filled.rounds["full"]["claim"])
    return [
        f"## {filled.letters:,} waiting letters",
        "",
        "`python -m bench.queues --only million`",
        "",
        f"Milliseconds for 64 messages kept at once and a claim of {filled.limit} letters, medians of {rounds} turns:",
        "",
        *table(("store", "accept", "claim"), rows),
        "A claim on the full store as the server carried it out (auto_explain: ANALYZE, BUFFERS):",
        "",
        *table(("statement", "indexes", "read in whole", "rows read", "pages"), plans),
    ]  # fmt: skip


METHOD = """\
Work: two mails a message, of 6.1 and 5.0 kB; the visitor's is answered 451 at RCPT once, and tried again after 1 s.
Rates are from the first mail to the last. Killed: the worker and its children get SIGKILL when half of the mails are
out; it is started again at once. Workers and callers have one core for themselves; PostgreSQL with its defaults (fsync,
full_page_writes and synchronous_commit on), Redis and the mail server share the other.

- PgQueuer: batches of 100, 200 jobs in hand, one connection of its own, its own autovacuum settings, tables durable,
  retries by the database, heartbeat time-out 30 s (its default); aiosmtplib with four kept connections.
- Celery: prefork with four processes, acks_late, reject_on_worker_lost, prefetch 16, visibility time-out 30 s (its
  default is an hour); Redis with an append-only file synced each second; smtplib, a kept connection a process.
"""


def page(results: Results, *, facts: Sequence[str]) -> str:
    """Return the whole page in Markdown."""
    return "\n".join([
        "# PostgreSQL as the queue",
        "",
        *(f"- {fact}" for fact in facts),
        "",
        *promise_table(results),
        METHOD,
        *keep_table(results),
        *engine_table(results),
        *share_table(results),
        *full_table(results.filled),
    ])  # fmt: skip
