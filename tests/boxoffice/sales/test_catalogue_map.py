"""The map of what is on sale: how old it may be, what it lacks, and what is left of it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from boxoffice.access.api_keys import ApiKeys
from boxoffice.errors import GateClosed, NotFound, StoreAway
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import Catalogue, EventView, TierView
from boxoffice.sales.rules import NONE, Rules
from boxoffice.settings import Settings
from boxoffice.stores import keys
from tests.conftest import CLIENT, KEY, SHARD, SaleMaker, load_all


class Fresh:
    """How old the map is, as a test wants it; counts who asks."""

    def __init__(self, catalogue: Catalogue, age: float) -> None:
        self.age, self.compared, self.clock = age, 0.0, lambda: age
        self.asked = self.refreshed = 0
        catalogue.freshness = self  # type: ignore[assignment]

    def ask(self) -> None:
        self.asked += 1

    async def refresh(self) -> None:
        self.refreshed += 1


@pytest.fixture
async def catalogue(office: BoxOffice) -> Catalogue:
    await load_all(office)
    return Catalogue(office.shards, office.settings)


@pytest.mark.parametrize(
    ("age", "found", "asks", "refreshes"),
    [(0.0, True, 0, 0), (1.0, True, 0, 0), (1.01, True, 1, 1), (2.0, True, 1, 1), (2.01, False, 0, 1)],
)
async def test_how_old_the_map_may_be(
    catalogue: Catalogue, open_sale: SaleMaker, age: float, found: bool, asks: int, refreshes: int
) -> None:
    """After a second whoever asks has it compared; who can wait, waits for it; after two it is not believed."""
    event = await open_sale(GA=1)
    (tier,) = event.tiers
    await catalogue.read()
    for look in (lambda: catalogue.find_tier(tier.id), lambda: catalogue.find_event(event.id)):
        fresh = Fresh(catalogue, age)
        assert (look() is not None, fresh.asked) == (found, asks)
        assert catalogue.known_tier(tier.id) == (event, tier)
    for ask in (catalogue.event_of_tier(tier.id), catalogue.event(event.id), catalogue.events()):
        fresh = Fresh(catalogue, age)
        await ask
        assert fresh.refreshed == refreshes


async def test_what_the_map_lacks_is_asked_for_at_once(catalogue: Catalogue, open_sale: SaleMaker) -> None:
    """However fresh it is. While it is not loaded, nobody can say that there is no such thing."""
    await catalogue.read()
    for ask in (catalogue.event_of_tier("nothing"), catalogue.event("nothing")):
        fresh = Fresh(catalogue, 0.0)
        with pytest.raises(NotFound):
            await ask
        assert fresh.refreshed == 1
    catalogue.loaded = False
    for ask in (catalogue.event_of_tier("nothing"), catalogue.event("nothing"), catalogue.events()):
        with pytest.raises(GateClosed):
            await ask
    assert catalogue.find_tier("nothing") is catalogue.find_event("nothing") is catalogue.known_tier("nothing") is None


async def test_a_redis_that_is_away_leaves_what_is_known(
    catalogue: Catalogue, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await open_sale(GA=1)
    await catalogue.read()

    async def away() -> None:
        raise OSError

    monkeypatch.setattr(catalogue.freshness, "refresh", away)
    assert await catalogue.event(event.id) == event
    catalogue.loaded = False
    with pytest.raises(StoreAway):
        await catalogue.refresh()


async def test_every_shard_has_to_be_loaded(office: BoxOffice, open_sale: SaleMaker) -> None:
    """What one knows stays when Redis forgets; whoever finds an open gate without a catalogue asks for it."""
    events = [await open_sale(GA=1, shard=0), await open_sale(GA=1)]
    await load_all(office)
    await office.redis.delete(keys.catalogue(0))
    catalogue = Catalogue(office.shards, office.settings)
    met: list[int] = []
    catalogue.lacking.met = met.append  # type: ignore[method-assign,assignment]
    await catalogue.read()
    assert (catalogue.loaded, list(catalogue.known_events), met) == (False, [events[1].id], [0])
    await office.redis.delete(keys.gate(0))
    await catalogue.read()
    assert met == [0], "a gate that is shut is being seen to"
    await office.loader.load(0)
    await catalogue.read()
    assert catalogue.loaded and set(catalogue.known_events) == {event.id for event in events}
    assert {tier for tier in catalogue.known_tiers} == {event.tiers[0].id for event in events}
    await office.redis.delete(keys.catalogue(SHARD))
    await catalogue.read()
    assert catalogue.loaded and catalogue.known_tier(events[1].tiers[0].id) == (events[1], events[1].tiers[0])
    assert met == [0, SHARD]


async def test_what_has_not_changed_is_not_made_again(office: BoxOffice, open_sale: SaleMaker) -> None:
    """A process with ten thousand events looks every second, while it answers others."""
    event = await open_sale(GA=1)
    await load_all(office)
    catalogue = Catalogue(office.shards, office.settings)
    await catalogue.read()
    before = catalogue.known_events, catalogue.known_tiers
    await catalogue.read()
    assert (catalogue.known_events, catalogue.known_tiers) == before
    assert catalogue.known_events is before[0] and catalogue.known_tiers is before[1]
    await office.control.pause(event.id)
    await catalogue.read()
    assert catalogue.known_events[event.id].status == "paused"


async def test_what_one_shard_told_is_not_forgotten_because_another_failed(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not read again as long as it stays: so it has to be in the map."""
    first, second = await open_sale(GA=1, shard=0), await open_sale(GA=1)
    await load_all(office)
    catalogue = Catalogue(office.shards, office.settings)
    await catalogue.read()
    for event in (first, second):
        await office.control.change_event(event.id, name="New")
    read = office.redis.hgetall

    async def broken(key: str) -> Any:
        if key == keys.catalogue(SHARD):
            raise OSError
        return await read(key)  # type: ignore[misc]

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(office.redis, "hgetall", broken)
        await catalogue.read()
    await catalogue.read()
    assert {event.name for event in catalogue.known_events.values()} == {"New"}
    assert {event.name for event, _ in catalogue.known_tiers.values()} == {"New"}


