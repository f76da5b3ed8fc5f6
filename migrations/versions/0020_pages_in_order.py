"""Lists by event, customer and reference read a page of one client's, not all that there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0018"
branch_labels = None
depends_on = None

INDEXES = (
    (("event_id", "client_id", "id"), ("event_id", "id"), None),
    (("customer_id", "client_id", "id"), ("customer_id", "client_id"), None),
    (("client_id", "reference", "id"), ("client_id", "reference"), "reference IS NOT NULL"),
)
"""Columns after and before, and the rows that the index has when it has some."""


def upgrade() -> None:
    """Each ends with the booking's id, so that the next page begins where the last one ended."""
    for after, before, where in INDEXES:
        _replace(before, after, where)


def downgrade() -> None:
    """Undo it."""
    for after, before, where in INDEXES:
        _replace(after, before, where)


def _replace(old: tuple[str, ...], new: tuple[str, ...], where: str | None) -> None:
    op.drop_index(_name(old), table_name="bookings")
    op.create_index(_name(new), "bookings", list(new), postgresql_where=None if where is None else sa.text(where))


def _name(columns: tuple[str, ...]) -> str:
    return f"ix_bookings_{'_'.join(columns)}"
