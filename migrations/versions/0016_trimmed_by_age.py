"""What is trimmed by age is found by age, and a booking's stock moves by booking."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Indexes only."""
    op.create_index(
        "ix_stock_moves_applied_at", "stock_moves", ["applied_at"], postgresql_where=sa.text("applied_at IS NOT NULL")
    )
    op.create_index("ix_stock_moves_booking_id", "stock_moves", ["booking_id"])
    op.create_index("ix_webhook_events_received_at", "webhook_events", ["received_at"])


def downgrade() -> None:
    """Undo it."""
    op.drop_index("ix_webhook_events_received_at", table_name="webhook_events")
    op.drop_index("ix_stock_moves_booking_id", table_name="stock_moves")
    op.drop_index("ix_stock_moves_applied_at", table_name="stock_moves")
