"""wiping

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that waits for a lock blocks everyone behind it: give up instead, and be run again.
    op.execute("SET lock_timeout = '5s'")
    op.add_column("job", sa.Column("wiping", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.create_check_constraint(op.f("ck_job_wiping"), "job", "wiping IN ('', 'TEMPORARY', 'ALL')")
    op.create_index("ix_job_deleted", "job", ["id"], postgresql_where=sa.text("wiping = 'ALL'"))
    # Without these, deleting a unit reads both tables whole.
    op.create_index("ix_task_note_unit_id", "task_note", ["unit_id"])
    op.create_index("ix_file_unit_id", "file", ["unit_id"])


def downgrade() -> None:
    op.execute("SET lock_timeout = '5s'")
    op.drop_index("ix_file_unit_id", "file")
    op.drop_index("ix_task_note_unit_id", "task_note")
    op.drop_index("ix_job_deleted", "job")
    op.drop_column("job", "wiping")
