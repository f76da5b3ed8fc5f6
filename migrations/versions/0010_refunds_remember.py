"""A refund remembers what its key asked for, and a booking without a payment may have one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Refunds of earlier versions have no fingerprint: their keys are answered whatever comes with them."""
    op.add_column("refunds", sa.Column("fingerprint", sa.Text(), nullable=True))
    op.alter_column("refunds", "payment_key", nullable=True)


def downgrade() -> None:
    """Undo it. What came back of free bookings is forgotten."""
    op.execute("DELETE FROM refunds WHERE payment_key IS NULL")
    op.alter_column("refunds", "payment_key", nullable=False)
    op.drop_column("refunds", "fingerprint")
