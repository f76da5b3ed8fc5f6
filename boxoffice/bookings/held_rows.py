"""The rows of holds that a payment was tried for: what changed in Redis since is written there, so that PostgreSQL, should it
have to put such a hold back, puts back what it is."""

from __future__ import annotations

from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.bookings.records import readable
from boxoffice.books.bookings import change_hold, lock_hold
from boxoffice.crashpoint import crashpoint
from boxoffice.states import HOLDS_STOCK
from boxoffice.stores import keys
from boxoffice.stores.database import Database
from boxoffice.stores.postgres import TRANSIENT
from boxoffice.stores.shard import Shards
from boxoffice.telemetry.seldom import seldom

__all__ = ["HeldRows"]


class HeldRows:
    """Brings holds from Redis, which decides them, to PostgreSQL."""

    def __init__(self, shards: Shards, database: Database) -> None:
        self._shards = shards
        self._database = database

    async def write(self, booking: str) -> None:
        """Write items, price and deadline of a `held` row as Redis has them now; of any other row nothing. If a store is
        away, `mend` does it, or the next attempt's settlement."""
        try:
            await self._write(booking)
        except TRANSIENT as error:
            await self._database.renew(error)
            seldom.warning("holds.told_later", holds=1, error=type(error).__name__)
        except (RedisError, OSError) as error:
            seldom.warning("holds.told_later", holds=1, error=type(error).__name__)

    async def _write(self, booking: str) -> None:
        """The row is locked before Redis is asked: of two who write the same row, the later has read the later record."""
        shard = ids.shard_of(booking)
        async with self._database.begin() as connection:
            if not await lock_hold(connection, booking):
                return
            raw = await self._shards[shard].redis.get(keys.booking(shard, booking))
            record = readable(booking, raw) if raw is not None else None
            if record is None or record.state not in HOLDS_STOCK:
                return
            await change_hold(connection, record)
            crashpoint("hold_written")
