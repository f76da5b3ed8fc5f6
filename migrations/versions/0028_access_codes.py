"""Access codes: who has one books before the others, or tiers that the others cannot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0026"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """No event has codes yet, and no booking was made with one."""
    op.add_column("events", sa.Column("codes_version", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("tiers", sa.Column("code_only", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("bookings", sa.Column("access_code", sa.Text(), nullable=True))
    op.create_index(
        "ix_bookings_access_code", "bookings", ["event_id", "access_code"],
        postgresql_where=sa.text("access_code IS NOT NULL"),
    )  # fmt: skip
    op.create_table(
        "access_codes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("tier_id", sa.Text(), nullable=True),
        sa.Column("tickets", sa.Integer(), nullable=False),
        sa.Column("valid_from", _TIME, nullable=True),
        sa.Column("valid_until", _TIME, nullable=True),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.CheckConstraint("tickets > 0", name=op.f("ck_access_codes_tickets")),
        sa.CheckConstraint("valid_until > valid_from", name=op.f("ck_access_codes_valid_until")),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_access_codes_event_id")),
        sa.ForeignKeyConstraint(["tier_id"], ["tiers.id"], name=op.f("fk_access_codes_tier_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_codes")),
    )
    op.create_index("uq_access_codes_event_id_digest", "access_codes", ["event_id", "digest"], unique=True)
    op.create_index("ix_access_codes_event_id_id", "access_codes", ["event_id", "id"])


def downgrade() -> None:
    """Undo it: a tier that only codes opened is off sale."""
    op.drop_table("access_codes")
    op.drop_index("ix_bookings_access_code", "bookings")
    op.drop_column("bookings", "access_code")
    op.execute("UPDATE tiers SET is_active = false WHERE code_only")
    op.drop_column("tiers", "code_only")
    op.drop_column("events", "codes_version")
