"""the event log, webhooks, callbacks and deliveries

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# The lock makes ids come out in the order of commits (shared/events.py says why). The triggers below are deferred, so
# it is taken when a transaction has all its other locks and waits for none, and is held for as long as a commit takes.
NOTE_EVENT = """
CREATE FUNCTION note_event(
    type text, job_id bigint, collection_id bigint, task text, status text, result text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('bowerbird event', 0));
    INSERT INTO event (type, job_id, collection_id, task, status, result)
        VALUES (note_event.type, note_event.job_id, note_event.collection_id, note_event.task, note_event.status,
            note_event.result);
    PERFORM pg_notify('bowerbird_event', '');
END
$$
"""

NOTE_TASK = """
CREATE FUNCTION note_task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_event('task', NEW.job_id, job.collection_id, NEW.type, NEW.status, NEW.result)
        FROM job WHERE job.id = NEW.job_id;
    RETURN NULL;
END
$$
"""

# No foreign keys, and no locks on webhooks: the end of a job neither waits for whoever changes one, nor fails with it.
NOTE_JOB = """
CREATE FUNCTION note_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    outcome text := '';
    told text;
    facts jsonb;
BEGIN
    IF NEW.status = 'COMPLETED' THEN
        SELECT CASE
                WHEN bool_or(task.result = 'FAILED') THEN 'FAILED'
                WHEN bool_or(task.result NOT IN ('OK', 'SKIPPED')) THEN 'CANCELLED'
                ELSE 'OK'
            END INTO outcome
            FROM task WHERE task.job_id = NEW.id;
    END IF;
    PERFORM note_event('job', NEW.id, NEW.collection_id, '', NEW.status, outcome);
    told := CASE
        WHEN NEW.status = 'RUNNING' THEN 'job.started'
        WHEN outcome = 'OK' THEN 'job.succeeded'
        WHEN outcome = 'FAILED' THEN 'job.failed'
        WHEN outcome = 'CANCELLED' THEN 'job.cancelled'
    END;
    IF told IS NULL THEN
        RETURN NULL;
    END IF;
    facts := jsonb_build_object('job_id', NEW.id, 'collection_id', NEW.collection_id,
        'source_id', (SELECT collection.source_id FROM collection WHERE collection.id = NEW.collection_id),
        'status', CASE told
            WHEN 'job.started' THEN 'running'
            WHEN 'job.succeeded' THEN 'successful'
            WHEN 'job.failed' THEN 'failed'
            ELSE 'dismissed'
        END);
    INSERT INTO delivery (message_id, type, webhook_id, job_id, data)
        SELECT 'msg_' || gen_random_uuid(), told, webhook.id, NEW.id, facts FROM webhook
        WHERE webhook.active AND webhook.events ? told AND NEW.collection_id IS NOT NULL
            AND (webhook.collection_id IS NULL OR webhook.collection_id = NEW.collection_id);
    INSERT INTO delivery (message_id, type, url, job_id, data)
        SELECT 'msg_' || gen_random_uuid(), told, address.url, NEW.id, facts
        FROM callback, LATERAL (
            SELECT CASE told
                WHEN 'job.started' THEN callback.in_progress_url
                WHEN 'job.succeeded' THEN callback.success_url
                ELSE callback.failed_url
            END AS url
        ) AS address
        WHERE callback.job_id = NEW.id AND address.url <> '';
    RETURN NULL;
END
$$
"""

TRIGGERS = (
    """
    CREATE CONSTRAINT TRIGGER note_task AFTER UPDATE ON task DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.result IS DISTINCT FROM NEW.result)
    EXECUTE FUNCTION note_task()
    """,
    """
    CREATE CONSTRAINT TRIGGER note_job AFTER UPDATE ON job DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION note_job()
    """,
    # Not of jobs that were over when they came here: those of an import.
    """
    CREATE CONSTRAINT TRIGGER note_new_job AFTER INSERT ON job DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.status = 'PLANNED') EXECUTE FUNCTION note_job()
    """,
)


def upgrade() -> None:
    op.execute("SET lock_timeout = '5s'")
    _create_event()
    _create_webhook()
    _create_callback()
    _create_delivery()
    for statement in (NOTE_EVENT, NOTE_TASK, NOTE_JOB, *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET lock_timeout = '5s'")
    for trigger, table in (("note_new_job", "job"), ("note_job", "job"), ("note_task", "task")):
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    op.execute("DROP FUNCTION note_job")
    op.execute("DROP FUNCTION note_task")
    op.execute("DROP FUNCTION note_event")
    for table in ("delivery", "callback", "webhook", "event"):
        op.drop_table(table)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False)


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _create_event() -> None:
    op.create_table(
        "event",
        _id(),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("collection_id", sa.BigInteger(), nullable=True),
        _text("task"),
        sa.Column("status", sa.Text(), nullable=False),
        _text("result"),
        _moment("created"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )


def _create_webhook() -> None:
    op.create_table(
        "webhook",
        _id(),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("collection_id", sa.BigInteger(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=False),
        _text("old_secret"),
        sa.Column("old_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        _moment("created"),
        _moment("modified"),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collection.id"], name=op.f("fk_webhook_collection_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook")),
    )
    op.create_index(op.f("ix_webhook_collection_id"), "webhook", ["collection_id"])


def _create_callback() -> None:
    op.create_table(
        "callback",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("success_url", sa.Text(), nullable=False),
        _text("in_progress_url"),
        _text("failed_url"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_callback_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_callback")),
    )


def _create_delivery() -> None:
    op.create_table(
        "delivery",
        _id(),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), nullable=True),
        _text("url"),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("status", sa.Text(), server_default=sa.text("'PENDING'"), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        _moment("due_at"),
        _text("error"),
        _moment("created"),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('PENDING', 'DELIVERED', 'GIVEN_UP')", name=op.f("ck_delivery_status")),
        sa.CheckConstraint("(webhook_id IS NULL) = (url <> '')", name=op.f("ck_delivery_target")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
    )
    op.create_index("ix_delivery_due", "delivery", ["due_at", "id"], postgresql_where=sa.text("status = 'PENDING'"))
    op.create_index("ix_delivery_ended", "delivery", ["ended"], postgresql_where=sa.text("status <> 'PENDING'"))
    op.create_index(op.f("ix_delivery_webhook_id_id"), "delivery", ["webhook_id", "id"])
