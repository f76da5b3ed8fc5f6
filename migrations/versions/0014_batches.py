"""Every transaction that moves stock or money has a number and a nonce in its shard."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Shards begin at number 0, without batches: what was committed before is believed, as it was then."""
    op.add_column("shards", sa.Column("batch", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("stock_moves", sa.Column("refund_key", sa.Text(), nullable=True))
    op.create_table(
        "batches",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("shard", "number", name=op.f("pk_batches")),
    )


def downgrade() -> None:
    """Undo it."""
    op.drop_table("batches")
    op.drop_column("stock_moves", "refund_key")
    op.drop_column("shards", "batch")
