"""Redis's clock is wrong for a while, and is put right: nobody holds tickets, or waits, until a time that was never."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.errors import HoldEnded
from boxoffice.stores import keys
from tests.conftest import SHARD
from tests.support.clocks import shift
from tests.support.shop.office import Till
from tests.support.shop.orders import CLIENT

STEP_MS = 600_000
HOLD_MS = 600_000


async def now_ms(till: Till) -> int:
    seconds, micros = await till.office.redis.time()
    return int(seconds) * 1_000 + int(micros) // 1_000


async def lasts_ms(till: Till, booking: str) -> int:
    """How long its hold lasts from now: the same by its record and by the set that ends it."""
    record = await till.record(booking)
    assert record is not None
    if record.state == "H":
        assert await till.office.redis.zscore(keys.deadlines(SHARD), booking) == record.deadline_ms
    return record.deadline_ms - await now_ms(till)


async def due_in_ms(till: Till, booking: str) -> float:
    score = await till.office.redis.zscore(keys.pending(SHARD), booking)
    assert score is not None
    return float(score) - await now_ms(till)


async def sweep(till: Till) -> None:
    await till.office.holds.expire(SHARD)


async def test_a_hold_of_the_future_lasts_its_length_and_no_longer(till: Till) -> None:
    """From the moment the clock is right; one made before keeps its deadline, and so does one made after."""
    before = await till.hold(GA=1)
    shift(till.office.scripts, STEP_MS // 2)
    ahead, brief = await till.hold(GA=1), await till.hold(GA=1, hold_s=20)
    await till.office.holds.extend(CLIENT, ahead, None)
    shift(till.office.scripts, 0)
    after = await till.hold(GA=1)
    assert await lasts_ms(till, ahead) > 2 * HOLD_MS + 200_000, "that is what is wrong"

    await sweep(till)

    for booking, length in ((before, HOLD_MS), (ahead, 2 * HOLD_MS), (brief, 20_000), (after, HOLD_MS)):
        assert length - 5_000 < await lasts_ms(till, booking) <= length
    await till.time_is_up(ahead)
    await sweep(till)
    assert await till.state(ahead) == "E -"
    assert await till.left("GA") == (7, 3, 0)


async def test_what_was_posted_or_claimed_in_the_future_is_due(till: Till) -> None:
    """A lease that another worker has now stays his; a lapse is remembered."""
    shift(till.office.scripts, 30_000)
    posted, leased = await till.book(GA=1), await till.book(GA=1)
    pending = keys.pending(SHARD)
    lease_ms = till.office.settings.worker.lease_ms
    await till.office.redis.zadd(pending, {leased: await now_ms(till) + 30_000 + lease_ms + 1 / 16})
    await sweep(till)
    shift(till.office.scripts, 0)
    mine = await till.book(GA=1)
    await till.office.redis.zadd(pending, {mine: await now_ms(till) + lease_ms + 1 / 16})
    # A lease of when the clock was ahead, of a worker that is gone: no worker has one so long now.
    dead = await till.book(GA=1)
    await till.office.redis.zadd(pending, {dead: await now_ms(till) + lease_ms + 10_000 + 1 / 16})
    assert await due_in_ms(till, posted) > 25_000

    await sweep(till)

    assert await due_in_ms(till, posted) <= 0
    assert max(await due_in_ms(till, leased), await due_in_ms(till, dead)) <= 0.1
    assert (await till.office.redis.zscore(pending, leased)) % 1 == 1 / 16
    assert await due_in_ms(till, mine) > lease_ms - 5_000
    await till.office.redis.zadd(pending, {mine: 1})
    await till.at_rest(posted, leased, dead, mine)


async def test_a_payment_tried_in_the_future_comes_back_to_a_hold_of_its_length(till: Till) -> None:
    """PostgreSQL is told, too: it may have to put the hold back. A payment still under way keeps the hold's length."""
    shift(till.office.scripts, STEP_MS)
    declined, waiting = await till.hold(GA=1), await till.hold(GA=1)
    await till.pay(declined, "tok_card_declined")
    await till.rest()
    await till.pay(waiting, "tok_3ds")
    await till.drain()
    await sweep(till)
    shift(till.office.scripts, 0)

    await sweep(till)

    assert HOLD_MS - 5_000 < await lasts_ms(till, declined) <= HOLD_MS
    (row,) = await till.fetch(
        "SELECT extract(epoch FROM expires_at) * 1000 AS ms FROM bookings WHERE id = $1", declined
    )
    record = await till.record(declined)
    assert record is not None and int(row["ms"]) == record.deadline_ms
    assert HOLD_MS - 5_000 < await lasts_ms(till, waiting) <= HOLD_MS
    await till.customer_acts(waiting)
    await till.look_again(waiting)
    assert await till.state(waiting) == "C confirmed"
    await till.at_rest(waiting)


