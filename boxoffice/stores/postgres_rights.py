"""What each kind of process may do in PostgreSQL, table by table: the least that its statements need.

`boxoffice roles` prints the statements that make the roles. Whoever migrates owns the tables, and grants each role that is
there its rights behind the last migration: a table that a release brings is granted by that release.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from boxoffice.errors import CannotRun
from boxoffice.stores.database import Reader
from boxoffice.telemetry.outages import outages

__all__ = ["RIGHTS", "ROLES", "check_rights", "grant", "rights_of", "role_statements", "table_statements"]

ROLES: Final = {
    "api": "boxoffice_api", "worker": "boxoffice_worker", "operator": "boxoffice_operator", "reader": "boxoffice_reader",
}  # fmt: skip
"""Of the API, of workers, of people at a terminal, and of whoever only looks (reports, dashboards). Another login has the same
rights as a member of one."""

_WORDS: Final = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}

_SECRETS: Final = frozenset({"api_keys", "access_codes", "webhook_endpoints", "webhook_secrets"})
"""Secrets, their digests, and URLs that may have one in them: no report needs them."""

RIGHTS: Final[dict[str, dict[str, str]]] = {
    table: {"api": api, "worker": worker, "operator": operator, "reader": "" if table in _SECRETS else "S"}
    for table, api, worker, operator in (
        ("access_codes", "SIU", "S", "SIU"),
        ("alembic_version", "S", "S", "S"),
        ("allocations", "SIU", "S", "SIU"),
        ("api_keys", "", "S", "SIU"),
        ("batches", "SID", "SID", "SID"),
        ("booking_items", "SIUD", "SIUD", "SIUD"),
        ("booking_traces", "", "SIUD", "SUD"),
        ("bookings", "SIU", "SIU", "SIU"),
        ("call_offs", "SI", "SIU", "SI"),
        ("captures", "S", "SIUD", "SIUD"),
        ("clients", "S", "S", "SIU"),
        ("dead_letters", "SU", "SIUD", "SUD"),
        ("disputes", "S", "SIU", "SIU"),
        ("event_changes", "SI", "SI", "SI"),
        ("event_shares", "SID", "S", "SID"),
        ("events", "SIU", "SU", "SIU"),
        ("installations", "SI", "SI", "SI"),
        ("interventions", "SIU", "SU", "SIU"),
        ("inventory", "SIU", "SU", "SIU"),
        ("key_changes", "", "S", "SI"),
        ("looks", "SIU", "SIUD", "SIU"),
        ("notice_head", "SU", "SU", "SU"),
        ("notices", "SIU", "SIUD", "SIUD"),
        ("payments", "SIU", "SIU", "SIU"),
        ("refunds", "SIU", "SIU", "SIU"),
        ("shards", "SU", "SIU", "SIU"),
        ("stock_moves", "SIU", "SIUD", "SIUD"),
        ("tiers", "SIU", "S", "SIU"),
        ("webhook_deliveries", "SU", "SIUD", "SU"),
        ("webhook_endpoints", "SIU", "SUD", "SIU"),
        ("webhook_events", "SI", "SIUD", "SIUD"),
        ("webhook_secrets", "I", "SD", "I"),
    )
}
"""Each table to what each role may do to its rows: S(elect), I(nsert), U(pdate), D(elete). A row that is locked counts as
updated: PostgreSQL asks for that right. What only the version before needs stays for a release: both run side by side."""


def rights_of(role: str) -> dict[str, list[str]]:
    """Each table to the words of what a role may do."""
    return {table: [_WORDS[letter] for letter in each[role]] for table, each in RIGHTS.items() if each[role]}


def role_statements() -> Iterator[str]:
    """Make the roles, and let nobody else into this database but its owner. Run in the database by its owner, if he may create
    roles, or by a superuser; may be run again. The roles have no passwords yet."""
    everyone = ", ".join(ROLES.values())
    for role in ROLES.values():
        yield (
            f"DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') "
            f"THEN CREATE ROLE {role} LOGIN; END IF; END $do$"
        )
    yield (
        "DO $do$ BEGIN EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()); "
        f"EXECUTE format('GRANT CONNECT ON DATABASE %I TO {everyone}', current_database()); "
        "EXECUTE format('GRANT USAGE, CREATE ON SCHEMA public TO %I', (SELECT pg_get_userbyid(datdba) FROM pg_database "
        "WHERE datname = current_database())); END $do$"
    )
    yield "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    yield f"GRANT USAGE ON SCHEMA public TO {everyone}"


def table_statements(roles: Collection[str], tables: Collection[str]) -> Iterator[str]:
    """Give the roles that are there what they may do to the tables that are there, and take what they may no more."""
    for table in sorted(RIGHTS.keys() & {*tables}):
        for name, role in ROLES.items():
            if role in roles:
                yield f"REVOKE ALL ON {table} FROM {role}"
                if letters := RIGHTS[table][name]:
                    yield f"GRANT {', '.join(_WORDS[letter] for letter in letters)} ON {table} TO {role}"


_SEQUENCES: Final = """
SELECT s.oid::regclass::text, t.relname FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.deptype = 'a'
JOIN pg_class t ON t.oid = d.refobjid
WHERE s.relkind = 'S' AND s.relnamespace = current_schema()::regnamespace AND d.classid = 'pg_class'::regclass
"""
"""Those that number rows, each with its table. One of an identity column needs no right."""


def grant(connection: Any) -> None:
    """All of that, by the owner of the tables, in the transaction of this SQLAlchemy connection. Nothing where there are no
    such roles."""
    from sqlalchemy import text  # slow to import, and only migrations need it

    roles = connection.scalars(text("SELECT rolname FROM pg_roles WHERE rolname LIKE 'boxoffice\\_%'")).all()
    tables = connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")).all()
    for statement in table_statements(roles, tables):
        connection.execute(text(statement))
    for sequence, table in connection.execute(text(_SEQUENCES)).all():
        for name, role in ROLES.items():
            if role in roles and "I" in RIGHTS.get(table, {}).get(name, ""):
                connection.execute(text(f"GRANT USAGE ON SEQUENCE {sequence} TO {role}"))


_MISSING: Final = """
SELECT right_, array_agg(table_ ORDER BY table_) AS tables, current_user AS login
FROM unnest($1::text[], $2::text[]) AS wanted (table_, right_)
WHERE NOT has_table_privilege(to_regclass(table_), right_) GROUP BY right_
UNION ALL SELECT 'USAGE', ARRAY['schema public'], current_user FROM pg_namespace
WHERE nspname = 'public' AND current_schema() IS NULL AND NOT has_schema_privilege(oid, 'USAGE') ORDER BY right_
"""


async def check_rights(database: Reader, role: str) -> None:
    """Raises `CannotRun` naming every right that our login lacks, and says it in the log; PostgreSQL's errors when it cannot be
    asked. Tables that are not there are the schema's matter."""
    wanted = [(table, word) for table, words in rights_of(role).items() for word in words]
    rows = await database.fetch(_MISSING, [table for table, _ in wanted], [word for _, word in wanted])
    if not rows:
        outages.met("rights", "postgresql")
        return
    lacks = "; ".join(f"{row['right_']} on {', '.join(row['tables'])}" for row in rows)
    outages.missed("rights", lacks, "postgresql")
    raise CannotRun(
        f"PostgreSQL does not give our role {rows[0]['login']} {lacks}. Make it a member of {ROLES[role]}, and run "
        "`boxoffice migrate` as the owner of the tables, which gives that role what it needs."
    )
