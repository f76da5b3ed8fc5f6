"""What migrations make of rows that were there: each that rewrites some is run on some."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from boxoffice.settings import Settings
from boxoffice.stores.postgres import migrate
from ops.stack.servers import Servers

USUAL = "browse read book refund manage"


@pytest.fixture
async def before(servers: Servers, settings: Settings) -> AsyncIterator[Settings]:
    """A database of its own, without tables."""
    admin = await asyncpg.connect(servers.admin_url)
    await admin.execute("DROP DATABASE IF EXISTS migrated")
    await admin.execute("CREATE DATABASE migrated OWNER boxoffice")
    yield settings.model_copy(update={"database_url": servers.database_url.rpartition("/")[0] + "/migrated"})
    await admin.execute("DROP DATABASE migrated WITH (FORCE)")
    await admin.close()


async def to(settings: Settings, revision: str) -> None:
    await asyncio.to_thread(migrate, settings, revision)


async def put_rows(connection: asyncpg.Connection) -> None:
    """Three shops and three events of the first: one that the second and its own shop have booked, one that only its own shop
    has, and one that nobody has."""
    for shop in ("a", "b", "c"):
        await connection.execute("INSERT INTO clients (id, name) VALUES ($1, $1)", shop)
    for event in ("both", "own", "none"):
        await connection.execute(
            "INSERT INTO events (id, client_id, shard, name, starts_at) VALUES ($1, 'a', 0, 'x', now())", event
        )
    for event, shop in (("both", "a"), ("both", "b"), ("both", "b"), ("own", "a")):
        await connection.execute(
            "INSERT INTO bookings (id, client_id, event_id, customer_id, status, amount_cents, currency, idempotency_key,"
            " fingerprint, sequence, created_at) VALUES ($1, $2, $3, 'ada', 'failed', 0, 'USD', $4, '', 1, now())",
            uuid4(), shop, event, str(uuid4()),
        )  # fmt: skip


async def test_an_event_stays_for_sale_by_the_shops_that_have_booked_it(before: Settings) -> None:
    """Its owner sells it anyway, and is no shop that it is shared with."""
    await to(before, "0022")
    connection = await asyncpg.connect(before.database_url)
    await put_rows(connection)
    await to(before, "0023")
    shares = await connection.fetch("SELECT event_id, client_id FROM event_shares")
    await connection.close()
    assert [tuple(row) for row in shares] == [("both", "b")]


async def test_a_key_keeps_what_it_could_do_and_one_that_could_less_does_not_get_more(before: Settings) -> None:
    """There, back, and there again. A key of everything is good all along."""
    await to(before, "0022")
    connection = await asyncpg.connect(before.database_url)
    await connection.execute("INSERT INTO clients (id, name) VALUES ('a', 'a')")
    add = "INSERT INTO api_keys (prefix, client_id, secret_sha256) VALUES ($1, 'a', '')"
    await connection.execute(add, "old")
    await to(before, "0023")
    for prefix in ("new", "less", "ends", "more"):
        await connection.execute(add, prefix)
    await connection.execute("UPDATE api_keys SET scopes = 'read' WHERE prefix = 'less'")
    await connection.execute("UPDATE api_keys SET expires_at = now() WHERE prefix = 'ends'")
    await connection.execute("UPDATE api_keys SET scopes = 'ops ' || scopes WHERE prefix = 'more'")
    found = await connection.fetch("SELECT prefix, scopes, revision > 0 FROM api_keys WHERE prefix IN ('old', 'new')")
    assert {tuple(row) for row in found} == {("old", USUAL, True), ("new", USUAL, True)}
    await to(before, "-0022")
    await to(before, "0023")
    good = await connection.fetch("SELECT prefix, scopes FROM api_keys WHERE revoked_at IS NULL")
    await connection.close()
    assert {tuple(row) for row in good} == {("old", USUAL), ("new", USUAL), ("more", USUAL)}


async def test_two_at_once_wait_for_each_other(before: Settings) -> None:
    """Neither fails, and no migration runs twice."""
    environ = os.environ | {"BOXOFFICE_REDIS_URL": before.redis_url, "BOXOFFICE_DATABASE_URL": before.database_url}
    command = [sys.executable, "-m", "ops.cli", "migrate"]
    both = [await asyncio.create_subprocess_exec(*command, env=environ) for _ in range(2)]
    assert [await each.wait() for each in both] == [0, 0]
    connection = await asyncpg.connect(before.database_url)
    count = await connection.fetchval("SELECT count(*) FROM alembic_version")
    await connection.close()
    assert count == 1


async def test_a_refund_gets_the_tickets_that_its_moves_remember(before: Settings) -> None:
    """Of both tiers; a refund without moves has none. An index that was begun and cut off is built anew."""
    await to(before, "0029")
    connection = await asyncpg.connect(before.database_url)
    await put_rows(connection)
    for tier in ("ga", "vip"):
        await connection.execute(
            "INSERT INTO tiers (id, event_id, code, name, price_cents) VALUES ($1, 'both', $1, $1, 1)", tier
        )
    booking = await connection.fetchval("SELECT id FROM bookings LIMIT 1")
    for key in ("moved", "not"):
        await connection.execute(
            "INSERT INTO refunds (refund_key, booking_id, amount_cents, currency, reason) VALUES ($1, $2, 1, 'USD', 'x')",
            key, booking,
        )  # fmt: skip
    for tier, count, key in (("ga", 2, "moved"), ("vip", 1, "moved"), ("ga", 5, None)):
        await connection.execute(
            "INSERT INTO stock_moves (event_id, tier_id, sold_delta, refund_key) VALUES ('both', $1, $2, $3)",
            tier, -count, key,
        )  # fmt: skip
    index = "ix_bookings_client_id_updated_at_id"
    await connection.execute(f"CREATE INDEX {index} ON bookings (currency)")
    await to(before, "0025")
    items = dict(await connection.fetch("SELECT refund_key, items::text FROM refunds"))
    columns, lock_timeout = await connection.fetchrow(
        f"SELECT pg_get_indexdef('{index}'::regclass), current_setting('lock_timeout')"
    )
    await to(before, "-0029")
    await to(before, "0025")
    await connection.close()
    assert {key: json.loads(told) if told else told for key, told in items.items()} == {
        "moved": {"ga": 2, "vip": 1}, "not": None,
    }  # fmt: skip
    assert columns.endswith("(client_id, updated_at, id)") and lock_timeout == "0"
