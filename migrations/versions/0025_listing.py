"""What a list needs: bookings in the order of their change, and what a booking, a refund and a shop say of themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0025"
down_revision = "0029"
branch_labels = None
depends_on = None

INDEX = "ix_bookings_client_id_updated_at_id"

_ITEMS = """
UPDATE refunds r SET items = m.items
FROM (SELECT refund_key, jsonb_object_agg(tier_id, -sold_delta) AS items FROM stock_moves
      WHERE refund_key IS NOT NULL GROUP BY refund_key) m
WHERE r.refund_key = m.refund_key
"""
"""Moves are trimmed after a while. Of refunds before that nobody remembers the tickets."""


def upgrade() -> None:
    """The index is built while bookings are written; one that was begun and cut off is begun anew. The columns are NULL, or
    empty, in every row that is there: no row is written for them but those of refunds."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
        op.execute(f"CREATE INDEX CONCURRENTLY {INDEX} ON bookings (client_id, updated_at, id)")
        op.execute("SET lock_timeout = '5s'")
    op.add_column("bookings", sa.Column("metadata", JSONB(), nullable=True))
    op.add_column("bookings", sa.Column("return_url", sa.Text(), nullable=True))
    op.add_column("clients", sa.Column("return_url", sa.Text(), nullable=True))
    op.add_column("clients", sa.Column("return_urls", ARRAY(sa.Text()), server_default="{}", nullable=False))
    op.add_column("refunds", sa.Column("items", JSONB(), nullable=True))
    op.execute(_ITEMS)


def downgrade() -> None:
    """Undo it."""
    op.drop_column("refunds", "items")
    op.drop_column("clients", "return_urls")
    op.drop_column("clients", "return_url")
    op.drop_column("bookings", "return_url")
    op.drop_column("bookings", "metadata")
    op.drop_index(INDEX, table_name="bookings")
