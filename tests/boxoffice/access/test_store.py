"""Clients and their keys, as they are written and listed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from boxoffice.access.api_keys import ApiKeys, secret_digest
from boxoffice.access.scopes import SCOPES, USUAL
from boxoffice.access.store import Grant
from boxoffice.clock import iso
from boxoffice.errors import Malformed, NotFound
from boxoffice.office import BoxOffice
from tests.conftest import CLIENT
from tests.support.shop.orders import KEY, OTHER


async def test_clients_and_keys_are_listed_oldest_first(office: BoxOffice) -> None:
    """Of one client or of all, with when they were made and revoked, and without secrets."""
    store, pool = office.access, await office.pool()
    await pool.execute("DELETE FROM api_keys; DELETE FROM clients")
    for n, name in enumerate(("later", "first")):
        assert await store.create_client(f"Name of {name}", client_id=name) == name
        await store.add_api_key(name, f"{name}key.secret")
        for table, column in (("clients", "id"), ("api_keys", "client_id")):
            await pool.execute(f"UPDATE {table} SET created_at = to_timestamp($1) WHERE {column} = $2", 10 - n, name)
    nowhere: dict[str, Any] = {"return_url": None, "return_urls": []}
    assert await store.clients() == [
        {"id": "first", "name": "Name of first", "created_at": "1970-01-01T00:00:09Z", **nowhere},
        {"id": "later", "name": "Name of later", "created_at": "1970-01-01T00:00:10Z", **nowhere},
    ]
    await store.revoke_api_key("laterkey")
    await pool.execute("UPDATE api_keys SET revoked_at = to_timestamp(20) WHERE prefix = 'laterkey'")
    await store.revoke_api_key("laterkey")
    usual = {
        "scopes": ["browse", "read", "book", "refund", "manage"], "origins": [], "expires_at": None, "rate": None,
    }  # fmt: skip
    first = {"prefix": "firstkey", "client": "first", **usual, "created_at": "1970-01-01T00:00:09Z", "revoked_at": None}
    later = {"prefix": "laterkey", "client": "later", **usual, "created_at": "1970-01-01T00:00:10Z",
             "revoked_at": "1970-01-01T00:00:20Z"}  # fmt: skip
    assert await store.api_keys() == [first, later], "who was revoked before stays so since then"
    assert await store.api_keys("later") == [later]
    assert await store.create_client("Other name", client_id="first") == "first"
    assert (await store.clients())[0]["name"] == "Name of first"
    assert len(await store.create_client("New")) == 12
    await store.add_api_key("first", "laterkey.other")
    row = await pool.fetchrow("SELECT client_id, secret_sha256, revoked_at FROM api_keys WHERE prefix = 'laterkey'")
    assert tuple(row) == ("first", secret_digest("other"), None)


async def test_a_key_is_its_prefix_and_whatever_follows(office: BoxOffice) -> None:
    """Points in a secret belong to it."""
    await office.access.add_api_key(CLIENT, "dotted.a.b")
    row = await (await office.pool()).fetchrow("SELECT secret_sha256 FROM api_keys WHERE prefix = 'dotted'")
    assert tuple(row) == (secret_digest("a.b"),)


def test_a_key_may_do_what_is_usual_until_it_is_revoked() -> None:
    assert Grant() == Grant(("browse", "read", "book", "refund", "manage"), None, ())


NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("grant", "pointer", "code"),
    [
        (Grant(("browse",), NOW + timedelta(microseconds=1), ("https://a.example",) * 20), None, None),
        (Grant(("ops",)), None, None),
        (Grant(rate_max=1), None, None),
        (Grant(rate_max=100_000_000), None, None),
        (Grant(rate_max=0), "/rate", "out_of_range"),
        (Grant(rate_max=100_000_001), "/rate", "out_of_range"),
        (Grant(()), "/scopes", "unknown"),
        (Grant(("book", "everything")), "/scopes", "unknown"),
        (Grant(expires_at=NOW), "/expires_at", "out_of_range"),
        (Grant(expires_at=NOW.replace(tzinfo=None) + timedelta(days=1)), "/expires_at", "malformed"),
        (Grant(("browse",), origins=("https://a.example",) * 21), "/origins", "too_many"),
        (Grant(("browse",), origins=("https://a.example", "a.example")), "/origins/1", "malformed"),
        (Grant(("browse", "book"), origins=("https://a.example",)), "/scopes", "malformed"),
        (Grant(("read",), origins=("https://a.example",)), "/scopes", "malformed"),
    ],
)
def test_what_a_key_may_be_given(grant: Grant, pointer: str | None, code: str | None) -> None:
    """A key for pages is read by whoever opens one: it has the scope browse alone."""
    if pointer is None:
        grant.check(NOW)
        return
    with pytest.raises(Malformed) as refused:
        grant.check(NOW)
    assert (refused.value.pointer, refused.value.code) == (pointer, code)


async def test_a_key_that_cannot_be_is_not_made(office: BoxOffice) -> None:
    before = await office.access.api_keys()
    with pytest.raises(Malformed):
        await office.access.create_api_key(CLIENT, Grant(("everything",)))
    assert await office.access.api_keys() == before


async def test_scopes_stand_in_one_order_each_once(office: BoxOffice) -> None:
    key = await office.access.create_api_key(CLIENT, Grant(("refund", "browse", "refund")))
    assert [row["scopes"] for row in await office.access.api_keys() if row["prefix"] == key.partition(".")[0]] == [
        ["browse", "refund"]
    ]


async def test_what_was_done_to_a_key_is_remembered(office: BoxOffice) -> None:
    """When, by whom, and what it might do from then on; of one key, of one client, or all."""
    expires = datetime.now(UTC) + timedelta(days=1)
    key = await office.access.create_api_key(CLIENT, Grant(("browse",), expires, ("https://a.example",)), actor="ada")
    prefix = key.partition(".")[0]
    revoked = await office.access.revoke_api_key(prefix, actor="bob")
    assert revoked == next(row for row in await office.access.api_keys(CLIENT) if row["prefix"] == prefix)
    usual = {"prefix": prefix, "client": CLIENT, "scopes": ["browse"], "expires_at": iso(expires),
             "origins": ["https://a.example"], "rate": None}  # fmt: skip
    rows = await office.access.history(prefix)
    assert [{**row, "at": ""} for row in rows] == [
        {"at": "", "by": "ada", "change": "created", **usual}, {"at": "", "by": "bob", "change": "revoked", **usual},
    ]  # fmt: skip
    assert all(row["at"].endswith("Z") for row in rows)
    await office.access.add_api_key(OTHER, "other.secret")
    assert [row["prefix"] for row in await office.access.history(client_id=OTHER)] == ["other"]
    every = [row for row in await office.access.history() if row["prefix"] != "shop"][-3:]
    assert [(row["prefix"], row["change"], row["by"]) for row in every] == [
        (prefix, "created", "ada"), (prefix, "revoked", "bob"), ("other", "created", "boxoffice"),
    ]  # fmt: skip


async def test_a_key_has_a_limit_of_its_own(office: BoxOffice) -> None:
    """In both stores, and in its history; until it has the usual one again. A key that is made again has what it is given."""

    async def in_redis() -> int | None:
        return (await ApiKeys(office.shards, 30).caller_of(KEY)).allowance.key_max

    assert await in_redis() == 200_000
    for most, there in ((7, 7), (None, 200_000)):
        changed = await office.access.set_rate("shop", most, actor="ada")
        assert (changed["prefix"], changed["rate"]) == ("shop", most)
        assert changed in await office.access.api_keys(CLIENT)
        assert await in_redis() == there
    assert [(row["change"], row["by"], row["rate"]) for row in await office.access.history("shop")][-2:] == [
        ("rate", "ada", 7), ("rate", "ada", None),
    ]  # fmt: skip
    for most in (3, None):
        await office.access.add_api_key(CLIENT, KEY, Grant(rate_max=most))
        assert await in_redis() == (most or 200_000)


async def test_the_limit_of_a_key_that_there_is_not(office: BoxOffice) -> None:
    with pytest.raises(NotFound):
        await office.access.set_rate("none", 7)
    with pytest.raises(Malformed) as refused:
        await office.access.set_rate("shop", 0)
    assert refused.value.pointer == "/rate"


async def test_the_names_of_scopes_are_those_that_the_table_takes(office: BoxOffice) -> None:
    pool = await office.pool()
    for scopes in (" ".join(SCOPES), *SCOPES):
        await pool.execute("UPDATE api_keys SET scopes = $1 WHERE prefix = 'shop'", scopes)
    for wrong in ("", "every", "book  read", " book", "book ", "booking"):
        with pytest.raises(asyncpg.CheckViolationError):
            await pool.execute("UPDATE api_keys SET scopes = $1 WHERE prefix = 'shop'", wrong)
    default = await pool.fetchval(
        "INSERT INTO api_keys (prefix, client_id, secret_sha256) VALUES ('new', $1, '') RETURNING scopes", CLIENT
    )
    assert default == " ".join(USUAL), "of a process of the version before"
