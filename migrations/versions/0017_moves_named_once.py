"""A stock move's mark in Redis is named by an id and a nonce: ids come again from a sequence that went back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Each row gets one of its own, also those that are there."""
    op.add_column(
        "stock_moves",
        sa.Column(
            "nonce", sa.BigInteger(), server_default=sa.text("(random() * 9007199254740991)::bigint"), nullable=False
        ),
    )


def downgrade() -> None:
    """Undo it."""
    op.drop_column("stock_moves", "nonce")
