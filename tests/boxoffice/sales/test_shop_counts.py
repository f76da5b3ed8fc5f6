"""When an event's shops are counted anew, and how often."""

from __future__ import annotations

import asyncio

import pytest

from boxoffice.errors import CannotRun, StoreAway
from boxoffice.sales.shop_counts import FRESH_S, ShopCounts
from tests.support.clocks import Passing


class Shops:
    """Two shards, each of which waits for its leave before it has counted."""

    def __init__(self) -> None:
        self.time = Passing()
        self.counted: list[tuple[int, str]] = []
        self.leave = asyncio.Event()
        self.leave.set()
        self.error: Exception | None = None
        self.counts = ShopCounts(
            [lambda event: self._count(0, event), lambda event: self._count(1, event)], self.time.clock
        )

    async def _count(self, shard: int, event: str) -> None:
        self.counted.append((shard, event))
        await self.leave.wait()
        if self.error:
            raise self.error


async def test_requests_at_once_share_a_count_that_is_good_for_some_seconds() -> None:
    shops = Shops()
    shops.leave.clear()
    both = [asyncio.create_task(shops.counts.make(0, "e")) for _ in range(2)]
    await asyncio.sleep(0)
    shops.time.now += FRESH_S
    shops.leave.set()
    await asyncio.gather(*both)
    shops.time.now += FRESH_S - 1
    await shops.counts.make(0, "e")
    assert shops.counted == [(0, "e")]
    shops.time.now += 1
    await shops.counts.make(0, "e")
    assert shops.counted == [(0, "e"), (0, "e")]


async def test_each_shard_counts_its_own_and_in_its_own_turn() -> None:
    shops = Shops()
    shops.leave.clear()
    all_three = [asyncio.create_task(shops.counts.make(*of)) for of in [(0, "a"), (0, "b"), (1, "c")]]
    for _ in range(3):
        await asyncio.sleep(0)
    assert shops.counted == [(0, "a"), (1, "c")], "one of a shard at a time"
    shops.leave.set()
    await asyncio.gather(*all_three)
    assert shops.counted == [(0, "a"), (1, "c"), (0, "b")]


async def test_a_count_that_failed_or_was_given_up_is_made_again() -> None:
    shops = Shops()
    shops.error = CannotRun("locked")
    with pytest.raises(StoreAway):
        await shops.counts.make(0, "e")
    shops.error = None
    shops.leave.clear()
    given_up = asyncio.create_task(shops.counts.make(0, "e"))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    shops.leave.set()
    await shops.counts.make(0, "e")
    assert shops.counted == 3 * [(0, "e")]
