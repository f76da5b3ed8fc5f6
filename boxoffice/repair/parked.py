"""Parked bookings (dead letters): they could not be settled, keep their stock, and wait for an operator's word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from boxoffice import ids
from boxoffice.books import dead_letters
from boxoffice.books.dead_letters import DeadLetter, read_parked
from boxoffice.errors import CannotRun, NotFound
from boxoffice.gateway.base import PaymentGateway
from boxoffice.repair.failing import Ended, Failing
from boxoffice.repair.reconcile import Reconciler
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.database import Database
from boxoffice.stores.postgres import TRANSIENT, WentBack
from boxoffice.stores.redis import AWAY
from boxoffice.stores.shard import Shards

__all__ = ["Parked", "Retried"]

CHUNK: Final = 500
"""Bookings given back to the workers at once."""

_STATUSES = """
SELECT booking_id::text AS booking FROM dead_letters WHERE parked_at IS NOT NULL AND booking_id = ANY($1::uuid[])
"""


class Retried(NamedTuple):
    """What became of bookings that were given back to the workers."""

    ended: int
    """Settled, one way or the other; or held, waiting for another payment."""
    waiting: int
    """Not yet, or for their customer or the gateway."""
    parked: int
    """Parked again."""


class Parked:
    """Lists parked bookings, and does with one what the operator says."""

    def __init__(
        self,
        shards: Shards,
        database: Database,
        gateway: PaymentGateway,
        reconcilers: Sequence[Reconciler],
        settings: Settings,
    ) -> None:
        self._database = database
        self._shards = shards
        self.failing = Failing(shards, gateway, reconcilers, settings)

    async def all(self, *, event: str = "", reason: str = "") -> list[DeadLetter]:
        """Those that are parked, in the order in which they were: of one event, or whose error has this in it, if asked so.

        A retry that was cut short, or a PostgreSQL that was restored, may know nothing of one that Redis has set aside:
        it is listed too. Raises `CannotRun`.
        """
        try:
            found = await read_parked(self._shards, self._database)
        except (*TRANSIENT, *AWAY) as error:
            raise CannotRun(f"A store does not answer ({type(error).__name__}).") from error
        return [
            letter for letter in found
            if reason.lower() in letter.error.lower() and event in ("", letter.record and letter.record.event)
        ]  # fmt: skip

    async def one(self, booking_id: str) -> DeadLetter:
        """A parked booking. Raises `NotFound`, `CannotRun`."""
        booking = ids.canonical_booking_id(booking_id)
        found = [letter for letter in await self.all() if letter.booking == booking] if booking else []
        if not found:
            raise NotFound(f"No booking {booking_id} is parked.")
        return found[0]

    async def retry(self, booking_id: str) -> None:
        """Let a worker try it again now, with all its attempts. Raises `NotFound`, `CannotRun`."""
        if not await self._try_again([(await self.one(booking_id)).booking]):
            raise NotFound(f"No booking {booking_id} is parked.")

    async def retry_all(self, letters: Sequence[DeadLetter], progress: Callable[[int], None] = lambda _: None) -> None:
        """Let workers try these again now, with all their attempts. `progress` is told how many have been given back. One that
        is no longer parked by then is passed over.

        Raises `CannotRun`; those that have been given back stay so, and all may be asked for again.
        """
        for start in range(0, len(letters), CHUNK):
            chunk = [letter.booking for letter in letters[start : start + CHUNK]]
            await self._try_again(chunk)
            progress(start + len(chunk))

    async def _try_again(self, bookings: Sequence[str]) -> list[str]:
        """Those that were still parked, and are the workers' now."""
        try:
            async with dead_letters.one_at_a_time(self._database, bookings) as connection:
                chunk = await dead_letters.still_parked(self._shards, connection, bookings)
                await dead_letters.try_again(connection, chunk)
                # Together: it is always in one of them, so that reconcile counts its tickets. A sweep finds it within a
                # second.
                for redis, some in self._shards.by_redis(chunk, ids.shard_of):
                    async with redis.pipeline(transaction=True) as pipe:
                        for booking in some:
                            shard = ids.shard_of(booking)
                            # With a lapse: whoever failed on it may have asked for its money.
                            pipe.zadd(keys.pending(shard), {booking: 1 + 1 / 16})
                            pipe.zrem(keys.dead(shard), booking)
                        await pipe.execute()
            return chunk
        except (*TRANSIENT, *AWAY) as error:
            raise CannotRun(f"A store does not answer ({type(error).__name__}).") from error

    async def retried(self, letters: Sequence[DeadLetter]) -> Retried:
        """What has become of bookings that were given back to the workers, so far. Raises `CannotRun`."""
        bookings = [letter.booking for letter in letters]
        counted = dict.fromkeys(Retried._fields, 0)
        try:
            parked = {row["booking"] for row in await self._database.fetch(_STATUSES, bookings)}
            for start in range(0, len(bookings), CHUNK):
                for redis, chunk in self._shards.by_redis(bookings[start : start + CHUNK], ids.shard_of):
                    async with redis.pipeline(transaction=False) as pipe:
                        for booking in chunk:
                            pipe.zscore(keys.pending(ids.shard_of(booking)), booking)
                        waiting = await pipe.execute()
                    for booking, score in zip(chunk, waiting, strict=True):
                        word = "parked" if booking in parked else "ended" if score is None else "waiting"
                        counted[word] += 1
        except (*TRANSIENT, *AWAY) as error:
            raise CannotRun(f"A store does not answer ({type(error).__name__}).") from error
        return Retried(**counted)

    async def fail(self, booking_id: str) -> Ended:
        """End it: let its payment go, write FAILED without whatever could not be written, put its tickets on sale again,
        once. May be repeated when it was cut short.

        Raises `NotFound`, `CannotRun`.
        """
        try:
            booking = (await self.one(booking_id)).booking
            async with dead_letters.one_at_a_time(self._database, [booking]) as connection:
                # Read again: a worker may have been given it, and may have sold it, before it was ours.
                return await self.failing.fail(await self.one(booking), connection)
        except WentBack as error:
            raise CannotRun(
                "PostgreSQL went back in time and may lack how this booking ended. `boxoffice reconcile --fix` writes again "
                "what it forgot."
            ) from error
        except (*TRANSIENT, *AWAY) as error:
            raise CannotRun(f"A store does not answer ({type(error).__name__}). Fail it again to finish.") from error
