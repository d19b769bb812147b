"""Keys that stand for messages: whoever writes one down first has made the message, on however many machines."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, select, tuple_

from pillarbox.core.once import Key
from pillarbox.core.submission import Submission
from pillarbox.store.statements import Statement
from pillarbox.store.tables import idempotency_keys

MOST = 1_000
"""Keys that one call forgets."""

_COLUMN = idempotency_keys.c
# In their order, so that two writers can't wait for each other in a ring; a key whose time is over is free again.
_TAKE = Statement(
    """
    INSERT INTO idempotency_keys (form, key, digest, submission_id, kept_until)
    SELECT form, key, digest, submission_id, kept_until FROM $rows AS v WHERE true
    ON CONFLICT (form, key) DO UPDATE SET
        digest = excluded.digest, submission_id = excluded.submission_id, kept_until = excluded.kept_until
    WHERE idempotency_keys.kept_until <= :now
    """,
    rows="form text, key text, digest text, submission_id text, kept_until float8",
)


def take(connection: Connection, items: Sequence[tuple[Submission, Key]]) -> Mapping[str, str | None]:
    """Let each key stand for its submission unless it stands for one already.

    Returns, by the id of each submission that is not to be kept, the id of the one that its key stands for; None where
    that one had other fields.
    """
    firsts: dict[tuple[str, str], tuple[Submission, Key]] = {}
    for submission, key in items:
        firsts.setdefault((submission.form, key.name), (submission, key))
    rows = [
        [form, name, key.digest, submission.id, key.kept_until]
        for (form, name), (submission, key) in sorted(firsts.items())
    ]
    if not rows:
        return {}
    now = max(submission.received_at for submission, _key in items)
    if _TAKE.run(connection, rows, now=now).rowcount == len(items):
        return {}
    stands = _find(connection, list(firsts))
    found = {submission.id: (key.digest, *stands[submission.form, key.name]) for submission, key in items}
    return {
        identifier: first if digest == firsts_digest else None
        for identifier, (digest, firsts_digest, first) in found.items()
        if first != identifier
    }


def fetch(connection: Connection, form: str, key: Key, *, now: float) -> tuple[str, str] | None:
    """Return what the key stands for at this time, None for nothing: the message's id, and the digest of its fields."""
    standing = select(_COLUMN.submission_id, _COLUMN.digest).where(
        _COLUMN.form == form, _COLUMN.key == key.name, _COLUMN.kept_until > now
    )
    found = connection.execute(standing).one_or_none()
    return (found.submission_id, found.digest) if found else None


def _find(connection: Connection, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    query = select(idempotency_keys).where(tuple_(_COLUMN.form, _COLUMN.key).in_(names))
    return {(row.form, row.key): (row.digest, row.submission_id) for row in connection.execute(query)}


def forget(connection: Connection, items: Sequence[float]) -> Sequence[int]:
    """Forget keys whose time was over before the given one; return how many, a thousand at most."""
    primary = tuple_(_COLUMN.form, _COLUMN.key)
    return [
        connection.execute(
            delete(idempotency_keys).where(
                primary.in_(select(_COLUMN.form, _COLUMN.key).where(_COLUMN.kept_until < before).limit(MOST)),
                _COLUMN.kept_until < before,  # of a row as it is now: a key may just have been taken again
            )
        ).rowcount
        for before in items
    ]
