"""Every script runs on the real server and on a fake one, in the first shard and in another."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from boxoffice.stores import keys
from boxoffice.stores.scripts import load_scripts
from tests.support.fake_info import fake_redis
from tests.support.shop.script import Desk, known_keys


@pytest.fixture(params=["server", "fake"])
def server(request: pytest.FixtureRequest) -> str:
    """Which kind of server the scripts run on."""
    return str(request.param)


@pytest.fixture(params=[0, 3])
def shard(request: pytest.FixtureRequest) -> int:
    """Which shard's keys the scripts are given."""
    return int(request.param)


@pytest.fixture
def redis_url(server: str, request: pytest.FixtureRequest) -> str:
    """The real server, started only when somebody asks for it; empty for the fake one."""
    return "" if server == "fake" else request.getfixturevalue("servers").redis_url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """An empty server."""
    redis = Redis.from_url(redis_url) if redis_url else fake_redis()
    await redis.flushall()
    yield redis
    await redis.flushall()
    await redis.aclose()


@pytest.fixture
async def desk(redis: Redis, server: str, shard: int) -> AsyncIterator[Desk]:
    """A shard whose gate is open. Afterwards: no key that keys.py does not name, and none of another shard."""
    desk = Desk(redis, load_scripts(real_server=server == "server"), shard)
    await desk.open_gate()
    yield desk
    pattern = re.compile(known_keys([shard]))
    leaked = [key for key in await redis.keys("*") if not pattern.fullmatch(key.decode())]
    assert not leaked, "every key has a function in keys.py"
    for event in ("concert00000", "theatre00000"):
        if await redis.type(keys.event(shard, event)) == b"hash":
            for tier in await desk.tiers(event):
                await desk.counts(tier, event)
