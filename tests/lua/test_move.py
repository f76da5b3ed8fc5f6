"""move.lua, one test for each line of its Returns. A movement of stock is applied once."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.ids import owner_digest
from boxoffice.stores import keys
from tests.support.shop.orders import CLIENT
from tests.support.shop.script import EVENT, Desk, Form, Verdict, tickets_by_tier

ANN = owner_digest(CLIENT, "ann")


async def move(
    desk: Desk, tier: str, *, sold: int = 0, total: int = 0, owner: str = "", of: Form | None = None, move_id: int = 1,
    cancels: bool = True,
) -> Any:  # fmt: skip
    """The script's reply. `of` is a booking that is cancelled with it, or whose tickets come back in part."""
    return await desk.scripts.move(
        desk.redis,
        [keys.gate(desk.shard), keys.moved(desk.shard, f"{move_id}-7"), keys.event(desk.shard, EVENT),
         keys.owners(desk.shard, EVENT), keys.booking(desk.shard, of.id if of else ""), keys.told(desk.shard)],
        [tier, sold, total, owner, int(of is not None and cancels), '{"f":"cancelled"}', 60, "a note", "7:7"],
    )  # fmt: skip


async def sold(desk: Desk, **tiers: int) -> Form:
    """A confirmed booking."""
    form = desk.form(**tiers)  # type: ignore[arg-type]
    await desk.book(form)
    await desk.settle_confirmed(form)
    return form


async def test_unloaded_when_the_tier_has_no_counters(desk: Desk) -> None:
    """Nothing is remembered: once it is loaded, the move can still be applied."""
    before = await desk.snapshot()

    assert await move(desk, "floor", total=5) == [b"unloaded"]

    assert await desk.snapshot() == before


