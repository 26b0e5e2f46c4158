"""indexes for lists of jobs, events, actions, dead letters and deliveries

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

UNARCHIVED = "status = 'COMPLETED' AND NOT archived"
ENDED_BADLY = "result IN ('FAILED', 'CANCELLED')"


def upgrade() -> None:
    # A migration that waits for a lock blocks everyone behind it: give up instead, and be run again.
    op.execute("SET lock_timeout = '5s'")
    op.create_index("ix_job_collection_id_id", "job", ["collection_id", "id"])
    op.create_index("ix_job_took", "job", [sa.text('("end" - start)')])
    op.drop_index("ix_job_unarchived", table_name="job")
    op.create_index("ix_job_unarchived", "job", ["id"], postgresql_where=sa.text("NOT archived"))
    op.create_index(
        "ix_job_to_archive",
        "job",
        ["id"],
        postgresql_where=sa.text(f"{UNARCHIVED} AND (NOT keep_all_data OR wiping = 'TEMPORARY')"),
    )
    op.drop_index("ix_task_ended_badly", table_name="task")
    op.create_index("ix_task_ended_badly", "task", ["result", "job_id"], postgresql_where=sa.text(ENDED_BADLY))
    for column in ("job_id", "collection_id"):
        op.create_index(f"ix_event_{column}_id", "event", [column, "id"])
    op.create_index("ix_audit_created", "audit", ["created"])
    for column in ("actor", "action"):
        op.create_index(f"ix_audit_{column}_id", "audit", [column, "id"])
    op.drop_index("ix_dead_letter_open", table_name="dead_letter")
    op.create_index(
        "ix_dead_letter_open", "dead_letter", ["last_at", "id"], postgresql_where=sa.text("status = 'OPEN'")
    )
    op.create_index("ix_dead_letter_last_at_id", "dead_letter", ["last_at", "id"])
    op.create_index("ix_delivery_job_id_id", "delivery", ["job_id", "id"])
    op.create_index("ix_delivery_given_up", "delivery", ["id"], postgresql_where=sa.text("status = 'GIVEN_UP'"))


def downgrade() -> None:
    op.execute("SET lock_timeout = '5s'")
    op.drop_index("ix_delivery_given_up", table_name="delivery")
    op.drop_index("ix_delivery_job_id_id", table_name="delivery")
    op.drop_index("ix_dead_letter_last_at_id", table_name="dead_letter")
    op.drop_index("ix_dead_letter_open", table_name="dead_letter")
    op.create_index("ix_dead_letter_open", "dead_letter", ["id"], postgresql_where=sa.text("status = 'OPEN'"))
    for column in ("action", "actor"):
        op.drop_index(f"ix_audit_{column}_id", table_name="audit")
    op.drop_index("ix_audit_created", table_name="audit")
    for column in ("collection_id", "job_id"):
        op.drop_index(f"ix_event_{column}_id", table_name="event")
    op.drop_index("ix_task_ended_badly", table_name="task")
    op.create_index("ix_task_ended_badly", "task", ["job_id"], postgresql_where=sa.text(ENDED_BADLY))
    op.drop_index("ix_job_to_archive", table_name="job")
    op.drop_index("ix_job_unarchived", table_name="job")
    op.create_index("ix_job_unarchived", "job", ["id"], postgresql_where=sa.text(UNARCHIVED))
    op.drop_index("ix_job_took", table_name="job")
    op.drop_index("ix_job_collection_id_id", table_name="job")
