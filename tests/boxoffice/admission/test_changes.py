"""Changing what a hold has: in both stores, once for each key, and whatever happens to it at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boxoffice.errors import (
    BoxOfficeError,
    CustomerLimit,
    EventCalledOff,
    GateClosed,
    HoldEnded,
    KeyReused,
    Malformed,
    NotFound,
    PaymentInProgress,
    PriceChanged,
    SaleClosed,
    SaleNotOpen,
    SalePaused,
    SoldOut,
    TooManyChanges,
    UnpaidLimit,
)
from boxoffice.stores import keys
from tests.conftest import SHARD, SaleMaker
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER, tier_of
from tests.support.waiting import eventually


async def rows(till: Till, booking: str) -> dict[str, tuple[int, int, int]]:
    """Quantity, price and total of each item, by code, as PostgreSQL has them; with what all of it costs."""
    found = await till.fetch(
        "SELECT t.code, i.quantity, i.unit_price_cents, i.line_total_cents FROM booking_items i"
        " JOIN tiers t ON t.id = i.tier_id WHERE i.booking_id = $1",
        booking,
    )
    (row,) = await till.fetch("SELECT amount_cents FROM bookings WHERE id = $1", booking)
    assert row["amount_cents"] == sum(item["line_total_cents"] for item in found)
    return {item["code"]: tuple(item)[1:] for item in found}


async def declined(till: Till, **tiers: int) -> str:
    """A hold that PostgreSQL knows."""
    booking = await till.hold(**tiers)
    await till.pay(booking, "tok_card_declined")
    await till.rest()
    assert await till.state(booking) == "H held"
    return booking


async def test_a_hold_that_is_in_redis_alone(till: Till) -> None:
    """PostgreSQL hears of it with the first payment, and of nothing that it had before."""
    booking = await till.hold(GA=2)
    before = await till.record(booking)

    view, repeated = await till.change(booking, GA=1, VIP=3)

    assert not repeated
    assert {item.code: (item.quantity, item.unit_price_cents, item.line_total_cents) for item in view.items} == {
        "GA": (1, 1_000, 1_000), "VIP": (3, 2_000, 6_000),
    }  # fmt: skip
    assert (view.status, view.amount_cents) == ("held", 7_000)
    assert (await till.left("GA"), await till.left("VIP")) == ((9, 1, 0), (1, 3, 0))
    after = await till.record(booking)
    assert before is not None and after is not None and after.deadline_ms == before.deadline_ms
    assert await till.state(booking) == "H -"
    await till.pay(booking)
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"
    assert await rows(till, booking) == {"GA": (1, 1_000, 1_000), "VIP": (3, 2_000, 6_000)}
    assert (await till.payment(booking)).captured_cents == 7_000


async def test_a_hold_that_postgresql_knows(till: Till) -> None:
    """It hears of the change at once: from there the hold may have to be put back. What is paid then is what it has then."""
    booking = await declined(till, GA=2)

    await till.change(booking, VIP=1)

    assert await rows(till, booking) == {"VIP": (1, 2_000, 2_000)}
    assert await till.state(booking) == "H held"
    await till.pay(booking)
    await till.at_rest(booking)
    assert await rows(till, booking) == {"VIP": (1, 2_000, 2_000)}
    assert [payment.captured_cents for payment in await till.at_gateway(booking)] == [0, 2_000]
    assert (await till.left("GA"), await till.left("VIP")) == ((10, 0, 0), (3, 0, 1))


@pytest.mark.parametrize("end", ["expires", "is cancelled"])
async def test_what_ends_gives_back_what_it_has_then(till: Till, end: str) -> None:
    booking = await declined(till, GA=2)
    await till.change(booking, VIP=3)
    if end == "expires":
        await till.time_is_up(booking)
        await till.office.holds.expire(SHARD)
    else:
        await till.cancel(booking)
    assert (await till.left("GA"), await till.left("VIP")) == ((10, 0, 0), (4, 0, 0))
    await till.at_rest(booking)


async def test_a_change_that_postgresql_missed_is_written_with_the_next_payment(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = await declined(till, GA=2)

    async def nothing(_: str) -> None:
        """PostgreSQL is away."""

    monkeypatch.setattr(till.office.held_rows, "write", nothing)
    await till.change(booking, GA=1, VIP=1)
    assert await rows(till, booking) == {"GA": (2, 1_000, 2_000)}
    await till.pay(booking)
    await till.at_rest(booking)
    assert await rows(till, booking) == {"GA": (1, 1_000, 1_000), "VIP": (1, 2_000, 2_000)}
    assert (await till.left("GA"), await till.left("VIP")) == ((9, 0, 1), (3, 0, 1))


async def test_of_two_that_write_the_same_row_the_later_writes_what_is_there_then(till: Till) -> None:
    """A change that is slow to tell PostgreSQL does not put back what a later one has changed: here a later one that
    Redis knows of, and whose process dies before it has told PostgreSQL."""
    booking = await declined(till, GA=2)
    pool = await till.office.pool()

    async def waits_for_the_row() -> bool:
        async with pool.acquire() as other:
            return bool(await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))

    async def has(wanted: str) -> bool:
        record = await till.record(booking)
        return record is not None and record.items == wanted

    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM bookings WHERE id = $1 FOR UPDATE", booking)
        slow = asyncio.create_task(till.change(booking, GA=1))
        await eventually(waits_for_the_row)
        later = asyncio.create_task(till.change(booking, VIP=2))
        await eventually(lambda: has(f"{tier_of(till.event, 'VIP')}:2"))
        later.cancel()
        await asyncio.wait([later])
    await slow
    assert await rows(till, booking) == {"VIP": (2, 2_000, 4_000)}


# ------------------------------------------------------------------ once for each key


async def test_a_repeat_changes_nothing_and_tells_the_booking_as_it_is(till: Till) -> None:
    """After another change, while it is paid, and when it is over."""
    booking = await till.hold(GA=2)
    first, _ = await till.change(booking, key="k", GA=1)
    assert first.amount_cents == 1_000
    await till.change(booking, VIP=1)
    for fate, status in ((None, "held"), (till.pay, "pending"), (till.rest, "confirmed")):
        if fate is not None:
            await (fate() if fate == till.rest else fate(booking))  # type: ignore[call-arg, arg-type]
        view, repeated = await till.change(booking, key="k", GA=1)
        assert (view.status, view.amount_cents, repeated) == (status, 2_000, True)
    assert await till.left("GA") == (10, 0, 0)


async def test_its_key_with_another_change_is_refused(till: Till) -> None:
    """Other items, or another amount; not the same in another order."""
    booking = await till.hold(GA=2)
    await till.change(booking, key="k", GA=1, VIP=1)
    assert (await till.change(booking, key="k", VIP=1, GA=1))[1]
    for other in ({"GA": 2, "VIP": 1}, {"GA": 1}, {"GA": 1, "VIP": 1, "expected": 3_000}):
        with pytest.raises(KeyReused) as reused:
            await till.change(booking, key="k", **other)  # type: ignore[arg-type]
        assert reused.value.details == {"booking_id": booking}


async def test_many_at_once_under_one_key_are_one(till: Till) -> None:
    booking = await till.hold(GA=2)
    answers = await asyncio.gather(*(till.change(booking, key="k", GA=3) for _ in range(10)))
    assert sum(not repeated for _, repeated in answers) == 1
    assert await till.left("GA") == (7, 3, 0)


# ------------------------------------------------------------------ prices


async def test_what_stays_keeps_its_price_and_what_comes_is_at_todays(till: Till) -> None:
    """Of a tier that costs another price by now there is no more in this booking: an item has one price."""
    booking = await till.hold(GA=2)
    await till.office.control.change_tier(tier_of(till.event, "GA"), price_cents=1_500)
    await till.office.control.change_tier(tier_of(till.event, "VIP"), price_cents=2_500)

    view, _ = await till.change(booking, GA=1, VIP=1)
    assert [(item.code, item.unit_price_cents) for item in sorted(view.items, key=lambda item: item.code)] == [
        ("GA", 1_000), ("VIP", 2_500),
    ]  # fmt: skip
    with pytest.raises(PriceChanged) as refused:
        await till.change(booking, GA=2, VIP=1)
    assert refused.value.details == {"tier_id": tier_of(till.event, "GA"), "unit_price_cents": 1_500, "currency": "USD"}
    view, _ = await till.change(booking, VIP=1)
    view, _ = await till.change(booking, VIP=1, GA=1)
    assert view.amount_cents == 2_500 + 1_500, "what was given up comes back at today's price"


async def test_a_price_that_our_map_has_not_heard_of_is_read_anew(till: Till) -> None:
    """Once; whoever expects another amount is told what it costs."""
    booking = await till.hold(GA=2)
    await till.office.catalogue.read()
    await till.office.control.change_tier(tier_of(till.event, "VIP"), price_cents=2_500)
    with pytest.raises(PriceChanged) as refused:
        await till.change(booking, expected=3_000, GA=1, VIP=1)
    assert refused.value.details == {"amount_cents": 3_500, "currency": "USD"}
    view, _ = await till.change(booking, expected=3_500, GA=1, VIP=1)
    assert view.amount_cents == 3_500


@pytest.mark.parametrize("expected", [None, 4_000])
async def test_prices_that_moved_against_each_other_are_read_anew_too(
    till: Till, open_sale: SaleMaker, expected: int | None
) -> None:
    """Though their sum is what it was: each item is written at its own."""
    other = Till(till.office, await open_sale(GA=5, VIP=5, BOX=5), till.numbers)
    control, (vip, box) = till.office.control, (tier_of(other.event, code) for code in ("VIP", "BOX"))
    for tier in (vip, box):
        await control.change_tier(tier, price_cents=2_000)
    booking = await other.hold(GA=1)
    await till.office.catalogue.read()
    await control.change_tier(vip, price_cents=2_500)
    await control.change_tier(box, price_cents=1_500)
    view, _ = await other.change(booking, expected=expected, VIP=1, BOX=1)
    assert {item.code: item.unit_price_cents for item in view.items} == {"VIP": 2_500, "BOX": 1_500}


# ------------------------------------------------------------------ what is refused


REFUSALS: dict[str, tuple[dict[str, int], type[BoxOfficeError], dict[str, Any]]] = {
    "sold out": ({"GA": 11}, SoldOut, {"may_return": False}),
    "customer limit": ({"GA": 5}, CustomerLimit, {"held": 2, "limit": 4, "may_take": 2}),
    "unpaid limit": ({"GA": 5}, UnpaidLimit, {"whose": "customer", "held": 2, "limit": 4, "retry_after_s": 15}),
    "paused": ({"GA": 3}, SalePaused, {}),
    "inactive": ({"GA": 3}, SaleClosed, {"reason": "event"}),
    "called off": ({"GA": 3}, EventCalledOff, {}),
    "not open": ({"GA": 3}, SaleNotOpen, {"opens_at": "2096-10-02T07:06:40.000Z"}),
    "ended": ({"GA": 3}, SaleClosed, {"reason": "ended"}),
    "unloaded": ({"GA": 3}, GateClosed, {}),
    "too many": ({"GA": 3}, TooManyChanges, {"limit": 0}),
}


@pytest.mark.parametrize("why", REFUSALS)
async def test_what_a_booking_would_be_refused_for_is_refused(till: Till, why: str) -> None:
    """And nothing of the hold has changed."""
    office = till.office
    booking = await till.hold(GA=2)
    sale = keys.event(till.event.shard, till.event.id)
    changes: dict[str, Any] = {
        "customer limit": {"lim": 4}, "paused": {"on": "p"}, "inactive": {"on": "0"}, "called off": {"on": "x"},
        "not open": {"win": "4000000000000|0|"}, "ended": {"win": "0|1|"},
    }.get(why, {})  # fmt: skip
    if changes:
        await office.redis.hset(sale, mapping=changes)  # type: ignore[misc]
    if why == "unloaded":
        await office.redis.hdel(sale, "on")  # type: ignore[misc]
    holds = office.settings.holds
    most = {"unpaid limit": {"unpaid_customer_max": 4}, "too many": {"changes_max": 0}}.get(why, {})
    office.hold_changes.settings = office.settings.model_copy(update={"holds": holds.model_copy(update=most)})
    before = await till.record(booking)
    tiers, kind, details = REFUSALS[why]
    with pytest.raises(kind) as refused:
        await till.change(booking, **tiers)
    found = {name: value for name, value in refused.value.details.items() if name not in ("shortfall", "tier_id")}
    assert (type(refused.value), found) == (kind, details)
    assert await till.record(booking) == before
    if why == "sold out":
        assert refused.value.details["shortfall"][0]["requested"] == 9, "as many as it asks for more"
    if why == "unloaded":
        await office.redis.hset(sale, "on", "1")  # type: ignore[misc]


async def test_what_is_no_hold_is_not_changed(till: Till, open_sale: SaleMaker) -> None:
    """Being paid, paid, ended, gone; another shop's; another event's tiers, or none."""
    booking = await till.hold(GA=2)
    with pytest.raises(NotFound):
        await till.change(booking, client=OTHER, GA=1)
    other = await open_sale(GA=5)
    event, till.event = till.event, other
    with pytest.raises(Malformed) as malformed:
        await till.change(booking, GA=1)
    assert malformed.value.details["errors"] == [{"pointer": "/items/0/tier_id", "code": "other_event"}]
    till.event = event
    await till.pay(booking)
    with pytest.raises(PaymentInProgress):
        await till.change(booking, GA=1)
    await till.rest()
    for _ in range(2):
        with pytest.raises(HoldEnded) as ended:
            await till.change(booking, GA=1)
        assert ended.value.details == {"booking_status": "confirmed"}
        await till.office.redis.delete(keys.booking(SHARD, booking))
    with pytest.raises(NotFound):
        await till.change("01a2289d-1441-7001-936f-ca3c86615eea", GA=1)


async def test_more_of_what_the_shop_sells_no_longer_is_not_found(till: Till) -> None:
    """It may keep and give up what it has."""
    booking = await till.book(None, client=OTHER, GA=2)
    await till.office.sharing.unshare(till.event.id, OTHER)
    await till.office.catalogue.read()
    for tiers in ({"GA": 3}, {"GA": 2, "VIP": 1}):
        with pytest.raises(NotFound):
            await till.change(booking, client=OTHER, **tiers)
    assert (await till.change(booking, client=OTHER, GA=1))[0].amount_cents == 1_000


# ------------------------------------------------------------------ at the same time


@pytest.mark.parametrize("rival", ["pays", "cancels", "time is up", "changes"])
async def test_a_change_and_what_happens_at_the_same_time(till: Till, rival: str) -> None:
    """One comes first, whichever: tickets, money and rows are of one of the two, and every ticket is counted once."""
    office = till.office
    bookings = [await till.hold(GA=1) for _ in range(4)]
    if rival == "time is up":
        for booking in bookings:
            await till.time_is_up(booking)

    async def other(booking: str) -> None:
        if rival == "pays":
            await till.pay(booking)
        elif rival == "cancels":
            await till.cancel(booking)
        elif rival == "time is up":
            await till.time_is_up(booking)
            await office.holds.expire(SHARD)
        else:
            await till.change(booking, GA=2)

    async def change(booking: str) -> bool:
        try:
            await till.change(booking, VIP=1)
        except (PaymentInProgress, HoldEnded):
            return False
        return True

    changed = await asyncio.gather(
        *(change(booking) for booking in bookings), *(other(booking) for booking in bookings)
    )
    await till.at_rest(*bookings)
    for booking, was in zip(bookings, changed, strict=False):
        record = await till.record(booking)
        assert record is not None
        if rival != "changes":
            assert record.items == f"{tier_of(till.event, 'VIP' if was else 'GA')}:1"
        else:
            await till.cancel(booking)
    assert rival != "time is up" or not any(changed[:4])
    sold = sum(bool(was) for was in changed[:4]) if rival == "pays" else 0
    expected = (sold, 4 - sold) if rival == "pays" else (0, 0)
    assert ((await till.left("VIP"))[2], (await till.left("GA"))[2]) == expected
    assert (await till.left("VIP"))[1] == (await till.left("GA"))[1] == 0
