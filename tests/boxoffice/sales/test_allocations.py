"""Allocations from their making to their release: who gets what, what is told, and that both stores agree on it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import BusyLoadingError

from boxoffice.errors import (
    CannotRun,
    EventCalledOff,
    EventChanged,
    GateClosed,
    Malformed,
    NotFound,
    SoldOut,
    StoreAway,
)
from boxoffice.office import BoxOffice
from boxoffice.repair.reconcile import Reconciler
from boxoffice.sales import allocations
from boxoffice.sales.allocations import Holder
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.codes import CodeTerms
from boxoffice.sales.control import Actor
from boxoffice.stores import keys
from boxoffice.stores.postgres import WentBack
from tests.conftest import CLIENT, SHARD, SaleMaker, counters, load_all
from tests.support.checks import check_at_rest
from tests.support.shop.office import Till, book
from tests.support.shop.orders import OTHER, tier_of

SHOP = Holder(shop=OTHER)


@pytest.fixture
async def event(office: BoxOffice, open_sale: SaleMaker) -> EventView:
    """Sold by two shops."""
    await load_all(office)
    return await open_sale(GA=10, VIP=4)


async def made(office: BoxOffice, event: EventView, tickets: int, holder: Holder = SHOP, tier: str = "GA") -> Any:
    return await office.allocations.create(event.id, tier_of(event, tier), holder, tickets)


async def coded(office: BoxOffice, event: EventView, tickets: int = 9) -> tuple[Holder, str]:
    """A new code: who it is as a holder, and what it reads."""
    (code,) = await office.codes.create(event.id, CodeTerms(tickets))
    return Holder(code=code["id"]), code["code"]


async def left(office: BoxOffice, event: EventView, client: str = "") -> int:
    """Of the first tier."""
    return (await office.catalogue.availability(await office.catalogue.event(event.id), client))[0]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Events whose shops were counted anew, each time they were."""
    events, count = list[str](), Reconciler.event

    async def noted(here: Reconciler, event_id: str, **how: Any) -> Any:
        events.append(event_id)
        return await count(here, event_id, **how)

    monkeypatch.setattr(Reconciler, "event", noted)
    return events


async def seen(office: BoxOffice) -> None:
    """The map knows of it."""
    await office.catalogue.read()


def numbers(allocation: dict[str, Any]) -> tuple[int, int, int, int]:
    return tuple(allocation[name] for name in ("tickets", "used", "reserved", "lacking"))  # type: ignore[return-value]


# ------------------------------------------------------------------ making one


async def test_a_shop_gets_its_tickets_and_nobody_else(office: BoxOffice, event: EventView) -> None:
    allocation = await made(office, event, 4)
    assert numbers(allocation) == (4, 0, 4, 0)
    assert (allocation["shop"], allocation["code_id"], allocation["in_force"]) == (OTHER, None, True)
    assert (allocation["tier_id"], allocation["released_at"]) == (tier_of(event, "GA"), None)
    with pytest.raises(SoldOut) as refused:
        await book(office, event, GA=7)
    (short,) = refused.value.details["shortfall"]
    assert (short["available"], short["may_return"], refused.value.details["retry_after_s"]) == (6, True, 15)
    booked = [
        (await book(office, event, GA=6)).booking_id, (await book(office, event, GA=4, client=OTHER)).booking_id
    ]  # fmt: skip
    assert numbers((await office.allocations.page(event.id))[0]) == (4, 4, 0, 0)
    await Till(office, event).rest()
    await check_at_rest(office, booked)


async def test_a_code_gets_its_tickets_at_any_shop(office: BoxOffice, event: EventView) -> None:
    holder, code = await coded(office, event)
    allocation = await made(office, event, 4, holder)
    assert (allocation["shop"], allocation["code_id"]) == (None, holder.code)
    await book(office, event, GA=6)
    await book(office, event, GA=3, access_code=code, client=OTHER)
    with pytest.raises(SoldOut):
        await book(office, event, GA=1)
    await book(office, event, GA=1, access_code=code)
    assert numbers(await office.allocations.one(event.id, allocation["id"])) == (4, 4, 0, 0)


