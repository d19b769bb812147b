"""What stands for one message, however often it is sent; and limits that machines share."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the idempotency keys and the shared limits."""
    op.create_table(
        "idempotency_keys",
        sa.Column("form", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("submission_id", sa.Text, nullable=False),
        sa.Column("kept_until", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("idempotency_keys_by_age", "idempotency_keys", ["kept_until"])
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    op.create_table(
        "arrivals",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        prefixes=["UNLOGGED"] if is_postgresql else [],
    )
    op.create_index("arrivals_by_age", "arrivals", ["at"])
