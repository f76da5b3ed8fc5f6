"""A PostgreSQL that lacks a commit which Redis was told of is noticed, and decides nothing."""

from __future__ import annotations

import pytest

from boxoffice.errors import CannotRun, DriftUnexplained, StoreAway
from boxoffice.repair.guard import Guard
from boxoffice.settlement.mirror import Mirror
from boxoffice.stores import fence, keys
from boxoffice.stores.postgres import WentBack
from tests.boxoffice.repair.conftest import repair_of, told
from tests.conftest import SHARD
from tests.support.past import Past
from tests.support.shop.office import Died, Till


@pytest.fixture
async def guard(till: Till) -> Guard:
    """One that has seen this run of the server."""
    await till.office.guards[SHARD].tick()
    return till.office.guards[SHARD]


async def test_each_commit_is_told_with_its_pair_and_the_highest_stands_for_all(till: Till, guard: Guard) -> None:
    """Also a cancellation's. PostgreSQL has them all, in the order of their numbers."""
    booking = await till.book(GA=1)
    await till.rest()
    await till.book(GA=1)
    await till.rest()
    await till.cancel(booking)

    pairs = await told(till)
    rows = await till.fetch("SELECT number, nonce FROM batches WHERE shard = 1 ORDER BY number")
    assert [tuple(row) for row in rows] == pairs
    assert [pair.number for pair in pairs] == [1, 2, 3]

    assert await guard.tick() == "fine"
    assert await told(till) == pairs[-1:]


async def test_a_postgresql_that_lacks_a_commit_decides_nothing(till: Till, past: Past) -> None:
    """Neither a settlement nor a cancellation nor an audit, and no repair believes it."""
    first = await till.book(GA=1)
    await till.rest()
    await past.remember()
    second = await till.book(GA=1)
    await till.rest()
    await past.come_back()
    third = await till.book(GA=1)

    await till.drain()
    assert await till.state(third) == "P -", "it keeps waiting"
    for booking in (first, second):
        with pytest.raises(StoreAway):
            await till.cancel(booking)
    with pytest.raises(StoreAway):
        await till.refund(first, GA=1)
    with pytest.raises(CannotRun):
        _ = [found async for found in till.office.payments_audit.run(fix=True, grace_s=0)]
    with pytest.raises(WentBack):
        await till.office.menders[SHARD].mend()
    with pytest.raises(WentBack):
        await till.office.guards[SHARD].reconciler.event(till.event.id, fix=True)
    with pytest.raises(WentBack):
        await till.office.pump.work_outbox()
    with pytest.raises(DriftUnexplained):
        await repair_of(till).reconcile()
    assert await till.state(second) == "C -"


async def test_another_line_of_history_is_noticed_whatever_it_counts_to(till: Till, past: Past, guard: Guard) -> None:
    """A worker whose claim is older than the loss may decide; the numbers are the same again, the nonces are not."""
    await past.remember()
    lost = await till.book(GA=1)
    await till.rest()
    (pair,) = await told(till)
    await past.come_back()
    async with (await till.office.pool()).acquire() as connection, connection.transaction():
        again = await fence.open_batch(connection, SHARD, ())
    assert again.number == pair.number

    assert await guard.tick() == "recovered"

    assert await till.state(lost) == "C confirmed"


async def test_who_is_told_of_a_lost_commit_later_is_noticed_then(
    till: Till, past: Past, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker committed, PostgreSQL went back, and the worker tells Redis: nobody could have noticed before."""
    await past.remember()
    booking = await till.book(GA=1)
    settlement = till.office.settlements[SHARD]
    tell, kept = Mirror.tell, []

    async def later(mirror: Mirror, *args: object) -> None:
        kept.append(args)
        raise Died

    monkeypatch.setattr(Mirror, "tell", later)
    with pytest.raises(Died):
        await settlement.drain()
    await past.come_back()
    assert await guard.tick() == "fine", "Redis was told of nothing"
    await tell(settlement.mirror, *kept[0])  # type: ignore[arg-type]
    assert await till.state(booking) == "C -"

    assert await guard.tick() == "recovered"

    assert await till.state(booking) == "C confirmed"
    await till.at_rest(booking)


@pytest.mark.parametrize("repair", ["reconcile", "rebuild", "adopted"])
async def test_who_found_it_decided_tells_with_a_pair(till: Till, monkeypatch: pytest.MonkeyPatch, repair: str) -> None:
    """Its worker died between the stores. Whoever tells Redis then must be missed, should PostgreSQL forget it."""
    booking = await till.book(GA=1)
    with monkeypatch.context() as patched:

        async def die(*args: object) -> None:
            raise Died

        patched.setattr(Mirror, "tell", die)
        with pytest.raises(Died):
            await till.office.settlements[SHARD].drain()
    assert await told(till) == []

    match repair:
        case "reconcile":
            await till.office.guards[SHARD].reconciler.event(till.event.id, fix=True)
        case "rebuild":
            await till.office.redis.delete(keys.booking(SHARD, booking), keys.told(SHARD))
            await till.office.guards[SHARD].rebuilder.rebuild()
        case _:
            await till.look_again(booking)

    assert (await till.state(booking)) == "C confirmed"
    assert [pair.number for pair in await told(till)] == [1 if repair != "adopted" else 2]


async def test_a_pair_from_before_the_kept_ones_is_no_alarm(
    till: Till, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old claim names it, or a Redis that went back by more batches than are kept. Others that are missing are lost."""
    monkeypatch.setattr(fence, "REMEMBERED", 0)
    await till.book(GA=1)
    await till.rest()
    await till.book(GA=1)
    old = await till.office.settlements[SHARD].claims.claim()
    assert [pair.number for pair in old.told] == [1]
    await till.book(GA=1)
    await till.drain()
    assert await guard.tick() == "fine"
    assert [row[0] for row in await till.fetch("SELECT number FROM batches")] == [2]

    await till.office.settlements[SHARD].settle(old)
    assert await till.state(old.claims[0].record.id) == "C confirmed"

    pool = await till.office.pool()
    assert await fence.lost(pool, SHARD, old.told) == []
    other = [fence.Pair(number, 1) for number in (2, 99)]
    assert await fence.lost(pool, SHARD, [*old.told, *other]) == other
    await pool.execute("DELETE FROM batches")
    assert await fence.lost(pool, SHARD, old.told) == old.told