async def test_what_is_asked_for_comes_on_top_of_what_it_has(office: BoxOffice, event: EventView) -> None:
    """Its four are of the allocation: what of them comes back is its own again."""
    till = Till(office, event)
    first = await till.book(GA=4, client=OTHER)
    await till.rest()
    allocation = await made(office, event, 3)
    assert numbers(allocation) == (7, 4, 3, 0)
    await seen(office)
    assert await left(office, event) == 3
    await office.cancellations.cancel(OTHER, first)
    await till.rest()
    assert numbers(await office.allocations.one(event.id, allocation["id"])) == (7, 0, 7, 0)
    assert await left(office, event) == 3


async def test_no_more_is_set_aside_than_is_there(office: BoxOffice, event: EventView) -> None:
    """The answer says how many could be: what is available, and is nobody's yet."""
    await book(office, event, GA=3)
    assert numbers(await made(office, event, 5)) == (5, 0, 5, 0)
    holder, _ = await coded(office, event)
    assert numbers(await made(office, event, 9, holder)) == (2, 0, 2, 0)
    assert numbers(await made(office, event, 1, Holder(shop=CLIENT))) == (3, 3, 0, 0)
    assert numbers(await made(office, event, 9, tier="VIP")) == (4, 0, 4, 0)
    with pytest.raises(SoldOut):
        await book(office, event, GA=1)


