"""Roles of PostgreSQL with the least rights: each may do its work, and what one lacks is named."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from boxoffice.books.trim import TRIM
from boxoffice.errors import CannotRun
from boxoffice.settings import Settings
from boxoffice.stores.models import Base
from boxoffice.stores.postgres import migrate
from boxoffice.stores.postgres_rights import (
    RIGHTS,
    ROLES,
    check_rights,
    rights_of,
    role_statements,
    table_statements,
)
from ops.stack.servers import Servers
from tests.support.least import LeastRights

ROOT = Path(__file__).resolve().parents[3]

WORDS = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}


@pytest.fixture
async def admin(servers: Servers) -> AsyncIterator[asyncpg.Connection[Any]]:
    """The superuser."""
    connection = await asyncpg.connect(servers.admin_url)
    yield connection
    await connection.close()


@pytest.fixture
async def of_role(least_rights: LeastRights) -> AsyncIterator[Callable[[str], Any]]:
    """A session of a role."""
    opened: list[asyncpg.Connection[Any]] = []

    async def of_role(role: str) -> asyncpg.Connection[Any]:
        opened.append(await asyncpg.connect(least_rights.urls(role)["database_url"]))
        return opened[-1]

    yield of_role
    for each in opened:
        await each.close()


def test_every_table_has_its_row() -> None:
    """Whoever adds one says who may do what to it."""
    assert sorted(RIGHTS) == sorted({*Base.metadata.tables, "alembic_version"})
    assert all(RIGHTS[table].keys() == ROLES.keys() for table in RIGHTS)


def test_who_inserts_what_may_be_there_may_update_it() -> None:
    """PostgreSQL asks for that right, whether or not the row is there."""
    text = "\n".join(path.read_text() for path in (ROOT / "boxoffice").rglob("*.py"))
    upserts = re.findall(r"INSERT INTO (\w+)(?:(?!INSERT INTO).)*?ON CONFLICT \([\w, ]+\) DO UPDATE", text, re.S)
    assert {"looks", "disputes", "shards", "dead_letters", "api_keys"} <= {*upserts}
    for table in {*upserts} & {*RIGHTS}:
        for role, letters in RIGHTS[table].items():
            assert "I" not in letters or "U" in letters, (table, role)


@pytest.mark.parametrize("role", ["worker", "operator"])
@pytest.mark.parametrize("table", TRIM)
async def test_who_trims_a_table_may_lock_its_rows(of_role: Callable[[str], Any], role: str, table: str) -> None:
    assert await (await of_role(role)).execute(TRIM[table], 10_000, 1) == "DELETE 0"


async def test_a_migration_gives_each_role_its_rights_and_no_other(
    least_rights: LeastRights, admin: asyncpg.Connection[Any]
) -> None:
    for table, each in RIGHTS.items():
        for role, login in ROLES.items():
            words = [*WORDS.values(), "TRUNCATE", "REFERENCES", "TRIGGER"]
            has = [
                word
                for word in words
                if await admin.fetchval("SELECT has_table_privilege($1, $2, $3)", login, table, word)
            ]
            assert has == [WORDS[letter] for letter in "SIUD" if letter in each[role]], (table, role)


async def test_what_a_role_may_no_more_is_taken_by_the_next_migration(
    least_rights: LeastRights, admin: asyncpg.Connection[Any], settings: Settings
) -> None:
    await admin.execute("GRANT DELETE ON bookings TO boxoffice_api; REVOKE SELECT ON bookings FROM boxoffice_worker")
    await asyncio.to_thread(migrate, settings)
    assert not await admin.fetchval("SELECT has_table_privilege('boxoffice_api', 'bookings', 'DELETE')")
    assert await admin.fetchval("SELECT has_table_privilege('boxoffice_worker', 'bookings', 'SELECT')")


MAY_NOT = {
    "api": [
        "INSERT INTO captures DEFAULT VALUES", "DELETE FROM bookings", "DELETE FROM payments",
        "DELETE FROM refunds",
        "SELECT secret_sha256 FROM api_keys", "INSERT INTO api_keys (prefix) VALUES ('x')", "UPDATE clients SET name = 'x'",
        "UPDATE captures SET leased_until = now()", "DELETE FROM dead_letters", "DELETE FROM inventory",
        "DELETE FROM events",
        "TRUNCATE bookings", "UPDATE alembic_version SET version_num = '0001'",
    ],
    "worker": [
        "INSERT INTO api_keys (prefix) VALUES ('x')", "UPDATE api_keys SET revoked_at = NULL", "UPDATE clients SET name = 'x'",
        "UPDATE access_codes SET revoked_at = NULL", "INSERT INTO events (id) VALUES ('x')", "DELETE FROM bookings",
        "DELETE FROM payments", "DELETE FROM refunds", "DELETE FROM interventions", "TRUNCATE payments",
    ],
    "operator": [
        "DELETE FROM bookings", "DELETE FROM payments", "DELETE FROM refunds", "DELETE FROM key_changes",
        "DELETE FROM interventions",
        "DELETE FROM event_changes", "UPDATE key_changes SET actor = 'x'", "DELETE FROM api_keys", "TRUNCATE bookings",
    ],
    "reader": [
        "UPDATE bookings SET status = 'failed'", "INSERT INTO clients (id, name) VALUES ('x', 'x')", "DELETE FROM refunds",
        "SELECT secret_sha256 FROM api_keys", "SELECT * FROM access_codes", "SELECT * FROM bookings FOR UPDATE",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("role", "statement"), [(role, each) for role, some in MAY_NOT.items() for each in some])
async def test_what_a_role_has_no_need_of_is_refused(of_role: Callable[[str], Any], role: str, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await (await of_role(role)).execute(statement)


@pytest.mark.parametrize("role", ROLES)
async def test_nobody_but_the_owner_makes_anything(of_role: Callable[[str], Any], role: str) -> None:
    connection = await of_role(role)
    for statement in (
        "CREATE TABLE mine (id int)", "ALTER TABLE bookings ADD COLUMN mine int", "DROP TABLE captures", "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE ROLE mine",
        "CREATE INDEX ON bookings (status)",
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_nobody_else_is_let_into_the_database(admin: asyncpg.Connection[Any]) -> None:
    transaction = admin.transaction()
    await transaction.start()
    try:
        for statement in [*role_statements(), *role_statements()]:
            await admin.execute(statement)
        for right, who in (("CONNECT", "boxoffice_api"), ("CONNECT", "boxoffice_reader"), ("CONNECT", "boxoffice")):
            assert await admin.fetchval("SELECT has_database_privilege($1, current_database(), $2)", who, right), who
        await admin.execute("CREATE ROLE stranger")
        for right, who in (("CONNECT", "stranger"), ("TEMPORARY", "stranger"), ("TEMPORARY", "boxoffice_api")):
            assert not await admin.fetchval("SELECT has_database_privilege($1, current_database(), $2)", who, right), (
                who
            )
        for right, who, has in (
            ("CREATE", "boxoffice", True), ("CREATE", "boxoffice_api", False), ("USAGE", "boxoffice_api", True),
            ("CREATE", "stranger", False),
        ):  # fmt: skip
            assert await admin.fetchval("SELECT has_schema_privilege($1, 'public', $2)", who, right) is has, (
                right,
                who,
            )
    finally:
        await transaction.rollback()


def test_only_what_is_there_is_granted() -> None:
    assert list(table_statements(["boxoffice_reader", "other"], ["bookings", "api_keys", "others"])) == [
        "REVOKE ALL ON api_keys FROM boxoffice_reader",
        "REVOKE ALL ON bookings FROM boxoffice_reader",
        "GRANT SELECT ON bookings TO boxoffice_reader",
    ]
    assert list(table_statements([], ["bookings"])) == []


def test_rights_are_words() -> None:
    assert rights_of("reader")["bookings"] == ["SELECT"]
    assert "api_keys" not in rights_of("reader")
    assert rights_of("worker")["stock_moves"] == ["SELECT", "INSERT", "UPDATE", "DELETE"]


@pytest.mark.parametrize("role", ROLES)
async def test_who_has_its_rights_hears_nothing(of_role: Callable[[str], Any], role: str) -> None:
    with capture_logs() as lines:
        await check_rights(await of_role(role), role)
    assert lines == []


async def test_what_a_login_lacks_is_named_in_one_sentence(of_role: Callable[[str], Any]) -> None:
    reader = await of_role("reader")
    with capture_logs() as lines, pytest.raises(CannotRun) as refused:
        await check_rights(reader, "api")
    assert refused.value.detail.startswith(
        "PostgreSQL does not give our role boxoffice_reader DELETE on batches, booking_items, event_shares; INSERT on "
    )
    assert "; SELECT on access_codes, webhook_endpoints; UPDATE on " in refused.value.detail
    assert refused.value.detail.endswith(
        ". Make it a member of boxoffice_api, and run `boxoffice migrate` as the owner of the tables, which gives that role "
        "what it needs."
    )
    assert [(line["event"], line["which"]) for line in lines] == [("rights.missing", "postgresql")]
    with capture_logs() as lines:
        await check_rights(reader, "reader")
    assert [(line["event"], line["which"]) for line in lines] == [("rights.given", "postgresql")]


async def test_who_may_not_enter_the_schema_is_told_so(
    of_role: Callable[[str], Any], admin: asyncpg.Connection[Any]
) -> None:
    """And not that there are no tables."""
    await admin.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC, boxoffice_reader")
    try:
        with pytest.raises(CannotRun, match="boxoffice_reader USAGE on schema public"):
            await check_rights(await of_role("reader"), "reader")
    finally:
        await admin.execute("GRANT USAGE ON SCHEMA public TO PUBLIC, boxoffice_reader")


async def test_a_member_has_what_its_role_has(least_rights: LeastRights, admin: asyncpg.Connection[Any]) -> None:
    """Logins come and go: a password is changed by a second one."""
    transaction = admin.transaction()
    await transaction.start()
    try:
        await admin.execute("CREATE ROLE second_worker IN ROLE boxoffice_worker")
        await admin.execute("SET LOCAL SESSION AUTHORIZATION second_worker")
        await check_rights(admin, "worker")
    finally:
        await transaction.rollback()
