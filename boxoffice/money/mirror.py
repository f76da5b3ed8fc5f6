"""Redis hears of tickets that came back outside a settlement."""

from __future__ import annotations

from redis.exceptions import RedisError

from boxoffice.books.finals import Finals
from boxoffice.books.moves import apply_moves
from boxoffice.errors import GateClosed, StoreAway
from boxoffice.settings import Settings
from boxoffice.stores import fence
from boxoffice.stores.database import Database
from boxoffice.stores.postgres import TRANSIENT, WentBack
from boxoffice.stores.shard import Shards
from boxoffice.stores.waits import waits_for
from boxoffice.telemetry.seldom import seldom

__all__ = ["StockMirror"]


class StockMirror:
    """Moves in Redis what a transaction has moved in PostgreSQL."""

    def __init__(self, shards: Shards, database: Database, settings: Settings) -> None:
        self._shards = shards
        self._database = database
        self._settings = settings

    async def tell_first(self, shard: int, booking: str, pair: fence.Pair | None) -> None:
        """Nobody is told of a commit before Redis is: were PostgreSQL to forget it, it would not be missed. While Redis is
        away PostgreSQL alone speaks, as long as it still has the commit. Raises `StoreAway`: asked again, it is done once."""
        try:
            try:
                await self._tell(shard, booking)
            except RedisError as error:
                seldom.warning("moves.later", shard=shard, waits_for=waits_for(error), error=type(error).__name__)
            if pair and await fence.lost(self._database, shard, [pair]):
                raise WentBack
        except (GateClosed, *TRANSIENT) as error:
            seldom.warning("moves.later", shard=shard, waits_for=waits_for(error), error=type(error).__name__)
            raise StoreAway from error

    async def tell(self, shard: int, booking: str) -> None:
        """The tickets go back on sale now. If Redis is away or shut, a worker's sweep does it."""
        try:
            await self._tell(shard, booking)
        except (RedisError, GateClosed, *TRANSIENT) as error:
            seldom.warning("moves.later", shard=shard, waits_for=waits_for(error), error=type(error).__name__)

    async def _tell(self, shard: int, booking: str) -> None:
        """The tickets go back on sale. When Redis cannot take them yet, whoever reads the booking next is told all the same
        that it is cancelled."""
        finals = Finals(self._shards[shard], self._settings)
        try:
            await apply_moves(self._shards[shard], self._database)
        finally:
            async with self._database.writer() as connection:
                await finals.correct(connection, [booking], say=False)
