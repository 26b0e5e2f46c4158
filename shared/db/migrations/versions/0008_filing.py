"""files apart from their names, messages that were repeated, letters to be forgotten

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that waits for a lock blocks everyone behind it: give up instead, and be run again.
    op.execute("SET lock_timeout = '5s'")
    op.add_column("file", sa.Column("published", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("file", sa.Column("place", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.alter_column("file", "unit_id", nullable=True)
    _refer_to_unit("SET NULL")
    op.drop_constraint(op.f("uq_file_job_id_name"), "file")
    op.create_unique_constraint(op.f("uq_file_job_id_name_published"), "file", ["job_id", "name", "published"])
    op.add_column("job", sa.Column("unfiled", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index("ix_job_unfiled", "job", ["id"], postgresql_where=sa.text("status = 'COMPLETED' AND unfiled"))
    op.add_column("unit", sa.Column("publications", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.create_index(
        "ix_dead_letter_old",
        "dead_letter",
        ["resolved_at"],
        postgresql_where=sa.text("status <> 'OPEN' AND job_id IS NULL"),
    )


def downgrade() -> None:
    # Files that are not under their names yet stay where they are: let all jobs end before.
    op.execute("SET lock_timeout = '5s'")
    op.drop_index("ix_dead_letter_old", "dead_letter")
    op.drop_column("unit", "publications")
    op.drop_index("ix_job_unfiled", "job")
    op.drop_column("job", "unfiled")
    op.execute("DELETE FROM file WHERE NOT published OR unit_id IS NULL")
    op.drop_constraint(op.f("uq_file_job_id_name_published"), "file")
    op.create_unique_constraint(op.f("uq_file_job_id_name"), "file", ["job_id", "name"])
    _refer_to_unit("CASCADE")
    op.alter_column("file", "unit_id", nullable=False)
    op.drop_column("file", "place")
    op.drop_column("file", "published")


def _refer_to_unit(ondelete: str) -> None:
    name = op.f("fk_file_unit_id")
    op.drop_constraint(name, "file")
    op.create_foreign_key(name, "file", "unit", ["unit_id"], ["id"], ondelete=ondelete)
