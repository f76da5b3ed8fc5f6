"""Reading bookings' records, and whether what they say may be believed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from boxoffice.errors import GateClosed
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.gate import once_checked
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.shard import Shards
from boxoffice.telemetry.seldom import seldom

__all__ = ["Reading", "Seen", "readable"]


class Seen(NamedTuple):
    """A record as Redis has it; `shut`: under a gate that is shut, so PostgreSQL may know better."""

    raw: bytes | None
    shut: bool = False


class Reading:
    """Reads records. A server that has just started is waited for as long as an admission waits."""

    def __init__(self, shards: Shards, settings: Settings) -> None:
        self._shards = shards
        self._patience_s = settings.api.retry_s
        self.all_holds = asyncio.Lock()
        """Held by whoever reads the ids of all holds: one at a time, and while nobody waits for a server."""

    async def read(self, shard: int, bookings: Sequence[str]) -> list[Seen]:
        """One for each booking of the shard. Raises Redis's errors."""
        names = [keys.booking(shard, booking) for booking in bookings]
        here = self._shards[shard]
        read = partial(here.run, "read", records=names)
        try:
            return [Seen(raw) for raw in await once_checked(here, read, self._patience_s)]
        except GateClosed:
            return [Seen(raw, shut=True) for raw in await here.redis.mget(names)]


def readable(booking: str, raw: bytes) -> Record | None:
    """The record, or None with a line in the log: one that nobody can read keeps nobody from the others."""
    try:
        return unpack(booking, raw)
    except ValueError as error:
        seldom.warning("record.unreadable", booking_id=booking, error=type(error).__name__)
        return None
