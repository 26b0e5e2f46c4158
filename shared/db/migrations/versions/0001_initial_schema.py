"""initial schema

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that waits for a lock blocks everyone behind it: give up instead, and be run again.
    op.execute("SET lock_timeout = '5s'")
    op.execute(sa.schema.CreateSequence(sa.Sequence("unit_token")))
    op.create_table(
        "broker_message",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column(
            "headers", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("available_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deliveries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("consumer", sa.Text(), nullable=True),
        sa.Column("dead_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broker_message")),
    )
    op.create_index(
        "ix_broker_message_dead",
        "broker_message",
        ["queue", "id"],
        unique=False,
        postgresql_where=sa.text("dead_at IS NOT NULL"),
    )
    op.create_index(
        "ix_broker_message_held",
        "broker_message",
        ["consumer"],
        unique=False,
        postgresql_where=sa.text("consumer IS NOT NULL"),
    )
    op.create_index(
        "ix_broker_message_ready",
        "broker_message",
        ["queue", "available_at", "id"],
        unique=False,
        postgresql_where=sa.text("dead_at IS NULL AND consumer IS NULL"),
    )
    op.create_table(
        "collection",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("country", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("region", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("language", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("update_frequency", sa.Text(), server_default=sa.text("'UNKNOWN'"), nullable=False),
        sa.Column("retrieval_frequency", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("source_url", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column(
            "options", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("tasks_plan", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("publication_policy", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("frozen", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("public", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("last_retrieved", sa.Date(), nullable=True),
        sa.Column("active_job_id", sa.BigInteger(), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("modified", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "region IN ('', 'MEA', 'AS', 'EECA', 'EU', 'LAC', 'NA', 'OC')", name=op.f("ck_collection_region")
        ),
        sa.CheckConstraint(
            "retrieval_frequency IN ('', 'WEEKLY', 'BIWEEKLY', 'MONTHLY', 'HALF_YEARLY', 'ANNUALLY', 'NEVER')",
            name=op.f("ck_collection_retrieval_frequency"),
        ),
        sa.CheckConstraint("source_id ~ '^[a-z0-9][a-z0-9_-]{0,99}$'", name=op.f("ck_collection_source_id")),
        sa.CheckConstraint(
            "update_frequency IN ('UNKNOWN', 'REAL_TIME', 'HOURLY', 'DAILY', 'WEEKLY', 'MONTHLY', 'QUARTERLY', 'HALF_YEARLY', 'ANNUALLY')",
            name=op.f("ck_collection_update_frequency"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collection")),
        sa.UniqueConstraint("source_id", name=op.f("uq_collection_source_id")),
    )
    op.create_index(
        "ix_collection_due",
        "collection",
        ["retrieval_frequency"],
        unique=False,
        postgresql_where=sa.text("NOT frozen"),
    )
    op.create_table(
        "compiled",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("year", sa.SmallInteger(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compiled")),
    )
    op.create_index("ix_compiled_job_id_year_id", "compiled", ["job_id", "year", "id"], unique=False)
    op.create_table(
        "record",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("date", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_record")),
    )
    op.create_index("ix_record_job_id_id", "record", ["job_id", "id"], unique=False)
    op.create_table(
        "job",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("collection_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'PLANNED'"), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "context", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("archived", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("keep_all_data", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "coverage", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("tenders_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tenderers_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tenders_items_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("parties_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("awards_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("awards_items_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("awards_suppliers_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("contracts_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("contracts_items_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("contracts_transactions_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("documents_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("plannings_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("milestones_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("amendments_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("date_from", sa.Date(), nullable=True),
        sa.Column("date_to", sa.Date(), nullable=True),
        sa.Column("ocid_prefix", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("license", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("publication_policy", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("modified", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status IN ('PLANNED', 'RUNNING', 'COMPLETED')", name=op.f("ck_job_status")),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collection.id"], name=op.f("fk_job_collection_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.create_index("ix_job_collection_id_start", "job", ["collection_id", "start"], unique=False)
    op.create_index("ix_job_incomplete", "job", ["id"], unique=False, postgresql_where=sa.text("status <> 'COMPLETED'"))
    op.create_index(
        "ix_job_unarchived",
        "job",
        ["id"],
        unique=False,
        postgresql_where=sa.text("status = 'COMPLETED' AND NOT archived"),
    )
    op.create_index(
        "uq_job_incomplete", "job", ["collection_id"], unique=True, postgresql_where=sa.text("status <> 'COMPLETED'")
    )
    # A collection names its active job, and a job its collection: one of the two keys comes second.
    op.create_foreign_key(
        "fk_collection_active_job_id", "collection", "job", ["active_job_id"], ["id"], ondelete="RESTRICT"
    )
    op.create_table(
        "task",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("order", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'PLANNED'"), nullable=False),
        sa.Column("result", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("note", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("modified", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("result IN ('', 'OK', 'FAILED', 'CANCELLED', 'SKIPPED')", name=op.f("ck_task_result")),
        sa.CheckConstraint(
            "status IN ('PLANNED', 'WAITING', 'RUNNING', 'COMPLETED') AND status <> 'WAITING'",
            name=op.f("ck_task_status"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_task_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
        sa.UniqueConstraint("job_id", "order", name=op.f("uq_task_job_id_order")),
    )
    op.create_table(
        "unit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column(
            "params", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("status", sa.Text(), server_default=sa.text("'PLANNED'"), nullable=False),
        sa.Column("result", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=True),
        sa.Column("worker", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "progress", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "output", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("error", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("traceback", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("modified", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("result IN ('', 'OK', 'FAILED', 'CANCELLED', 'SKIPPED')", name=op.f("ck_unit_result")),
        sa.CheckConstraint("status IN ('PLANNED', 'QUEUED', 'RUNNING', 'COMPLETED')", name=op.f("ck_unit_status")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_unit_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_unit_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unit")),
        sa.UniqueConstraint("task_id", "number", name=op.f("uq_unit_task_id_number")),
    )
    op.create_index("ix_unit_job_id", "unit", ["job_id"], unique=False)
    op.create_index(
        "ix_unit_open",
        "unit",
        ["status", "lease_until"],
        unique=False,
        postgresql_where=sa.text("status <> 'COMPLETED'"),
    )
    op.create_table(
        "file",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_file_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_file_unit_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file")),
        sa.UniqueConstraint("job_id", "name", name=op.f("uq_file_job_id_name")),
    )
    op.create_table(
        "task_note",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=True),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column(
            "data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("created", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "level IN ('INFO', 'WARNING', 'ERROR', 'CRITICAL', 'UNKNOWN')", name=op.f("ck_task_note_level")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_task_note_task_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_task_note_unit_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_note")),
    )
    op.create_index(op.f("ix_task_note_task_id_level"), "task_note", ["task_id", "level"], unique=False)


def downgrade() -> None:
    op.execute("SET lock_timeout = '5s'")
    op.drop_constraint("fk_collection_active_job_id", "collection")
    op.drop_table("file")
    op.drop_table("task_note")
    op.drop_table("unit")
    op.drop_table("task")
    op.drop_table("job")
    op.drop_table("collection")
    op.drop_table("record")
    op.drop_table("compiled")
    op.drop_table("broker_message")
    op.execute(sa.schema.DropSequence(sa.Sequence("unit_token")))