@pytest.mark.parametrize("before", ["pending", "dead"])
async def test_a_payment_that_is_declined_while_others_are_looked_at_is_not_missed(
    till: Till, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """The hold is back among those that were looked at first. A parked one goes back to the workers meanwhile."""
    shift(till.office.scripts, STEP_MS)
    booking = await till.hold(GA=1)
    await till.pay(booking, "tok_3ds_fail")
    await till.drain()
    if before == "dead":
        record = await till.record(booking)
        assert record is not None
        await till.office.settlements[SHARD].claims.park(booking, record.pack(), record.payment_key, "a test")
    await sweep(till)
    shift(till.office.scripts, 0)
    zscan, seen = till.office.redis.zscan, []

    async def declined_first(name: str, *args: Any, **options: Any) -> Any:
        if name == (keys.pending(SHARD) if before == "pending" else keys.dead(SHARD)) and not seen:
            seen.append(name)
            if before == "dead":
                await till.office.parked.retry(booking)
            await till.customer_acts(booking)
            await till.look_again(booking)
            assert await till.state(booking) == "H held"
        return await zscan(name, *args, **options)

    monkeypatch.setattr(till.office.redis, "zscan", declined_first)
    await sweep(till)

    assert seen
    assert HOLD_MS - 60_000 < await lasts_ms(till, booking) <= HOLD_MS
    await till.cancel(booking)
    await till.at_rest(booking)


async def test_a_hold_of_the_future_that_is_put_back_can_be_extended(till: Till) -> None:
    """PostgreSQL has heard when it was admitted by the clock that was ahead; by its first length, that would be nothing."""
    shift(till.office.scripts, STEP_MS)
    declined = await till.hold(GA=1)
    await till.pay(declined, "tok_card_declined")
    await till.rest()
    shift(till.office.scripts, 0)
    await sweep(till)
    await till.office.redis.flushall()

    await till.office.guards[SHARD].rebuilder.rebuild()

    record = await till.record(declined)
    assert record is not None and record.admitted_ms <= await now_ms(till)
    await till.office.holds.extend(CLIENT, declined, None)
    assert 2 * HOLD_MS - 60_000 < await lasts_ms(till, declined) <= 2 * HOLD_MS
    await till.cancel(declined)
    await till.at_rest(declined)


async def test_a_clock_that_falls_behind_keeps_nobodys_tickets_longer(till: Till) -> None:
    """Holds made before last their length once more at most; those made meanwhile end early when the clock is put right:
    their customers are told, and nothing is charged."""
    before = await till.hold(GA=1)
    await sweep(till)
    shift(till.office.scripts, -STEP_MS)
    await sweep(till)
    assert HOLD_MS - 5_000 < await lasts_ms(till, before) + STEP_MS <= HOLD_MS
    meanwhile = await till.hold(GA=1)
    paid = await till.book(GA=1)
    shift(till.office.scripts, 0)
    with pytest.raises(HoldEnded):
        await till.pay(meanwhile)
    await sweep(till)
    assert [await till.state(booking) for booking in (before, meanwhile)] == ["E -", "E -"]
    await till.at_rest(paid)
    assert await till.state(paid) == "C confirmed"


async def test_less_than_a_second_is_no_step(till: Till) -> None:
    """Clocks are corrected by so much all the time."""
    shift(till.office.scripts, 800)
    booking = await till.hold(GA=1)
    before = await till.record(booking)
    shift(till.office.scripts, 0)
    await sweep(till)
    assert await till.record(booking) == before


async def test_it_is_put_right_once(till: Till) -> None:
    """Whoever is first; afterwards nobody looks at every booking again, until the clock goes back once more."""
    for _ in range(2):
        shift(till.office.scripts, STEP_MS)
        booking = await till.hold(GA=1)
        shift(till.office.scripts, 0)
        await sweep(till)
        told = int(await till.office.redis.get(keys.clock(SHARD)))
        assert abs(told - await now_ms(till)) < 5_000
        assert await lasts_ms(till, booking) <= HOLD_MS
