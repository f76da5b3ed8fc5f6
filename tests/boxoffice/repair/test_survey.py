"""A look at a whole shard under a shut gate: which of its events are not as PostgreSQL has them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from boxoffice.office import BoxOffice
from boxoffice.repair.survey import suspects
from boxoffice.stores import keys
from tests.conftest import SaleMaker
from tests.support.houses import SHARDS, House, Houses, open_houses, unheard
from tests.support.shop.office import Died

SHARD = 1


@pytest.fixture
async def houses(office: BoxOffice, open_sale: SaleMaker) -> AsyncIterator[Houses]:
    """At each: sold, pending, parked and held tickets; of one customer several."""
    async for houses in open_houses(office, open_sale):
        for house in houses.houses:
            house.booked["sold"] = await house.book(customer="ann", GA=2, VIP=1)
        await houses.houses[0].rest()
        for house in houses.houses:
            house.booked["held"] = await house.book(None, hold_s=900, customer="ann", GA=2)
            house.booked["also held"] = await house.book(None, hold_s=900, customer="bob", GA=1, VIP=1)
            house.booked["pending"] = await house.book(customer="ann", GA=3)
            house.booked["parked"] = await house.book(customer="bob", GA=1)
            await office.redis.zadd(keys.dead(house.shard), {house.booked["parked"]: 1})
            await office.redis.zrem(keys.pending(house.shard), house.booked["parked"])
        yield houses


async def suspected(houses: Houses) -> tuple[list[str], bool]:
    """Of the shard: its own first and second event, and whether counters differ."""
    async with (await houses.office.pool()).acquire() as connection:
        events, drifted = await suspects(houses.office.shards[SHARD], connection)
    names = {house.event.id: name for house, name in zip(houses.of(SHARD), ("one", "other"), strict=True)}
    return sorted(names.get(event, "another shard's") for event in events), drifted


@pytest.mark.parametrize("chunk", [1, 1_000])
async def test_nothing_is_suspected_where_nothing_is_wrong(
    houses: Houses, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """However few records are read at once; and what is wrong in the other shard is its own guard's."""
    monkeypatch.setattr("boxoffice.repair.survey.CHUNK", chunk)
    for house in houses.of(0):
        await shift(house, 0, a=1)
    assert await suspected(houses) == ([], False)


async def shift(house: House, tier: int, **letters: int) -> None:
    for letter, by in letters.items():
        field = f"{letter}:{house.event.tiers[tier].id}"
        await house.office.redis.hincrby(keys.event(house.shard, house.event.id), field, by)  # type: ignore[misc]


@pytest.mark.parametrize("tier", [0, 1])
@pytest.mark.parametrize(
    "drift", [{"a": 1}, {"a": -1}, {"h": 1}, {"c": 1}, {"t": 1}, {"a": 1, "h": -1}, {"a": 1, "c": -1}, {"a": 1, "t": 1}]
)
async def test_any_counter_of_any_tier_makes_its_event_suspect(
    houses: Houses, drift: dict[str, int], tier: int
) -> None:
    await shift(houses.of(SHARD)[1], tier, **drift)
    assert await suspected(houses) == (["other"], True)


@pytest.mark.parametrize("letter", "ahct")
async def test_a_lost_counter_makes_its_event_suspect(houses: Houses, letter: str) -> None:
    """Also one that is nought."""
    for house in houses.houses:
        await houses.office.redis.delete(keys.pending(house.shard), keys.dead(house.shard), keys.deadlines(house.shard))
        sale = keys.event(house.shard, house.event.id)
        for tier, (total, sold) in zip(house.event.tiers, ((20, 2), (4, 1)), strict=True):
            counters = {f"a:{tier.id}": total - sold, f"h:{tier.id}": 0, f"c:{tier.id}": sold}
            await houses.office.redis.hset(sale, mapping=counters)  # type: ignore[misc]
    assert await suspected(houses) == ([], False)
    one = houses.of(SHARD)[0]
    await houses.office.redis.hdel(keys.event(SHARD, one.event.id), f"{letter}:{one.event.tiers[1].id}")  # type: ignore[misc]
    assert await suspected(houses) == (["one"], True)


@pytest.mark.parametrize("kind", ["held", "also held", "pending", "parked"])
async def test_tickets_of_every_booking_that_waits_are_counted(houses: Houses, kind: str) -> None:
    """Without one of them the counters do not add up."""
    one = houses.of(SHARD)[0]
    await houses.office.redis.delete(keys.booking(SHARD, one.booked[kind]))
    assert await suspected(houses) == (["one"], True)


async def test_a_booking_that_is_over_holds_nothing(houses: Houses) -> None:
    """Though it still stands in a set."""
    await houses.office.redis.zadd(keys.pending(SHARD), {houses.of(SHARD)[0].booked["sold"]: 1})
    assert (await suspected(houses))[1] is False


@pytest.mark.parametrize("place", ["pending", "dead", "deadlines"])
@pytest.mark.parametrize("chunk", [1, 1_000])
async def test_who_waits_and_is_decided_makes_the_event_suspect(
    houses: Houses, monkeypatch: pytest.MonkeyPatch, place: str, chunk: int
) -> None:
    """Wherever he waits. The counters agree with what waits, so no strays need to be looked for."""
    monkeypatch.setattr("boxoffice.repair.survey.CHUNK", chunk)
    redis, one = houses.office.redis, houses.of(SHARD)[0]
    (name,) = (name(SHARD) for name in (keys.pending, keys.dead, keys.deadlines) if name.__name__ == place)
    booking = one.booked["sold"]
    await redis.zadd(name, {booking: 1})
    assert await suspected(houses) == (["one"], False)


async def test_a_settlement_that_redis_has_not_heard_of(houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    for shard in range(SHARDS):
        with unheard(monkeypatch), pytest.raises(Died):
            await houses.office.settlements[shard].drain()
    assert await suspected(houses) == (["one", "other"], True)


async def test_an_open_move_makes_its_event_suspect(houses: Houses) -> None:
    """One that was applied does not, nor one of another shard."""
    pool = await houses.office.pool()
    for house, applied in ((houses.of(0)[0], None), (houses.of(SHARD)[1], "now()"), (houses.of(SHARD)[0], None)):
        await pool.execute(
            "INSERT INTO stock_moves (event_id, tier_id, total_delta, applied_at)"
            f" VALUES ($1, $2, 0, {applied or 'NULL'})",
            house.event.id, house.event.tiers[0].id,
        )  # fmt: skip
    assert await suspected(houses) == (["one"], False)
