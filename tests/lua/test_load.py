"""load.lua, one test for each line of its Returns. A counter that is there is never reset."""

from __future__ import annotations

from typing import Any

from boxoffice import keys
from tests.support.desk import EVENT, FAR, Desk


async def load(desk: Desk, *tiers: str, view: str = "{}", on: str = "1", starts_ms: int = FAR) -> Any:
    """The script's reply; each tier is `id|price|total|sold`."""
    return await desk.scripts.load(
        desk.redis,
        [keys.event(desk.shard, EVENT), keys.catalogue(desk.shard)],
        [EVENT, view, on, starts_ms, "USD", 0, *tiers],
    )


async def version(desk: Desk) -> int:
    """Of the catalogue."""
    return int(await desk.redis.hget(keys.catalogue(desk.shard), "version") or 0)  # type: ignore[misc]


async def test_a_new_event_is_loaded_with_what_is_not_sold(desk: Desk) -> None:
    assert await load(desk, "floor|100|50|20", "balcony|-200|5|0") == [b"loaded", 2]

    assert await desk.counts("floor") == (30, 0, 20)
    assert await desk.counts("balcony") == (5, 0, 0)
    sale = await desk.redis.hgetall(keys.event(desk.shard, EVENT))  # type: ignore[misc]
    assert (sale[b"p:floor"], sale[b"p:balcony"], sale[b"on"], sale[b"cur"]) == (b"100", b"-200", b"1", b"USD")
    assert await desk.redis.hget(keys.catalogue(desk.shard), EVENT) == b"{}"  # type: ignore[misc]
    assert await version(desk) == 1


async def test_unchanged_when_nothing_is_new(desk: Desk) -> None:
    """Readers keep their map: the version stays."""
    await load(desk, "floor|100|50|0")
    before = await desk.snapshot()

    assert await load(desk, "floor|100|50|0") == [b"unchanged"]

    assert await desk.snapshot() == before


async def test_counters_that_are_there_are_never_reset(desk: Desk) -> None:
    """Whatever PostgreSQL says: bookings under way are counted here only."""
    await load(desk, "floor|100|50|0")
    desk.prices["floor"] = 100
    await desk.book(desk.form(floor=2))

    assert await load(desk, "floor|150|60|7", on="0") == [b"loaded", 0]

    assert await desk.counts("floor") == (48, 2, 0)
    sale = await desk.redis.hgetall(keys.event(desk.shard, EVENT))  # type: ignore[misc]
    assert (sale[b"p:floor"], sale[b"on"]) == (b"150", b"0")


async def test_a_tier_that_is_new_joins_the_sale(desk: Desk) -> None:
    await load(desk, "floor|100|50|0")
    desk.prices["floor"] = 100
    await desk.book(desk.form(floor=2))

    assert await load(desk, "floor|100|50|0", "balcony|200|5|0") == [b"loaded", 1]

    assert await desk.counts("floor") == (48, 2, 0)
    assert await desk.counts("balcony") == (5, 0, 0)


async def test_a_static_field_that_was_lost_comes_back(desk: Desk) -> None:
    await load(desk, "floor|100|50|0")
    await desk.redis.hdel(keys.event(desk.shard, EVENT), "p:floor", "on")  # type: ignore[misc]

    assert await load(desk, "floor|100|50|0") == [b"loaded", 0]

    assert await desk.redis.hget(keys.event(desk.shard, EVENT), "p:floor") == b"100"  # type: ignore[misc]
    assert await version(desk) == 2
