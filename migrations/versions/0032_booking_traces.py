"""Bookings that are traced remember where."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table for the few that are sampled: bookings themselves stay as they are."""
    op.create_table(
        "booking_traces",
        sa.Column("booking_id", sa.Uuid(), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("booking_id", name=op.f("pk_booking_traces")),
    )
    op.create_index(op.f("ix_booking_traces_created_at"), "booking_traces", ["created_at"])


def downgrade() -> None:
    """Undo it. What becomes of bookings later is in no trace."""
    op.drop_table("booking_traces")
