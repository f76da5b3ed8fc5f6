"""Two shards with the same in each: what is done in one has to show there, and to leave no trace in the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from tests.support.shop.office import Till

__all__ = ["Twins"]

_OF_THE_SHARD = {
    "shards": "t.shard = $1",
    "batches": "t.shard = $1",
    "events": "t.shard = $1",
    "tiers": "t.event_id IN (SELECT id FROM events WHERE shard = $1)",
    "inventory": "t.tier_id IN (SELECT id FROM tiers WHERE event_id IN (SELECT id FROM events WHERE shard = $1))",
    "stock_moves": "t.event_id IN (SELECT id FROM events WHERE shard = $1)",
    "bookings": "t.event_id IN (SELECT id FROM events WHERE shard = $1)",
    "booking_items": "t.booking_id IN (SELECT id FROM bookings WHERE event_id IN (SELECT id FROM events WHERE shard = $1))",
    "payments": "t.booking_id IN (SELECT id FROM bookings WHERE event_id IN (SELECT id FROM events WHERE shard = $1))",
    "refunds": "t.booking_id IN (SELECT id FROM bookings WHERE event_id IN (SELECT id FROM events WHERE shard = $1))",
}


@dataclass
class Twins:
    """A till at an event in each shard, and a booking in each; `mine` is the shard in which something is done."""

    office: BoxOffice
    tills: list[Till]
    mine: int
    bookings: list[str] = field(default_factory=list)

    @property
    def till(self) -> Till:
        """Where something is done."""
        return self.tills[self.mine]

    @property
    def booking(self) -> str:
        """The one to which something is done."""
        return self.bookings[self.mine]

    def __iter__(self) -> Any:
        return iter(zip(self.tills, self.bookings, strict=True))

    async def book(self, token: str | None = "tok_ok") -> None:
        """Two GA tickets in each shard; held without a token."""
        self.bookings = [await till.book(token, GA=2) for till in self.tills]

    async def traces(self, shard: int) -> dict[str, Any]:
        """All that both stores have of a shard; but for the keys of the API, which belong to no shard's events."""
        redis, found = self.office.redis, {}
        names = sorted([name async for name in redis.scan_iter(match=f"*{keys.shard_tag(shard)}*", count=1_000)])
        for name in names:
            if name.decode() not in (keys.api_keys(shard), keys.probe(shard), keys.unchecked(shard)):
                found[name.decode()] = await redis.dump(name), await redis.ttl(name) == -1
        for table, condition in _OF_THE_SHARD.items():
            rows = await self.till.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table} t WHERE {condition}", shard)
            found[table] = sorted(row["row"] for row in rows)
        return found
