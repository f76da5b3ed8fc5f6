"""Streams of what is left: what changes is told, once to each reader, and the end at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.streams import events
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from tests.conftest import KEY, OTHER_KEY, SHARD, SaleMaker, load_all
from tests.support.messages import follow, get, messages_of, nth
from tests.support.shop.office import Till
from tests.support.waiting import true_soon
from tests.support.wire import Door, Wire

pytestmark = pytest.mark.wire


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"streams": settings.streams.model_copy(update={"each_ms": 50})})


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=120, VIP=2)


@pytest.fixture
def till(office: BoxOffice, event: EventView) -> Till:
    return Till(office, event)


async def follow_event(door: Door, event: EventView, key: str = KEY) -> Wire:
    return await follow(door, get(f"/v1/events/{event.id}/stream", key=key))


def left(data: dict[str, Any]) -> dict[str, int]:
    return {tier["code"]: tier["available"] for tier in data["tiers"]}


async def test_what_changes_is_told(door: Door, till: Till) -> None:
    wire = await follow_event(door, till.event)
    assert left((await nth(wire, 1)).data) == {"GA": 120, "VIP": 2}
    await till.book(VIP=1)
    assert left((await nth(wire, 2)).data) == {"GA": 120, "VIP": 1}
    await till.book(VIP=1)
    last = (await nth(wire, 3)).data
    assert (left(last), last["sold_out"]) == ({"GA": 120, "VIP": 0}, False)


async def test_of_plenty_not_each_ticket(door: Door, till: Till) -> None:
    """What changes nothing in two digits is no news; below a hundred each ticket is."""
    wire = await follow_event(door, till.event)
    await till.book(GA=1)
    await till.book(VIP=1)
    second = await nth(wire, 2)
    assert left(second.data) in ({"GA": 110, "VIP": 1}, {"GA": 110, "VIP": 2})
    await till.book(GA=1)
    for _ in range(3):
        await till.book(GA=6)
    await true_soon(lambda: left(messages_of(bytes(wire.received))[-1].data)["GA"] == 100)
    for _ in range(2):
        await till.book(GA=1)
    await true_soon(lambda: left(messages_of(bytes(wire.received))[-1].data)["GA"] == 98)
    assert {left(message.data)["GA"] for message in messages_of(bytes(wire.received))} <= {120, 110, 100, 99, 98}


@pytest.mark.parametrize("shard", [0, SHARD])
async def test_sold_out_is_told_and_what_comes_back(
    door: Door, office: BoxOffice, open_sale: SaleMaker, shard: int
) -> None:
    till = Till(office, await open_sale(shard=shard, GA=2))
    wire = await follow_event(door, till.event)
    hold = await till.hold(GA=2)
    told = (await nth(wire, 2)).data
    assert (told["sold_out"], told["on_sale"], left(told)) == (True, True, {"GA": 0})
    await till.cancel(hold)
    told = (await nth(wire, 3)).data
    assert (told["sold_out"], left(told)) == (False, {"GA": 2})


async def test_a_pause_is_told(door: Door, till: Till, office: BoxOffice) -> None:
    wire = await follow_event(door, till.event)
    await nth(wire, 1)
    await office.control.pause(till.event.id)
    told = (await nth(wire, 2)).data
    assert (told["status"], told["on_sale"]) == ("paused", False)
    await office.control.resume(till.event.id)
    assert (await nth(wire, 3)).data["on_sale"]


async def test_an_event_that_a_shop_sells_no_more_ends_for_it(door: Door, till: Till, office: BoxOffice) -> None:
    """For nobody else."""
    own, others = await follow_event(door, till.event), await follow_event(door, till.event, OTHER_KEY)
    await office.sharing.unshare(till.event.id, "other0000000")
    await load_all(office)
    await true_soon(lambda: others.closing)
    assert not own.closing


async def test_all_readers_of_a_shop_share_what_is_written(
    door: Door, till: Till, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look at Redis a round, and one message, however many read it."""
    made = []
    frame = events.frame

    def counted(*parts: bytes) -> bytes:
        made.append(parts)
        return frame(*parts)

    monkeypatch.setattr(events, "frame", counted)
    wires = [await follow_event(door, till.event) for _ in range(100)]
    assert len(made) == 1
    await till.book(VIP=1)
    for wire in wires:
        await nth(wire, 2)
    assert len(made) == 2


async def test_a_reader_gets_the_latest_when_its_turn_has_come(
    door: Door, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing to many takes longer than the next change: nobody is left behind, nobody gets what is old by then."""
    monkeypatch.setattr(events, "SLICE", 1)
    monkeypatch.setattr(events, "SLICE_S", 0.0)
    wires = [await follow_event(door, till.event) for _ in range(5)]
    for _ in range(2):
        await till.book(VIP=1)
    for wire in wires:
        await true_soon(lambda wire=wire: left(messages_of(bytes(wire.received))[-1].data)["VIP"] == 0)  # type: ignore[misc]


async def test_nobody_reading_costs_nothing(door: Door, till: Till, office: BoxOffice) -> None:
    """The last reader's going ends the looking, and the next one begins it anew."""
    before = asyncio.all_tasks()
    wire = await follow_event(door, till.event)
    assert asyncio.all_tasks() - before
    wire.hang_up()
    await true_soon(lambda: not asyncio.all_tasks() - before)
    again = await follow_event(door, till.event)
    await till.book(VIP=1)
    assert left((await nth(again, 2)).data)["VIP"] == 1


async def test_a_mistake_ends_no_stream(
    door: Door, till: Till, monkeypatch: pytest.MonkeyPatch, office: BoxOffice
) -> None:
    """Neither one in looking, be it one that was called off, nor one in writing to a reader."""
    broken, wire = await follow_event(door, till.event), await follow_event(door, till.event)
    await nth(wire, 1)
    looks = []

    def fails(*_: object) -> object:
        looks.append(1)
        raise RuntimeError("a bug") if len(looks) % 2 else asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(events, "availability_of", fails)
        await true_soon(lambda: len(looks) > 3)
    with monkeypatch.context() as patch:
        patch.setattr(broken, "write", lambda _data: [][0])
        for number in (2, 3):
            await till.book(VIP=1)
            assert left((await nth(wire, number)).data)["VIP"] == 3 - number


async def test_a_store_that_is_away_ends_no_stream(
    door: Door, till: Till, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boxoffice.errors import StoreAway

    wire = await follow_event(door, till.event)
    looks = []

    async def away(*_: object) -> list[int]:
        looks.append(1)
        raise StoreAway

    with monkeypatch.context() as patch:
        patch.setattr(office.catalogue, "availability", away)
        await true_soon(lambda: len(looks) > 2)
        assert not wire.closing
    await till.book(VIP=1)
    assert left((await nth(wire, 2)).data)["VIP"] == 1
