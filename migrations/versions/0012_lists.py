"""Lists by event and by status read what they show, not the whole table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """By event for every booking; by status for all but the confirmed, which are nearly all: those are found by client."""
    op.create_index("ix_bookings_event_id_id", "bookings", ["event_id", "id"])
    op.create_index(
        "ix_bookings_client_id_status_id",
        "bookings",
        ["client_id", "status", "id"],
        postgresql_where=sa.text("status <> 'confirmed'"),
    )


def downgrade() -> None:
    """Undo it."""
    op.drop_index("ix_bookings_client_id_status_id", table_name="bookings")
    op.drop_index("ix_bookings_event_id_id", table_name="bookings")
