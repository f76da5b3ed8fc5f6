"""The fence: PostgreSQL decides nothing, and no repair believes it, when it lacks a commit that Redis was told of.

Every transaction that moves stock or money takes a batch: the next number of its shard and a random nonce. The shard's row
is locked last and until the commit, so batches commit in the order of their numbers, and a PostgreSQL that has a pair
(number, nonce) has all before it. The script that tells Redis what is final adds the pair to a set in the same call; the
guard replaces the pairs that PostgreSQL has by the highest. Before anything is decided, PostgreSQL must have all of the
set. Redis is told only after a commit has returned, so nothing is missing that was not lost.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from boxoffice.stores import keys
from boxoffice.stores.database import Connection, Reader, Writer
from boxoffice.stores.postgres import WentBack
from boxoffice.stores.shard import Shard

__all__ = ["Pair", "check", "last_batch", "lost", "open_batch", "read", "tell", "told", "verified"]

REMEMBERED: Final = 20_000
"""Batches below the highest verified one that are kept: a quarter of an hour at full rate. A pair from before them was
verified in its time, or its loss was noticed and mended then: who still names it is an old claim, or a Redis that went
back, which the sequence tells."""

_chance = random.SystemRandom()

_LOST = """
SELECT told.number, told.nonce FROM unnest($2::bigint[], $3::bigint[]) AS told (number, nonce)
WHERE NOT EXISTS (SELECT FROM batches b WHERE b.shard = $1 AND b.number = told.number AND b.nonce = told.nonce)
  AND told.number >= coalesce((SELECT min(number) FROM batches WHERE shard = $1), 0)
"""

_OPEN = f"""
WITH lost AS ({_LOST}),
next AS (UPDATE shards SET batch = batch + 1, settled_at = CASE WHEN $5 THEN now() ELSE settled_at END
         WHERE shard = $1 AND NOT EXISTS (SELECT FROM lost) RETURNING batch)
INSERT INTO batches (shard, number, nonce) SELECT $1, batch, $4 FROM next RETURNING number
"""

_LAST = "SELECT number, nonce FROM batches WHERE shard = $1 ORDER BY number DESC LIMIT 1"


class Pair(NamedTuple):
    """One batch of a shard."""

    number: int
    nonce: int

    def __str__(self) -> str:
        """As Redis keeps it."""
        return f"{self.number}:{self.nonce}"


def read(members: Iterable[bytes]) -> list[Pair]:
    """Members of the set in Redis."""
    return [Pair(*map(int, member.split(b":"))) for member in members]


async def told(shard: Shard) -> list[Pair]:
    """What Redis was told of. Read it before PostgreSQL: what comes later is not missed."""
    return read(await shard.redis.smembers(keys.told(shard.number)))  # type: ignore[misc]


async def tell(shard: Shard, pair: Pair) -> None:
    """Let Redis miss this commit, should it be lost. Scripts that mirror do it in the same call."""
    await shard.redis.sadd(keys.told(shard.number), str(pair))  # type: ignore[misc]


async def lost(connection: Reader, shard: int, pairs: Sequence[Pair]) -> list[Pair]:
    """Those of the pairs that PostgreSQL does not have."""
    if not pairs:
        return []
    return [Pair(*row) for row in await connection.fetch(_LOST, shard, *map(list, zip(*pairs, strict=True)))]


async def check(connection: Connection, *shards: Shard) -> None:
    """See that PostgreSQL has all that Redis was told of. Raises `WentBack`."""
    for shard in shards:
        if await lost(connection, shard.number, await told(shard)):
            raise WentBack


async def open_batch(connection: Connection, shard: int, pairs: Sequence[Pair], *, settles: bool = False) -> Pair:
    """Take the shard's next batch: the last statement of a transaction that moves stock or money.

    `settles`: what it decides was claimed in Redis, so somebody works there under the shard's generation. Others say nothing
    of that: PostgreSQL cancels and refunds also while no Redis is open.

    Raises `WentBack` when PostgreSQL lacks one of the pairs, or has never heard of the shard.
    """
    nonce = _chance.getrandbits(63)
    numbers, nonces = [pair.number for pair in pairs], [pair.nonce for pair in pairs]
    number = await connection.fetchval(_OPEN, shard, numbers, nonces, nonce, settles)
    if number is None:
        raise WentBack
    return Pair(number, nonce)


async def last_batch(connection: Reader, shard: int) -> Pair | None:
    """The pair for whoever tells Redis what it found decided: to be read after that. None before the first batch."""
    row = await connection.fetchrow(_LAST, shard)
    return Pair(*row) if row else None


async def verified(connection: Writer, shard: Shard, pairs: Sequence[Pair]) -> None:
    """PostgreSQL has all of these: the highest stands for them from now on."""
    highest = max(pairs, default=None)
    if highest is None or len(pairs) == 1:
        return
    await shard.redis.srem(keys.told(shard.number), *(str(pair) for pair in pairs if pair != highest))  # type: ignore[misc]
    await connection.execute(
        "DELETE FROM batches WHERE shard = $1 AND number < $2", shard.number, highest.number - REMEMBERED
    )
