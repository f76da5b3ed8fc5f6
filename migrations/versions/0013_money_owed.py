"""What is owed is a state of its own; refunds made at the gateway, and disputes, have rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """A refund that was refused becomes owed, but for one whose payment was never captured."""
    op.add_column("payments", sa.Column("due_since", _TIME, nullable=True))
    for column in (
        sa.Column("origin", sa.Text(), server_default="shop", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("owed_since", _TIME, nullable=True),
        sa.Column("due_since", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("written_off_at", _TIME, nullable=True),
        sa.Column("written_off_by", sa.Text(), nullable=True),
        sa.Column("written_off_reason", sa.Text(), nullable=True),
    ):
        op.add_column("refunds", column)
    op.drop_constraint(op.f("ck_refunds_status"), "refunds", type_="check")
    op.execute("UPDATE refunds SET due_since = created_at")
    op.execute("UPDATE refunds SET status = 'dropped' WHERE status = 'failed' AND failure_code = 'never_captured'")
    op.execute(
        "UPDATE refunds SET status = 'owed', attempt = 1, owed_since = updated_at,"
        " failure_code = coalesce(failure_code, 'refused') WHERE status = 'failed'"
    )
    for name, condition in (
        ("status", "status IN ('due', 'pending', 'succeeded', 'owed', 'written_off', 'dropped')"),
        ("origin", "origin IN ('shop', 'gateway')"),
        ("owed", "status <> 'owed' OR (owed_since IS NOT NULL AND failure_code IS NOT NULL)"),
        (
            "written_off",
            "(status = 'written_off') = (written_off_at IS NOT NULL AND coalesce(written_off_by, '') <> ''"
            " AND coalesce(written_off_reason, '') <> '')",
        ),
    ):
        op.create_check_constraint(op.f(f"ck_refunds_{name}"), "refunds", condition)
    op.create_index("ix_refunds_payment_key", "refunds", ["payment_key"])
    op.create_index("ix_refunds_owed_since", "refunds", ["owed_since"], postgresql_where=sa.text("status = 'owed'"))
    op.create_table(
        "disputes",
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("payment_key", sa.Text(), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("withdrawn", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["payment_key"], ["payments.payment_key"], name=op.f("fk_disputes_payment_key")),
        sa.PrimaryKeyConstraint("gateway", "reference", name=op.f("pk_disputes")),
    )
    op.create_index(op.f("ix_disputes_payment_key"), "disputes", ["payment_key"])
    op.create_table(
        "looks",
        sa.Column("payment_key", sa.Text(), nullable=False),
        sa.Column("due_at", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("leased_until", _TIME, nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["payment_key"], ["payments.payment_key"], name=op.f("fk_looks_payment_key")),
        sa.PrimaryKeyConstraint("payment_key", name=op.f("pk_looks")),
    )
    op.create_index("ix_looks_due_at", "looks", ["due_at"])


def downgrade() -> None:
    """Undo it. What is owed, pending or written off becomes a failed refund, which counts as not made."""
    op.drop_table("looks")
    op.drop_table("disputes")
    op.drop_index("ix_refunds_owed_since", table_name="refunds")
    op.drop_index("ix_refunds_payment_key", table_name="refunds")
    for name in ("written_off", "owed", "origin", "status"):
        op.drop_constraint(op.f(f"ck_refunds_{name}"), "refunds", type_="check")
    op.execute("UPDATE refunds SET status = 'failed' WHERE status IN ('owed', 'written_off', 'dropped')")
    op.execute("UPDATE refunds SET status = 'succeeded' WHERE status = 'pending'")
    op.create_check_constraint(op.f("ck_refunds_status"), "refunds", "status IN ('due', 'succeeded', 'failed')")
    for column in (
        "written_off_reason",
        "written_off_by",
        "written_off_at",
        "due_since",
        "owed_since",
        "attempt",
        "origin",
    ):
        op.drop_column("refunds", column)
    op.drop_column("payments", "due_since")
