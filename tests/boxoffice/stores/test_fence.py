"""Batches and what Redis was told of them, in two shards whose numbers are alike."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.office import BoxOffice
from boxoffice.stores import fence, keys
from boxoffice.stores.fence import Pair
from boxoffice.stores.postgres import WentBack
from tests.support.houses import SHARDS

SHARD = 1


@pytest.fixture
def shards() -> int:
    return SHARDS


async def batches(office: BoxOffice, shard: int, *pairs: Pair) -> None:
    """PostgreSQL has these."""
    pool = await office.pool()
    for number, nonce in pairs:
        await pool.execute("INSERT INTO batches (shard, number, nonce) VALUES ($1, $2, $3)", shard, number, nonce)


async def numbers(office: BoxOffice, shard: int) -> list[int]:
    rows = await (await office.pool()).fetch("SELECT number FROM batches WHERE shard = $1 ORDER BY number", shard)
    return [row["number"] for row in rows]


async def row(office: BoxOffice, shard: int) -> tuple[Any, ...]:
    found = await (await office.pool()).fetchrow("SELECT batch, settled_at FROM shards WHERE shard = $1", shard)
    assert found is not None
    return tuple(found)


@pytest.mark.parametrize(
    ("pair", "lost"),
    [
        (Pair(5, 15), False), (Pair(7, 17), False), (Pair(5, 16), True), (Pair(7, 15), True), (Pair(6, 16), True),
        (Pair(8, 18), True), (Pair(4, 14), False), (Pair(5, 55), True),
    ],
)  # fmt: skip
async def test_a_pair_is_lost_unless_its_own_shard_has_both_of_it(office: BoxOffice, pair: Pair, lost: bool) -> None:
    """What is older than the oldest that is kept was verified in its time; the other shard's batches say nothing."""
    pool = await office.pool()
    await batches(office, SHARD, Pair(5, 15), Pair(7, 17))
    await batches(office, 0, Pair(2, 12), Pair(4, 14), Pair(5, 55), Pair(6, 16), Pair(8, 18))

    assert await fence.lost(pool, SHARD, [Pair(5, 15), pair]) == [pair] * lost
    await batches(office, 0, Pair(5_000, 1))
    assert await fence.lost(pool, SHARD, [pair, Pair(7, 17)]) == [pair] * lost
    assert await fence.lost(pool, SHARD, []) == []


async def test_a_batch_is_the_next_of_its_shard(office: BoxOffice) -> None:
    """The other's number and the moment at which it settled stay; its own moves when something was settled."""
    await (await office.pool()).execute("UPDATE shards SET settled_at = now() - interval '1 hour'")
    other, before = await row(office, 0), await row(office, SHARD)
    async with (await office.pool()).acquire() as connection:
        pairs = [await fence.open_batch(connection, SHARD, ()) for _ in range(3)]
        assert await row(office, SHARD) == (3, before[1])
        assert await fence.open_batch(connection, SHARD, pairs, settles=True) > pairs[-1]

    assert [pair.number for pair in pairs] == [1, 2, 3]
    assert len({pair.nonce for pair in pairs}) == 3
    now = await row(office, SHARD)
    assert (now[0], now[1] > before[1]) == (4, True)
    assert await row(office, 0) == other
    assert (await numbers(office, SHARD), await numbers(office, 0)) == ([1, 2, 3, 4], [])


@pytest.mark.parametrize("how", ["another nonce", "another shard's", "no such shard"])
async def test_a_batch_is_refused_when_a_commit_is_missing(office: BoxOffice, how: str) -> None:
    """And nothing is written, wherever the pair stands among those that were told."""
    async with (await office.pool()).acquire() as connection:
        mine, theirs = await fence.open_batch(connection, SHARD, ()), await fence.open_batch(connection, 0, ())
        second = await fence.open_batch(connection, SHARD, [mine])
        pair = {"another nonce": Pair(2, second.nonce + 1), "another shard's": theirs}.get(how, mine)
        before = await row(office, SHARD), await row(office, 0)
        with pytest.raises(WentBack):
            await fence.open_batch(connection, 7 if how == "no such shard" else SHARD, [mine, pair, second])
    assert (await row(office, SHARD), await row(office, 0)) == before
    assert await numbers(office, SHARD) == [1, 2]


async def test_the_last_batch_is_the_highest_of_its_shard(office: BoxOffice) -> None:
    pool = await office.pool()
    assert await fence.last_batch(pool, SHARD) is None
    await batches(office, 0, Pair(99, 1))
    assert await fence.last_batch(pool, SHARD) is None
    await batches(office, SHARD, Pair(10, 3), Pair(9, 8))
    assert await fence.last_batch(pool, SHARD) == (10, 3)


async def test_each_shard_is_checked(office: BoxOffice) -> None:
    """Whichever of those asked for lacks a commit; one that is not asked for does not matter."""
    async with (await office.pool()).acquire() as connection:
        await fence.tell(office.shards[SHARD], Pair(3, 3))
        await fence.check(connection, office.shards[0])
        for shards in ((SHARD,), (0, SHARD), (SHARD, 0)):
            with pytest.raises(WentBack):
                await fence.check(connection, *(office.shards[shard] for shard in shards))
        await batches(office, SHARD, Pair(3, 3))
        await fence.check(connection, *office.shards)
    assert await fence.told(office.shards[SHARD]) == [(3, 3)]
    assert await fence.told(office.shards[0]) == []


async def test_the_highest_stands_for_all_that_were_seen(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told since the look stays; batches far below go, in its own shard only."""
    monkeypatch.setattr(fence, "REMEMBERED", 3)
    pool, seen = await office.pool(), [Pair(9, 1), Pair(10, 5), Pair(4, 9)]
    for shard in range(SHARDS):
        await batches(office, shard, *(Pair(number, 1) for number in range(4, 12)))
        for pair in (*seen, Pair(11, 2)):
            await fence.tell(office.shards[shard], pair)

    await fence.verified(pool, office.shards[SHARD], seen)

    assert set(await fence.told(office.shards[SHARD])) == {(10, 5), (11, 2)}
    assert await numbers(office, SHARD) == [7, 8, 9, 10, 11]
    assert len(await fence.told(office.shards[0])) == 4
    assert await numbers(office, 0) == list(range(4, 12))
    for some in ([], [Pair(11, 2)]):
        await fence.verified(pool, office.shards[SHARD], some)
    assert (set(await fence.told(office.shards[SHARD])), len(await numbers(office, SHARD))) == ({(10, 5), (11, 2)}, 5)


def test_a_pair_is_read_as_it_is_kept() -> None:
    assert fence.read([str(Pair(12, 2**62)).encode()]) == [(12, 2**62)]
    assert keys.told(0) != keys.told(SHARD)
