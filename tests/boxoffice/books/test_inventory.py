"""What of a tier is sold, and can still be."""

from __future__ import annotations

import asyncpg
import pytest

from boxoffice.books.inventory import lock_inventory, sell
from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker
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
