"""Connections that stay with one caller: none is used again while an answer that nobody read may be on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from boxoffice.settings import Settings
from boxoffice.stores.pinned import Pinned
from boxoffice.stores.redis import open_redis
from tests.support.proxy import Proxy, proxied
from tests.support.waiting import true_soon

HALF = 2
"""Connections kept: half of a pool of four."""


@pytest.fixture
async def proxy_and_redis(settings: Settings) -> AsyncIterator[tuple[Proxy, Redis]]:
    async with proxied(settings.redis_url) as (proxy, url):
        redis = open_redis(settings.model_copy(update={"redis_url": url, "redis_pool_max": 2 * HALF}), timeout_s=1.0)
        yield proxy, redis
        await redis.aclose()


@pytest.fixture
def proxy(proxy_and_redis: tuple[Proxy, Redis]) -> Proxy:
    return proxy_and_redis[0]


@pytest.fixture
def redis(proxy_and_redis: tuple[Proxy, Redis]) -> Redis:
    return proxy_and_redis[1]


async def test_a_call_that_was_cancelled_leaves_its_answer_to_nobody(redis: Redis, proxy: Proxy) -> None:
    """The answer of the first would else be read by the second: a booking told what became of another."""
    pinned = Pinned(redis)
    assert await pinned.execute_command("ECHO", "warm") == b"warm"
    proxy.delay_s = 0.05
    calling = asyncio.create_task(pinned.execute_command("ECHO", "of nobody"))
    await true_soon(lambda: proxy.waiting)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    proxy.delay_s = 0

    for n in range(3 * HALF):
        assert await pinned.execute_command("ECHO", f"{n}") == b"%d" % n


async def test_a_call_that_timed_out_leaves_its_answer_to_nobody(redis: Redis, proxy: Proxy) -> None:
    pinned = Pinned(redis)
    proxy.delay_s = 1.2
    with pytest.raises(TimeoutError):
        await pinned.execute_command("ECHO", "late")
    proxy.delay_s = 0

    for n in range(3 * HALF):
        assert await pinned.execute_command("ECHO", f"{n}") == b"%d" % n


async def test_calls_that_fail_use_up_no_connection(redis: Redis, proxy: Proxy) -> None:
    """Neither those that Redis refuses, nor those that break: else the pool is empty after a few."""
    pinned = Pinned(redis)
    for _ in range(6 * HALF):
        with pytest.raises(ResponseError):
            await pinned.execute_command("NOSUCH")
    for _ in range(6 * HALF):
        proxy.when = b"doomed"
        with pytest.raises(ConnectionError):
            await pinned.execute_command("ECHO", "doomed")

    answers = await asyncio.gather(*(pinned.execute_command("ECHO", f"{n}") for n in range(2 * HALF)))
    assert answers == [b"%d" % n for n in range(2 * HALF)]


async def test_a_refused_call_keeps_its_connection(redis: Redis) -> None:
    """An error that Redis sends is a whole answer: connecting anew for each would be slow just when many are refused."""
    pinned = Pinned(redis)
    first = await pinned.execute_command("CLIENT", "ID")
    with pytest.raises(ResponseError):
        await pinned.execute_command("NOSUCH")

    assert await pinned.execute_command("CLIENT", "ID") == first


async def test_no_more_are_kept_than_half_of_the_pool(redis: Redis) -> None:
    """The other half is for everybody else, also after a moment in which all of them were in use."""
    pinned = Pinned(redis)
    for _ in range(2):
        answers = await asyncio.gather(*(pinned.execute_command("ECHO", f"{n}") for n in range(2 * HALF)))
        assert answers == [b"%d" % n for n in range(2 * HALF)]
        assert len(pinned.free) == HALF
    assert await redis.ping()
