"""What of a tier is sold, and can still be."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import asyncpg
import pytest

from boxoffice.books.inventory import lock_inventory, sell
from boxoffice.office import BoxOffice
from boxoffice.sales.checks import NewTier
from tests.conftest import SaleMaker, load_all
from tests.support.shop.office import Till


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    return Till(office, await open_sale(GA=50))


async def test_tickets_are_counted_as_sold_by_tier_and_never_beyond_the_total(till: Till) -> None:
    """What is not there has nothing left; the table itself refuses one ticket too many."""
    pool, tier = await till.office.pool(), till.event.tiers[0].id
    async with pool.acquire() as connection:
        assert await lock_inventory(connection, [tier, "nobody"]) == {tier: 50}
        await sell(connection, {})
        await sell(connection, {tier: 49})
        assert await lock_inventory(connection, [tier]) == {tier: 1}
        with pytest.raises(asyncpg.CheckViolationError):
            await sell(connection, {tier: 2})


async def test_whatever_changes_an_inventory_counts_in_its_version(till: Till) -> None:
    """Sold, given back, another capacity: each is one more, of this tier alone, and says when."""
    (ga,) = till.event.tiers
    other = await till.office.control.add_tier(till.event.id, NewTier("VIP", 2_000, 4))

    async def seen() -> dict[str, tuple[int, bool]]:
        rows = await till.fetch("SELECT tier_id, version, updated_at > '2001-01-01' AS now FROM inventory")
        return {row["tier_id"]: (row["version"], row["now"]) for row in rows}

    async def counts(step: Awaitable[Any]) -> None:
        await till.fetch("UPDATE inventory SET updated_at = '2000-01-01'")
        before = await seen()
        await step
        assert await seen() == before | {ga.id: (before[ga.id][0] + 1, True)}

    await load_all(till.office)
    await till.office.catalogue.read()
    assert [tier.code for tier in other.tiers] == ["GA", "VIP"], "a new tier is the last"
    booking = await till.book(GA=3)
    await counts(till.rest())
    await counts(till.refund(booking, GA=1))
    await counts(till.office.control.change_tier(ga.id, capacity=60))
