"""A sale is changed while it goes on: in force from the next booking, whatever was held or sold before it."""

from __future__ import annotations

import asyncio
import getpass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from boxoffice.books.moves import apply_moves
from boxoffice.errors import (
    CustomerLimit,
    EventCalledOff,
    EventChanged,
    GateClosed,
    Malformed,
    NotFound,
    SaleClosed,
    SaleNotOpen,
    SalePaused,
    SoldOut,
    StoreAway,
)
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.checks import NewTier
from boxoffice.sales.control import Actor
from boxoffice.stores import fence, keys
from tests.conftest import CLIENT, SHARD, SaleMaker, check_run, counters, eventually, load_all, settle_all
from tests.support.checks import check_at_rest, check_conservation
from tests.support.shop.office import Till, book, book_many, record_of, status_of
from tests.support.shop.orders import OTHER, tier_of

NOW = datetime.now(UTC)
SHOP = Actor("key:shop", CLIENT)


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    await load_all(office)
    return Till(office, await open_sale(GA=10, VIP=4))


async def fresh(till: Till) -> None:
    """What is in Redis is known here, too."""
    await till.office.catalogue.read()


# ---------------------------------------------------------------- windows and pauses


async def test_a_sale_opens_and_ends_at_its_time(till: Till) -> None:
    control, event = till.office.control, till.event
    opens = (NOW + timedelta(hours=2)).replace(microsecond=0)
    await control.change_event(event.id, on_sale_at=opens)
    with pytest.raises(SaleNotOpen) as refused:
        await till.book(GA=1)
    assert refused.value.details == {"opens_at": opens.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    await control.change_event(event.id, on_sale_at=NOW - timedelta(hours=2), off_sale_at=NOW - timedelta(hours=1))
    with pytest.raises(SaleClosed) as ended:
        await till.book(GA=1)
    assert ended.value.details == {"reason": "ended", "tier_id": event.tiers[0].id}
    await control.change_event(event.id, on_sale_at=None, off_sale_at=None)
    await till.book(GA=1)


async def test_a_tiers_own_times_stand_in_place_of_the_events(till: Till) -> None:
    vip = tier_of(till.event, "VIP")
    await till.office.control.change_event(till.event.id, on_sale_at=NOW + timedelta(hours=2))
    view, _ = await till.office.control.change_tier(vip, on_sale_at=NOW - timedelta(hours=1))
    await till.book(VIP=1)
    with pytest.raises(SaleNotOpen):
        await till.book(GA=1)
    assert [tier.on_sale_at is None for tier in view.tiers] == [True, False]


async def test_redis_is_empty_and_is_told_of_windows_and_pause_again(till: Till) -> None:
    """A rebuild brings them along: what was paused does not sell because a server was lost."""
    office, event = till.office, till.event
    ga = tier_of(event, "GA")
    await office.control.change_tier(ga, on_sale_at=NOW + timedelta(hours=2), off_sale_at=NOW + timedelta(hours=3))
    other = await office.store.create_event(
        CLIENT, "Paused", NOW + timedelta(days=9), "USD", [NewTier("GA", 1, 1)], status="paused"
    )
    before = await office.redis.hmget(keys.event(SHARD, event.id), "win", "on")  # type: ignore[misc]
    await office.redis.flushall()
    await check_run(office)

    assert await office.redis.hmget(keys.event(SHARD, event.id), "win", "on") == before  # type: ignore[misc]
    await fresh(till)
    with pytest.raises(SaleNotOpen):
        await till.book(GA=1)
    with pytest.raises(SalePaused):
        await book(office, other, GA=1)


async def test_a_pause_is_in_force_from_the_next_booking(till: Till) -> None:
    """And what is held stays payable."""
    hold = await till.hold(GA=2)
    assert (await till.office.control.pause(till.event.id)).status == "paused"
    with pytest.raises(SalePaused):
        await till.book(GA=1)
    await till.pay(hold)
    await settle_all(till.office)
    assert await status_of(till.office, hold) == "confirmed"
    assert [event.id for event in await till.office.catalogue.events()] == [till.event.id], "it is listed meanwhile"
    assert (await till.office.control.resume(till.event.id)).status == "active"
    await till.book(GA=1)


async def test_pausing_twice_is_one_pause_and_what_is_closed_is_not_paused(till: Till) -> None:
    control, event = till.office.control, till.event
    assert (await control.pause(event.id)).version == (await control.pause(event.id)).version == 2
    await control.change_event(event.id, status="inactive")
    for call in (control.pause, control.resume):
        with pytest.raises(Malformed) as refused:
            await call(event.id)
        assert (refused.value.pointer, refused.value.code) == ("/status", "status")
    assert [row["action"] for row in await control.history(event.id)] == ["edit", "pause", "create"]


@pytest.mark.parametrize("until", ["deadline", "closing"])
async def test_a_hold_is_payable_after_the_sale_as_the_setting_says(till: Till, until: str) -> None:
    holds = till.office.settings.holds.model_copy(update={"payable_until": until})
    till.office.__dict__["settings"] = till.office.settings.model_copy(update={"holds": holds})
    hold = await till.hold(GA=1)
    await till.office.control.change_event(till.event.id, off_sale_at=NOW)
    if until == "deadline":
        assert (await till.pay(hold))[0].state == "P"
        return
    with pytest.raises(SaleClosed) as refused:
        await till.pay(hold)
    assert refused.value.details == {"reason": "ended"}


def test_a_hold_is_payable_until_its_deadline_by_default(office: BoxOffice) -> None:
    assert office.settings.holds.payable_until == "deadline"


# ---------------------------------------------------------------- what is refused unless it is meant


@pytest.mark.parametrize(
    ("change", "pointer", "code", "allow"),
    [
        ({"starts_at": NOW - timedelta(days=1)}, "/starts_at", "in_the_past", "past"),
        ({"cancel_until": NOW + timedelta(days=31)}, "/cancel_until", "after_start", "late_cancel"),
        ({"on_sale_at": NOW, "off_sale_at": NOW}, "/off_sale_at", "window", ""),
        ({"on_sale_at": NOW, "off_sale_at": NOW - timedelta(days=1)}, "/off_sale_at", "window", ""),
        ({"status": "called_off"}, "/status", "status", ""),
        ({"status": "gone"}, "/status", "status", ""),
        ({"on_sale_at": datetime(2030, 1, 1)}, "/on_sale_at", "malformed", ""),
        ({"off_sale_at": datetime(9000, 1, 1, tzinfo=UTC)}, "/off_sale_at", "out_of_range", ""),
        ({"refund_percent": 101}, "/refund_percent", "malformed", ""),
        ({"name": ""}, "/name", "empty", ""),
    ],
)
async def test_what_cannot_be_or_is_not_meant_changes_nothing(
    till: Till, change: dict[str, Any], pointer: str, code: str, allow: str
) -> None:
    """Of an event that is there, and of a new one."""
    event: dict[str, Any] = {
        "client_id": CLIENT, "name": "E", "starts_at": NOW + timedelta(days=30), "currency": "USD",
        "tiers": [NewTier("A", 1, 1)],
    }  # fmt: skip
    for call in (
        till.office.control.change_event(till.event.id, **change),
        till.office.store.create_event(**event | change),
    ):
        with pytest.raises(Malformed) as refused:
            await call
        assert (refused.value.pointer, refused.value.code) == (pointer, code)
    assert await till.office.store.events() == [till.event]
    assert len(await till.office.control.history(till.event.id)) == 1
    if allow:
        await till.office.control.change_event(till.event.id, allow=[allow], **change)
        await till.office.store.create_event(**event | change, allow=[allow])


async def test_what_stays_as_it_was_is_not_held_against_a_change(till: Till) -> None:
    """An event that began, or that may be cancelled late, can still be renamed."""
    past = NOW - timedelta(days=1)
    await till.office.control.change_event(
        till.event.id, starts_at=past, cancel_until=NOW, allow=["past", "late_cancel"]
    )
    assert (await till.office.control.change_event(till.event.id, name="New")).name == "New"
    with pytest.raises(Malformed):
        await till.office.control.change_event(till.event.id, starts_at=past - timedelta(days=1), allow=["past"])


async def test_a_tier_that_would_never_be_on_sale_is_refused(till: Till) -> None:
    control, ga = till.office.control, tier_of(till.event, "GA")
    await control.change_tier(ga, off_sale_at=NOW)
    with pytest.raises(Malformed) as refused:
        await control.change_event(till.event.id, on_sale_at=NOW + timedelta(days=1))
    assert (refused.value.pointer, refused.value.code) == ("/tiers/0/off_sale_at", "window")
    await control.change_tier(ga, off_sale_at=None)
    await control.change_event(till.event.id, on_sale_at=NOW + timedelta(days=1))
    with pytest.raises(Malformed) as refused:
        await control.change_tier(ga, off_sale_at=NOW)
    assert refused.value.pointer == "/off_sale_at"


async def test_two_shops_of_one_name_have_to_be_meant(office: BoxOffice) -> None:
    with pytest.raises(Malformed) as refused:
        await office.access.create_client("Shop")
    assert (refused.value.pointer, refused.value.code) == ("/name", "duplicate_name")
    assert len(await office.access.clients()) == 2
    await office.access.create_client("Shop", allow_same_name=True)
    assert len(await office.access.clients()) == 3


# ---------------------------------------------------------------- changes


async def test_who_was_faster_wins_and_the_other_is_told(till: Till) -> None:
    """Ten change the same version at once: one does."""
    calls = [till.office.control.change_event(till.event.id, if_version=1, name=f"Name {n}") for n in range(10)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    (won,) = [answer for answer in answers if isinstance(answer, EventView)]
    assert won.version == 2
    assert [answer.details for answer in answers if isinstance(answer, EventChanged)] == 9 * [{"version": 2}]
    assert len(await till.office.control.history(till.event.id)) == 2


async def test_a_change_that_changes_nothing_is_none(till: Till) -> None:
    control = till.office.control
    assert (await control.change_event(till.event.id, name=till.event.name)).version == 1
    changed = await control.change_tier(till.event.tiers[0].id, price_cents=1_000, capacity=10)
    assert (changed.event.version, changed.capacity and changed.capacity.after) == (1, 10)
    assert changed.capacity is not None and changed.capacity.pair is None
    assert len(await control.history(till.event.id)) == 1
    for table in ("stock_moves", "batches"):
        assert await till.fetch(f"SELECT 1 FROM {table}") == [], "Redis has nothing to be told of"


async def test_another_price_is_for_bookings_from_then_on(till: Till) -> None:
    """A hold keeps its own."""
    hold = await till.hold(GA=2)
    await till.office.control.change_tier(tier_of(till.event, "GA"), price_cents=1_500)
    late = await till.book(GA=2)
    await till.pay(hold)
    await settle_all(till.office)
    rows = await (await till.office.pool()).fetch("SELECT id::text, amount_cents, status FROM bookings")
    assert {tuple(row) for row in rows} == {(hold, 2_000, "confirmed"), (late, 3_000, "confirmed")}
    await check_at_rest(till.office, [hold, late])


async def test_a_tier_is_added_and_taken_off_sale(till: Till) -> None:
    control = till.office.control
    view = await control.add_tier(till.event.id, NewTier("BOX", 9_000, 2, "Box"))
    assert [(tier.code, tier.name, tier.price_cents, tier.capacity) for tier in view.tiers][2:] == [
        ("BOX", "Box", 9_000, 2)
    ]
    assert view.version == 2
    box = Till(till.office, view, till.numbers)
    await box.book(BOX=2)
    with pytest.raises(SoldOut):
        await box.book(BOX=1)
    with pytest.raises(Malformed) as refused:
        await control.add_tier(till.event.id, NewTier("BOX", 1, 1))
    assert refused.value.code == "duplicate_code"
    await control.change_tier(tier_of(view, "GA"), is_active=False)
    with pytest.raises(SaleClosed):
        await till.book(GA=1)


async def test_the_limit_of_a_customer_may_change(till: Till) -> None:
    await till.book(GA=2)
    await till.office.control.change_event(till.event.id, customer_max=2)
    with pytest.raises(CustomerLimit):
        await till.book(GA=1)
    await till.office.control.change_event(till.event.id, customer_max=None)
    await till.book(GA=1)


async def test_a_postponed_event_has_another_start_and_terms(till: Till) -> None:
    starts, until = NOW + timedelta(days=90), NOW + timedelta(days=60)
    view = await till.office.control.postpone(till.event.id, starts, until)
    row = await (await till.office.pool()).fetchrow("SELECT starts_at, cancel_until FROM events WHERE id = $1", view.id)
    assert tuple(row) == (starts, until)
    assert (await till.office.control.history(view.id))[0]["action"] == "postpone"


async def test_another_shops_event_is_not_there(till: Till) -> None:
    """For none of the calls, and nothing changes."""
    control, thief = till.office.control, Actor("key:other", OTHER)
    event, tier = till.event.id, till.event.tiers[0].id
    other = await till.office.store.create_event(OTHER, "Other", NOW + timedelta(days=9), "USD", [NewTier("A", 1, 1)])
    for call in (
        control.owned(event, thief), control.change_event(event, thief, name="Mine"), control.pause(event, thief),
        control.resume(event, thief), control.postpone(event, NOW + timedelta(days=90), None, thief),
        control.add_tier(event, NewTier("X", 1, 1), thief), control.change_tier(tier, thief, capacity=1),
        control.change_tier(tier, thief, event_id=other.id, price_cents=1),
        control.change_tier(tier, thief, event_id=other.id, capacity=1), control.owned("nothing00000", thief),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            await call
    assert await till.office.store.event(event) == till.event
    await control.owned(event, SHOP)
    await control.owned(event, Actor.operator())


async def test_what_is_called_off_is_not_changed(till: Till) -> None:
    await (await till.office.pool()).execute("UPDATE events SET status = 'called_off', version = 2")
    control = till.office.control
    for call in (
        control.change_event(till.event.id, status="active"), control.pause(till.event.id), control.resume(till.event.id),
        control.change_tier(till.event.tiers[0].id, capacity=90), control.add_tier(till.event.id, NewTier("X", 1, 1)),
    ):  # fmt: skip
        with pytest.raises(EventCalledOff):
            await call


async def test_every_change_is_told_in_the_history(till: Till) -> None:
    """Who, when, from what to what, the newest first and page by page."""
    control, vip = till.office.control, tier_of(till.event, "VIP")
    await control.change_event(till.event.id, SHOP, name="New name", customer_max=4)
    await control.change_tier(vip, price_cents=2_500, capacity=6)
    await control.pause(till.event.id, SHOP)
    paused, tier, named, made = await control.history(till.event.id)
    assert (paused["changed_by"], paused["action"], paused["version"]) == ("key:shop", "pause", 4)
    assert paused["changes"] == {"status": {"from": "active", "to": "paused"}}
    assert (tier["changed_by"], tier["tier_id"]) == (f"operator:{getpass.getuser()}", vip)
    assert tier["changes"] == {"price_cents": {"from": 2_000, "to": 2_500}, "capacity": {"from": 4, "to": 6}}
    assert named["changes"] == {"name": {"from": "Concert", "to": "New name"}, "customer_max": {"from": None, "to": 4}}
    assert (made["action"], made["version"], named["tier_id"]) == ("create", 1, None)
    assert await control.history(till.event.id, limit=1, before=tier["id"]) == [named]
    assert abs(datetime.fromisoformat(paused["changed_at"]) - datetime.now(UTC)) < timedelta(minutes=1)


# ---------------------------------------------------------------- capacity


async def test_a_capacity_grows_at_once(till: Till) -> None:
    changed = await till.office.control.change_tier(tier_of(till.event, "VIP"), capacity=6)
    assert changed.capacity and changed.capacity[:3] == (4, 6, 6)
    await till.book(VIP=6)
    assert (await counters(till.office, till.event, "VIP")).total == 6
    assert await (await till.office.pool()).fetchval("SELECT count(*) FROM stock_moves WHERE applied_at IS NULL") == 0


@pytest.mark.parametrize(("asked", "after"), [(9, 9), (5, 5), (4, 5), (0, 5)])
async def test_a_capacity_shrinks_no_further_than_what_is_held_or_sold(till: Till, asked: int, after: int) -> None:
    """And the answer says how far."""
    booked = [await till.book(GA=2)]
    await settle_all(till.office)
    booked.append(await till.hold(GA=3))
    changed = await till.office.control.change_tier(tier_of(till.event, "GA"), capacity=asked)
    assert changed.capacity and changed.capacity[:3] == (10, asked, after)
    counted = await counters(till.office, till.event, "GA")
    assert (counted.available, counted.held, counted.sold, counted.total) == (after - 5, 3, 2, after)
    assert {tier.code: tier.capacity for tier in changed.event.tiers}["GA"] == after
    assert await (await till.office.pool()).fetchval(
        "SELECT total FROM inventory WHERE tier_id = $1", tier_of(till.event, "GA")
    ) == after  # fmt: skip
    assert (await till.office.reconcilers[SHARD].event(till.event.id, fix=False)).word == "same"


async def test_what_postgres_sold_is_not_taken_whatever_redis_counts(till: Till) -> None:
    """A Redis that counts too many as available is not believed."""
    await till.book(GA=8)
    await settle_all(till.office)
    ga = tier_of(till.event, "GA")
    await till.office.redis.hset(keys.event(SHARD, till.event.id), mapping={f"a:{ga}": 9, f"c:{ga}": 1})  # type: ignore[misc]
    changed = await till.office.control.change_tier(ga, capacity=1)
    assert changed.capacity and changed.capacity.after == 8


@pytest.mark.parametrize("capacity", [-1, 2**31])
async def test_a_capacity_that_cannot_be_is_refused(till: Till, capacity: int) -> None:
    with pytest.raises(Malformed) as refused:
        await till.office.control.change_tier(till.event.tiers[0].id, capacity=capacity)
    assert refused.value.pointer == "/capacity"


async def test_a_capacity_is_not_lowered_while_nobody_knows_what_is_left(till: Till) -> None:
    """Redis lacks the counters, or is shut: nothing is changed in PostgreSQL. It may grow."""
    office, ga = till.office, tier_of(till.event, "GA")
    await office.redis.hdel(keys.event(SHARD, till.event.id), f"a:{ga}")  # type: ignore[misc]
    with pytest.raises(GateClosed):
        await office.control.change_tier(ga, capacity=1, price_cents=7)
    await office.redis.delete(keys.gate(SHARD))
    with pytest.raises(GateClosed):
        await office.control.change_tier(ga, capacity=1)
    assert await office.store.event(till.event.id) == till.event


async def test_a_tier_that_redis_has_not_got_yet_grows_once(till: Till) -> None:
    """Whoever added it died before it was mirrored: it is loaded with what it had, and then moved."""
    office = till.office
    pool = await office.pool()
    await pool.execute(
        "INSERT INTO tiers (id, event_id, code, name, price_cents) VALUES ('newtier00000', $1, 'NEW', 'New', 1)",
        till.event.id,
    )
    await pool.execute("INSERT INTO inventory (tier_id, total) VALUES ('newtier00000', 5)")
    await pool.execute("UPDATE events SET version = version + 1")
    await office.control.change_tier("newtier00000", capacity=8)
    sale = await office.redis.hgetall(keys.event(SHARD, till.event.id))  # type: ignore[misc]
    assert [int(sale[f"{letter}:newtier00000".encode()]) for letter in "at"] == [8, 8]


async def test_a_move_that_is_on_its_way_is_not_loaded_as_well(till: Till) -> None:
    """A tier is loaded with the total before it, and moved once."""
    office, pool = till.office, await till.office.pool()
    vip = tier_of(till.event, "VIP")
    await pool.execute("UPDATE inventory SET total = 7 WHERE tier_id = $1", vip)
    await pool.execute(
        "INSERT INTO stock_moves (event_id, tier_id, total_delta) VALUES ($1, $2, 3)", till.event.id, vip
    )
    await office.redis.delete(keys.event(SHARD, till.event.id))
    await office.redis.hdel(keys.catalogue(SHARD), till.event.id)  # type: ignore[misc]
    await office.loader.load(SHARD)
    assert (await counters(office, till.event, "VIP")).total == 4
    await apply_moves(office.shards[SHARD], office.database)
    assert (await counters(office, till.event, "VIP")).total == 7


async def test_capacities_go_up_and_down_while_tickets_are_sold(office: BoxOffice, open_sale: SaleMaker) -> None:
    """And the sale is paused and resumed: nothing is oversold, nothing is lost, both stores count the same."""
    await load_all(office)
    event = await open_sale(GA=40, VIP=20)
    booked: list[str] = []
    changing = True

    async def sell(code: str) -> None:
        while changing:
            booked.extend(await book_many(office, event, 5, **{code: 1}))
            await settle_all(office)

    async def change() -> None:
        control = office.control
        for n in range(40):
            await control.change_tier(tier_of(event, "GA"), capacity=(60, 10, 80, 0)[n % 4])
            await control.change_tier(tier_of(event, "VIP"), capacity=(5, 25)[n % 2])
            if n % 4 == 0:
                await control.pause(event.id)
                await check_conservation(office)
                await control.resume(event.id)

    selling = [asyncio.create_task(sell(code)) for code in ("GA", "VIP")]
    await change()
    changing = False
    await asyncio.gather(*selling)
    await settle_all(office)
    report = await office.reconcilers[SHARD].event(event.id, fix=False, deep=True)
    assert (report.word, report.moved, report.oversold) == ("same", 0, 0)
    assert booked
    await check_at_rest(office, booked)


# ---------------------------------------------------------------- between PostgreSQL and Redis


async def test_a_change_waits_for_no_redis(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there, whoever asked is told to ask again, and a worker's sweep brings it."""
    office, load = till.office, office_load(till)

    async def away(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(office.control.loader, "load_some", away)
    with pytest.raises(StoreAway):
        await office.control.pause(till.event.id)
    await till.book(GA=1)
    assert await load(SHARD) == 1
    with pytest.raises(SalePaused):
        await till.book(GA=1)
    assert await load(SHARD) == 0


def office_load(till: Till) -> Any:
    return till.office.loader.publish_unmirrored


async def test_a_load_that_read_before_a_change_does_not_undo_it(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker read the event, then it was paused, then the worker loads what it read."""
    office = till.office
    real = office.loader.load_some
    paused = False

    async def late(*args: Any, **how: Any) -> Any:
        nonlocal paused
        if not paused:
            paused = True
            await office.control.pause(till.event.id)
        return await real(*args, **how)

    monkeypatch.setattr(office.loader, "load_some", late)
    await office.loader.load(SHARD)
    assert await office.redis.hget(keys.event(SHARD, till.event.id), "on") == b"p"  # type: ignore[misc]


@pytest.mark.parametrize("total", [15, 3])
async def test_a_total_changed_by_hand_is_brought_to_redis(till: Till, total: int) -> None:
    """By the workers' next look, exactly, whatever is held meanwhile."""
    booking = await till.hold(GA=2)
    ga = tier_of(till.event, "GA")
    await (await till.office.pool()).execute("UPDATE inventory SET total = $1 WHERE tier_id = $2", total, ga)
    await till.office.guards[SHARD].load()
    counted = await counters(till.office, till.event, "GA")
    assert (counted.available, counted.held, counted.total) == (total - 2, 2, total)
    assert (await record_of(till.office, booking)) is not None


async def test_what_was_changed_by_hand_is_brought_to_redis(till: Till) -> None:
    await (await till.office.pool()).execute("UPDATE events SET on_sale_at = now() + interval '1 hour'")
    await till.office.guards[SHARD].load()
    with pytest.raises(SaleNotOpen):
        await till.book(GA=1)


async def test_a_move_whose_mark_is_missing_is_applied_once(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a capacity that grew, and of one that shrank."""
    office, ga = till.office, tier_of(till.event, "GA")

    async def nothing(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(office.control.capacity, "apply_moves", nothing)
    for capacity in (14, 6):
        await office.control.change_tier(ga, capacity=capacity)
        for _ in range(2):
            await apply_moves(office.shards[SHARD], office.database)
        assert (await counters(office, till.event, "GA")).total == capacity
    assert await eventually(lambda: _no_open_moves(office))


async def test_a_shrink_that_is_tried_again_takes_once(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL ends the first transactions after Redis was asked: what they took there is not taken again."""
    office, ga, begin = till.office, tier_of(till.event, "GA"), fence.open_batch
    fails = iter([asyncpg.SerializationError, asyncpg.DeadlockDetectedError])

    async def ended(*args: Any) -> Any:
        for error in fails:
            raise error
        return await begin(*args)

    await till.hold(GA=2)
    monkeypatch.setattr(fence, "open_batch", ended)
    _, change = await office.control.change_tier(ga, capacity=6)
    assert change is not None and (change.before, change.after) == (10, 6)
    counted = await counters(office, till.event, "GA")
    assert (counted.available, counted.held, counted.total) == (4, 2, 6)
    assert await _no_open_moves(office)


@pytest.mark.parametrize(("second", "total"), [(8, 8), (3, 4), (1, 4)])
async def test_a_shrink_whose_asker_died_counts_for_the_next(
    till: Till, monkeypatch: pytest.MonkeyPatch, second: int, total: int
) -> None:
    """Also beside a growth that Redis has not been told of: nobody can take of that yet. What the next one does not want
    goes on sale again."""
    office, ga = till.office, tier_of(till.event, "GA")

    async def nothing(*_: object) -> None:
        raise ConnectionError

    await till.hold(GA=2)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(fence, "open_batch", lambda *_: 1 / 0)
        await office.control.change_tier(ga, capacity=5)
    with monkeypatch.context() as patch:
        patch.setattr(office.control.capacity, "apply_moves", nothing)
        await office.control.change_tier(ga, capacity=12)
    await office.control.change_tier(ga, capacity=second)
    await apply_moves(office.shards[SHARD], office.database)
    counted = await counters(office, till.event, "GA")
    assert (counted.available, counted.held, counted.total) == (total - 2, 2, total)
    assert await (await office.pool()).fetchval("SELECT total FROM inventory WHERE tier_id = $1", ga) == total


async def test_nobody_else_mirrors_an_event_by_asking_for_its_capacity(till: Till) -> None:
    """A growth waits until Redis has the tier: whose it is, is asked before."""
    pool, ga = await till.office.pool(), tier_of(till.event, "GA")
    await pool.execute("UPDATE events SET version = version + 1 WHERE id = $1", till.event.id)
    for how in ({}, {"event_id": till.event.id}):
        with pytest.raises(NotFound):
            await till.office.control.change_tier(ga, Actor("key:other", OTHER), capacity=20, **how)
    assert await pool.fetchval("SELECT mirrored < version FROM events WHERE id = $1", till.event.id)
    await till.office.control.change_tier(ga, SHOP, capacity=20)
    assert (await counters(till.office, till.event, "GA")).total == 20


async def _no_open_moves(office: BoxOffice) -> bool:
    return await (await office.pool()).fetchval("SELECT count(*) FROM stock_moves WHERE applied_at IS NULL") == 0
