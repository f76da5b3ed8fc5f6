"""What was set aside is held against what was booked: planted differences are found, and nothing else is."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from boxoffice.sales.allocations import Holder
from boxoffice.sales.codes import CodeTerms
from boxoffice.sales.rules import NONE
from boxoffice.stores import keys
from ops.rush.agreed import Agreed, Aside, Code
from ops.rush.allocation_checks import check_sides
from ops.rush.audit import Witness
from ops.rush.findings import Finding
from ops.rush.operating import Changes
from ops.rush.sampler import Sampler
from ops.rush.setting_aside import Allotted
from tests.conftest import CLIENT, SHARD
from tests.ops.rush.conftest import Sold
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER


class Sides:
    """100 tickets: 4 are sold, 10 are set aside for the partner and 20 for the guest list, of which each has 3."""

    def __init__(self, sold: Sold, aside: Aside, told: list[Allotted]) -> None:
        self.sold = sold
        self.aside = aside
        self.told = told
        self.left = {CLIENT: 66, OTHER: 73}

    async def judged(self, *, lost: int | None = 0, old: bool = False, **how: Any) -> Finding:
        history, event = self.sold.history, self.sold.event.id
        history.redis_went_back = old
        history.left = {(shop, event): {self.sold.tier: left} for shop, left in self.left.items()}
        changes = Changes(aside={event: how.pop("told", self.told)})
        rules = {event: NONE} | {tier.id: NONE for tier in self.sold.event.tiers}
        terms = Agreed(rules, {}, {}, {event: "none"}, {event: self.aside})
        found = await self.sold.audit(Witness(history, agreed=terms, changes=changes, commits_lost=lost, **how))
        return found["I14"]

    async def excused(self, **how: Any) -> bool:
        """Whether all is well, had a store gone back."""
        return all(
            [
                (await self.judged(lost=lost, old=old, **how)).held
                for lost, old in ((3, False), (None, False), (0, True))
            ]
        )


@pytest.fixture
async def sides(sold: Sold) -> Sides:
    office, event = sold.office, sold.event
    (code,) = await office.codes.create(event.id, CodeTerms(50))
    aside = Aside(sold.tier, OTHER, Code(code["id"], code["code"], event.id, 50))
    rows = [
        await office.allocations.create(event.id, sold.tier, holder, tickets)
        for holder, tickets in ((Holder(shop=OTHER), 10), (Holder(code=code["id"]), 20))
    ]
    till = Till(office, event, count(100))
    await till.book(GA=3, client=OTHER, customer="p")
    await till.book(GA=3, access_code=code["code"], customer="l")
    await till.rest()
    told = [Allotted(row["id"], holder, row["tickets"], 0)
            for row, holder in zip(rows, (f"@{OTHER}", f"k{aside.code.digest}"), strict=True)]  # fmt: skip
    return Sides(sold, aside, told)


async def test_what_is_as_it_was_told_is_right(sides: Sides) -> None:
    finding = await sides.judged()
    assert (finding.evidence, finding.looked_at) == ([], ["2 allocations at the end, 6 tickets used of them"])
    assert (await sides.judged(told=None)).held
    sides.left = {}
    assert (await sides.judged()).held, "nobody answered at the end"


async def test_another_allocation_than_was_told_is_found(sides: Sides) -> None:
    theirs, listed = sides.told
    for told in ([theirs], [], [theirs, listed._replace(tickets=21)], [theirs, listed._replace(holder="k0")],
                 [theirs._replace(id="other"), listed]):  # fmt: skip
        assert (await sides.judged(told=told)).broken == 1
        assert await sides.excused(told=told)


@pytest.mark.parametrize(("taken", "lacking", "broken"), [(66, 0, 0), (67, 0, 1), (69, 2, 1), (69, 3, 0), (68, 3, 0)])
async def test_tickets_that_somebody_else_took_are_found(sides: Sides, taken: int, lacking: int, broken: int) -> None:
    """90 are left, of which 24 are reserved; all but what lacked when it was told of."""
    sold = sides.sold
    till = Till(sold.office, sold.event, count(200))
    await sold.office.redis.hdel(keys.event(SHARD, sold.event.id), "alloc")  # type: ignore[misc]
    for first in range(0, taken, 10):
        await till.book(GA=min(10, taken - first), customer=f"q{first}")
    await till.rest()
    told = [sides.told[0]._replace(lacking=lacking), sides.told[1]]
    free = max(0, 66 - taken)
    sides.left = {CLIENT: free, OTHER: free + 7}
    assert (await sides.judged(told=told)).broken == broken
    assert await sides.excused(told=told)


@pytest.mark.parametrize(
    ("left", "broken"), [({CLIENT: 67, OTHER: 73}, 1), ({CLIENT: 66, OTHER: 66}, 1), ({CLIENT: 65, OTHER: 72}, 2)]
)
async def test_who_may_sell_more_or_less_than_is_told_is_found(sides: Sides, left: dict[str, int], broken: int) -> None:
    """That nothing excuses: both stores agree by then."""
    sides.left = left
    assert (await sides.judged()).broken == broken
    assert not await sides.excused()


# ------------------------------------------------------------------ while it runs


@pytest.mark.parametrize(
    ("before", "after", "broken"),
    [(5, 0, []), (5, -1, ["t"]), (0, -1, ["t"]), (-3, -3, []), (-3, -4, ["t"]), (-3, -1, []), (-3, 2, []), (2, 9, [])],
)
def test_what_is_reserved_for_nobody_never_falls_below_zero(before: int, after: int, broken: list[str]) -> None:
    """Nor further below, when some lacks."""
    assert check_sides({"t": after, "u": 1}, {"t": before}) == broken


@pytest.fixture
def sampler(sides: Sides) -> Sampler:
    sold = sides.sold
    return Sampler(sold.office.shards, "", [sold.event], aside={sold.event.id: sides.aside})


async def test_samples_of_a_sale_that_keeps_what_is_set_aside_find_nothing(sides: Sides, sampler: Sampler) -> None:
    """Of everybody's bookings, and of those for whom it is."""
    sold = sides.sold
    till = Till(sold.office, sold.event, count(200))
    for who in (
        {"GA": 10},
        {"GA": 7, "client": OTHER},
        {"GA": 9, "access_code": sides.aside.code.text},
        {"GA": 1, "client": OTHER},
    ):
        await till.book(customer="s", **who)  # type: ignore[arg-type]
        await sampler.count_sides(sold.event, 1.0)
    assert (sampler.sides, sampler.sides_broken) == (3, [])


