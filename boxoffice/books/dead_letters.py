"""Bookings that failed alone, and those parked because they failed alone too often. They keep their stock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from boxoffice import ids
from boxoffice.errors import CannotRun
from boxoffice.stores import keys
from boxoffice.stores.database import Connection, Database, Reader, Writer
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.shard import Shards

__all__ = ["DeadLetter", "close", "count_failure", "one_at_a_time", "read_parked", "still_parked", "try_again"]

CHUNK: Final = 500
"""Records read at once."""

PARKED_LOCK: Final = 0x7061726B
"""Advisory lock, with a hash of the booking's id as its second half: one operator fails or retries it at a time."""

_IN_TURN = "SELECT booking FROM unnest($2::text[]) AS asked (booking) WHERE pg_try_advisory_lock($1, hashtext(booking))"

_STILL = (
    "SELECT booking_id::text AS booking FROM dead_letters WHERE parked_at IS NOT NULL AND booking_id = ANY($1::uuid[])"
)

_LIST = """
SELECT booking_id::text AS booking, record, error, attempts, coalesce(parked_at, updated_at) AS parked_at
FROM dead_letters WHERE parked_at IS NOT NULL OR booking_id = ANY($1::uuid[])
"""

_COUNT = """
INSERT INTO dead_letters AS d (booking_id, record, error, attempts, parked_at)
VALUES ($1::uuid, $2, $3, 1, CASE WHEN $4 <= 1 THEN now() END)
ON CONFLICT (booking_id) DO UPDATE
SET attempts = d.attempts + 1, error = excluded.error, record = excluded.record, updated_at = now(),
    parked_at = CASE WHEN d.attempts + 1 >= $4 THEN coalesce(d.parked_at, now()) END
RETURNING attempts
"""

_TRY_AGAIN = """
UPDATE dead_letters SET attempts = 0, parked_at = NULL, updated_at = now() WHERE booking_id = ANY($1::uuid[])
"""

_CLOSE = "UPDATE dead_letters SET parked_at = NULL WHERE booking_id = $1::uuid"


class DeadLetter(NamedTuple):
    """A parked booking."""

    booking: str
    error: str
    attempts: int
    parked_at: str
    record: Record | None
    """None when it cannot be read."""
    raw: bytes


async def count_failure(connection: Connection, booking: str, record: bytes, error: str, *, attempts_max: int) -> int:
    """Write down that a booking failed alone, once more. Parked from `attempts_max` on (0: at once).

    Returns the attempts so far.
    """
    return int(await connection.fetchval(_COUNT, booking, record, error, attempts_max))


@asynccontextmanager
async def one_at_a_time(database: Database, booking_ids: Sequence[str]) -> AsyncIterator[Connection]:
    """While this lasts nobody else ends or retries these. Whatever was read of them before may be outdated.

    Yields the session that holds the locks: what is written in it is written by whoever still has them. A session lets go of
    them when it ends or goes back to its pool. Raises `CannotRun` at once when another has one of them.
    """
    async with database.writer() as connection:
        got = {row["booking"] for row in await connection.fetch(_IN_TURN, PARKED_LOCK, booking_ids)}
        if other := [booking for booking in booking_ids if booking not in got]:
            raise CannotRun(f"Another operator fails or retries {other[0]} at this moment: look again in some seconds.")
        yield connection


async def still_parked(shards: Shards, connection: Reader, booking_ids: Sequence[str]) -> list[str]:
    """Those of them that are parked, in their order: as PostgreSQL says, or set aside in Redis."""
    parked = {row["booking"] for row in await connection.fetch(_STILL, booking_ids)}
    for redis, some in shards.by_redis(booking_ids, ids.shard_of):
        async with redis.pipeline(transaction=False) as pipe:
            for booking in some:
                pipe.zscore(keys.dead(ids.shard_of(booking)), booking)
            scores = await pipe.execute()
        parked |= {booking for booking, score in zip(some, scores, strict=True) if score is not None}
    return [booking for booking in booking_ids if booking in parked]


async def try_again(writer: Writer, booking_ids: Sequence[str]) -> None:
    """These are parked no more, and have all their attempts again. What PostgreSQL does not know of is left alone."""
    await writer.execute(_TRY_AGAIN, booking_ids)


async def close(writer: Writer, booking_id: str) -> None:
    """It is parked no more: it has ended. Its failures are deleted a while later (`trim.py`)."""
    await writer.execute(_CLOSE, booking_id)


async def read_parked(shards: Shards, database: Reader) -> list[DeadLetter]:
    """All that are parked, in the order in which they were: those that PostgreSQL says, and those that Redis has set aside
    and PostgreSQL does not know of."""
    aside: dict[str, float] = {}
    for shard in shards:
        for booking, at_ms in await shard.redis.zrange(keys.dead(shard.number), 0, -1, withscores=True):
            aside[booking.decode()] = at_ms
    rows = {row["booking"]: row for row in await database.fetch(_LIST, list(aside))}
    bookings, found = list({**rows, **aside}), []
    for start in range(0, len(bookings), CHUNK):
        for redis, chunk in shards.by_redis(bookings[start : start + CHUNK], ids.shard_of):
            raws = await redis.mget([keys.booking(ids.shard_of(booking), booking) for booking in chunk])
            found += [_letter(*each, rows, aside) for each in zip(chunk, raws, strict=True)]
    return sorted(found, key=lambda letter: (letter.parked_at, letter.booking))


def _letter(booking: str, raw: bytes | None, rows: Mapping[str, Any], aside: Mapping[str, float]) -> DeadLetter:
    row = rows.get(booking)
    if row is None:
        at = datetime.fromtimestamp(aside[booking] / 1_000, UTC).isoformat(timespec="seconds")
        return DeadLetter(booking, "PostgreSQL has forgotten why", 0, at, _readable(booking, raw or b""), raw or b"")
    raw = raw or row["record"]
    at = row["parked_at"].isoformat(timespec="seconds")
    return DeadLetter(booking, row["error"], row["attempts"], at, _readable(booking, raw), raw)


def _readable(booking: str, raw: bytes) -> Record | None:
    try:
        return unpack(booking, raw)
    except (ValueError, msgspec.MsgspecError):
        return None
