"""Allocations: tickets of a tier that only one shop, or only one access code, may take."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0028"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Nothing is set aside yet."""
    op.create_table(
        "allocations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("tier_id", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=True),
        sa.Column("code_id", sa.Text(), nullable=True),
        sa.Column("tickets", sa.Integer(), nullable=False),
        sa.Column("created_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("released_at", _TIME, nullable=True),
        sa.CheckConstraint("tickets >= 0", name=op.f("ck_allocations_tickets")),
        sa.CheckConstraint("(client_id IS NULL) <> (code_id IS NULL)", name=op.f("ck_allocations_holder")),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_allocations_event_id")),
        sa.ForeignKeyConstraint(["tier_id"], ["tiers.id"], name=op.f("fk_allocations_tier_id")),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_allocations_client_id")),
        sa.ForeignKeyConstraint(["code_id"], ["access_codes.id"], name=op.f("fk_allocations_code_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allocations")),
    )
    op.create_index("ix_allocations_event_id_id", "allocations", ["event_id", "id"])
    for holder in ("client_id", "code_id"):
        op.create_index(
            f"uq_allocations_tier_id_{holder}", "allocations", ["tier_id", holder], unique=True,
            postgresql_where=sa.text("released_at IS NULL"),
        )  # fmt: skip


def downgrade() -> None:
    """Undo it: whatever is set aside is on sale for everybody."""
    op.drop_table("allocations")
