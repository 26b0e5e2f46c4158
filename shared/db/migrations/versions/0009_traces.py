"""traces

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that waits for a lock blocks everyone behind it: give up instead, and be run again.
    op.execute("SET lock_timeout = '5s'")
    op.add_column("job", sa.Column("trace", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("job", sa.Column("restarted", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.execute("SET lock_timeout = '5s'")
    op.drop_column("job", "restarted")
    op.drop_column("job", "trace")
