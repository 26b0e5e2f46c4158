"""schedules

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BY_THE_CALENDAR = "NOT frozen AND (cron <> '' OR retrieval_frequency NOT IN ('', 'NEVER'))"


def upgrade() -> None:
    # A migration that waits for a lock blocks everyone behind it: give up instead, and be run again.
    op.execute("SET lock_timeout = '5s'")
    op.add_column("collection", sa.Column("cron", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("collection", sa.Column("time_zone", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("collection", sa.Column("catch_up", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("collection", sa.Column("priority", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    look_at = sa.Column("look_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
    op.add_column("collection", look_at)
    op.create_check_constraint(op.f("ck_collection_schedule"), "collection", "cron = '' OR retrieval_frequency = ''")
    op.create_check_constraint(op.f("ck_collection_priority"), "collection", "priority BETWEEN -100 AND 100")
    op.drop_index("ix_collection_due", "collection")
    op.create_index("ix_collection_look_at", "collection", ["look_at"], postgresql_where=sa.text(BY_THE_CALENDAR))
    op.add_column("unit", sa.Column("type", sa.Text()))
    op.execute("UPDATE unit SET type = task.type FROM task WHERE task.id = unit.task_id")
    op.alter_column("unit", "type", nullable=False)
    op.add_column("unit", sa.Column("priority", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("unit", sa.Column("turn", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False))
    op.add_column("unit", sa.Column("host", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.execute("CREATE INDEX ix_unit_turn ON unit (type, priority DESC, turn, id) WHERE status = 'PLANNED'")


def downgrade() -> None:
    op.execute("SET lock_timeout = '5s'")
    op.drop_index("ix_unit_turn", "unit")
    for column in ("host", "turn", "priority", "type"):
        op.drop_column("unit", column)
    op.drop_index("ix_collection_look_at", "collection")
    op.create_index("ix_collection_due", "collection", ["retrieval_frequency"], postgresql_where=sa.text("NOT frozen"))
    for column in ("look_at", "priority", "catch_up", "time_zone", "cron"):
        op.drop_column("collection", column)
