"""Every attempt, what shuts a way out and when it is tried again, digests, alarms, and counts for the metrics."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add what a letter's history, alarms and metrics need."""
    op.add_column("deliveries", sa.Column("outcome", sa.Text))
    op.add_column("deliveries", sa.Column("digest_id", NUMBER))
    op.add_column("deliveries", sa.Column("preface", sa.Text))
    gathered, troubled = (
        sa.text("digest_id IS NOT NULL"),
        sa.text("state = 'failed' OR state = 'held' OR outcome = 'refused'"),
    )
    op.create_index(
        "deliveries_of_digest", "deliveries", ["digest_id"], sqlite_where=gathered, postgresql_where=gathered
    )
    op.create_index(
        "deliveries_troubled",
        "deliveries",
        ["state", "way", "purpose"],
        sqlite_where=troubled,
        postgresql_where=troubled,
    )
    settled = sa.text("settled_at IS NOT NULL")
    op.drop_index("deliveries_settled", "deliveries")
    op.create_index(
        "deliveries_settled", "deliveries", ["way", "settled_at"], sqlite_where=settled, postgresql_where=settled
    )
    op.add_column("ways", sa.Column("probe_at", sa.Float))
    op.add_column("ways", sa.Column("probes", sa.Integer, nullable=False, server_default="0"))
    op.add_column("ways", sa.Column("by_letter", sa.Integer, nullable=False, server_default="0"))
    op.add_column("ways", sa.Column("outage_since", sa.Float))
    op.add_column("ways", sa.Column("outage_note", sa.Text))
    op.add_column("ways", sa.Column("outage_id", NUMBER))
    _make_tables()


def _make_tables() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("delivery_id", NUMBER, nullable=False),
        sa.Column("way", sa.Text, nullable=False),
        sa.Column("begun_at", sa.Float, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_index("attempts_of_delivery", "attempts", ["delivery_id"])
    op.create_table(
        "alarms",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("opened_at", sa.Float, nullable=False),
        sa.Column("closed_at", sa.Float),
        sa.Column("told", sa.Integer, nullable=False),
        sa.Column("tell_at", sa.Float, nullable=False),
        sa.Column("logged", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_table(
        "counts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("labels", sa.Text, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
    )
