"""Events may be called off: nothing more of their tiers is sold, and a worker gives everything back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0023"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Nothing is called off yet."""
    op.add_column("inventory", sa.Column("called_off", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_table(
        "call_offs",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("called_off_by", sa.Text(), nullable=False),
        sa.Column("started_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_call_offs_event_id")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_call_offs")),
    )
    op.create_index(
        "ix_call_offs_unfinished", "call_offs", ["event_id"], postgresql_where=sa.text("finished_at IS NULL")
    )


def downgrade() -> None:
    """Undo it."""
    op.drop_table("call_offs")
    op.drop_column("inventory", "called_off")
