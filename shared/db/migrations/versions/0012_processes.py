"""jobs of processes, also of those that are about no collection

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that waits for a lock blocks everyone behind it: give up instead, and be run again.
    op.execute("SET lock_timeout = '5s'")
    op.add_column("job", sa.Column("process", sa.Text(), server_default=sa.text("'publish'"), nullable=False))
    op.add_column(
        "job",
        sa.Column(
            "request",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
    )
    op.alter_column("job", "collection_id", existing_type=sa.BigInteger(), nullable=True)
    op.create_index("ix_job_process", "job", ["process", "id"])
    op.create_index("ix_job_created", "job", ["created"])
    op.create_index("ix_job_of_no_collection", "job", ["end"], postgresql_where=sa.text("collection_id IS NULL"))


def downgrade() -> None:
    op.execute("SET lock_timeout = '5s'")
    op.execute("DELETE FROM job WHERE collection_id IS NULL")
    op.drop_index("ix_job_of_no_collection", table_name="job")
    op.drop_index("ix_job_created", table_name="job")
    op.drop_index("ix_job_process", table_name="job")
    op.alter_column("job", "collection_id", existing_type=sa.BigInteger(), nullable=False)
    op.drop_column("job", "request")
    op.drop_column("job", "process")
