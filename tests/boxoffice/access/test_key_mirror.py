"""API keys get into Redis as PostgreSQL has them: whole, in order, and never as they were before."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from boxoffice.access.api_keys import KEYS_SHARD, VERSION, ApiKeys, ApiKeyView
from boxoffice.access.key_mirror import KeyMirror, view_of
from boxoffice.access.store import Grant
from boxoffice.errors import NotFound, StoreAway, Unauthorized
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.stores import keys
from tests.conftest import CLIENT, KEY

NAME = keys.api_keys(KEYS_SHARD)
ROW: dict[str, Any] = {
    "prefix": "p", "client_id": "c", "secret_sha256": "aa", "scopes": "browse ops", "origins": ["https://a.example"],
    "expires_at": None, "revoked_at": None, "revision": 7, "rate_max": 9,
    "return_url": "https://a.example/x", "return_urls": ["https://a.example"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({}, {}),
        ({"expires_at": datetime(2030, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)}, {"expires_ms": 1_893_456_000_250}),
        ({"revoked_at": datetime(2030, 1, 1, tzinfo=UTC)}, {"sha256": ""}),
    ],
)
def test_a_row_is_shown_with_what_a_reader_needs(changed: dict[str, Any], shown: dict[str, Any]) -> None:
    """Of a revoked key no digest: no process, of whatever version, finds a secret that fits."""
    usual: dict[str, Any] = {
        "sha256": "aa", "client": "c", "scopes": ("browse", "ops"), "origins": ("https://a.example",), "revision": 7,
        "return_url": "https://a.example/x", "return_urls": ("https://a.example",), "rate_max": 9,
    }  # fmt: skip
    assert view_of(ROW | changed) == ApiKeyView(**usual | shown)


async def there(office: BoxOffice) -> dict[str, ApiKeyView]:
    found = await office.redis.hgetall(NAME)  # type: ignore[misc]
    return {
        prefix.decode(): msgspec.json.decode(view, type=ApiKeyView)
        for prefix, view in found.items()
        if prefix.decode() != VERSION
    }


async def version(office: BoxOffice) -> int:
    return int(await office.redis.hget(NAME, VERSION) or 0)  # type: ignore[misc]


async def test_a_key_is_in_redis_as_it_was_made(office: BoxOffice) -> None:
    expires = datetime(2040, 1, 1, tzinfo=UTC)
    grant = Grant(("browse",), expires, ("https://a.example", "https://b.example"))
    before = await version(office)
    prefix, _, _ = (await office.access.create_api_key(CLIENT, grant)).partition(".")
    found = (await there(office))[prefix]
    assert (found.client, found.scopes, found.origins) == (CLIENT, ("browse",), grant.origins)
    assert found.expires_ms == int(expires.timestamp() * 1_000)
    assert await version(office) == before + 1
    row = await (await office.pool()).fetchrow(
        "SELECT k.*, c.return_url, c.return_urls FROM api_keys k JOIN clients c ON c.id = k.client_id WHERE prefix = $1",
        prefix,
    )
    assert view_of(row) == found


async def test_a_load_writes_what_differs(office: BoxOffice) -> None:
    """And counts it. What PostgreSQL does not know stays: another process may have just made it."""
    await office.redis.hset(NAME, "stranger", msgspec.json.encode(ApiKeyView("aa", CLIENT)))  # type: ignore[misc]
    before = await version(office)
    assert (await office.loader.load(KEYS_SHARD)).api_keys == 0
    assert await version(office) == before
    await office.redis.hdel(NAME, "shop")  # type: ignore[misc]
    await (await office.pool()).execute("UPDATE api_keys SET scopes = 'read' WHERE prefix = 'other'")
    assert (await office.loader.load(KEYS_SHARD)).api_keys == 2
    assert await version(office) == before + 1
    found = await there(office)
    assert set(found) == {"shop", "other", "stranger"} and found["other"].scopes == ("read",)


@pytest.mark.parametrize("how", ["add", "revoke", "load"])
async def test_keys_that_were_lost_come_back_all_at_once(office: BoxOffice, settings: Settings, how: str) -> None:
    """With the one that is made or revoked: a version beside this one alone would make the others unknown."""
    mine, revoked = "mine.secret", "revoked.secret"
    for key in (mine, revoked):
        await office.access.add_api_key(CLIENT, key)
    await office.redis.delete(NAME)
    if how == "add":
        await office.access.add_api_key(CLIENT, "new.secret")
    elif how == "revoke":
        await office.access.revoke_api_key("revoked")
    else:
        await office.loader.load(KEYS_SHARD)

    fresh = ApiKeys(office.shards, settings.api.key_cache_s)
    assert (await fresh.caller_of(mine)).client == CLIENT
    assert await version(office) > 1_000_000_000_000_000
    if how == "add":
        assert (await fresh.caller_of("new.secret")).client == CLIENT
    if how == "revoke":
        with pytest.raises(Unauthorized):
            await fresh.caller_of(revoked)


@pytest.mark.parametrize("then", ["revoke", "narrow"])
async def test_a_load_that_looked_before_a_change_does_not_undo_it(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """It reads PostgreSQL, the key changes in both stores, and only then does it write: the key stays changed."""
    prefix, _, secret = KEY.partition(".")
    await office.redis.hdel(NAME, prefix)  # type: ignore[misc]
    looked, changed = asyncio.Event(), asyncio.Event()
    real = office.redis.hgetall

    async def slowly(name: str) -> Any:
        looked.set()
        await changed.wait()
        return {}

    monkeypatch.setattr(office.redis, "hgetall", slowly)
    load = asyncio.create_task(office.loader.load(KEYS_SHARD))
    await looked.wait()
    if then == "revoke":
        await office.access.revoke_api_key(prefix)
    else:
        await office.access.add_api_key(CLIENT, KEY, Grant(("read",)))
    changed.set()
    await load
    monkeypatch.setattr(office.redis, "hgetall", real)

    keyring = ApiKeys(office.shards, 30)
    if then == "revoke":
        with pytest.raises(Unauthorized):
            await keyring.caller_of(f"{prefix}.{secret}")
    else:
        assert (await keyring.caller_of(KEY)).scopes == {"read"}


async def test_keys_that_are_lost_while_they_are_loaded_come_back_whole(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the writing: what differed then is not all that Redis lacks now."""
    real = office.redis.hgetall

    async def then_lost(name: str) -> Any:
        found = await real(name)  # type: ignore[misc]
        await office.redis.delete(name)
        return found

    monkeypatch.setattr(office.redis, "hgetall", then_lost)
    assert (await office.loader.load(KEYS_SHARD)).api_keys == 2
    monkeypatch.undo()
    assert (await ApiKeys(office.shards, 30).caller_of(KEY)).client == CLIENT


