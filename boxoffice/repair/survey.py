"""A look at a whole shard under a shut gate: which events need mending before it opens.

Most need none, and an ordinary restart is checked in some milliseconds. Whatever is suspected here is counted exactly by
reconcile, under the event's lock: this only decides where.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from redis.asyncio import Redis

from boxoffice.books import queries
from boxoffice.stores import keys
from boxoffice.stores.database import Connection
from boxoffice.stores.shard import Shard

__all__ = ["suspects"]

CHUNK: Final = 1_000
"""Records read at once."""

_STOCK: Final = """
SELECT e.id AS event, i.tier_id AS tier, i.total, i.sold
FROM events e LEFT JOIN tiers t ON t.event_id = e.id LEFT JOIN inventory i ON i.tier_id = t.id WHERE e.shard = $1
"""

_MOVING: Final = """
SELECT DISTINCT m.event_id FROM stock_moves m JOIN events e ON e.id = m.event_id
WHERE m.applied_at IS NULL AND e.shard = $1
"""


async def suspects(here: Shard, connection: Connection) -> tuple[set[str], bool]:
    """Events that PostgreSQL decided something about which Redis has not heard, or whose counters differ; and whether any
    differ, so that strays have to be looked for before they are counted anew."""
    redis, shard = here.redis, here.number
    stock: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for row in await connection.fetch(_STOCK, shard):
        if row["tier"] is not None:
            stock[row["event"]].append((row["tier"], row["total"], row["sold"]))
    events = {row["event_id"] for row in await connection.fetch(_MOVING, shard)}
    held, decided = await _waiting(redis, connection, shard)
    events |= decided
    drifted = {
        event for event, counters in (await _counters(redis, shard, list(stock))).items()
        if any(not _agrees(counters, held[event], *tier) for tier in stock[event])
    }  # fmt: skip
    return events | drifted, bool(drifted)


async def _waiting(redis: Redis, connection: Connection, shard: int) -> tuple[dict[str, dict[str, int]], set[str]]:
    """Tickets held by event and tier; and the events of bookings that wait here and are decided there."""
    held: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    waiting: set[bytes] = set()
    for name in (keys.pending(shard), keys.dead(shard), keys.deadlines(shard)):
        waiting.update(await redis.zrange(name, 0, -1))
    booking_ids = sorted(booking.decode() for booking in waiting)
    decided: set[str] = set()
    for start in range(0, len(booking_ids), CHUNK):
        some = booking_ids[start : start + CHUNK]
        for raw in await redis.mget([keys.booking(shard, booking) for booking in some]):
            head = (raw or b"").partition(b"\n")[0].decode(errors="replace").split("|")
            if len(head) < 11 or head[0] not in "HP":
                continue  # parked, or over: the counters show what it does not hold
            for item in head[9].split(","):
                tier, _, quantity = item.partition(":")
                held[head[7]][tier] += int(quantity) if quantity.isdecimal() else 0
        decided.update(await queries.events_of_final(connection, some))
    return held, decided


async def _counters(redis: Redis, shard: int, events: list[str]) -> dict[str, dict[bytes, bytes]]:
    found: list[Any] = []
    for start in range(0, len(events), CHUNK):
        async with redis.pipeline(transaction=False) as pipe:
            for event in events[start : start + CHUNK]:
                pipe.hgetall(keys.event(shard, event))
            found += await pipe.execute()
    return dict(zip(events, found, strict=True))


def _agrees(counters: dict[bytes, bytes], held: dict[str, int], tier: str, total: int, sold: int) -> bool:
    count = {letter: int(counters.get(f"{letter}:{tier}".encode(), b"-1")) for letter in "ahct"}
    return count == {"a": total - sold - held[tier], "h": held[tier], "c": sold, "t": total}
