"""Letters as people see them: found, counted, called off."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete, func, select, update

from pillarbox.core.delivery import Delivery, Purpose, State
from pillarbox.store.tables import confirmations, deliveries

DAY = 86_400.0


def cancel_stale_confirmations(connection: Connection, items: Sequence[float]) -> Sequence[int]:
    """Cancel confirmations that could not leave for 48 hours before the given time; return how many."""
    stale = (
        (deliveries.c.state == State.WAITING)
        & (deliveries.c.purpose == Purpose.CONFIRMATION)
        & (deliveries.c.unanswered == 0)
    )
    return [
        connection.execute(
            update(deliveries)
            .where(stale, deliveries.c.created_at < now - 2 * DAY)
            .values(state=State.CANCELLED, note="could not leave for 48 hours", settled_at=now)
        ).rowcount
        for now in items
    ]


def forget_confirmations(connection: Connection, items: Sequence[float]) -> Sequence[None]:
    """Forget which addresses had a confirmation before the given time."""
    for before in items:
        connection.execute(delete(confirmations).where(confirmations.c.confirmed_at < before))
    return [None] * len(items)


def find_of_submission(connection: Connection, submission_id: str) -> list[Delivery]:
    """Return the letters of a submission in the order they were written down."""
    query = select(deliveries).where(deliveries.c.submission_id == submission_id).order_by(deliveries.c.id)
    return [_delivery(row) for row in connection.execute(query).mappings()]


def _delivery(row: object) -> Delivery:
    names = Delivery.__dataclass_fields__
    made = Delivery(**{name: row[name] for name in names})  # type: ignore[index]
    return replace(made, purpose=Purpose(made.purpose), state=State(made.state))


def count_by_state(connection: Connection) -> dict[State, int]:
    """Return how many letters stand in each state."""
    rows = connection.execute(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))
    return {State(state): number for state, number in rows}
