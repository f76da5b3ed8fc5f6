"""Nine calls that take the rest of a sale take it once: who gave up as much as is left leaves most of it to others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from boxoffice.errors import UnpaidLimit
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, SaleMaker
from tests.support.checks import check_at_rest
from tests.support.houses import Houses
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER


@pytest.fixture
async def small(till: Till, open_sale: SaleMaker) -> Till:
    """The last 88 tickets."""
    return Till(till.office, await open_sale(GA=88), till.numbers)


async def hold(till: Till, tickets: int, client: str = CLIENT) -> str:
    """Of a customer who is made up. Ten tickets a call at most, as in the API."""
    tier = till.event.tiers[0].code
    return await till.book(None, client=client, customer=f"customer-{next(till.numbers)}", **{tier: tickets})


async def rush(till: Till, each: int = 10) -> list[str]:
    """Calls until everything is held, or nothing more may be."""
    held = []
    while left := (await till.left("GA"))[0]:
        try:
            held.append(await hold(till, min(each, left)))
        except UnpaidLimit as refused:
            assert refused.details["whose"] == "client"
            break
    return held


async def let_expire(till: Till, held: list[str]) -> None:
    for booking in held:
        await till.time_is_up(booking)
    await till.office.holds.expire(till.event.shard)


async def cancel(till: Till, held: list[str]) -> None:
    for booking in held:
        assert await till.cancel(booking) == "cancelled"


async def decline(till: Till, held: list[str]) -> None:
    """Each tried with a card that is declined, and then let go."""
    for booking in held:
        await till.pay(booking, "tok_card_declined")
    await till.rest()
    await let_expire(till, held)


async def at_bank(till: Till, held: list[str]) -> None:
    """Each with a card whose bank waits for its customer, who never comes; then it is cancelled."""
    for booking in held:
        await till.pay(booking, "tok_3ds")
    await till.drain()
    shard = till.event.shard
    for booking in held:
        record = await till.record(booking)
        assert record is not None and record.state == "P"
        record.tries += "x"
        await till.office.redis.set(keys.booking(shard, booking), record.pack())
        await till.look_again(booking)


Ending = Callable[[Till, list[str]], Awaitable[None]]


@pytest.mark.parametrize("give_up", [let_expire, cancel, decline, at_bank])
async def test_the_rest_of_a_sale_is_locked_up_once(small: Till, give_up: Ending) -> None:
    """Nine calls take it; however they are given up, the next rounds have forty, and the others the rest."""
    held = await rush(small)
    assert (len(held), await small.left("GA")) == (9, (0, 88, 0))
    await give_up(small, held)
    assert await small.left("GA") == (88, 0, 0)

    for _ in range(2):
        held = await rush(small)
        assert await small.left("GA") == (48, 40, 0)
        await give_up(small, held)
    await rush(small)
    for _ in range(6):
        await hold(small, 8, OTHER)
    assert await small.left("GA") == (0, 88, 0)
    await check_at_rest(small.office, [])


async def test_an_honest_shop_is_never_limited(small: Till) -> None:
    """A third of its customers pay, the others let go or change their minds; until it is sold out."""
    gone = 0
    while (await small.left("GA"))[2] < 88:
        held = await rush(small, each=2)
        assert (await small.left("GA"))[0] == 0
        paid = held[::3]
        for booking in paid:
            await small.pay(booking)
        await small.rest()
        others = [booking for booking in held if booking not in paid]
        gone += len(others)
        await (cancel if gone % 2 else let_expire)(small, others)
    assert 2 * gone > 88
    await small.at_rest()


async def test_it_is_over_with_what_is_paid(small: Till) -> None:
    await cancel(small, await rush(small))
    first = await hold(small, 1)
    held = await rush(small)
    assert (await small.left("GA"))[1] == 31
    await small.pay(first)
    await small.rest()
    assert len(await rush(small)) == 6
    assert await small.left("GA") == (0, 87, 1)
    await small.at_rest(first, *held)


async def test_paying_for_what_is_refunded_is_no_way_round(small: Till) -> None:
    held = await rush(small)
    await small.pay(held[-1])
    await small.rest()
    assert await small.cancel(held[-1]) == "cancelled"
    await small.rest()
    await cancel(small, held[:-1])
    first = await hold(small, 8)
    await cancel(small, [first])
    await rush(small)
    assert (await small.left("GA"))[1] == 40
    await check_at_rest(small.office, [])


@pytest.mark.parametrize("repair", ["reconcile", "rebuild"])
async def test_repairs_leave_it(small: Till, repair: str) -> None:
    await cancel(small, await rush(small))
    office = small.office
    if repair == "rebuild":
        await office.guards[SHARD].rebuilder.rebuild()
    else:
        report = await office.guards[SHARD].reconciler.every_event(fix=True, deep=True)
        assert report
    await rush(small)
    assert (await small.left("GA"))[1] == 40
    await check_at_rest(office, [])


async def test_other_clients_events_and_shards_are_not_limited(houses: Houses) -> None:
    """Whatever a client gave up at one of four concerts, with twenty tickets each."""
    for shard in range(2):
        mine, beside = houses.of(shard)
        for _ in range(2):
            await cancel(mine, await rush(mine))
        assert len(await rush(mine, each=1)) == 10
        await hold(mine, 10, OTHER)
        assert len(await rush(beside)) == 2
        assert [await house.left("GA") for house in (mine, beside)] == [(0, 20, 0)] * 2
        if shard == 0:
            assert [await house.left("GA") for house in houses.of(1)] == [(20, 0, 0)] * 2
