"""What an operator was told is held against what was booked: planted differences are found, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from ops.rush.audit import Witness
from ops.rush.findings import Findings
from ops.rush.operating import Changes, Pause, Price
from tests.conftest import SHARD
from tests.ops.rush.conftest import Sold

HOUR = 3_600.0


async def facts(sold: Sold) -> tuple[int, int, float, float]:
    """Price and capacity of the tier that was sold, and when the first and last booking of it were let in."""
    pool = await sold.office.pool()
    row = await pool.fetchrow(
        "SELECT min(i.unit_price_cents), min(v.total), extract(epoch FROM min(b.created_at))::float8,"
        " extract(epoch FROM max(b.created_at))::float8 FROM booking_items i JOIN bookings b ON b.id = i.booking_id"
        " JOIN inventory v ON v.tier_id = i.tier_id WHERE i.tier_id = $1", sold.tier,
    )  # fmt: skip
    assert row is not None
    return tuple(row)


async def audit(sold: Sold, changes: Changes, *, lost: int | None = 0, old_redis: bool = False) -> Findings:
    sold.history.redis_went_back = old_redis
    return await sold.audit(Witness(sold.history, changes=changes, commits_lost=lost))


async def judged(sold: Sold, prices: list[Price] | None = None, **how: Any) -> tuple[bool, bool]:
    """Whether I12 held; and whether it would have, had a store gone back."""
    pauses, capacity = how.get("pauses", []), how.get("capacity")
    changes = Changes(
        prices={sold.tier: prices} if prices else {}, pauses=pauses,
        capacities={} if capacity is None else {sold.tier: capacity},
    )  # fmt: skip
    strict = await audit(sold, changes)
    assert strict.broken in ([], ["I12"])
    held = [
        "I12" not in (await audit(sold, changes, lost=lost, old_redis=old)).broken
        for lost, old in ((3, False), (None, False), (0, True))
    ]
    assert len(set(held)) == 1
    return strict.held, held[0]


async def test_prices_of_their_time_are_right(sold: Sold) -> None:
    price, _, first, last = await facts(sold)
    assert await judged(sold, [Price(price)]) == (True, True)
    assert await judged(sold, [Price(7), Price(price, first - 2, first - 1)]) == (True, True)
    assert await judged(sold, [Price(price), Price(7, last + 1, last + 2)]) == (True, True)
    # Between question and answer either may be in force; and one that was never answered may have come, or not.
    assert await judged(sold, [Price(7), Price(price, first - 1, last + 1)]) == (True, True)
    assert await judged(sold, [Price(price), Price(7, first - 1, last + 1)]) == (True, True)
    assert await judged(sold, [Price(7), Price(price, first - 1)._replace(answered_s=float("inf"))]) == (True, True)
    assert await judged(sold, [Price(price), Price(7, first - 1, float("inf"))]) == (True, True)


async def test_other_prices_are_found(sold: Sold) -> None:
    price, _, first, last = await facts(sold)
    assert await judged(sold, [Price(price - 1), Price(price + 1, first, last)]) == (False, False), "never asked for"
    assert await judged(sold, [Price(7), Price(price, first + 0.5, first + 1)]) == (False, True), "too early"
    ended = [Price(price), Price(7, first - 2, last - 0.5)]
    assert await judged(sold, ended) == (False, True), "after another was in force"
    later = [Price(price), Price(7, first - 3, float("inf")), Price(8, first - 2, last - 1)]
    assert await judged(sold, later) == (False, True), "after the next but one was"


async def test_a_hold_may_have_been_changed_since(sold: Sold) -> None:
    """What came then is at the price of that time. What was over before it was let in is not."""
    price, _, first, last = await facts(sold)
    await sold.sql("UPDATE bookings SET expires_at = created_at + interval '6 seconds'")
    assert await judged(sold, [Price(7), Price(price, last + 1, last + 2)]) == (True, True)
    assert await judged(sold, [Price(price), Price(7, first - 2, first - 1)]) == (False, True)


async def test_a_capacity_is_what_was_told(sold: Sold) -> None:
    _, total, *_ = await facts(sold)
    assert await judged(sold, capacity=total) == (True, True)
    assert await judged(sold, capacity=total + 1) == (False, True)


async def test_nothing_is_let_in_during_a_pause(sold: Sold) -> None:
    *_, first, last = await facts(sold)
    event = sold.event.id
    assert await judged(sold, pauses=[Pause(event, first - HOUR, first - 1)]) == (True, True)
    assert await judged(sold, pauses=[Pause(event, last + 1, last + HOUR)]) == (True, True)
    assert await judged(sold, pauses=[Pause("another", first - 1, last + 1)]) == (True, True)
    assert await judged(sold, pauses=[Pause(event, first - 1, first + 0.5)]) == (False, True)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE events SET status = 'paused'", "status"), ("UPDATE events SET customer_max = 3", "customer_max"),
        ("UPDATE events SET on_sale_at = now() - interval '1 day'", "on_sale_at"),
        ("UPDATE events SET off_sale_at = now() + interval '1 day'", "off_sale_at"),
        ("UPDATE tiers SET is_active = false", "tiers"),
    ],
)  # fmt: skip
async def test_other_terms_in_redis_are_found(sold: Sold, statement: str, what: str) -> None:
    assert (await sold.audit()).held
    await sold.sql(statement)
    findings = await sold.audit()
    # That an event is paused is told to shops, and a change by hand tells nobody.
    assert findings.broken == (["I3", "I15"] if what == "status" else ["I3"])
    assert f"event {sold.event.id}: {what}" in "".join(findings["I3"].evidence)
    lost = await sold.audit(Witness(sold.history, commits_lost=1))
    assert "I3" not in lost.broken, "PostgreSQL may have lost that change"


@pytest.mark.parametrize("price", ["7", None])
async def test_another_price_in_the_counters_is_found(sold: Sold, price: str | None) -> None:
    """admit.lua takes it from there, not from what readers see."""
    field = f"p:{sold.tier}"
    if price is None:
        await sold.office.redis.hdel(sold.sale, field)
    else:
        await sold.office.redis.hset(sold.sale, field, price)
    findings = await sold.audit()
    assert findings.broken == ["I3"]
    assert f"tier {sold.tier}" in findings["I3"].evidence[0]


async def test_an_event_that_redis_does_not_know_is_found(sold: Sold) -> None:
    await sold.office.redis.hdel(f"{{s{SHARD:02d}}}:catalogue", sold.event.id)
    assert "Redis does not know it" in (await sold.audit())["I3"].evidence[0]