async def test_a_key_that_postgresql_forgot_can_be_revoked(office: BoxOffice) -> None:
    """It went back to before the key was made, and Redis has the key; another that neither has is unknown."""
    await office.access.add_api_key(CLIENT, "forgotten.secret")
    for table in ("key_changes", "api_keys"):
        await (await office.pool()).execute(f"DELETE FROM {table} WHERE prefix = 'forgotten'")
    assert (await ApiKeys(office.shards, 30).caller_of("forgotten.secret")).client == CLIENT
    assert await office.access.revoke_api_key("forgotten") == {"prefix": "forgotten"}
    with pytest.raises(Unauthorized):
        await ApiKeys(office.shards, 30).caller_of("forgotten.secret")
    await office.loader.load(KEYS_SHARD)
    with pytest.raises(Unauthorized):
        await ApiKeys(office.shards, 30).caller_of("forgotten.secret")
    for unknown in ("nobody", VERSION):
        with pytest.raises(NotFound):
            await office.access.revoke_api_key(unknown)


async def test_what_postgresql_forgot_does_not_outlive_the_next_change(office: BoxOffice) -> None:
    """A standby was promoted that had not heard of some changes: Redis has them, with a later revision. Whatever is done
    next is later still."""
    pool = await office.pool()
    old = await pool.fetchval("SELECT revision FROM api_keys WHERE prefix = 'shop'")
    for _ in range(3):
        await office.access.add_api_key(CLIENT, KEY)
    await pool.execute("UPDATE api_keys SET revision = $1 WHERE prefix = 'shop'", old)
    await office.access.revoke_api_key("shop")
    with pytest.raises(Unauthorized):
        await ApiKeys(office.shards, 30).caller_of(KEY)


async def test_a_revision_is_later_than_the_one_before_though_the_clock_is_not(office: BoxOffice) -> None:
    pool = await office.pool()
    await pool.execute("UPDATE api_keys SET revision = 9000000000000000 WHERE prefix = 'shop'")
    await office.access.revoke_api_key("shop")
    assert await pool.fetchval("SELECT revision FROM api_keys WHERE prefix = 'shop'") == 9_000_000_000_000_001


async def test_what_redis_does_not_take_is_loaded_later(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is in PostgreSQL, and whoever made it is told that it is not in force yet."""

    async def away(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(office.redis, "execute_command", away)
    with pytest.raises(StoreAway, match="The change is in PostgreSQL"):
        await office.access.revoke_api_key("shop")
    monkeypatch.undo()
    assert (await office.loader.load(KEYS_SHARD)).api_keys == 1
    with pytest.raises(Unauthorized):
        await ApiKeys(office.shards, 30).caller_of(KEY)


async def test_keys_that_postgresql_has_forgotten_are_withdrawn_and_no_other(office: BoxOffice) -> None:
    """An operator says that they shall be forgotten. Each once, under a later revision, so that every process hears of it."""
    kept, gone = await office.access.create_api_key(CLIENT), await office.access.create_api_key(CLIENT)
    before, prefix = await there(office), gone.partition(".")[0]
    await (await office.pool()).execute("DELETE FROM api_keys WHERE prefix = $1", prefix)
    mirror = KeyMirror(office.database, office.shards)

    assert await mirror.withdraw_unknown() == 1

    withdrawn = msgspec.structs.replace(before[prefix], sha256="", revision=before[prefix].revision + 1)
    assert await there(office) == before | {prefix: withdrawn}
    keyring, since = ApiKeys(office.shards, 30), await version(office)
    with pytest.raises(Unauthorized):
        await keyring.caller_of(gone)
    assert (await keyring.caller_of(kept)).client == CLIENT
    assert (await mirror.withdraw_unknown(), await version(office)) == (0, since)


async def test_of_a_redis_without_keys_none_is_withdrawn(office: BoxOffice) -> None:
    await office.redis.delete(NAME)
    assert await KeyMirror(office.database, office.shards).withdraw_unknown() == 0


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_rebuild_withdraws_them_only_where_postgresql_is_accepted(office: BoxOffice, accepted: bool) -> None:
    await office.loader.load(KEYS_SHARD)
    key = await office.access.create_api_key(CLIENT)
    await (await office.pool()).execute("DELETE FROM api_keys WHERE prefix = $1", key.partition(".")[0])
    for rebuilder in office.rebuilders:
        await rebuilder.rebuild(accept_postgres=accepted)
    assert bool((await there(office))[key.partition(".")[0]].sha256) is not accepted
