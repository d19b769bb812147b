"""Whose message it was, what a person said of a held one, and who gets no mail from us."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the visitors' fingerprints, the judgements and the suppression list."""
    op.add_column("submissions", sa.Column("client", sa.Text))
    op.add_column("submissions", sa.Column("judgement", sa.Text))
    op.add_column("submissions", sa.Column("judged_at", sa.Float))
    known, held = sa.text("client IS NOT NULL"), sa.text("held_for <> '[]'")
    op.create_index(
        "submissions_of_clients", "submissions", ["received_at"], sqlite_where=known, postgresql_where=known
    )
    op.create_index(
        "submissions_held", "submissions", ["judgement", "received_at"], sqlite_where=held, postgresql_where=held
    )
    op.add_column("confirmations", sa.Column("client", sa.Text))
    op.create_index(
        "confirmations_of_clients",
        "confirmations",
        ["client", "confirmed_at"],
        sqlite_where=known,
        postgresql_where=known,
    )
    op.create_table(
        "suppressions",
        sa.Column("mailbox", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
