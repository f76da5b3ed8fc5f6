"""Bookings do without the foreign keys that settlement checks once for all."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bookings do without the foreign keys that settlement checks once for all."""
    op.drop_constraint(op.f("fk_bookings_client_id"), "bookings", type_="foreignkey")
    op.drop_constraint(op.f("fk_bookings_event_id"), "bookings", type_="foreignkey")
    op.drop_constraint(op.f("fk_booking_items_tier_id"), "booking_items", type_="foreignkey")


def downgrade() -> None:
    """Undo it."""
    op.create_foreign_key(op.f("fk_booking_items_tier_id"), "booking_items", "tiers", ["tier_id"], ["id"])
    op.create_foreign_key(op.f("fk_bookings_event_id"), "bookings", "events", ["event_id"], ["id"])
    op.create_foreign_key(op.f("fk_bookings_client_id"), "bookings", "clients", ["client_id"], ["id"])
