"""A till at a concert with ten GA tickets at 10.00 and four VIP at 20.00."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from boxoffice.office import BoxOffice
from tests.conftest import SHARD, SaleMaker, load_all
from tests.support.houses import Houses, open_houses
from tests.support.neighbours import Street
from tests.support.shop.office import Till


@pytest.fixture
async def till(office: BoxOffice, open_sale: Callable[..., Awaitable[Any]]) -> AsyncIterator[Till]:
    await load_all(office)
    till = Till(office, await open_sale(GA=10, VIP=4))
    yield till
    for settlement in office.settlements:
        await settlement.stop()


@pytest.fixture
async def houses(office: BoxOffice, open_sale: Callable[..., Awaitable[Any]]) -> AsyncIterator[Houses]:
    """Two concerts in each of two shards, with nothing booked."""
    async for houses in open_houses(office, open_sale):
        yield houses


@pytest.fixture
async def street(office: BoxOffice, open_sale: SaleMaker) -> AsyncIterator[Street]:
    """Nobody has booked yet. The event of `mine` and the other one are in the second shard."""
    far, mine, other = [await open_sale(shard=shard, GA=20, VIP=4) for shard in (0, SHARD, SHARD)]
    await load_all(office)
    yield Street(office, {"mine": mine, "other": other, "far": far})
    for settlement in office.settlements:
        await settlement.stop()
