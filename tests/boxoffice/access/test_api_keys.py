"""Whose an API key is and what it may do, as one process knows it: for how long, and what it takes to forget."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from boxoffice.access.api_keys import BELIEVED_S, KEYS_SHARD, ApiKeys, secret_digest
from boxoffice.access.rates import Allowance, allowance_of
from boxoffice.access.scopes import Caller
from boxoffice.access.store import Grant
from boxoffice.errors import StoreAway, Unauthorized
from boxoffice.office import BoxOffice
from boxoffice.rate_settings import DeclineSettings, RateSettings
from boxoffice.stores import keys
from boxoffice.stores.freshness import CHECK_S
from tests.conftest import CLIENT, KEY, OTHER_KEY, eventually, load_all
from tests.support.shop.orders import OTHER


class Clock:
    """Seconds, as a test wants them."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def reads(redis: Redis) -> int:
    """Hash reads that the server has answered."""
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("hget", "hgetall"))


async def test_a_key_is_verified_once_in_a_while(office: BoxOffice, clock: Clock) -> None:
    keyring = ApiKeys(office.shards, 30, clock=clock)
    assert (await keyring.caller_of(KEY)).client == CLIENT
    before = await reads(office.redis)
    for _ in range(100):
        assert (await keyring.caller_of(KEY)).client == CLIENT
    assert await reads(office.redis) == before


@pytest.mark.parametrize(
    "key", ["", ".", "shop", "shop.", "shop.wrong", "nobody.secret", "version.1", "x.\ud800", "\0." * 9]
)
async def test_a_wrong_key_is_refused(office: BoxOffice, key: str) -> None:
    with pytest.raises(Unauthorized):
        await office.catalogue.api_keys.caller_of(key)


async def test_unknown_keys_cannot_flood_redis(office: BoxOffice, clock: Clock) -> None:
    keyring = ApiKeys(office.shards, 30, clock=clock)
    before = await reads(office.redis)
    for n in range(200):
        with pytest.raises(Unauthorized):
            await keyring.caller_of(f"guess{n}.secret")
    assert await reads(office.redis) - before <= 7


@pytest.mark.parametrize("others", [False, True], ids=["alone", "while others ask"])
async def test_a_revoked_key_is_refused_within_two_seconds(office: BoxOffice, clock: Clock, others: bool) -> None:
    """Whether or not anybody else asks meanwhile, and though it was found good a moment before. A new one works at once:
    replacing a key leaves the client what it was."""
    keyring = ApiKeys(office.shards, 30, clock=clock)
    old = await office.access.create_api_key(CLIENT)
    await keyring.caller_of(old)
    clock.now += 0.999
    new = await office.access.create_api_key(CLIENT)
    assert [(await keyring.caller_of(key)).client for key in (new, old)] == [CLIENT, CLIENT]
    await office.access.revoke_api_key(old.partition(".")[0])

    clock.now += 0.999
    assert keyring.known_caller(old) == await keyring.caller_of(old), "looked at less than a second ago"
    clock.now += BELIEVED_S - 0.999
    if others:
        assert (await keyring.caller_of(new)).client == CLIENT
    assert keyring.known_caller(old) is None
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await keyring.caller_of(old)
        assert keyring.known_caller(old) is None
    assert (await keyring.caller_of(new)).client == CLIENT
    assert BELIEVED_S < 2


async def test_a_key_that_is_used_all_the_time_is_refused_once_it_is_revoked(office: BoxOffice, clock: Clock) -> None:
    """By those who do not wait, too: a second after the last look they have another one made."""
    keyring = ApiKeys(office.shards, 30, clock=clock)
    await keyring.caller_of(KEY)
    await office.access.revoke_api_key(KEY.partition(".")[0])
    clock.now += CHECK_S
    assert keyring.known_caller(KEY) is not None, "this one asks"
    assert await eventually(lambda: gone(keyring)), "and the answer comes by itself"


async def gone(keyring: ApiKeys) -> bool:
    return keyring.known_caller(KEY) is None


async def test_a_good_key_is_believed_for_as_long_as_somebody_looks(office: BoxOffice, clock: Clock) -> None:
    """Its digest is computed again after `api.key_cache_s`."""
    keyring = ApiKeys(office.shards, 5, clock=clock)
    await keyring.caller_of(KEY)
    for _ in range(9):
        clock.now += 1 / 2
        await keyring.renew()
        assert keyring.known_caller(KEY) is not None
    clock.now += 1 / 2
    await keyring.renew()
    assert keyring.known_caller(KEY) is None
    assert (await keyring.caller_of(KEY)).client == CLIENT