async def test_only_what_changed_is_read_again(
    catalogue: Catalogue, open_sale: SaleMaker, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the version of each shard, and by its gate."""
    await open_sale(GA=1)
    await catalogue.read()
    read: list[str] = []
    real = office.redis.hgetall

    async def hgetall(name: str) -> Any:
        read.append(name)
        return await real(name)  # type: ignore[misc]

    monkeypatch.setattr(office.redis, "hgetall", hgetall)
    await catalogue.read()
    assert read == []
    await open_sale(GA=1)
    await catalogue.read()
    assert read == [keys.catalogue(SHARD)]
    await office.redis.set(keys.gate(0), "another:run")
    await catalogue.read()
    assert read == [keys.catalogue(SHARD), keys.catalogue(0)]


async def test_events_that_are_off_sale_are_not_listed(
    catalogue: Catalogue, open_sale: SaleMaker, office: BoxOffice
) -> None:
    """The others by their start, and those of one start by their ids; but each is found by its id."""
    off, *on = [await open_sale(GA=1, shard=n % 2) for n in range(5)]
    await office.control.change_event(off.id, status="inactive")
    for event in on:
        await office.control.change_event(event.id, starts_at=await starts_of(office, on[0]))
    await catalogue.read()
    assert [event.id for event in await catalogue.events()] == sorted(event.id for event in on)
    assert (await catalogue.event(off.id)).status == "inactive"


async def starts_of(office: BoxOffice, event: EventView) -> Any:
    return await (await office.pool()).fetchval("SELECT starts_at FROM events WHERE id = $1", event.id)


async def test_what_is_left_is_read_for_all_who_ask(
    catalogue: Catalogue, open_sale: SaleMaker, office: BoxOffice
) -> None:
    """Of each event in its shard, tier by tier; never less than nothing, and nothing where the counters are not loaded."""
    first, second, third = await open_sale(GA=10, VIP=5), await open_sale(GA=7, shard=0), await open_sale(GA=3)
    (ga, vip) = first.tiers
    await office.redis.hset(keys.event(SHARD, first.id), f"a:{vip.id}", -2)  # type: ignore[misc]
    met: list[int] = []
    catalogue.lacking.met = met.append  # type: ignore[method-assign,assignment]
    assert await asyncio.gather(*(catalogue.availability(event) for event in (first, second, third, first))) == [
        [10, 0], [7], [3], [10, 0],
    ]  # fmt: skip
    assert met == []
    await office.redis.hdel(keys.event(SHARD, first.id), f"a:{ga.id}")  # type: ignore[misc]
    await office.redis.delete(keys.event(0, second.id))
    for event, shard in ((first, SHARD), (second, 0)):
        met.clear()
        with pytest.raises(GateClosed):
            await catalogue.availability(event)
        assert met == [shard]
    assert await catalogue.availability(third) == [3]


def test_an_event_is_described_with_its_active_tiers() -> None:
    tiers = tuple(TierView(f"t{n}", f"C{n}", f"N{n}", 10 * n, 100 * n, n != 2) for n in (1, 2, 3))
    tiers = (*tiers[:2], msgspec.structs.replace(tiers[2], on_sale_at="3", off_sale_at="4", rules=Rules(2, 3, 4, 5)))
    event = EventView("id", "Name", "2030", 7, "active", "EUR", 1, 4, tiers, "1", "2", 9, rules=Rules(6, 7, 8, 9))
    assert event.tier_ids == "t1,t2,t3"
    assert event.describe([5, None, 0]) == {
        "id": "id", "name": "Name", "starts_at": "2030", "status": "active", "currency": "EUR",
        "on_sale_at": "1", "off_sale_at": "2", "version": 9,
        "booking_min": 6, "booking_max": 7, "customer_min": 8, "customer_max": 9,
        "tiers": [
            {"id": f"t{n}", "code": f"C{n}", "name": f"N{n}", "price_cents": 10 * n, "capacity": 100 * n,
             "on_sale_at": opens, "off_sale_at": closes, **rules._asdict(), "access_code_required": False, "available": left}
            for n, left, opens, closes, rules in ((1, 5, None, None, NONE), (3, 0, "3", "4", Rules(2, 3, 4, 5)))
        ],
    }  # fmt: skip


@pytest.mark.parametrize("fresh", [True, False])
async def test_what_is_lost_between_two_reads_is_not_read_as_empty(
    settings: Settings, open_sale: SaleMaker, office: BoxOffice, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    """What was known stays; a process that knew nothing asks for patience, and calls neither event nor key unknown."""
    event, catalogue = await open_sale(GA=1), Catalogue(office.shards, settings)
    await load_all(office)
    if not fresh:
        await catalogue.read()
        assert (await catalogue.api_keys.caller_of(KEY)).client == CLIENT
        await open_sale(GA=1)
        await office.access.add_api_key(CLIENT, "another.secret")
    real = office.redis.hgetall

    async def lost(name: str) -> Any:
        await office.redis.delete(name)
        return await real(name)  # type: ignore[misc]

    monkeypatch.setattr(office.redis, "hgetall", lost)
    if fresh:
        with pytest.raises(GateClosed):
            await catalogue.event(event.id)
        with pytest.raises(GateClosed):
            await catalogue.api_keys.caller_of(KEY)
    else:
        await catalogue.read()
        assert (await catalogue.event(event.id)).id == event.id
        with pytest.raises(GateClosed):
            await ApiKeys(office.shards, settings.api.key_cache_s).caller_of(KEY)
        with pytest.raises(GateClosed):
            await catalogue.api_keys.caller_of("another.secret")
    monkeypatch.undo()
    await load_all(office)
    assert (await ApiKeys(office.shards, settings.api.key_cache_s).caller_of(KEY)).client == CLIENT


@pytest.mark.parametrize(
    ("event_window", "tier_window", "on_sale"),
    [
        ((None, None), (None, None), True),
        ((5, None), (None, None), True),
        ((6, None), (None, None), False),
        ((None, 6), (None, None), True),
        ((None, 5), (None, None), False),
        ((6, None), (4, None), True),
        ((4, None), (6, None), False),
        ((None, 4), (None, 6), True),
        ((None, 6), (None, 4), False),
    ],
)
def test_a_tier_is_on_sale_within_its_own_window_or_the_events(
    event_window: tuple[Any, Any], tier_window: tuple[Any, Any], on_sale: bool
) -> None:
    """From its first second on, until its last."""
    (opens, closes), (tier_opens, tier_closes) = (
        [None if at is None else f"1970-01-01T00:00:0{at}Z" for at in window] for window in (event_window, tier_window)
    )
    tier = TierView("t1", "A", "A", 1, 1, True, tier_opens, tier_closes)
    event = EventView("id", "Name", "2030", 7, "active", "EUR", 1, 4, (tier,), opens, closes)
    assert event.in_window(tier, 5.0) is on_sale
    assert not event.in_window(msgspec.structs.replace(tier, code_only=True), 5.0), "not for everybody"
