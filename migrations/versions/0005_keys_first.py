"""Indexes begin with what tells rows apart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEYS = {
    "uq_bookings_idempotency": (
        ("idempotency_key", "client_id", "event_id"),
        ("client_id", "event_id", "idempotency_key"),
    ),
    "ix_bookings_customer_id_client_id": (("customer_id", "client_id"), None),
    "ix_bookings_client_id_customer_id": (None, ("client_id", "customer_id")),
}
"""Columns after and before. All rows of a rush have client and event in common: comparing those first is in vain."""


def upgrade() -> None:
    """The same rows are unique, the same look-ups are served."""
    _change(after=True)


def downgrade() -> None:
    """Undo it."""
    _change(after=False)


def _change(*, after: bool) -> None:
    for name, columns in KEYS.items():
        new, old = columns if after else reversed(columns)
        if old:
            op.drop_index(name, table_name="bookings")
        if new:
            unique = name.startswith("uq_")
            where = sa.text("duplicate_of IS NULL") if unique else None
            op.create_index(name, "bookings", list(new), unique=unique, postgresql_where=where)
