"""Nothing is due as a look-up: a payment that nobody knows is looked up before it is voided, and no row ever said otherwise."""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Only what the money pump does. Rows are looked at without keeping anybody from writing them."""
    _allow("'capture', 'void'")


def downgrade() -> None:
    """Undo it."""
    _allow("'capture', 'void', 'lookup'")


def _allow(dues: str) -> None:
    op.execute("ALTER TABLE payments DROP CONSTRAINT ck_payments_due")
    op.execute(f"ALTER TABLE payments ADD CONSTRAINT ck_payments_due CHECK (due IS NULL OR due IN ({dues})) NOT VALID")
    op.execute("ALTER TABLE payments VALIDATE CONSTRAINT ck_payments_due")
