"""What our Redis connection does better than the one it extends."""

from __future__ import annotations

import asyncio

import pytest

from boxoffice.redis import open_redis
from boxoffice.settings import Settings


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancelled_command_is_cancelled(settings: Settings, turns: int) -> None:
    """Whenever the cancellation comes: a task that was told to stop never goes on as if nothing had happened."""
    redis = open_redis(settings, retries=3)
    await redis.ping()

    async def work() -> None:
        while True:
            await redis.time()

    task = asyncio.create_task(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()

    done, _ = await asyncio.wait([task], timeout=1)
    assert done and task.cancelled()
    assert await redis.ping(), "the connection is not left with an answer that nobody read"
    await redis.aclose()