async def test_a_redis_that_is_away_leaves_what_is_known(
    office: BoxOffice, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For whoever can wait for another try; nobody is revoked meanwhile."""
    keyring = ApiKeys(office.shards, 30, clock=clock)
    await keyring.caller_of(KEY)
    clock.now += BELIEVED_S

    def away(**_: object) -> None:
        raise OSError

    monkeypatch.setattr(office.redis, "pipeline", away)
    assert keyring.known_caller(KEY) is None
    assert (await keyring.caller_of(KEY)).client == CLIENT
    with pytest.raises(StoreAway):
        await ApiKeys(office.shards, 30, clock=clock).caller_of(KEY)


@pytest.mark.parametrize("cache_s", [0, 30])
async def test_a_key_expires_to_the_second(office: BoxOffice, clock: Clock, cache_s: float) -> None:
    """By the reader's time of day, also when it was found good a moment before."""
    day = datetime.now(UTC).replace(microsecond=0)
    wall = Clock(day.timestamp())
    keyring = ApiKeys(office.shards, cache_s, clock=clock, wall=wall)
    key = await office.access.create_api_key(CLIENT, Grant(expires_at=day + timedelta(seconds=60)))
    for passed in (0.0, 59.5):
        clock.now += passed
        wall.now += passed
        assert (await keyring.caller_of(key)).client == CLIENT
        assert (keyring.known_caller(key) is not None) == (cache_s > 0)
    clock.now += 0.5
    wall.now += 0.5
    assert keyring.known_caller(key) is None
    with pytest.raises(Unauthorized):
        await keyring.caller_of(key)
    assert (await keyring.caller_of(KEY)).client == CLIENT


def usual_of(prefix: str) -> Allowance:
    return allowance_of(RateSettings(), DeclineSettings(), prefix, None)


async def test_a_caller_is_told_with_what_its_key_may_do(office: BoxOffice) -> None:
    key = await office.access.create_api_key(OTHER, Grant(("browse",), origins=("https://a.example",)))
    keyring = ApiKeys(office.shards, 30)
    assert await keyring.caller_of(key) == Caller(
        OTHER, frozenset({"browse"}), frozenset({b"https://a.example"}), allowance=usual_of(key.partition(".")[0])
    )  # fmt: skip
    assert (await keyring.caller_of(KEY)).scopes == {"browse", "read", "book", "refund", "manage"}
    assert keyring.origins == {b"https://a.example"}
    await office.access.revoke_api_key(key.partition(".")[0])
    later = ApiKeys(office.shards, 30)
    await later.caller_of(KEY)
    assert later.origins == frozenset(), "pages of a revoked key"


async def test_what_a_version_before_wrote_may_do_what_is_usual(office: BoxOffice) -> None:
    old = {"sha256": secret_digest("secret"), "client": CLIENT}
    await office.redis.hset(keys.api_keys(KEYS_SHARD), "old", json.dumps(old))  # type: ignore[misc]
    caller = await ApiKeys(office.shards, 30).caller_of("old.secret")
    assert caller == Caller(
        CLIENT, frozenset({"browse", "read", "book", "refund", "manage"}), allowance=usual_of("old")
    )  # fmt: skip


@pytest.mark.parametrize("redis", ["empty", "was not told"])
async def test_a_load_brings_no_revoked_key_back(office: BoxOffice, redis: str) -> None:
    """Into a Redis that lost everything, and into one that was away when the key was revoked."""
    (good, bad), prefix = (KEY, OTHER_KEY), OTHER_KEY.partition(".")[0]
    if redis == "empty":
        await office.access.revoke_api_key(prefix)
        await office.redis.flushall()
    else:
        await (await office.pool()).execute("UPDATE api_keys SET revoked_at = now() WHERE prefix = $1", prefix)
        assert await ApiKeys(office.shards, 30).caller_of(bad)

    await load_all(office)

    keyring = ApiKeys(office.shards, 30)
    assert (await keyring.caller_of(good)).client == CLIENT
    with pytest.raises(Unauthorized):
        await keyring.caller_of(bad)


async def test_a_revoked_key_is_one_key(office: BoxOffice) -> None:
    """The shop's other keys, and the other shop's, stay good; a key may be accepted again, for another shop, too."""
    second = await office.access.create_api_key(CLIENT)
    await office.access.revoke_api_key(second.partition(".")[0])
    rows = await office.access.api_keys()
    assert {row["prefix"] for row in rows if row["revoked_at"]} == {second.partition(".")[0]}
    keyring = ApiKeys(office.shards, 30)
    assert [(await keyring.caller_of(key)).client for key in (KEY, OTHER_KEY)] == [CLIENT, OTHER]
    await office.access.add_api_key(OTHER, second)
    assert (await ApiKeys(office.shards, 30).caller_of(second)).client == OTHER
    assert {row["prefix"] for row in await office.access.api_keys(CLIENT)} == {"shop"}
    assert [row["client"] for row in await office.access.api_keys(OTHER)] == [OTHER] * 2


async def test_only_digests_of_secrets_are_stored(office: BoxOffice) -> None:
    secret = (await office.access.create_api_key(CLIENT)).partition(".")[2]
    assert len(secret) >= 43, "256 random bits"
    rows = await (await office.pool()).fetch("SELECT * FROM api_keys")
    assert secret not in str([tuple(row) for row in rows])
    assert secret not in str(await office.redis.hgetall(keys.api_keys(KEYS_SHARD)))
