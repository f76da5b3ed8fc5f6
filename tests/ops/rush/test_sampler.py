"""Samples taken during a sale: counters that add up, and both stores of one opinion."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.sales.catalogue import EventView
from boxoffice.stores import fence, keys
from ops.rush.agreed import Code
from ops.rush.audit import Witness
from ops.rush.sampler import Sampler
from tests.conftest import CLIENT
from tests.ops.rush.conftest import Sold


async def test_stores_are_not_compared_while_one_lacks_what_the_other_was_told(sold: Sold) -> None:
    """PostgreSQL went back: known, and nothing is decided by it. Without that, a difference is one."""
    sampler = Sampler(sold.office.shards, sold.office.settings.database_url, [sold.event])
    await sold.sql("UPDATE inventory SET sold = 0")
    await fence.tell(sold.office.shards[sold.event.shard], fence.Pair(1_000_000, 1))

    await sampler.compare(sold.event, 1.0)
    assert (sampler.compared, sampler.went_back, sampler.stores_broken) == (0, 1, [])

    await sold.office.redis.srem(keys.told(sold.event.shard), "1000000:1")
    await sampler.compare(sold.event, 1.0)
    assert (sampler.compared, sampler.went_back) == (1, 1)
    assert sampler.stores_broken
    sampler.hang_up()


async def test_stores_are_not_compared_while_redis_is_unchecked(sold: Sold) -> None:
    """It may have gone back, and decides nothing. Once a guard has opened its gate, a difference is one."""
    office = sold.office
    sampler = Sampler(office.shards, office.settings.database_url, [sold.event])
    await sold.sql("UPDATE inventory SET sold = 0")
    gate = await office.redis.get(keys.gate(sold.event.shard))
    await office.redis.set(keys.gate(sold.event.shard), "first:of another run")

    await sampler.compare(sold.event, 1.0)
    assert (sampler.compared, sampler.unchecked, sampler.stores_broken) == (0, 1, [])

    assert gate is not None
    await office.redis.set(keys.gate(sold.event.shard), gate)
    await sampler.compare(sold.event, 1.0)
    assert (sampler.compared, sampler.unchecked) == (1, 1)
    assert sampler.stores_broken
    sampler.hang_up()


class Meanwhile(Sampler):
    """A booking is cancelled as soon as PostgreSQL was asked for the second time, and before Redis is."""

    sale: Sold
    asked = 0

    async def sold(self, event: EventView) -> dict[str, Any]:
        found = await super().sold(event)
        self.asked += 1
        if self.asked == 2:
            await self.sale.office.cancellations.cancel(CLIENT, self.sale.confirmed)
        return found


async def test_a_cancellation_between_two_looks_is_no_difference(sold: Sold) -> None:
    sampler = Meanwhile(sold.office.shards, sold.office.settings.database_url, [sold.event])
    sampler.sale = sold

    await sampler.compare(sold.event, 1.0)
    assert (sampler.compared, sampler.stores_broken) == (0, [])

    await sampler.compare(sold.event, 2.0)
    assert (sampler.compared, sampler.stores_broken) == (1, [])
    sampler.hang_up()


async def test_samples_testify(sold: Sold) -> None:
    sampler = Sampler(sold.office.shards, "", [sold.event])
    sampler.sums_broken.append("after 1 s: tier x a=1 h=0 c=0 t=2")
    sampler.stores_broken.append("after 1 s: tier x c=2 sold=1 c+h=3")

    findings = await sold.audit(Witness(sampler=sampler))

    assert findings.broken == ["I1", "I3"]


@pytest.mark.parametrize("went_back", [False, True])
async def test_a_surplus_is_excused_by_an_older_redis_alone(sold: Sold, went_back: bool) -> None:
    """Holds that it brought back stand beside tickets sold since. A sum that is wrong, or too many sold, is never excused."""
    sale, tier = keys.event(sold.event.shard, sold.event.id), sold.event.tiers[0].id
    sampler = Sampler(sold.office.shards, sold.office.settings.database_url, [sold.event])
    sold.history.redis_went_back = went_back
    before = await sold.office.redis.hgetall(sale)  # type: ignore[misc]
    await sold.office.redis.hset(sale, mapping={f"a:{tier}": -1, f"h:{tier}": 3, f"c:{tier}": 8, f"t:{tier}": 10})  # type: ignore[misc]
    await sampler.count(sold.event, 1.0)
    await sold.office.redis.hset(sale, mapping=before)  # type: ignore[misc]
    assert (sampler.sums_broken, len(sampler.surplus)) == ([], 1)
    assert (await sold.audit(Witness(sold.history, sampler))).broken == ([] if went_back else ["I1"])

    for counters in ((-1, 3, 8, 9), (-1, -1, 12, 10), (-1, 0, 11, 10), (-3, 2, 11, 10), (0, -1, 11, 10)):
        await sold.office.redis.hset(  # type: ignore[misc]
            sale, mapping={f"{letter}:{tier}": n for letter, n in zip("ahct", counters, strict=True)}
        )
        await sampler.count(sold.event, 1.0)
        assert f"a={counters[0]} h={counters[1]} c={counters[2]} t={counters[3]}" in sampler.sums_broken.pop()


async def test_a_cancellation_may_come_before_its_sale(sold: Sold) -> None:
    """Its tickets are on sale again, and held until Redis is told of the sale, which takes none. That is no excuse for a sum
    that is wrong, for more on sale than there are, nor for what is left of it at rest."""
    sale, tier = keys.event(sold.event.shard, sold.event.id), sold.event.tiers[0].id
    sampler = Sampler(sold.office.shards, sold.office.settings.database_url, [sold.event])

    async def put(*numbers: int) -> None:
        mapping = {f"{letter}:{tier}": number for letter, number in zip("ahct", numbers, strict=True)}
        await sold.office.redis.hset(sale, mapping=mapping)  # type: ignore[misc]

    before = await sold.office.redis.hgetall(sale)  # type: ignore[misc]
    await put(0, 11, -1, 10)
    await sampler.count(sold.event, 1.0)
    assert (sampler.sums_broken, len(sampler.unsold)) == ([], 1)
    assert "I1" in (await sold.audit(Witness(sold.history, sampler))).broken
    await sold.office.redis.hset(sale, mapping=before)  # type: ignore[misc]
    findings = await sold.audit(Witness(sold.history, sampler))
    assert findings.held

    for numbers in ((11, 0, -1, 10), (0, 10, -1, 10), (-1, 12, -1, 10), (12, -1, -1, 10)):
        await put(*numbers)
        await sampler.count(sold.event, 1.0)
        assert f"a={numbers[0]} h={numbers[1]} c={numbers[2]}" in sampler.sums_broken.pop()


@pytest.mark.parametrize(("tickets", "holds"), [(-1, False), (0, True), (2, True), (3, False)])
async def test_a_code_never_counts_more_than_it_is_good_for(sold: Sold, tickets: int, holds: bool) -> None:
    """Not for a moment, and not fewer than none."""
    code = Code("one", "AAAA-BBBB-CCCC-DDDD", sold.event.id, 2)
    elsewhere = code._replace(event="another", tickets=-9)
    sampler = Sampler(sold.office.shards, "", [sold.event], [elsewhere, code])
    await sold.office.redis.hset(sold.owners, f"k{code.digest}", tickets)  # type: ignore[misc]
    await sampler.count_codes(sold.event, 1.0)
    await sold.office.redis.hdel(sold.owners, f"k{code.digest}")  # type: ignore[misc]
    assert bool(sampler.codes_broken) is not holds
    assert (await sold.audit(Witness(sold.history, sampler))).broken == ([] if holds else ["I13"])
    sold.history.redis_went_back = True
    assert (await sold.audit(Witness(sold.history, sampler))).held
