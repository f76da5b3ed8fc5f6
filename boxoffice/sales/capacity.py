"""Another capacity of a tier while it sells.

More: PostgreSQL first, then Redis. Less: Redis first, as far as tickets are there, then PostgreSQL, both under the lock of the
tier's row. So what Redis lets in never exceeds what PostgreSQL has, and whoever dies between the two leaves too little in
Redis: an open move is applied by a worker's sweep, and a total that differs without one is recounted when workers load. Of a
transaction that is tried again, what its first try took in Redis counts for the next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from redis.exceptions import RedisError

from boxoffice.crashpoint import crashpoint
from boxoffice.errors import GateClosed, NotFound, StoreAway
from boxoffice.stores import fence, keys
from boxoffice.stores.database import Connection, Database, Row
from boxoffice.stores.postgres import TRANSIENT
from boxoffice.stores.shard import Shard, Shards
from boxoffice.stores.waits import waits_for
from boxoffice.telemetry.seldom import seldom

__all__ = ["Capacity", "CapacityChange"]

MOVED_TTL_S: Final = 7 * 86_400
"""As of every stock move."""

_LOCK = "SELECT total, sold FROM inventory WHERE tier_id = $1 FOR UPDATE"

_ON_ITS_WAY = """
SELECT coalesce(sum(total_delta), 0)::int FROM stock_moves
WHERE event_id = $1 AND tier_id = $2 AND applied_at IS NULL AND total_delta > 0
"""
"""What of a total Redis has not been told of: it has taken already whatever was taken away."""

_MOVE = "INSERT INTO stock_moves (event_id, tier_id, total_delta) VALUES ($1, $2, $3) RETURNING id, nonce"

_TOTAL = "UPDATE inventory SET total = total + $2, version = version + 1, updated_at = now() WHERE tier_id = $1"


class CapacityChange(NamedTuple):
    """What was asked for, and what it came to: `after` is above `asked` when more than that is held, sold or
    set aside."""

    before: int
    asked: int
    after: int
    pair: fence.Pair | None = None
    """The commit that has it."""


class Capacity:
    """Changes totals, in both stores."""

    def __init__(
        self, database: Database, shards: Shards, apply_moves: Callable[[Shard], Awaitable[object]]
    ) -> None:  # fmt: skip
        self._database = database
        self._shards = shards
        self.apply_moves = apply_moves

    async def change(
        self, connection: Connection, event: Row, tier_id: str, asked: int
    ) -> CapacityChange:  # fmt: skip
        """Inside a transaction, as the last of what may fail. Raises `NotFound`, `StoreAway`, `GateClosed`, `WentBack`."""
        here = self._shards[event["shard"]]
        row = await connection.fetchrow(_LOCK, tier_id)
        if row is None:
            raise NotFound("There is no such tier.")
        try:
            await fence.check(connection, here)
        except RedisError as error:
            raise StoreAway from error
        total, sold = row["total"], row["sold"]
        wanted = asked - total
        if wanted == 0:
            return CapacityChange(total, asked, total)
        move = await connection.fetchrow(_MOVE, event["id"], tier_id, wanted)
        assert move is not None, "it was inserted"
        delta = wanted
        if wanted < 0:
            mirrored = total - await connection.fetchval(_ON_ITS_WAY, event["id"], tier_id)
            delta = -await self._take(here, event["id"], tier_id, min(-wanted, total - sold), mirrored, move)
            crashpoint("capacity_taken")
            await connection.execute("UPDATE stock_moves SET total_delta = $2 WHERE id = $1", move["id"], delta)
        await connection.execute(_TOTAL, tier_id, delta)
        pair = await fence.open_batch(connection, here.number, ())
        return CapacityChange(total, asked, total + delta, pair)

    async def _take(self, here: Shard, event_id: str, tier_id: str, most: int, total: int, move: Row) -> int:
        try:
            word, *taken = await here.run(
                "shrink", moved=keys.moved(here.number, f"{move['id']}-{move['nonce']}"),
                sale=keys.event(here.number, event_id), owners=keys.owners(here.number, event_id), tier=tier_id, tickets=most,
                total=total, moved_ttl_s=MOVED_TTL_S,
            )  # fmt: skip
        except (RedisError, OSError) as error:
            raise StoreAway from error
        if word != b"taken":
            raise GateClosed("The sale's counters are not loaded.")
        return int(taken[0])

    async def mirror(self, shard: int, change: CapacityChange) -> None:
        """Tell Redis of the commit, and apply the move. If Redis is away or shut, a worker's sweep does it."""
        if change.pair is None:
            return
        try:
            await fence.tell(self._shards[shard], change.pair)
            await self.apply_moves(self._shards[shard])
        except (RedisError, GateClosed, *TRANSIENT) as error:
            seldom.warning("moves.later", shard=shard, waits_for=waits_for(error), error=type(error).__name__)
