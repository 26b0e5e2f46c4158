"""since when a unit's progress counts; records compressed with lz4, where the server has it

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = ("record", "compiled")
# PostgreSQL 14 and later have the setting; its values say what the server was built with.
HAS_LZ4 = "SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"


def upgrade() -> None:
    op.add_column("unit", sa.Column("progress_since", sa.DateTime(timezone=True)))
    if _has_lz4():
        # Of rows that are written from now on: what is stored stays as it is, and is read as before.
        for table in TABLES:
            op.execute(f"ALTER TABLE {table} ALTER data SET COMPRESSION lz4")


def downgrade() -> None:
    if _has_lz4():
        for table in TABLES:
            op.execute(f"ALTER TABLE {table} ALTER data SET COMPRESSION default")
    op.drop_column("unit", "progress_since")


def _has_lz4() -> bool:
    return op.get_bind().scalar(sa.text(HAS_LZ4)) is not None
