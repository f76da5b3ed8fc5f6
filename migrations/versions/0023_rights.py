"""Who may do what: API keys with scopes, an expiry and origins, and which shops sell an event that another one owns.

A key keeps what it could do: everything but what operators do. An event that other shops have booked stays theirs to sell.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

USUAL = "browse read book refund manage"
NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

KNOWN = "ck_api_keys_scopes"
"""As it is: a name without `op.f` would be named once more."""


def upgrade() -> None:
    """A process of the version before goes on: what it writes gets the usual scopes."""
    op.execute(f"UPDATE api_keys SET scopes = '{USUAL}' WHERE scopes = ''")
    op.alter_column("api_keys", "scopes", server_default=USUAL)
    op.add_column("api_keys", sa.Column("origins", postgresql.ARRAY(sa.Text()), nullable=False, server_default="{}"))
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True)))
    op.add_column("api_keys", sa.Column("revision", sa.BigInteger(), nullable=False, server_default=sa.text(NOW)))
    one = "(browse|read|book|refund|manage|ops)"
    op.create_check_constraint(op.f(KNOWN), "api_keys", f"scopes ~ '^{one}( {one})*$'")
    op.create_table(
        "key_changes",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), nullable=False, server_default="{}"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_key_changes"),
    )
    op.create_index("ix_key_changes_prefix", "key_changes", ["prefix"])
    op.create_table(
        "event_shares",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("event_id", "client_id", name="pk_event_shares"),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name="fk_event_shares_event_id"),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name="fk_event_shares_client_id"),
    )
    op.execute(
        "INSERT INTO event_shares (event_id, client_id) SELECT e.id, c.id FROM events e "
        "JOIN clients c ON c.id <> e.client_id "
        "WHERE EXISTS (SELECT FROM bookings b WHERE b.event_id = e.id AND b.client_id = c.id)"
    )


def downgrade() -> None:
    """Undo it. Every key is one of everything again, so those that may less are revoked."""
    op.execute(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) "
        f"WHERE expires_at IS NOT NULL OR NOT string_to_array(scopes, ' ') @> string_to_array('{USUAL}', ' ')"
    )
    op.drop_table("event_shares")
    op.drop_table("key_changes")
    op.drop_constraint(op.f(KNOWN), "api_keys")
    for column in ("revision", "expires_at", "origins"):
        op.drop_column("api_keys", column)
    op.alter_column("api_keys", "scopes", server_default="")
    op.execute("UPDATE api_keys SET scopes = ''")
