"""all that a Data Registry knows of a publication

Revision ID: 0007
Revises: 0006
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TEXTS = (
    "description_long",
    "country_flag",
    "additional_data",
    "summary",
    "no_data_rationale",
    "ocid_prefix",
)
DATES = ("last_reviewed", "date_from", "date_to")


def upgrade() -> None:
    # A migration that waits for a lock blocks everyone behind it: give up instead, and be run again.
    op.execute("SET lock_timeout = '5s'")
    op.create_table(
        "licence",
        _id(),
        sa.Column("name", sa.Text(), nullable=False),
        _text("description"),
        _text("url"),
        _object("translations"),
        *_times(),
        *_registry(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_licence")),
        sa.UniqueConstraint("registry_id", name=op.f("uq_licence_registry_id")),
    )
    op.create_table(
        "settings_bundle",
        _id(),
        sa.Column("name", sa.Text(), nullable=False),
        *_times(),
        *_registry(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settings_bundle")),
        sa.UniqueConstraint("registry_id", name=op.f("uq_settings_bundle_registry_id")),
    )
    op.create_table(
        "setting",
        _id(),
        sa.Column("settings_bundle_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        _text("value"),
        *_times(),
        sa.ForeignKeyConstraint(
            ["settings_bundle_id"],
            ["settings_bundle.id"],
            name=op.f("fk_setting_settings_bundle_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_setting")),
        sa.UniqueConstraint("settings_bundle_id", "key", name=op.f("uq_setting_settings_bundle_id_key")),
    )
    op.create_table(
        "issue",
        _id(),
        sa.Column("collection_id", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        _object("translations"),
        *_times(),
        *_registry(),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collection.id"], name=op.f("fk_issue_collection_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_issue")),
        sa.UniqueConstraint("registry_id", name=op.f("uq_issue_registry_id")),
    )
    op.create_index("ix_issue_collection_id", "issue", ["collection_id"])

    for name in TEXTS:
        op.add_column("collection", _text(name))
    for name in DATES:
        op.add_column("collection", sa.Column(name, sa.Date(), nullable=True))
    op.add_column("collection", _object("translations"))
    op.add_column("collection", sa.Column("removing", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("collection", sa.Column("settings_bundle_id", sa.BigInteger(), nullable=True))
    op.add_column("collection", sa.Column("licence_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(
        op.f("fk_collection_settings_bundle_id"),
        "collection",
        "settings_bundle",
        ["settings_bundle_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_foreign_key(
        op.f("fk_collection_licence_id"), "collection", "licence", ["licence_id"], ["id"], ondelete="RESTRICT"
    )
    for table in ("collection", "job"):
        for column in _registry():
            op.add_column(table, column)
        op.create_unique_constraint(op.f(f"uq_{table}_registry_id"), table, ["registry_id"])
    op.create_index("ix_collection_active_job_id", "collection", ["active_job_id"])
    op.create_index("ix_collection_licence_id", "collection", ["licence_id"])
    op.create_index("ix_collection_settings_bundle_id", "collection", ["settings_bundle_id"])
    op.create_index("ix_collection_removing", "collection", ["id"], postgresql_where=sa.text("removing"))
    op.create_index(
        "ix_task_ended_badly", "task", ["job_id"], postgresql_where=sa.text("result IN ('FAILED', 'CANCELLED')")
    )


def downgrade() -> None:
    op.execute("SET lock_timeout = '5s'")
    op.drop_index("ix_task_ended_badly", "task")
    op.drop_index("ix_collection_active_job_id", "collection")
    for table in ("job", "collection"):
        op.drop_column(table, "registry_modified")
        op.drop_column(table, "registry_id")
    # With a column go its constraints and indexes.
    for name in ("licence_id", "settings_bundle_id", "removing", "translations", *DATES, *TEXTS):
        op.drop_column("collection", name)
    op.drop_table("issue")
    op.drop_table("setting")
    op.drop_table("settings_bundle")
    op.drop_table("licence")


def _id() -> "sa.Column[Any]":
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False)


def _text(name: str) -> "sa.Column[Any]":
    return sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False)


def _object(name: str) -> "sa.Column[Any]":
    return sa.Column(name, postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False)


def _times() -> "list[sa.Column[Any]]":
    return [
        sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)
        for name in ("created", "modified")
    ]


def _registry() -> "list[sa.Column[Any]]":
    return [
        sa.Column("registry_id", sa.BigInteger(), nullable=True),
        sa.Column("registry_modified", sa.DateTime(timezone=True), nullable=True),
    ]
