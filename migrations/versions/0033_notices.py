"""Notices: what happened to bookings, money and events, in one order for each shop.

What was changed before this, and by processes of the version before until the last of them has ended, has none.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """An empty record, which begins now."""
    op.create_table(
        "notices",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("nonce", sa.Integer(), nullable=True),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("size", sa.Integer(), server_default="1", nullable=False),
        sa.Column("bookings", postgresql.ARRAY(sa.Uuid()), nullable=True),
        sa.Column("keys", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("cents", postgresql.ARRAY(sa.BigInteger()), nullable=True),
        sa.Column("details", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.CheckConstraint("(position IS NULL) = (nonce IS NULL)", name=op.f("ck_notices_position")),
        sa.CheckConstraint("size > 0", name=op.f("ck_notices_size")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    # Ids do not shrink, and trying to shrink them takes longer than writing them.
    for column in ("bookings", "keys", "cents"):
        op.execute(f"ALTER TABLE notices ALTER COLUMN {column} SET STORAGE EXTERNAL")
    op.create_index("uq_notices_position", "notices", ["position"], unique=True)
    op.create_index("ix_notices_client_id_position", "notices", ["client_id", "position"])
    op.create_index("ix_notices_fresh", "notices", ["id"], postgresql_where=sa.text("position IS NULL"))
    op.create_table(
        "notice_head",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("position", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("nonce", sa.Integer(), server_default="0", nullable=False),
        sa.Column("trimmed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("trimmed_nonce", sa.Integer(), server_default="0", nullable=False),
        sa.Column("trimmed_at", _TIME, nullable=True),
        sa.Column("begun_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("one", name=op.f("ck_notice_head_one")),
        sa.CheckConstraint("trimmed <= position", name=op.f("ck_notice_head_trimmed")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_notice_head")),
    )
    op.execute("INSERT INTO notice_head DEFAULT VALUES")
    # Whose captures a list has, if they are all of one shop and event; NULL: their bookings tell.
    op.add_column("captures", sa.Column("client_id", sa.Text(), nullable=True))
    op.add_column("captures", sa.Column("event_id", sa.Text(), nullable=True))


def downgrade() -> None:
    """Undo it. What was not read yet nobody is told any more."""
    op.drop_column("captures", "event_id")
    op.drop_column("captures", "client_id")
    op.drop_table("notice_head")
    op.drop_table("notices")
