"""Two concerts in each of two shards, with every kind of booking: what a repair of one may not touch in the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from boxoffice.office import BoxOffice
from boxoffice.settlement.mirror import Mirror
from boxoffice.stores import keys
from tests.support.shop.office import Died, Till

__all__ = ["SHARDS", "House", "Houses", "open_houses"]

SHARDS = 2

Photo = dict[bytes, bytes | None]


@dataclass
class House(Till):
    """One concert, and what was booked at it."""

    booked: dict[str, str] = field(default_factory=dict)
    """Kind to booking: `sold`, `part` (one of its tickets was refunded), `cancelled`, `declined`, `waiting` (for 3-D
    Secure), `tried` (a hold whose card was declined), `held` (nobody tried to pay it)."""

    @property
    def shard(self) -> int:
        return self.event.shard

    async def fill(self) -> None:
        """Of twenty GA six are sold, two wait and five are held; of four VIP one is sold."""
        booked = self.booked
        booked["sold"] = await self.book(customer="ann", GA=3)
        booked["part"] = await self.book(customer="bob", GA=2, VIP=2)
        booked["cancelled"] = await self.book(customer="cat", GA=4)
        booked["declined"] = await self.book("tok_card_declined", customer="dan", GA=1)
        booked["tried"] = await self.book(None, hold_s=900, customer="ann", GA=3)
        await self.pay(booked["tried"], "tok_card_declined")
        booked["held"] = await self.book(None, hold_s=900, customer="bob", GA=2)

    async def finish(self) -> None:
        """After what `fill` began was settled."""
        await self.refund(self.booked["part"], GA=1, VIP=1)
        await self.cancel(self.booked["cancelled"])
        self.booked["waiting"] = await self.book("tok_3ds", customer="eve", GA=2)

    async def counted(self) -> dict[str, Any]:
        """Whatever Redis counts of the concert."""
        redis, shard, event = self.office.redis, self.shard, self.event.id
        return {
            "sale": await redis.hgetall(keys.event(shard, event)),  # type: ignore[misc]
            "owners": await redis.hgetall(keys.owners(shard, event)),  # type: ignore[misc]
            "by tier": await redis.hgetall(keys.owned_tiers(shard, event)),  # type: ignore[misc]
            "shops": await redis.hgetall(keys.shops(shard, event)),  # type: ignore[misc]
            "unpaid": await redis.hgetall(keys.unpaid(shard, event)),  # type: ignore[misc]
        }

    async def places(self) -> dict[str, tuple[Any, ...]]:
        """Where each booking stands: its score in deadlines, whether in pending or dead, what its idempotency key says, and
        how long both live (-1: until it is final; True: a day)."""
        found = {}
        for kind, booking in self.booked.items():
            record = await self.record(booking)
            assert record is not None, f"{kind} is not in Redis"
            key = keys.idempotency(self.shard, record.scope)
            async with self.office.redis.pipeline(transaction=True) as pipe:
                pipe.zscore(keys.deadlines(self.shard), booking)
                pipe.zscore(keys.pending(self.shard), booking)
                pipe.zscore(keys.dead(self.shard), booking)
                pipe.get(key)
                pipe.ttl(key)
                pipe.ttl(keys.booking(self.shard, booking))
                deadline, pending, dead, named, key_s, record_s = await pipe.execute()
            lives = [ttl if ttl < 0 else 80_000 < ttl <= 86_400 for ttl in (key_s, record_s)]
            found[kind] = deadline, pending is not None, dead is not None, named.decode() == booking, *lives
        return found

    async def states(self) -> dict[str, str]:
        """Kind to the letter in Redis and the word in PostgreSQL."""
        return {kind: await self.state(booking) for kind, booking in self.booked.items()}


@dataclass
class Houses:
    """All four."""

    office: BoxOffice
    houses: list[House]

    def of(self, shard: int) -> tuple[House, House]:
        """The shard's two."""
        one, other = (house for house in self.houses if house.shard == shard)
        return one, other

    async def fill(self) -> None:
        """Book and settle something of every kind at each."""
        for house in self.houses:
            await house.fill()
        await self.houses[0].rest()
        for house in self.houses:
            await house.finish()
        await self.houses[0].drain()
        await self.houses[0].office.pump.work_given()
        for guard in self.office.guards:
            assert await guard.tick() == "fine"

    async def photo(self, shard: int) -> Photo:
        """Every key of the shard, but what says when it was looked at."""
        names = await self.office.redis.keys(f"{keys.shard_tag(shard)}:*")
        looked = keys.sound(shard).encode()
        return {name: await self.office.redis.dump(name) for name in sorted(names) if name != looked}

    async def row(self, shard: int) -> dict[str, Any]:
        """What PostgreSQL remembers of the shard."""
        (row,) = await self.houses[0].fetch("SELECT * FROM shards WHERE shard = $1", shard)
        return dict(row)

    async def forget(self, shard: int) -> None:
        """The shard's keys are gone from Redis, but for the holds that Redis alone knows."""
        kept = set()
        for house in self.of(shard):
            booking = house.booked.get("held")
            record = await house.record(booking) if booking else None
            if record is not None:
                kept |= {keys.booking(shard, record.id), keys.idempotency(shard, record.scope)}
        for name in await self.office.redis.keys(f"{keys.shard_tag(shard)}:*"):
            if name.decode() not in kept:
                await self.office.redis.delete(name)

    async def quiet(self, *shards: int) -> None:
        """Nobody has settled in these shards for a while."""
        pool = await self.office.pool()
        await pool.execute(
            "UPDATE shards SET settled_at = now() - interval '1 minute' WHERE shard = ANY($1::int[])", list(shards)
        )


@contextmanager
def unheard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever settles dies between PostgreSQL and Redis."""

    async def die(*args: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "tell", die)
        yield


async def open_houses(office: BoxOffice, open_sale: Callable[..., Awaitable[Any]]) -> AsyncIterator[Houses]:
    """A fixture's body: four concerts, two in each shard."""
    for shard in range(SHARDS):
        await office.loader.load(shard)
    found = [House(office, await open_sale(shard=shard, GA=20, VIP=4)) for shard in range(SHARDS) for _ in range(2)]
    yield Houses(office, sorted(found, key=lambda house: (house.shard, house.event.id)))
    for settlement in office.settlements:
        await settlement.stop()