@pytest.mark.parametrize("went_back", [{}, {"commits_lost": 2}, {"old": True}])
async def test_a_sample_finds_who_takes_what_is_set_aside(
    sides: Sides, sampler: Sampler, went_back: dict[str, Any]
) -> None:
    sold = sides.sold
    sale = keys.event(SHARD, sold.event.id)
    await sampler.count_sides(sold.event, 1.0)
    before = await sold.office.redis.hgetall(sale)  # type: ignore[misc]
    await sold.office.redis.hset(sale, f"a:{sold.tier}", 23)  # type: ignore[misc]
    await sampler.count_sides(sold.event, 1.25)
    await sampler.count_sides(sold.event, 1.5)
    assert sampler.sides_broken == [f"after 1.25 s: tier {sold.tier}: 66 were reserved for nobody, then -1"]
    await sold.office.redis.hset(sale, mapping=before)  # type: ignore[misc]
    finding = await sides.judged(
        sampler=sampler, lost=went_back.get("commits_lost", 0), old=went_back.get("old", False)
    )
    assert finding.held is bool(went_back)
    assert "2 looks at what was set aside while it ran" in finding.looked_at


@pytest.mark.parametrize("what", ["gate", "alloc", "closed"])
async def test_samples_of_another_time_are_not_compared(sides: Sides, sampler: Sampler, what: str) -> None:
    """Once a guard has opened Redis anew, or something else is set aside, less may be left than was."""
    sold = sides.sold
    sale, redis = keys.event(SHARD, sold.event.id), sold.office.redis
    await sampler.count_sides(sold.event, 1.0)
    if what == "gate":
        await redis.set(keys.gate(SHARD), "another:run")
    elif what == "alloc":
        await redis.hset(sale, "alloc", f"{sold.tier}:@{OTHER}:97")  # type: ignore[misc]
    else:
        opened = await redis.getdel(keys.gate(SHARD))
        await sampler.count_sides(sold.event, 1.1)
        await redis.set(keys.gate(SHARD), opened)
    await redis.hset(sale, f"a:{sold.tier}", 3)  # type: ignore[misc]
    await sampler.count_sides(sold.event, 1.25)
    assert (sampler.sides, sampler.sides_broken) == (0, [])
