"""The numbered batches by which a loss of PostgreSQL's is noticed: each shard has its own."""

from __future__ import annotations

import pytest

from boxoffice import fence, keys
from boxoffice.fence import KEPT, Pair
from boxoffice.office import BoxOffice
from boxoffice.postgres import WentBack


@pytest.fixture
def shards() -> int:
    return 2


async def opened(office: BoxOffice, shard: int, count: int) -> list[Pair]:
    """So many batches of the shard."""
    async with (await office.pool()).acquire() as connection:
        return [await fence.open_batch(connection, shard, ()) for _ in range(count)]


async def test_each_shard_counts_its_own(office: BoxOffice) -> None:
    first, second = await opened(office, 0, 3), await opened(office, 1, 1)
    pool = await office.pool()

    assert [pair.number for pair in first + second] == [1, 2, 3, 1]
    assert (await fence.last_batch(pool, 0), await fence.last_batch(pool, 1)) == (first[2], second[0])
    rows = await pool.fetch("SELECT shard, batch FROM shards ORDER BY shard")
    assert [tuple(row) for row in rows] == [(0, 3), (1, 1)]
    assert await fence.lost(pool, 0, first) == await fence.lost(pool, 1, second) == []


async def test_another_shards_batch_is_missed(office: BoxOffice) -> None:
    """So is one of that number with another nonce, and that nonce under another number."""
    first, second = await opened(office, 0, 3), await opened(office, 1, 3)
    pool = await office.pool()
    for pair in (first[1], Pair(second[1].number, second[0].nonce), Pair(2, 7), Pair(4, second[1].nonce)):
        assert await fence.lost(pool, 1, [*second, pair]) == [pair]
        async with pool.acquire() as connection:
            with pytest.raises(WentBack):
                await fence.open_batch(connection, 1, [*second, pair])
    assert await fence.last_batch(pool, 1) == second[2], "nothing was opened"
    async with pool.acquire() as connection:
        with pytest.raises(WentBack):
            await fence.open_batch(connection, 9, ())


@pytest.mark.parametrize("shard", [0, 1])
async def test_what_a_shard_keeps_no_more_is_not_missed(office: BoxOffice, shard: int) -> None:
    """From its oldest batch on; the other shard's are neither a reason nor let go with them."""
    kept = await opened(office, 1 - shard, 2)
    pool = await office.pool()
    for number in (1, 2, 3, KEPT + 3):
        await pool.execute("INSERT INTO batches (shard, number, nonce) VALUES ($1, $2, 7)", shard, number)
    pairs = [Pair(3, 7), Pair(KEPT + 3, 7)]
    for pair in pairs:
        await fence.tell(office.redis, shard, pair)
        await fence.tell(office.redis, 1 - shard, pair)

    await fence.verified(pool, office.redis, shard, pairs)

    rows = await pool.fetch("SELECT number FROM batches WHERE shard = $1 ORDER BY number", shard)
    assert [row["number"] for row in rows] == [3, KEPT + 3], "twenty thousand below the highest"
    assert await fence.lost(pool, shard, [Pair(2, 8)]) == []
    assert await fence.lost(pool, shard, [Pair(3, 8)]) == [Pair(3, 8)]
    assert await fence.lost(pool, 1 - shard, [*kept, Pair(2, 8)]) == [Pair(2, 8)]
    assert await fence.told(office.redis, shard) == [pairs[1]]
    assert await office.redis.scard(keys.told(1 - shard)) == 2  # type: ignore[misc]
