"""Every script that gives a worker something to do rings for one of its own shard, once while nobody has heard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from boxoffice.stores import keys
from boxoffice.stores.jobs import job_prefix, pack_ring
from tests.lua.test_holds import cancel, declined, ended, expire, held, pay, revive, wake
from tests.support.shop.script import Desk, Form

Act = Callable[[Desk, Form], Awaitable[str]]


async def a_hold(desk: Desk) -> Form:
    return await held(desk, floor=1)


async def a_payment_under_way(desk: Desk) -> Form:
    form = await held(desk, floor=1)
    assert await pay(desk, form) == "paid"
    return form


async def expired_after_a_try(desk: Desk) -> Form:
    form = await held(desk, floor=1)
    await declined(desk, form)
    await ended(desk, form)
    assert (await expire(desk))[1] == 1
    return form


WORK: dict[str, tuple[Callable[[Desk], Awaitable[Form]], Act, str]] = {
    "a hold is paid": (a_hold, pay, "paid"),
    "a payment under way is to be let go": (a_payment_under_way, cancel, "requested"),
    "a webhook came": (a_payment_under_way, wake, "woken"),
    "late money takes its tickets once more": (expired_after_a_try, revive, "revived"),
}


async def heard(desk: Desk) -> tuple[int, int]:
    """Rings so far, and jobs that wait in the shard's queue; every one of them is whole and due."""
    queue = await desk.redis.zrange(keys.arq_queue(desk.shard), 0, -1, withscores=True)
    for job, due in queue:
        assert job.decode().startswith(job_prefix(desk.shard))
        assert await desk.redis.get(b"arq:job:" + job) == pack_ring(desk.shard)
        assert await desk.redis.ttl(b"arq:job:" + job) == -1
        assert due == 1
    return int(await desk.redis.get(keys.rings(desk.shard)) or 0), len(queue)


async def nobody_has_rung(desk: Desk) -> None:
    await desk.redis.delete(keys.bell(desk.shard), keys.arq_queue(desk.shard), keys.rings(desk.shard))


@pytest.mark.parametrize("what", WORK)
async def test_whoever_makes_work_rings(desk: Desk, what: str) -> None:
    begin, act, word = WORK[what]
    form = await begin(desk)
    await nobody_has_rung(desk)

    assert await act(desk, form) == word

    assert await heard(desk) == (1, 1)
    assert await desk.redis.pttl(keys.bell(desk.shard)) > 0, "whoever heard it may have died"


@pytest.mark.parametrize("what", WORK)
async def test_nobody_rings_while_a_ring_waits(desk: Desk, what: str) -> None:
    begin, act, word = WORK[what]
    form = await begin(desk)
    await nobody_has_rung(desk)
    await desk.redis.set(keys.bell(desk.shard), "1", px=60_000)

    assert await act(desk, form) == word

    assert await heard(desk) == (0, 0)
