"""Events have windows and a pause; their changes are numbered, mirrored by number, and told: who, when, from what to what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0024"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Events that are there are of version 1, and not mirrored: workers load each once more."""
    _allow("'active', 'paused', 'inactive', 'called_off'")
    for table in ("events", "tiers"):
        op.add_column(table, sa.Column("on_sale_at", _TIME, nullable=True))
        op.add_column(table, sa.Column("off_sale_at", _TIME, nullable=True))
        op.create_check_constraint(op.f(f"ck_{table}_off_sale_at"), table, "off_sale_at > on_sale_at")
    op.add_column("events", sa.Column("version", sa.BigInteger(), server_default="1", nullable=False))
    op.add_column("events", sa.Column("mirrored", sa.BigInteger(), server_default="0", nullable=False))
    op.create_index("ix_events_unmirrored", "events", ["shard"], postgresql_where=sa.text("mirrored < version"))
    op.create_table(
        "event_changes",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("tier_id", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("changes", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_event_changes_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_changes")),
    )
    op.create_index("ix_event_changes_event_id_id", "event_changes", ["event_id", "id"])


def downgrade() -> None:
    """Undo it: what is paused or called off is off sale."""
    op.drop_table("event_changes")
    op.drop_index("ix_events_unmirrored", "events")
    for column in ("mirrored", "version"):
        op.drop_column("events", column)
    for table in ("events", "tiers"):
        op.drop_constraint(op.f(f"ck_{table}_off_sale_at"), table, type_="check")
        for column in ("off_sale_at", "on_sale_at"):
            op.drop_column(table, column)
    op.execute("UPDATE events SET status = 'inactive' WHERE status NOT IN ('active', 'inactive')")
    _allow("'active', 'inactive'")


def _allow(statuses: str) -> None:
    op.execute("ALTER TABLE events DROP CONSTRAINT ck_events_status")
    op.execute(f"ALTER TABLE events ADD CONSTRAINT ck_events_status CHECK (status IN ({statuses}))")
