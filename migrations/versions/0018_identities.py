"""Who we are, and which server we were on: payments bear the name of their installation, shards that of PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The name is made here, once; the server is noted by the first guard that looks."""
    op.create_table(
        "installations",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("one", name=op.f("ck_installations_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_installations")),
    )
    op.execute("INSERT INTO installations (id) VALUES (replace(gen_random_uuid()::text, '-', ''))")
    op.add_column("shards", sa.Column("server", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    """Undo it."""
    op.drop_column("shards", "server")
    op.drop_table("installations")
