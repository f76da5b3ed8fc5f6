"""One question to Redis for all who read an event within a moment, and no copy of what has changed here."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from boxoffice.errors import GateClosed
from boxoffice.office import BoxOffice
from boxoffice.sales.allocations import Holder
from boxoffice.sales.capacity import CapacityChange
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from boxoffice.wire.event_copies import EventCopies, tag_of
from tests.conftest import CLIENT, SHARD, SaleMaker
from tests.support.shop.office import book
from tests.support.shop.orders import OTHER


class Time:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def now() -> Time:
    return Time()


@pytest.fixture
async def event(office: BoxOffice, open_sale: SaleMaker) -> EventView:
    """As the map has it: in the second shard."""
    made = await open_sale(GA=10, VIP=5)
    assert made.shard == SHARD
    return await office.catalogue.event(made.id)


@pytest.fixture
def copies(office: BoxOffice, now: Time) -> EventCopies:
    """Which last for 200 ms."""
    api = office.settings.api.model_copy(update={"copy_ms": 200.0})
    return EventCopies(office.catalogue, office.settings.model_copy(update={"api": api}), now)


async def reads(office: BoxOffice) -> int:
    """How often Redis was asked what is left of an event."""
    found = (await office.redis.info("commandstats")).get("cmdstat_hmget", {"calls": 0})
    return int(found["calls"])


def available(body: bytes) -> list[int]:
    return [tier["available"] for tier in json.loads(body)["tiers"]]


async def test_all_readers_of_a_moment_share_one_read(
    office: BoxOffice, copies: EventCopies, event: EventView, now: Time
) -> None:
    """Whether they come at once or one after another."""
    before = await reads(office)
    shown = await asyncio.gather(*(copies.show(event, CLIENT) for _ in range(200)))
    now.s += 0.199
    shown += [await copies.show(event, client) for client in (CLIENT, OTHER)]
    assert copies.at_once(event, CLIENT) is shown[0]
    assert await reads(office) == before + 1
    assert {id(each) for each in shown} == {id(shown[0])}
    now.s += 0.002
    assert copies.at_once(event, CLIENT) is None
    await copies.show(event, CLIENT)
    assert await reads(office) == before + 2


async def test_a_copy_is_as_old_as_the_question(
    office: BoxOffice, copies: EventCopies, event: EventView, now: Time
) -> None:
    await copies.show(event, CLIENT)
    await book(office, event, GA=3)
    now.s += 0.1
    assert available((await copies.show(event, CLIENT)).body) == [10, 5]
    now.s += 0.101
    assert available((await copies.show(event, CLIENT)).body) == [7, 5]


async def test_without_copies_everybody_sees_what_is_there(office: BoxOffice, event: EventView) -> None:
    """`api.copy_ms` is 0: nobody joins a read that began before."""
    copies = EventCopies(office.catalogue, office.settings)
    first = asyncio.ensure_future(copies.show(event, CLIENT))
    await asyncio.sleep(0)
    await book(office, event, GA=3)
    assert available((await copies.show(event, CLIENT)).body) == [7, 5]
    await first


async def test_another_view_of_the_event_has_no_copy(office: BoxOffice, copies: EventCopies, event: EventView) -> None:
    """Whatever this process has changed is shown at once."""
    await copies.show(event, CLIENT)
    await office.control.change_event(event.id, name="The other name")
    seen = office.catalogue.find_event(event.id)
    assert seen is not None and seen.name == "The other name"
    assert copies.at_once(seen, CLIENT) is None
    assert json.loads((await copies.show(seen, CLIENT)).body)["name"] == "The other name"


async def test_another_capacity_is_shown_at_once(
    office: BoxOffice, copies: EventCopies, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though somebody read it when Redis knew of it and had not got its tickets: there is another copy once more."""
    capacity = office.control.capacity
    mirror, between = capacity.mirror, []

    async def seen() -> list[int]:
        view = office.catalogue.find_event(event.id)
        assert view is not None
        return available((await copies.show(view, CLIENT)).body)

    async def late(shard: int, change: CapacityChange) -> None:
        between.append(await seen())
        await mirror(shard, change)

    monkeypatch.setattr(capacity, "mirror", late)
    await office.control.change_tier(event.tiers[0].id, capacity=20)
    assert (between, await seen()) == ([[10, 5]], [20, 5])
    await office.control.change_tier(event.tiers[0].id, capacity=4)
    assert await seen() == [4, 5]


async def test_each_shop_sees_what_is_set_aside_for_it(
    office: BoxOffice, copies: EventCopies, event: EventView
) -> None:
    """And no shop another one's."""
    await office.allocations.create(event.id, event.tiers[0].id, Holder(shop=OTHER), 4)
    seen = office.catalogue.find_event(event.id)
    assert seen is not None
    mine, theirs = await copies.show(seen, CLIENT), await copies.show(seen, OTHER)
    assert (available(mine.body), available(theirs.body)) == ([6, 5], [10, 5])
    assert mine.tag != theirs.tag
    assert copies.at_once(seen, CLIENT) is mine and copies.at_once(seen, OTHER) is theirs


async def test_what_cannot_be_read_is_no_copy(office: BoxOffice, copies: EventCopies, event: EventView) -> None:
    """Everybody who waits for it is told, and the next one asks anew."""
    name = keys.event(event.shard, event.id)
    counted: Any = await office.redis.hgetall(name)
    await office.redis.delete(name)
    found = await asyncio.gather(*(copies.show(event, CLIENT) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in found] == [GateClosed] * 3
    assert copies.at_once(event, CLIENT) is None
    await office.redis.hset(name, mapping=counted)
    assert available((await copies.show(event, CLIENT)).body) == [10, 5]


async def test_a_tag_names_one_state(office: BoxOffice, copies: EventCopies, event: EventView, now: Time) -> None:
    """By its version, and by all that is shown of it."""
    first = await copies.show(event, CLIENT)
    assert first.tag.startswith(b'"%d.' % event.version) and first.tag.endswith(b'"')
    now.s += 1
    again = await copies.show(event, CLIENT)
    assert again is not first and again.tag == first.tag
    await book(office, event, GA=1)
    now.s += 1
    assert (await copies.show(event, CLIENT)).tag != first.tag
    assert tag_of(b"a") == tag_of(b"a") != tag_of(b"b")
