"""What those who watch a sale are shown: one look for all who ask within a second, and what is away is left out."""

from __future__ import annotations

import asyncio

import pytest

from boxoffice.backoffice import watching
from boxoffice.backoffice.sums import Sums
from boxoffice.backoffice.watching import Watching
from boxoffice.clock import Clock
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from tests.conftest import SHARD, SaleMaker, load_all
from tests.support.shop.office import Till


@pytest.fixture
async def event(office: BoxOffice, open_sale: SaleMaker) -> EventView:
    await load_all(office)
    return await open_sale(GA=10)


class Time:
    """As somebody sets it."""

    now_s = 0.0

    def clock(self) -> Clock:
        return Clock(now_s=lambda: self.now_s)


async def test_who_asks_within_a_second_shares_one_look(office: BoxOffice, event: EventView) -> None:
    """Twenty pages cost no more than one; the next second has figures of its own."""
    time = Time()
    here = Watching(office.shards, office.database, Sums(office.shards), time.clock())
    first = await asyncio.gather(*(here.figures() for _ in range(20)))
    assert all(each is first[0] for each in first)
    time.now_s = 0.9
    assert await here.figures() is first[0]
    time.now_s = 1.0
    later = await here.figures()
    assert later is not first[0] and later.sales is not None


async def test_a_look_that_one_gives_up_is_anothers(office: BoxOffice, event: EventView) -> None:
    """A page that is closed takes nobody's figures away."""
    here = Watching(office.shards, office.database, Sums(office.shards), Time().clock())
    gone = asyncio.create_task(here.figures())
    staying = asyncio.create_task(here.figures())
    await asyncio.sleep(0)
    gone.cancel()
    assert (await staying).sales


async def test_too_many_holds_are_not_read(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nobody says which of the held tickets are pending; how many are held is always known."""
    till = Till(office, event)
    for _ in range(3):
        await till.hold(GA=1)
    monkeypatch.setattr(watching, "HOLDS_MAX", 2)
    figures = await Watching(office.shards, office.database, Sums(office.shards), Time().clock()).figures()
    assert figures.sales
    (tier,) = figures.sales[0].tiers
    assert (tier.held, tier.pending, tier.unpaid, tier.available) == (3, None, None, 7)
    monkeypatch.undo()
    figures = await Watching(office.shards, office.database, Sums(office.shards), Time().clock()).figures()
    assert figures.sales
    (tier,) = figures.sales[0].tiers
    assert (tier.held, tier.pending, tier.unpaid) == (3, 0, 3)


async def test_a_sale_without_its_counters_is_told_by_postgresql(office: BoxOffice, event: EventView) -> None:
    await office.redis.delete(keys.event(SHARD, event.id))
    figures = await Watching(office.shards, office.database, Sums(office.shards), Time().clock()).figures()
    assert figures.sales
    (tier,) = figures.sales[0].tiers
    assert (tier.total, tier.sold, tier.held, tier.available) == (10, 0, None, None)


async def test_a_postgresql_that_is_away_takes_its_figures_along(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(office.database, "reader", away)
    figures = await Watching(office.shards, office.database, Sums(office.shards), Time().clock()).figures()
    assert (figures.sales, figures.money, figures.moves, figures.alerts, figures.disabled) == (None,) * 5
    assert [each.gate for each in figures.shards] == ["open", "open"]
