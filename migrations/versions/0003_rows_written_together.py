"""Items and payments do without foreign keys to the booking that is written beside them."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One transaction writes a booking, its items and its payment, and no booking is ever deleted: the look-up that each
    row triggered, with a lock on the booking's row, found what the same transaction had just written."""
    op.drop_constraint(op.f("fk_booking_items_booking_id"), "booking_items", type_="foreignkey")
    op.drop_constraint(op.f("fk_payments_booking_id"), "payments", type_="foreignkey")


def downgrade() -> None:
    """Undo it."""
    for table in ("payments", "booking_items"):
        op.create_foreign_key(
            op.f(f"fk_{table}_booking_id"), table, "bookings", ["booking_id"], ["id"], ondelete="CASCADE"
        )
