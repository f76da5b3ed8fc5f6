"""The captures of a settled batch are one row, and marking a payment as captured touches no index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A capture that its worker is about to make has no `due_at`. Payments that are due already keep theirs."""
    op.create_table(
        "captures",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("payment_keys", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_captures")),
    )
    # Digests do not compress: do not try.
    op.execute("ALTER TABLE captures ALTER COLUMN payment_keys SET STORAGE EXTERNAL")
    op.drop_index("ix_payments_due_at", table_name="payments")
    op.create_index(
        "ix_payments_due_at", "payments", ["due_at"], unique=False, postgresql_where=sa.text("due_at IS NOT NULL")
    )
    # Room on its page for the second version of every row.
    op.execute("ALTER TABLE payments SET (fillfactor = 50)")


def downgrade() -> None:
    """Undo it."""
    op.execute("ALTER TABLE payments SET (fillfactor = 80)")
    op.execute("UPDATE payments SET due_at = now() WHERE due IS NOT NULL AND due_at IS NULL")
    op.drop_index("ix_payments_due_at", table_name="payments")
    op.create_index(
        "ix_payments_due_at", "payments", ["due_at"], unique=False, postgresql_where=sa.text("due IS NOT NULL")
    )
    op.drop_table("captures")
