"""Who holds without paying is limited, and what was never paid is soon forgotten."""

from __future__ import annotations

import asyncio

import pytest

from boxoffice import ids
from boxoffice.bookings.holds import BRIEF_S
from boxoffice.errors import NotFound, UnpaidLimit
from boxoffice.settings import Settings
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, SaleMaker
from tests.support.checks import check_at_rest
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Six tickets for a customer, ten for a shop; three holds that ended are remembered for a while."""
    holds = {"unpaid_customer_max": 6, "unpaid_client_max": 10, "ended_max": 3, "ended_ttl_s": 600}
    return settings.model_copy(update={"holds": settings.holds.model_copy(update=holds)})


@pytest.fixture
async def stadium(till: Till, open_sale: SaleMaker) -> Till:
    """Places enough."""
    return Till(till.office, await open_sale(LAWN=500, BOX=100), till.numbers)


async def hold(till: Till, tickets: int, customer: str = "ada") -> str:
    return await till.book(None, customer=customer, LAWN=tickets)


async def test_a_customer_cannot_lock_up_a_sale(stadium: Till) -> None:
    """Twenty calls at once get what one customer may hold; each way out of a hold makes room for another."""
    answers = await asyncio.gather(*(hold(stadium, 2) for _ in range(20)), return_exceptions=True)
    held = [answer for answer in answers if isinstance(answer, str)]
    refused = [answer for answer in answers if isinstance(answer, UnpaidLimit)]
    assert (len(held), len(refused)) == (3, 17)
    assert {error.details["whose"] for error in refused} == {"customer"}

    await stadium.pay(held[0])
    with pytest.raises(UnpaidLimit):
        await hold(stadium, 1)
    await stadium.rest()
    assert await stadium.cancel(held[1]) == "cancelled"
    await stadium.time_is_up(held[2])
    await stadium.office.holds.expire(SHARD)
    assert await hold(stadium, 6)
    await stadium.at_rest(*held)


async def test_a_shop_cannot_either(stadium: Till) -> None:
    """Whatever it calls its customers; one that pays at once is never refused for it."""
    for n in range(2):
        await hold(stadium, 5, f"customer-{n}")
    with pytest.raises(UnpaidLimit) as refused:
        await hold(stadium, 1, "customer-9")
    assert refused.value.details | {"retry_after_s": 0} == {
        "whose": "client",
        "held": 10,
        "limit": 10,
        "retry_after_s": 0,
    }
    for n in range(10):
        await stadium.book(customer=f"buyer-{n}", LAWN=5)
    await stadium.rest()
    await check_at_rest(stadium.office, [])


async def test_a_decline_and_a_payment_that_waits_leave_it_counted(stadium: Till) -> None:
    one, other = await hold(stadium, 3), await hold(stadium, 3)
    await stadium.pay(one, "tok_card_declined")
    await stadium.pay(other, "tok_3ds")
    await stadium.drain()
    with pytest.raises(UnpaidLimit):
        await hold(stadium, 1)
    await stadium.customer_acts(other)
    await stadium.look_again(other)
    assert await stadium.state(other) == "C confirmed"
    assert await hold(stadium, 3)
    await stadium.at_rest(other)


async def test_a_booking_that_waits_for_the_bank_is_counted(stadium: Till) -> None:
    """A card that asks for 3-D Secure locks up tickets as a hold does; it is counted until it is paid, and confirmed once."""
    waits = await stadium.book("tok_3ds", LAWN=5)
    await stadium.drain()
    for token in ("tok_ok", "tok_3ds", None):
        with pytest.raises(UnpaidLimit):
            await stadium.book(token, LAWN=2)
    await stadium.customer_acts(waits)
    await stadium.look_again(waits)
    assert await stadium.state(waits) == "C confirmed"
    await stadium.book(LAWN=5)
    await stadium.at_rest(waits)


async def test_another_event_has_its_own_limit(till: Till, stadium: Till) -> None:
    await hold(stadium, 6)
    assert await till.book(None, customer="ada", GA=4)


async def test_another_shop_has_its_own_limits(stadium: Till) -> None:
    """And its customers have, whatever they are called: this shop's limit, and that of its customer, are reached."""
    await hold(stadium, 6)
    await hold(stadium, 4, "bea")
    with pytest.raises(UnpaidLimit):
        await hold(stadium, 1)

    async def theirs(customer: str, tickets: int) -> None:
        await stadium.book(None, client=OTHER, customer=customer, LAWN=tickets)

    await theirs("ada", 6)
    with pytest.raises(UnpaidLimit) as refused:
        await theirs("ada", 1)
    assert (refused.value.details["whose"], refused.value.details["held"]) == ("customer", 6)
    await theirs("bea", 4)
    with pytest.raises(UnpaidLimit) as refused:
        await theirs("cid", 1)
    assert (refused.value.details["whose"], refused.value.details["held"]) == ("client", 10)


