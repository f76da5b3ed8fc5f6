"""An API key may have a limit of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column without a default: no row is written."""
    op.add_column("api_keys", sa.Column("rate_max", sa.Integer(), nullable=True))
    op.create_check_constraint(op.f("ck_api_keys_rate_max"), "api_keys", "rate_max > 0")


def downgrade() -> None:
    """Undo it. Keys have the limit of all keys."""
    op.drop_constraint(op.f("ck_api_keys_rate_max"), "api_keys", type_="check")
    op.drop_column("api_keys", "rate_max")