async def test_repeated_when_it_was_applied_before(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    await move(desk, "floor", total=5)
    before = await desk.snapshot()

    assert await move(desk, "floor", total=5) == [b"repeated"]

    assert await desk.snapshot() == before
    assert await desk.counts("floor") == (10, 0, 0)


async def test_short_when_fewer_are_available_than_it_takes(desk: Desk) -> None:
    """Tickets that are held or sold cannot be taken away."""
    await desk.open_sale(floor=5)
    await desk.book(desk.form(floor=3))
    before = await desk.snapshot()

    assert await move(desk, "floor", total=-3) == [b"short", 2]

    assert await desk.snapshot() == before


async def test_a_lower_capacity_takes_from_what_is_available(desk: Desk) -> None:
    await desk.open_sale(floor=5)

    assert await move(desk, "floor", total=-2) == [b"moved", 3]

    assert await desk.counts("floor") == (3, 0, 0)
    assert 50 < await desk.redis.ttl(keys.moved(desk.shard, "1-7")) <= 60


async def test_a_cancelled_booking_gives_its_tickets_back(desk: Desk) -> None:
    """They are on sale again, its customer may buy others, and the record says so for as long as it lives."""
    await desk.open_sale(floor=5)
    form = await sold(desk, floor=2)
    life = await desk.redis.ttl(keys.booking(desk.shard, form.id))

    assert await move(desk, "floor", sold=-2, owner=ANN, of=form) == [b"moved", 5]

    assert await desk.counts("floor") == (5, 0, 0)
    assert await desk.owned(form) == 0
    record = await desk.record(form)
    assert record is not None and (record.state, record.payload.failure) == ("X", "cancelled")
    assert life - 2 <= await desk.redis.ttl(keys.booking(desk.shard, form.id)) <= life


async def test_a_partial_refund_leaves_the_booking_confirmed(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    form = await sold(desk, floor=3)

    for move_id in (1, 2):
        left = await move(desk, "floor", sold=-1, owner=ANN, of=form, cancels=False, move_id=move_id)
        assert left == [b"moved", 2 + move_id]

    assert await desk.counts("floor") == (4, 0, 1)
    assert await desk.owned(form) == 1
    record = await desk.record(form)
    assert record is not None and (record.state, record.refunded, record.tries) == ("C", True, "1g")


async def test_a_partial_refund_before_redis_heard_of_the_confirmation(desk: Desk) -> None:
    """It is remembered: of this booking PostgreSQL will have to tell."""
    await desk.open_sale(floor=5)
    await sold(desk, floor=1)
    form = desk.form(floor=2, customer="bob")
    await desk.book(form)

    await move(desk, "floor", sold=-1, of=form, cancels=False)
    await desk.settle_confirmed(form)

    record = await desk.record(form)
    assert record is not None and (record.state, record.refunded) == ("C", True)


async def test_a_booking_cancelled_before_redis_heard_that_it_was_sold_ends_cancelled(desk: Desk) -> None:
    """Its worker was late: the cancellation's tickets came back first. They come back once, and it ends cancelled."""
    await desk.open_sale(floor=5)
    earlier = await sold(desk, floor=2)
    form = desk.form(floor=1, customer="bob", key="bob's")
    await desk.book(form)

    assert (await move(desk, "floor", sold=-1, of=form))[0] == b"moved"
    await desk.settle_confirmed(form)

    assert await desk.counts("floor") == (3, 0, 2)
    record = await desk.record(form)
    assert record is not None and record.state == "X"
    assert (await desk.record(earlier)).state == "C"  # type: ignore[union-attr]


async def test_all_that_is_available_can_be_taken_and_below_nothing_tickets_still_come_back(desk: Desk) -> None:
    """Too many were let in: what is given back makes it less, and a move of nothing changes nothing."""
    await desk.open_sale(floor=5)
    await desk.book(desk.form(floor=2))
    assert await move(desk, "floor", total=-3) == [b"moved", 0]
    assert await move(desk, "floor", total=-1, move_id=2) == [b"short", 0]
    form = await sold_beyond(desk)

    assert await move(desk, "floor", sold=-1, of=form, cancels=False, move_id=3) == [b"moved", -3]
    assert await move(desk, "floor", move_id=4) == [b"moved", -3]
    assert await move(desk, "floor", total=4, move_id=5) == [b"moved", 1]

    sale = await desk.redis.hgetall(keys.event(desk.shard, EVENT))  # type: ignore[misc]
    assert [int(sale[f"{letter}:floor".encode()]) for letter in "ahct"] == [1, 2, 3, 6]


async def sold_beyond(desk: Desk) -> Form:
    """Four tickets more were sold than there are."""
    form = desk.form(floor=4, customer="bob")
    await desk.redis.hincrby(keys.event(desk.shard, EVENT), "a:floor", 4)  # type: ignore[misc]
    await desk.book(form)
    await desk.settle_confirmed(form)
    await desk.redis.hincrby(keys.event(desk.shard, EVENT), "a:floor", -4)  # type: ignore[misc]
    return form


async def test_it_is_told_with_its_pair_and_remembered_with_its_note(desk: Desk) -> None:
    """Should PostgreSQL lose it, it can be missed, and made again."""
    await desk.open_sale(floor=5)
    await desk.redis.delete(keys.told(desk.shard))
    await move(desk, "floor", total=1)
    assert await desk.redis.get(keys.moved(desk.shard, "1-7")) == b"a note"
    assert await desk.redis.smembers(keys.told(desk.shard)) == {b"7:7"}  # type: ignore[misc]


async def test_a_customer_who_gave_all_back_has_no_count_and_nobody_is_nobody(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    form, other = await sold(desk, floor=2), desk.form(floor=1, customer="bob", key="bob's")
    await desk.book(other)
    await desk.settle_confirmed(other)

    await move(desk, "floor", sold=-2, owner=ANN, of=form)
    await move(desk, "floor", sold=-1, of=other, move_id=2)

    assert await desk.redis.hgetall(keys.owners(desk.shard, EVENT)) == {other.owner.encode(): b"1"}  # type: ignore[misc]


@pytest.mark.parametrize("cancels", [False, True])
@pytest.mark.parametrize("state", ["P", "C"])
async def test_a_record_keeps_the_life_it_had(desk: Desk, state: str, cancels: bool) -> None:
    """A final one ends when it would have; one that is undecided lives until it is final."""
    await desk.open_sale(floor=5)
    form = desk.form(floor=2)
    await desk.book(form)
    if state == "C":
        await desk.settle(Verdict(form, "C"), ttl_s=40)

    await move(desk, "floor", sold=-1, of=form, cancels=cancels)

    life = await desk.redis.ttl(keys.booking(desk.shard, form.id))
    assert (30 < life <= 40) if state == "C" else life == -1
    if state == "P":
        await desk.redis.hset(keys.event(desk.shard, EVENT), mapping={"a:floor": 3, "c:floor": 0})  # type: ignore[misc]


async def test_tickets_of_several_tiers_come_back_before_redis_heard_that_they_were_sold(desk: Desk) -> None:
    """Each move finds it pending; one mark is enough, and it ends cancelled once it is settled."""
    await desk.open_sale(floor=5, balcony=5)
    await sold(desk, floor=2, balcony=2)
    form = desk.form(floor=1, balcony=1, customer="bob", key="bob's")
    await desk.book(form)
    for number, tier in enumerate(("floor", "balcony"), 1):
        assert (await move(desk, tier, sold=-1, of=form, move_id=number))[0] == b"moved"
        record = await desk.record(form)
        assert record is not None and (record.state, record.tries.count("b")) == ("P", 1)

    await desk.settle_confirmed(form)

    assert await desk.has(form, "X")
    assert (await desk.counts("floor"), await desk.counts("balcony")) == ((3, 0, 2), (3, 0, 2))


@pytest.mark.parametrize("state", "FEX")
async def test_a_booking_that_ended_otherwise_is_not_called_cancelled(desk: Desk, state: str) -> None:
    await desk.open_sale(floor=5)
    await sold(desk, floor=2)
    form = desk.form(floor=1, customer="bob", key="bob's")
    await desk.book(form)
    await desk.settle(Verdict(form, state))
    raw = await desk.redis.get(keys.booking(desk.shard, form.id))
    await move(desk, "floor", sold=-1, of=form)
    assert await desk.redis.get(keys.booking(desk.shard, form.id)) == raw


@pytest.mark.parametrize(("has", "left"), [(None, None), ("box:1", b"box:1"), ("floor:1", None)])
async def test_what_comes_back_of_a_tier_that_was_never_counted_is_no_negative_count(
    desk: Desk, has: str | None, left: bytes | None
) -> None:
    """A booking of before customers were counted by tier: its customer has too few of the tier, or nothing at all."""
    await desk.open_sale(floor=5)
    form = await sold(desk, floor=2)
    name = keys.owned_tiers(desk.shard, EVENT)
    await desk.redis.delete(name)
    if has:
        await desk.redis.hset(name, ANN, has)  # type: ignore[misc]
    assert await move(desk, "floor", sold=-2, owner=ANN, of=form) == [b"moved", 5]
    assert await desk.redis.hget(name, ANN) == left  # type: ignore[misc]
    await desk.book(desk.form(floor=1))
    assert tickets_by_tier(await desk.redis.hget(name, ANN))["floor"] == 1  # type: ignore[misc]
