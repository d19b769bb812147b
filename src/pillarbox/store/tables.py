"""The schema as tables; migrations make it, `alembic check` in the tests holds the two together.

Times are seconds since the epoch on the store's clock: the machine's with SQLite, the server's with PostgreSQL.
"""

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, Table, Text, text

metadata = MetaData()

NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""Of a row; SQLite numbers rows by themselves only in an INTEGER."""

submissions = Table(
    "submissions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("form", Text, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("language", Text, nullable=False),
    Column("answers", Text, nullable=False, comment="JSON: [[name, label, [value, …]], …] in the form's order"),
    Column("held_for", Text, nullable=False, comment="JSON: the names of the signs of spam; [] is a clean message"),
    Column("client", Text, comment="fingerprint of the visitor's network, for 30 days"),
    Column("judgement", Text, comment="a person's word on a held message: released, dropped"),
    Column("judged_at", Float),
    Index("submissions_by_age", "received_at"),
    Index("submissions_of_clients", "received_at", sqlite_where=text("client IS NOT NULL"),
          postgresql_where=text("client IS NOT NULL")),
    Index("submissions_held", "judgement", "received_at", sqlite_where=text("held_for <> '[]'"),
          postgresql_where=text("held_for <> '[]'")),
)  # fmt: skip

TROUBLED = "state = 'failed' OR state = 'held' OR outcome = 'refused'"
"""Letters that somebody should see; a query has to say it in these words to find them by their index."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("submission_id", Text, ForeignKey("submissions.id"), nullable=False),
    Column("form", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("mailbox", Text, nullable=False, comment="the recipient's folded address, which counts confirmations"),
    Column("way", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("due_at", Float, nullable=False, comment="when to try next, or when a claim's lease ends"),
    Column("attempts", Integer, nullable=False),
    Column("claim", Integer, nullable=False, comment="counts every claim; the fence against late outcomes"),
    Column("unanswered", Integer, nullable=False, comment="claims since the last outcome"),
    Column("note", Text, nullable=False),
    Column("settled_at", Float),
    Column("outcome", Text, comment="the last attempt's, in lower case"),
    Column("digest_id", NUMBER, comment="the letter that this one leaves in; its own id where it carries others"),
    Column("preface", Text, comment="JSON: what the first letter after an outage begins with"),
    Index("deliveries_of_submission", "submission_id"),
    Index("deliveries_due", "way", "purpose", "due_at", sqlite_where=text("state = 'waiting'"),
          postgresql_where=text("state = 'waiting'")),
    Index("deliveries_unanswered", "way", "due_at", sqlite_where=text("state = 'waiting' AND unanswered > 0"),
          postgresql_where=text("state = 'waiting' AND unanswered > 0")),
    Index("deliveries_settled", "way", "settled_at", sqlite_where=text("settled_at IS NOT NULL"),
          postgresql_where=text("settled_at IS NOT NULL")),
    Index("deliveries_of_digest", "digest_id", sqlite_where=text("digest_id IS NOT NULL"),
          postgresql_where=text("digest_id IS NOT NULL")),
    Index("deliveries_troubled", "state", "way", "purpose", sqlite_where=text(TROUBLED),
          postgresql_where=text(TROUBLED)),
)  # fmt: skip

confirmations = Table(
    "confirmations",
    metadata,
    Column("form", Text, primary_key=True),
    Column("mailbox", Text, primary_key=True),
    Column("delivery_id", NUMBER, nullable=False),
    Column("confirmed_at", Float, nullable=False),
    Column("client", Text, comment="fingerprint of the network that asked for it"),
    Index("confirmations_by_time", "confirmed_at"),
    Index("confirmations_of_clients", "client", "confirmed_at", sqlite_where=text("client IS NOT NULL"),
          postgresql_where=text("client IS NOT NULL")),
)  # fmt: skip

suppressions = Table(
    "suppressions",
    metadata,
    Column("mailbox", Text, primary_key=True, comment="folded as deliveries.mailbox"),
    Column("reason", Text, nullable=False, comment="asked: by its owner; refused: by its mail server; listed: by hand"),
    Column("since", Float, nullable=False),
    Column("note", Text, nullable=False, comment="the mail server's words, or who asked"),
)

ways = Table(
    "ways",
    metadata,
    Column("name", Text, primary_key=True),
    Column("shut_since", Float),
    Column("note", Text, nullable=False),
    Column("probe_at", Float, comment="when a shut way is tried next"),
    Column("probes", Integer, nullable=False, server_default="0", comment="how often it was tried since it shut"),
    Column("by_letter", Integer, nullable=False, server_default="0", comment="1: only a letter can tell if it is open"),
    Column("outage_since", Float, comment="an outage that is over, of which no letter has told yet"),
    Column("outage_note", Text),
    Column("outage_id", NUMBER, comment="the letter that is to tell of it"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("delivery_id", NUMBER, nullable=False),
    Column("way", Text, nullable=False),
    Column("begun_at", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("outcome", Text, nullable=False, comment="sent, deferred, refused, blocked, cancelled, givenup"),
    Column("note", Text, nullable=False, comment="the server's reply, or what happened instead of one"),
    Index("attempts_of_delivery", "delivery_id"),
)

alarms = Table(
    "alarms",
    metadata,
    Column("key", Text, primary_key=True, comment="kind and subject; one row makes one alarm of many machines'"),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float, comment="set while the good news is still to be told"),
    Column("told", Integer, nullable=False, comment="how often somebody was told"),
    Column("tell_at", Float, nullable=False, comment="when to tell next"),
    Column(
        "logged", Integer, nullable=False, server_default="0", comment="1: only the log was told, there was no channel"
    ),
)

counts = Table(
    "counts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("labels", Text, primary_key=True, comment="JSON: [[name, value], …]"),
    Column("value", Float, nullable=False),
)

pulse = Table(
    "pulse",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("form", Text, primary_key=True),
    Column("key", Text, primary_key=True, comment="what a client called its message, or what stands for that"),
    Column("digest", Text, nullable=False, comment="of the message's fields"),
    Column("submission_id", Text, nullable=False),
    Column("kept_until", Float, nullable=False),
    Index("idempotency_keys_by_age", "kept_until"),
    sqlite_with_rowid=False,
)

arrivals = Table(
    "arrivals",
    metadata,
    Column("name", Text, primary_key=True, comment="whose limit, and which"),
    Column("at", Float, nullable=False, comment="the theoretical arrival time (GCRA)"),
    Index("arrivals_by_age", "at"),
    comment="limits that machines share; PostgreSQL does not log it, and empties it after a crash",
)
