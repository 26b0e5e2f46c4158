"""search

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SEARCH_TEXT = (
    "translate(lower(regexp_replace(normalize("
    "source_id || ' '::text || title || ' '::text || country || ' '::text || description || ' '::text || "
    "description_long || ' '::text || additional_data || ' '::text || language || ' '::text || "
    "jsonb_path_query_array(translations, '$.*.*'::jsonpath)::text, NFKD), "
    "'[\u0300-\u036f]'::text, ''::text, 'g'::text)), 'øłđħŧı'::text, 'oldhti'::text)"
)


def upgrade() -> None:
    # A migration that waits for a lock blocks everyone behind it: give up instead, and be run again.
    op.execute("SET lock_timeout = '5s'")
    op.add_column(
        "collection", sa.Column("search_text", sa.Text(), sa.Computed(SEARCH_TEXT, persisted=True), nullable=False)
    )


def downgrade() -> None:
    op.execute("SET lock_timeout = '5s'")
    op.drop_column("collection", "search_text")
