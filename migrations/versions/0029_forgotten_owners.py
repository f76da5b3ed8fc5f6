"""A booking whose customer was forgotten still counts against the limit of whoever that was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column without a default: no row is written."""
    op.add_column("bookings", sa.Column("owner", sa.Text(), nullable=True))


def downgrade() -> None:
    """Undo it. Limits of forgotten customers start anew."""
    op.drop_column("bookings", "owner")
