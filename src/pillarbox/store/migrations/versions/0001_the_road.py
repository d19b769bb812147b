"""Submissions, their letters, and what decides about confirmations and ways out."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the first tables."""
    _make_submissions()
    _make_deliveries()
    _make_the_rest()


def _make_submissions() -> None:
    op.create_table(
        "submissions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("form", sa.Text, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("answers", sa.Text, nullable=False),
        sa.Column("held_for", sa.Text, nullable=False),
    )
    op.create_index("submissions_by_age", "submissions", ["received_at"])


def _make_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("submission_id", sa.Text, sa.ForeignKey("submissions.id"), nullable=False),
        sa.Column("form", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("mailbox", sa.Text, nullable=False),
        sa.Column("way", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("claim", sa.Integer, nullable=False),
        sa.Column("unanswered", sa.Integer, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("settled_at", sa.Float),
    )
    waiting, settled = sa.text("state = 'waiting'"), sa.text("settled_at IS NOT NULL")
    op.create_index("deliveries_of_submission", "deliveries", ["submission_id"])
    op.create_index(
        "deliveries_due", "deliveries", ["way", "purpose", "due_at"], sqlite_where=waiting, postgresql_where=waiting
    )
    unanswered = sa.text("state = 'waiting' AND unanswered > 0")
    op.create_index(
        "deliveries_unanswered", "deliveries", ["way", "due_at"], sqlite_where=unanswered, postgresql_where=unanswered
    )
    op.create_index("deliveries_settled", "deliveries", ["settled_at"], sqlite_where=settled, postgresql_where=settled)


def _make_the_rest() -> None:
    op.create_table(
        "confirmations",
        sa.Column("form", sa.Text, primary_key=True),
        sa.Column("mailbox", sa.Text, primary_key=True),
        sa.Column("delivery_id", NUMBER, nullable=False),
        sa.Column("confirmed_at", sa.Float, nullable=False),
    )
    op.create_index("confirmations_by_time", "confirmations", ["confirmed_at"])
    op.create_table(
        "ways",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("shut_since", sa.Float),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table("pulse", sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", sa.Float, nullable=False))
