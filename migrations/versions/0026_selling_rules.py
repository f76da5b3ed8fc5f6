"""Least and most tickets of a booking and of a customer, of events and of tiers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_NEW = {
    "events": ("booking_min", "booking_max", "customer_min"),
    "tiers": ("booking_min", "booking_max", "customer_min", "customer_max"),
}


def upgrade() -> None:
    """Nothing has any. What an event's customers may have is there already."""
    for table, columns in _NEW.items():
        for column in columns:
            op.add_column(table, sa.Column(column, sa.Integer(), nullable=True))
        op.create_check_constraint(op.f(f"ck_{table}_rules"), table, " AND ".join(f"{each} > 0" for each in columns))


def downgrade() -> None:
    """Undo it."""
    for table, columns in _NEW.items():
        op.drop_constraint(op.f(f"ck_{table}_rules"), table, type_="check")
        for column in columns:
            op.drop_column(table, column)
