"""Holds as Redis has them: those that nobody has tried to pay stand nowhere else, and in no index by client.

The ids of a shard's holds are read in steps, and of those that are next in the list the records, up to a number.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.bookings.records import Reading
from boxoffice.errors import GateClosed, StoreAway
from boxoffice.stores import keys
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.shard import Shard

__all__ = ["LOOKED_AT", "Held", "newest_held"]

LOOKED_AT: Final = 5_000
"""Holds whose records are read for one page, of whichever client they are: some 2 MB, and ten times as much where each has
4 KB of metadata. One step of them is in memory at a time, besides those that are wanted."""

STEP: Final = 500
"""Records read by one call, and ids by one step of a scan: a fraction of a millisecond of Redis, and more of large records."""

NOBODY: Final = "00000000-0000-7000-8000-000000000000"


class Held(NamedTuple):
    """Records of holds, newest first."""

    records: list[Record]
    behind: str | None
    """It was not looked beyond this booking; None: there are no others."""


async def newest_held(
    shards: Iterable[Shard], reading: Reading, wanted: Callable[[Record], bool], after: str | None, limit: int
) -> Held:
    """The wanted holds of these shards that were made before the booking `after`, one more than `limit` if there are so many.

    Raises `GateClosed` while a shard is not to be believed, and `StoreAway`.
    """
    try:
        shards = tuple(shards)
        for shard in shards:
            # Here a server that has just started is waited for: nobody else waits behind whoever does.
            (seen,) = await reading.read(shard.number, [NOBODY])
            if seen.shut:
                raise GateClosed
        async with reading.all_holds:
            ids_of_holds = [booking for shard in shards for booking in await _ids(shard, after)]
            candidates = heapq.nlargest(LOOKED_AT + 1, ids_of_holds)
        found: list[Record] = []
        looked = 0
        for some in _steps(candidates[:LOOKED_AT]):
            records = await _records(some, reading)
            for booking in some:
                looked += 1
                record = records.get(booking)
                if record is not None and record.state == "H" and wanted(record):
                    found.append(record)
                    if len(found) > limit:
                        return Held(found, None)
    except (RedisError, OSError) as error:
        raise StoreAway from error
    return Held(found, candidates[looked - 1] if looked < len(candidates) else None)


async def _ids(shard: Shard, after: str | None) -> set[str]:
    """Of the holds of a shard that were made before this one. All are read, in a scan and not a range by place: it misses none
    while others come and go. Raises `GateClosed` at once."""
    await shard.run("read", records=[keys.booking(shard.number, NOBODY)])
    name, found = keys.deadlines(shard.number), set()
    async for member, _ in shard.redis.zscan_iter(name, count=STEP):
        booking = member.decode()
        if after is None or booking < after:
            found.add(booking)
    return found


def _steps(bookings: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(bookings), STEP):
        yield bookings[start : start + STEP]


async def _records(bookings: list[str], reading: Reading) -> dict[str, Record]:
    """Those that can be read: of others `boxoffice dead` tells."""
    by_shard: dict[int, list[str]] = {}
    for booking in bookings:
        by_shard.setdefault(ids.shard_of(booking), []).append(booking)
    found = {}
    for shard, some in by_shard.items():
        for booking, seen in zip(some, await reading.read(shard, some), strict=True):
            if seen.shut:
                raise GateClosed
            try:
                found[booking] = unpack(booking, seen.raw or b"")
            except ValueError:
                continue
    return found