@pytest.mark.parametrize("repair", ["reconcile", "rebuild"])
async def test_repairs_count_anew(stadium: Till, repair: str) -> None:
    """Of what is there, holds and payments under way: neither more nor less."""
    one, other = await hold(stadium, 2), await hold(stadium, 2)
    await stadium.pay(other, "tok_card_declined")
    await stadium.rest()
    office, event = stadium.office, stadium.event.id
    await office.redis.hset(keys.unpaid(SHARD, event), mapping={f"c:{CLIENT}": 99, "o:nobody": 5})  # type: ignore[misc]
    if repair == "rebuild":
        await office.redis.delete(keys.unpaid(SHARD, event), keys.booking(SHARD, other))
        await office.guards[SHARD].rebuilder.rebuild()
    else:
        await office.guards[SHARD].reconciler.every_event(fix=True, deep=True)
    await check_at_rest(office, [one])
    with pytest.raises(UnpaidLimit):
        await hold(stadium, 3)
    assert await hold(stadium, 2)


async def test_what_was_never_paid_is_soon_forgotten(stadium: Till) -> None:
    """It reads as it ended for a while, and then it is in no store: 404, and its key makes another booking. One that was
    tried to be paid is PostgreSQL's to remember."""
    never, tried = await hold(stadium, 1), await hold(stadium, 1)
    await stadium.pay(tried, "tok_card_declined")
    await stadium.rest()
    for booking in (never, tried):
        assert await stadium.cancel(booking) == "cancelled"
    redis = stadium.office.redis
    record = await stadium.record(never)
    assert record is not None
    for name in (keys.booking(SHARD, never), keys.idempotency(SHARD, record.scope)):
        assert 590 < await redis.ttl(name) <= 600
        await redis.delete(name)
    assert await redis.ttl(keys.booking(SHARD, tried)) > 80_000
    for _ in range(2):
        with pytest.raises(NotFound):
            await stadium.office.bookings.get(CLIENT, never)
        with pytest.raises(NotFound):
            await stadium.cancel(never)
        with pytest.raises(NotFound):
            await stadium.office.hold_payments.pay(CLIENT, never, None, ids.digest("late"))
    assert (await stadium.office.bookings.get(CLIENT, tried)).view.status == "cancelled"


async def test_holding_and_cancelling_fills_no_memory(stadium: Till) -> None:
    """A cycle leaves about a kilobyte for some minutes; beyond so many of a shop, for half a minute."""
    redis = stadium.office.redis
    before = (await redis.info("memory"))["used_memory"]
    lives = []
    for _ in range(60):
        booking = await hold(stadium, 1)
        await stadium.change(booking, LAWN=2)
        await stadium.cancel(booking)
        lives.append(await redis.ttl(keys.booking(SHARD, booking)))
        assert lives[-1] - 1 <= await redis.ttl(keys.changes(SHARD, booking)) <= lives[-1]
    assert [life_s > BRIEF_S for life_s in lives].count(True) == 3
    assert 0 < max(lives[3:]) <= BRIEF_S
    cycle = ((await redis.info("memory"))["used_memory"] - before) / 60
    assert cycle < 3_000, f"{cycle:.0f} bytes a cycle"
    for key in await redis.keys("*"):
        if any(kind in key for kind in (b":bk:", b":idem:", b":chg:")):
            assert 0 < await redis.ttl(key) <= 600


async def test_what_another_shop_has_ended_shortens_no_memory(stadium: Till) -> None:
    """To the hold: three of a shop are remembered for ten minutes, the fourth for half a minute."""
    lives = []
    for client in (CLIENT, OTHER):
        for n in range(4):
            booking = await stadium.book(None, client=client, key=f"{n}", LAWN=1)
            await stadium.office.cancellations.cancel(client, booking)
            lives.append(await stadium.office.redis.ttl(keys.booking(SHARD, booking)) > BRIEF_S)
    assert lives == [True, True, True, False] * 2