async def test_what_was_taken_meanwhile_is_not_set_aside(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at what is available and the moment at which Redis hears of it."""
    publish = office.control.loader.publish

    async def late(event_id: str) -> EventView:
        monkeypatch.setattr(office.control.loader, "publish", publish)
        await book(office, event, GA=4)
        return await publish(event_id)

    monkeypatch.setattr(office.control.loader, "publish", late)
    assert numbers(await made(office, event, 8)) == (6, 0, 6, 0)
    rows = await office.control.history(event.id, limit=2)
    assert [(row["action"], row["changes"]["tickets"]) for row in rows] == [
        ("change_allocation", {"from": 8, "to": 6}), ("create_allocation", {"from": None, "to": 8}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("how", "error", "match"),
    [
        ({"tickets": 0}, Malformed, "1 to"),
        ({"tickets": 2**31}, Malformed, "1 to"),
        ({"holder": Holder()}, Malformed, "name one"),
        ({"holder": Holder(OTHER, "code")}, Malformed, "name one"),
        ({"holder": Holder(shop="nobody")}, NotFound, "shop"),
        ({"holder": Holder(code="nothing")}, NotFound, "code"),
        ({"tier_id": "nothing"}, NotFound, "tier"),
        ({"event_id": "nothing"}, NotFound, "event"),
        ({"by": Actor("key:other", OTHER)}, NotFound, "event"),
        ({"if_version": 99}, EventChanged, None),
    ],
)
async def test_what_cannot_be_set_aside(
    office: BoxOffice,
    event: EventView,
    counted: list[str],
    how: dict[str, Any],
    error: type[Exception],
    match: str | None,
) -> None:
    """For what is refused no shops are counted: that reads the whole shard."""
    asked: dict[str, Any] = {"event_id": event.id, "tier_id": tier_of(event, "GA"), "holder": SHOP, "tickets": 1} | how
    with pytest.raises(error, match=match):
        await office.allocations.create(**asked)
    assert counted == []
    assert await office.allocations.page(event.id) == []
    assert (await office.store.event(event.id)).version == event.version


async def test_one_of_a_tier_for_each_holder(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await made(office, event, 1)
    with pytest.raises(Malformed, match="change that"):
        await made(office, event, 1)
    monkeypatch.setattr(allocations, "ALLOCATIONS_MAX", 2)
    await made(office, event, 1, tier="VIP")
    with pytest.raises(Malformed, match="up to 2"):
        await made(office, event, 1, Holder(shop=CLIENT))
    await office.allocations.release(event.id, first["id"])
    again = await made(office, event, 1)
    assert again["id"] != first["id"]
    assert [each["id"] for each in await office.allocations.page(event.id, every=True)] == sorted(
        each["id"] for each in await office.allocations.page(event.id, every=True)
    )
    assert len(await office.allocations.page(event.id, every=True)) == 3


async def test_a_code_has_no_more_set_aside_than_it_lets_in(office: BoxOffice, event: EventView) -> None:
    holder, _ = await coded(office, event, 3)
    with pytest.raises(Malformed, match="good for 3") as refused:
        await made(office, event, 4, holder)
    assert (refused.value.pointer, refused.value.code) == ("/tickets", "above_code")
    allocation = await made(office, event, 3, holder)
    with pytest.raises(Malformed, match="good for 3"):
        await office.allocations.resize(event.id, allocation["id"], 4)
    vip = await office.codes.create(event.id, CodeTerms(3, tier_of(event, "VIP")))
    with pytest.raises(NotFound, match="for this tier"):
        await made(office, event, 1, Holder(code=vip[0]["id"]))
    assert numbers(await made(office, event, 1, Holder(code=vip[0]["id"]), "VIP")) == (1, 0, 1, 0)


async def test_without_redis_nothing_is_set_aside(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocation = await made(office, event, 2)
    await office.redis.delete(keys.gate(SHARD))
    with pytest.raises(GateClosed):
        await made(office, event, 1, tier="VIP")
    assert numbers((await office.allocations.page(event.id))[0]) == (2, None, None, None)

    async def away(*_: Any, **__: Any) -> Any:
        raise ConnectionError

    monkeypatch.setattr(office.shards[SHARD], "run", away)
    with pytest.raises(StoreAway):
        await office.allocations.resize(event.id, allocation["id"], 3)


# ------------------------------------------------------------------ changing and releasing


@pytest.mark.parametrize(
    ("tickets", "after", "left_for_all"),
    [
        (9, (6, 3, 3, 0), 0),
        (5, (5, 3, 2, 0), 1),
        (3, (3, 3, 0, 0), 3),
        (0, (3, 3, 0, 0), 3),
    ],
)
async def test_an_allocation_is_changed_as_far_as_can_be(
    office: BoxOffice, event: EventView, tickets: int, after: tuple[int, ...], left_for_all: int
) -> None:
    """Not below what was taken of it, and not above what is there."""
    allocation = await made(office, event, 5)
    await book(office, event, GA=3, client=OTHER)
    await book(office, event, GA=4)
    assert numbers(await office.allocations.resize(event.id, allocation["id"], tickets)) == after
    await seen(office)
    assert (await left(office, event), await left(office, event, OTHER)) == (left_for_all, 3)


@pytest.fixture
async def twice(office: BoxOffice, open_sale: SaleMaker) -> tuple[Till, str, str]:
    """Ten of twenty for a shop, ten for a code, and one booking of ten by that shop on that code, which counts for both; and
    the code's allocation."""
    await load_all(office)
    event = await open_sale(GA=20)
    holder, code = await coded(office, event, 12)
    await made(office, event, 10)
    allocation = await made(office, event, 10, holder)
    till = Till(office, event)
    return till, await till.book(GA=10, client=OTHER, access_code=code), allocation["id"]


async def test_a_change_takes_no_more_than_it_added(office: BoxOffice, twice: tuple[Till, str, str]) -> None:
    """What both lack, since what counted for both came back, each goes on waiting for, however it is changed."""
    till, both, code = twice
    event = till.event
    await book(office, event, GA=10)
    await till.rest()
    await office.cancellations.cancel(OTHER, both)
    await till.rest()
    assert numbers(await office.allocations.resize(event.id, code, 12)) == (10, 0, 10, 10)
    assert numbers(await office.allocations.resize(event.id, code, 9)) == (9, 0, 9, 9)
    assert numbers(await office.allocations.release(event.id, code, 1)) == (8, 0, 8, 8)
    assert [each["tickets"] for each in await office.allocations.page(event.id) if each["shop"]] == [10]


async def test_what_lacks_meanwhile_is_cut_by_what_was_added(
    office: BoxOffice, twice: tuple[Till, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    till, both, code = twice
    event, publish = till.event, office.control.loader.publish
    await book(office, event, GA=8)
    await till.rest()

    async def late(event_id: str) -> EventView:
        monkeypatch.setattr(office.control.loader, "publish", publish)
        await office.cancellations.cancel(OTHER, both)
        await till.rest()
        return await publish(event_id)

    monkeypatch.setattr(office.control.loader, "publish", late)
    assert numbers(await office.allocations.resize(event.id, code, 12)) == (10, 0, 10, 8)


async def test_it_is_released_in_one_step_and_once(office: BoxOffice, event: EventView) -> None:
    allocation = await made(office, event, 6)
    await book(office, event, GA=2, client=OTHER)
    await book(office, event, GA=4)
    for _ in range(2):
        released = await office.allocations.release(event.id, allocation["id"], by=Actor("operator:ada"))
        assert numbers(released)[1:] == (2, 0, 0) and released["released_at"] is not None
        assert (await office.store.event(event.id)).version == event.version + 2
    assert await office.allocations.page(event.id) == []
    await book(office, event, GA=4)
    with pytest.raises(Malformed, match="released"):
        await office.allocations.resize(event.id, allocation["id"], 7)
    with pytest.raises(Malformed, match="released"):
        await office.allocations.release(event.id, allocation["id"], 1)
    (row, *_) = await office.control.history(event.id)
    assert (row["action"], row["changed_by"], row["tier_id"]) == (
        "release_allocation", "operator:ada", tier_of(event, "GA")
    )  # fmt: skip
    assert row["changes"] == {
        "allocation": {"from": allocation["id"], "to": None}, "shop": {"from": OTHER, "to": None},
        "tickets": {"from": 6, "to": None},
    }  # fmt: skip


async def test_its_holder_is_told_of_what_is_cut_and_released(office: BoxOffice, event: EventView) -> None:
    """As long as it sells the event."""
    pool = await office.pool()

    async def told(client: str) -> list[str]:
        rows = await pool.fetch(
            "SELECT details->>'action' AS action FROM notices WHERE client_id = $1 AND details->>'action' ~ 'allocation'"
            " ORDER BY id", client,
        )  # fmt: skip
        return [row["action"] for row in rows]

    allocation = await made(office, event, 6)
    await office.allocations.resize(event.id, allocation["id"], 5)
    await office.allocations.release(event.id, allocation["id"], 1)
    await office.allocations.release(event.id, allocation["id"])
    all_of_it = ["create_allocation", "change_allocation", "release_allocation", "release_allocation"]
    assert await told(OTHER) == await told(CLIENT) == all_of_it
    allocation = await made(office, event, 6)
    await office.sharing.unshare(event.id, OTHER)
    await office.allocations.release(event.id, allocation["id"])
    assert (await told(OTHER))[4:] == ["create_allocation"]
    assert (await told(CLIENT))[4:] == ["create_allocation", "release_allocation"]


async def test_a_part_is_released_and_never_more_than_is_left_of_it(office: BoxOffice, event: EventView) -> None:
    allocation = await made(office, event, 6)
    await book(office, event, GA=2, client=OTHER)
    version = (await office.store.event(event.id)).version
    part = await office.allocations.release(event.id, allocation["id"], 3, if_version=version)
    assert numbers(part) == (3, 2, 1, 0)
    with pytest.raises(EventChanged):
        await office.allocations.release(event.id, allocation["id"], 3, if_version=version)
    assert numbers(await office.allocations.release(event.id, allocation["id"], 3)) == (2, 2, 0, 0)
    with pytest.raises(Malformed):
        await office.allocations.release(event.id, allocation["id"], 0)
    await book(office, event, GA=8)


async def test_only_its_owner_changes_and_sees_one(office: BoxOffice, event: EventView, open_sale: SaleMaker) -> None:
    """Another shop does not, though it is its own allocation; nor is it one of another event."""
    allocation, other = await made(office, event, 2), await open_sale(GA=5)
    by, (theirs, gone) = Actor("key:other", OTHER), (allocation["id"], "nothing")
    for event_id, name, who in ((event.id, theirs, by), (other.id, theirs, None), (event.id, gone, None)):
        with pytest.raises(NotFound):
            await office.allocations.resize(event_id, name, 1, who)
        with pytest.raises(NotFound):
            await office.allocations.release(event_id, name, by=who)
    with pytest.raises(NotFound):
        await office.allocations.page(event.id, by)
    with pytest.raises(NotFound):
        await office.allocations.one(event.id, gone)
    assert numbers(await office.allocations.one(event.id, theirs)) == (2, 0, 2, 0)


# ------------------------------------------------------------------ beside other changes


async def test_whose_holder_cannot_book_nothing_is_set_aside(office: BoxOffice, event: EventView) -> None:
    """A revoked code, and a shop that sells it no more; shared again, it has what was set aside for it."""
    holder, _ = await coded(office, event)
    await made(office, event, 3)
    await made(office, event, 3, holder)
    assert holder.code is not None
    await office.codes.revoke(event.id, [holder.code])
    await seen(office)
    assert await left(office, event) == 7
    await office.sharing.unshare(event.id, OTHER)
    await seen(office)
    assert await left(office, event) == 10
    shown = await office.allocations.page(event.id)
    assert [(each["in_force"], each["reserved"], each["tickets"]) for each in shown] == [(False, 0, 3)] * 2
    await office.sharing.share(event.id, OTHER)
    await seen(office)
    assert (await left(office, event), await left(office, event, OTHER)) == (7, 10)


async def test_no_capacity_is_taken_of_what_is_set_aside(office: BoxOffice, event: EventView) -> None:
    await made(office, event, 6)
    await book(office, event, GA=2, client=OTHER)
    await book(office, event, GA=1)
    changed = await office.control.change_tier(tier_of(event, "GA"), capacity=2)
    assert changed.capacity is not None and changed.capacity.after == 7, "three held, four set aside"
    counted = await counters(office, event, "GA")
    assert (counted.available, counted.held, counted.total) == (4, 3, 7)


async def test_nothing_is_set_aside_of_an_event_that_is_called_off(office: BoxOffice, event: EventView) -> None:
    await office.calling_off.call_off(event.id, "ill")
    with pytest.raises(EventCalledOff):
        await made(office, event, 1)


async def test_each_shop_sees_what_it_may_buy(office: BoxOffice, event: EventView) -> None:
    holder, _ = await coded(office, event)
    await made(office, event, 4)
    await made(office, event, 1, holder)
    await book(office, event, GA=1, client=OTHER)
    await seen(office)
    assert [await left(office, event, client) for client in ("", CLIENT, OTHER)] == [5, 5, 8]


# ------------------------------------------------------------------ counted anew


async def test_before_the_first_of_an_event_its_shops_are_counted(office: BoxOffice, event: EventView) -> None:
    """Processes of an earlier version sold some tickets, and counted no shops: nobody has to know of that. Held and bought
    ones; of the owner's customers, too. After that nothing is counted twice."""
    till = Till(office, event)
    bought = await till.book(GA=2, VIP=1, client=OTHER)
    await till.rest()
    await till.book(None, GA=1, client=OTHER, hold_s=600)
    await till.book(GA=1)
    name = keys.shops(SHARD, event.id)
    right = await office.redis.hgetall(name)  # type: ignore[misc]
    assert len(right) == 3
    await office.redis.delete(name)
    await office.redis.hset(name, f"{CLIENT}:{tier_of(event, 'VIP')}", 3)  # type: ignore[misc]

    allocation = await made(office, event, 3)

    assert numbers(allocation) == (6, 3, 3, 0)
    assert await office.redis.hgetall(name) == right  # type: ignore[misc]
    with pytest.raises(SoldOut):
        await book(office, event, GA=4)
    await office.cancellations.cancel(OTHER, bought)
    await till.rest()
    assert numbers(await office.allocations.one(event.id, allocation["id"])) == (6, 1, 5, 0)
    await office.allocations.release(event.id, allocation["id"])
    await office.redis.delete(name)
    assert numbers(await made(office, event, 1)) == (1, 0, 1, 0), "also a released one is one"


async def test_first_ones_that_are_made_at_once_share_a_count(
    office: BoxOffice, event: EventView, counted: list[str]
) -> None:
    await asyncio.gather(
        *[made(office, event, 1, holder, tier) for holder in (SHOP, Holder(CLIENT)) for tier in ("GA", "VIP")]
    )
    assert counted == [event.id]


async def test_for_more_than_a_code_lets_in_nothing_is_counted(
    office: BoxOffice, event: EventView, counted: list[str]
) -> None:
    code, _ = await coded(office, event, 2)
    with pytest.raises(Malformed, match="good for 2"):
        await made(office, event, 3, code)
    assert counted == []
    assert numbers(await made(office, event, 2, code)) == (2, 0, 2, 0)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (CannotRun("locked"), StoreAway),
        (BusyLoadingError(), StoreAway),
        (WentBack(), StoreAway),
        (GateClosed(), GateClosed),
    ],
)
async def test_whose_shops_cannot_be_counted_sets_nothing_aside(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch, trouble: Exception, told: type[Exception]
) -> None:
    asked = list[str]()

    async def fails(_: Reconciler, event_id: str, **how: Any) -> Any:
        asked.append(event_id)
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(Reconciler, "event", fails)
        with pytest.raises(NotFound):
            await office.allocations.create(event.id, tier_of(event, "GA"), SHOP, 1, Actor("key:other", OTHER))
        assert asked == [], "nothing is counted for who may not"
        with pytest.raises(told):
            await made(office, event, 1)
    assert asked == [event.id]
    assert await office.allocations.page(event.id) == []
    assert numbers(await made(office, event, 1)) == (1, 0, 1, 0)


@pytest.mark.parametrize("lost", ["shops", "everything"])
async def test_what_was_taken_is_known_after_redis_lost_it(office: BoxOffice, event: EventView, lost: str) -> None:
    """From what is bought, and what is pending or held."""
    till = Till(office, event)
    allocation = await made(office, event, 6)
    bought = await till.book(GA=2, client=OTHER)
    await till.rest()
    if lost == "shops":
        held = await till.book(None, GA=1, client=OTHER, hold_s=600)
        await office.redis.delete(keys.shops(SHARD, event.id))
        await office.reconcilers[SHARD].event(event.id, fix=True, owned=True)
        assert numbers(await office.allocations.one(event.id, allocation["id"])) == (6, 3, 3, 0)
        await office.cancellations.cancel(OTHER, held)
    else:
        await office.redis.flushdb()
        await office.rebuilders[SHARD].rebuild()
    assert numbers(await office.allocations.one(event.id, allocation["id"])) == (6, 2, 4, 0)
    await office.cancellations.cancel(OTHER, bought)
    await till.rest()
    assert numbers(await office.allocations.one(event.id, allocation["id"])) == (6, 0, 6, 0)
    with pytest.raises(SoldOut):
        await book(office, event, GA=5)
    await book(office, event, GA=6, client=OTHER)
