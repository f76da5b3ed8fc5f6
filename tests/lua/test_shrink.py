"""shrink.lua, one test for each line of its Returns."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.stores import keys
from tests.support.shop.script import EVENT, Desk


async def shrink(desk: Desk, tickets: int, tier: str = "floor", total: int = 5) -> Any:
    """The script's reply. PostgreSQL has told of `total`."""
    shard = desk.shard
    name = [keys.gate(shard), keys.moved(shard, "7-7"), keys.event(shard, EVENT), keys.owners(shard, EVENT)]
    return await desk.scripts.shrink(desk.redis, name, [tier, tickets, total, 60])


@pytest.mark.parametrize(("tickets", "taken"), [(2, 2), (3, 3), (4, 3), (0, 0)])
async def test_as_many_are_taken_as_are_there(desk: Desk, tickets: int, taken: int) -> None:
    """What is held or sold stays; the total goes down with what is available."""
    await desk.open_sale(floor=5, balcony=9)
    await desk.book(desk.form(floor=2))

    assert await shrink(desk, tickets) == [b"taken", taken]

    assert await desk.counts("floor") == (3 - taken, 2, 0)
    assert int(await desk.redis.hget(keys.event(desk.shard, EVENT), "t:floor")) == 5 - taken  # type: ignore[misc]
    assert await desk.counts("balcony") == (9, 0, 0)
    assert 0 < await desk.redis.ttl(keys.moved(desk.shard, "7-7")) <= 60


@pytest.mark.parametrize(
    ("total", "tickets", "taken", "left"),
    [
        (5, 2, 2, 1),
        # Two are gone already, of a try that did not commit.
        (7, 2, 2, 3),
        (7, 3, 3, 2),
        (7, 5, 5, 0),
        (7, 6, 5, 0),
        # It wants fewer this time: the others go on sale again.
        (7, 1, 1, 4),
        (7, 0, 0, 5),
        # A total above PostgreSQL's is a move whose mark is missing, and nobody's try.
        (4, 2, 2, 1),
    ],
)
async def test_what_a_try_took_that_did_not_commit_counts_for_the_next(
    desk: Desk, total: int, tickets: int, taken: int, left: int
) -> None:
    await desk.open_sale(floor=5)
    await desk.book(desk.form(floor=2))
    assert await shrink(desk, tickets, total=total) == [b"taken", taken]
    assert await desk.counts("floor") == (left, 2, 0)
    if total >= 5:  # tried once more, it takes nothing more
        assert await shrink(desk, tickets, total=total) == [b"taken", taken]
    assert await desk.counts("floor") == (left, 2, 0)


async def test_of_an_oversold_tier_nothing_is_taken(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    await desk.redis.hset(keys.event(desk.shard, EVENT), mapping={"a:floor": -1, "h:floor": 6})  # type: ignore[misc]
    assert await shrink(desk, 3) == [b"taken", 0]
    await desk.redis.hset(keys.event(desk.shard, EVENT), mapping={"a:floor": 5, "h:floor": 0})  # type: ignore[misc]


async def test_a_tier_without_counters_is_left_alone(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    assert await shrink(desk, 1, "attic") == [b"unloaded"]
    assert not await desk.redis.exists(keys.moved(desk.shard, "7-7"))
