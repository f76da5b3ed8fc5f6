"""tally.lua, one test for each line of its Returns; the gate's are in test_gate.py."""

from __future__ import annotations

from typing import Any

from boxoffice import ids
from boxoffice.stores import keys
from tests.support.shop.orders import CLIENT, OTHER
from tests.support.shop.script import EVENT, Desk

CODE = ids.code_digest("AAAA-BBBB-CCCC")


async def tally(desk: Desk, tier: str, *holders: str) -> Any:
    """The script's reply."""
    shard = desk.shard
    names = [keys.gate(shard), keys.event(shard, EVENT), keys.owners(shard, EVENT)]
    return await desk.scripts.tally(desk.redis, names, [tier, *holders])


async def test_what_is_available_and_what_each_has_of_the_tier(desk: Desk) -> None:
    await desk.open_sale(floor=9, balcony=5)
    await desk.set_code(CODE, "9||0|0")
    mine, theirs = desk.form(floor=2, balcony=1, access_code=CODE), desk.form(floor=3, client=OTHER, hold_ms=60_000)
    await desk.book(mine, theirs)
    holders = f"k{CODE}", f"@{OTHER}", f"@{CLIENT}", "@nobody", "k0"
    assert await tally(desk, "floor", *holders) == [b"counted", 4, 2, 3, 2, 0, 0]
    assert await tally(desk, "balcony", *holders) == [b"counted", 4, 1, 0, 1, 0, 0]
    assert await tally(desk, "balcony") == [b"counted", 4]


async def test_a_tier_without_counters(desk: Desk) -> None:
    await desk.open_sale(floor=9)
    assert await tally(desk, "attic", f"@{CLIENT}") == [b"unloaded"]
