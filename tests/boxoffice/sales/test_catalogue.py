"""What is on sale, as processes remember it, and how what is written gets there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from boxoffice.access.api_keys import KEYS_SHARD
from boxoffice.errors import GateClosed, Malformed, NotFound, StoreAway, Unauthorized
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import Catalogue
from boxoffice.sales.loading import Loaded
from boxoffice.sales.rules import Rules
from boxoffice.sales.store import CatalogueStore, NewTier
from boxoffice.stores import keys
from boxoffice.stores.shard import Shards
from tests.conftest import (
    CLIENT,
    EMPTIEST_SHARD,
    KEY,
    SHARD,
    SaleMaker,
    counters,
    eventually,
    load_all,
    settle_all,
)
from tests.support.shop.office import book
from tests.support.shop.orders import tier_of
from tests.support.waiting import true_soon


class Clock:
    """Seconds, as a test wants them."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def catalogue(office: BoxOffice, clock: Clock) -> Catalogue:
    """Of another process, while a worker has loaded what there is."""
    await load_all(office)
    return Catalogue(office.shards, office.settings, clock=clock)


async def reads(redis: Redis) -> int:
    """Hash reads that the server has answered."""
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("hget", "hgetall"))


# Events and tiers


async def test_a_new_event_is_found_on_a_miss(catalogue: Catalogue, open_sale: SaleMaker) -> None:
    await catalogue.events()
    event = await open_sale(VIP=5, GA=100)

    assert (await catalogue.event_of_tier(event.tiers[1].id)) == (event, event.tiers[1])
    assert catalogue.find_tier(event.tiers[0].id) == (event, event.tiers[0])
    assert catalogue.find_event(event.id) == event
    assert await catalogue.availability(event) == [5, 100]
    assert [tier.code for tier in event.tiers] == ["VIP", "GA"], "in the order they were given"


async def test_a_look_up_asks_nobody(catalogue: Catalogue, open_sale: SaleMaker, office: BoxOffice) -> None:
    event = await open_sale(GA=100)
    await catalogue.event(event.id)
    before = await reads(office.redis)

    for _ in range(100):
        assert catalogue.find_tier(event.tiers[0].id)
        await catalogue.event_of_tier(event.tiers[0].id)

    assert await reads(office.redis) == before


async def test_ids_that_do_not_exist_cannot_flood_redis(catalogue: Catalogue, clock: Clock, office: BoxOffice) -> None:
    """A few misses may ask after a quiet time; then it is one a second."""
    before = await reads(office.redis)
    for n in range(200):
        with pytest.raises(NotFound):
            await catalogue.event_of_tier(f"no such tier {n}")
    assert await reads(office.redis) - before <= 1 + 3 * 2 * office.settings.shards, "three looks"
    before = await reads(office.redis)
    for n in range(200):
        clock.now += 0.01
        with pytest.raises(NotFound):
            await catalogue.event(f"no such event {n}")
    assert await reads(office.redis) - before <= 3


async def test_a_change_is_seen_within_a_second(
    catalogue: Catalogue, clock: Clock, open_sale: SaleMaker, office: BoxOffice
) -> None:
    event = await open_sale(GA=100)
    await catalogue.event(event.id)
    await office.control.change_tier(event.tiers[0].id, is_active=False, price_cents=1_500)
    assert (await catalogue.event(event.id)).tiers[0].active
    clock.now += 1.1

    changed = await catalogue.event(event.id)

    assert (changed.tiers[0].active, changed.tiers[0].price_cents) == (False, 1_500)
    assert await office.redis.hget(keys.event(event.shard, event.id), f"p:{event.tiers[0].id}") == b"-1500"


async def test_a_synchronous_look_up_refreshes_in_the_background(
    catalogue: Catalogue, clock: Clock, open_sale: SaleMaker, office: BoxOffice
) -> None:
    event = await open_sale(GA=100)
    await catalogue.event(event.id)
    await office.control.change_tier(event.tiers[0].id, price_cents=1_500)
    clock.now += 2

    assert catalogue.find_tier(event.tiers[0].id), "what it knows"
    await true_soon(lambda: catalogue.find_tier(event.tiers[0].id)[1].price_cents == 1_500)  # type: ignore[index]
    clock.now += 6
    assert catalogue.find_tier(event.tiers[0].id) is None, "too old to be believed without a look"


async def test_events_are_listed_by_start(catalogue: Catalogue, open_sale: SaleMaker, office: BoxOffice) -> None:
    later = await open_sale(GA=1, starts_in=timedelta(days=9))
    sooner = await open_sale(GA=1, starts_in=timedelta(days=2))
    closed = await open_sale(GA=1)
    await office.control.change_event(closed.id, status="inactive")

    assert [event.id for event in await catalogue.events()] == [sooner.id, later.id]


async def test_an_empty_redis_is_not_an_empty_catalogue(
    catalogue: Catalogue, clock: Clock, open_sale: SaleMaker, office: BoxOffice
) -> None:
    """Who knew nothing cannot say; who knew something still does, and the gate refuses the sale."""
    event = await open_sale(GA=1)
    knowing = Catalogue(office.shards, office.settings, clock=clock)
    await knowing.event(event.id)
    await office.redis.flushall()
    clock.now += 2

    for ask in (
        catalogue.events(),
        catalogue.event(event.id),
        catalogue.event_of_tier("x"),
        catalogue.api_keys.caller_of(KEY),
    ):
        with pytest.raises(GateClosed):
            await ask
    assert await knowing.event(event.id) == event
    with pytest.raises(GateClosed):
        await knowing.availability(event)
    await load_all(office)
    clock.now += 2
    assert await catalogue.event(event.id) == event


async def test_who_knows_something_outlives_redis(office: BoxOffice, clock: Clock, open_sale: SaleMaker) -> None:
    await load_all(office)
    event = await open_sale(GA=1)
    away = Redis(host="127.0.0.1", port=1)
    catalogue = Catalogue(office.shards, office.settings, clock=clock)
    await catalogue.event(event.id)
    await catalogue.api_keys.caller_of(KEY)
    catalogue.shards = nowhere = Shards([away] * office.settings.shards, office.scripts)
    catalogue.api_keys.redis = away
    clock.now += 100

    assert await catalogue.event(event.id) == event
    assert (await catalogue.api_keys.caller_of(KEY)).client == CLIENT
    with pytest.raises(StoreAway):
        await catalogue.availability(event)
    with pytest.raises(StoreAway):
        await Catalogue(nowhere, office.settings, clock=clock).event(event.id)


async def test_a_change_is_of_one_event_or_tier(office: BoxOffice, open_sale: SaleMaker) -> None:
    one, other = await open_sale(GA=10, VIP=5), await open_sale(GA=10, VIP=5)

    changed, _ = await office.control.change_tier(one.tiers[0].id, name="Standing", price_cents=5)
    assert [(tier.name, tier.price_cents) for tier in changed.tiers] == [("Standing", 5), ("VIP", 2_000)]
    changed = await office.control.change_event(one.id, name="Opera", status="inactive")

    assert (changed.name, changed.status) == ("Opera", "inactive")
    assert await office.store.event(other.id) == other
    await office.catalogue.refresh()
    assert await office.catalogue.event(other.id) == other
    assert {event.id: event.name for event in await office.store.events()} == {one.id: "Opera", other.id: "Concert"}


# Writing


async def test_events_are_spread_over_the_shards(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CatalogueStore, "emptiest_shard", EMPTIEST_SHARD)
    settings = office.settings.model_copy(update={"shards": 3})
    store = CatalogueStore(office.database, office.shards, settings)
    start = datetime.now(UTC) + timedelta(days=1)
    chosen = [(await store.create_event(CLIENT, "E", start, "USD", [NewTier("A", 1, 1)])).shard for _ in range(6)]
    assert sorted(chosen) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": " "}, "/name"),
        ({"name": "a\0b"}, "/name"),
        ({"starts_at": datetime(2030, 1, 1)}, "/starts_at"),
        ({"currency": "usd"}, "/currency"),
        ({"tiers": []}, "/tiers"),
        ({"tiers": [NewTier("A", 1, 1), NewTier("A", 2, 2)]}, "/tiers"),
        ({"tiers": [NewTier("A", -1, 1)]}, "/tiers/0"),
        ({"tiers": [NewTier("A", 1, 2**31)]}, "/tiers/0"),
        ({"rules": Rules(customer_max=0)}, "/customer_max"),
    ],
)
async def test_an_event_that_cannot_be_is_refused(office: BoxOffice, change: dict[str, object], pointer: str) -> None:
    event: dict[str, object] = {
        "client_id": CLIENT, "name": "E", "starts_at": datetime.now(UTC), "currency": "USD", "tiers": [NewTier("A", 1, 1)],
        "allow": ("past", "late_cancel"),
    }  # fmt: skip
    with pytest.raises(Malformed) as refusal:
        await office.store.create_event(**event | change)  # type: ignore[arg-type]
    assert refusal.value.pointer == pointer


@pytest.mark.parametrize(
    ("good", "bad", "pointer"),
    [
        ({"name": "n" * 200}, {"name": "n" * 201}, "/name"),
        ({"tiers": [NewTier("c" * 200, 1, 1)]}, {"tiers": [NewTier("c" * 201, 1, 1)]}, "/tiers/0/code"),
        ({"tiers": [NewTier("A", 1, 1, "n" * 200)]}, {"tiers": [NewTier("A", 1, 1, "n" * 201)]}, "/tiers/0/name"),
        (
            {"tiers": [NewTier(f"T{n}", 1, 1) for n in range(100)]},
            {"tiers": [NewTier(f"T{n}", 1, 1) for n in range(101)]}, "/tiers",
        ),
        ({"tiers": [NewTier("A", 2**31 - 1, 1)]}, {"tiers": [NewTier("A", 2**31, 1)]}, "/tiers/0"),
        ({"tiers": [NewTier("A", 1, 2**31 - 1)]}, {"tiers": [NewTier("A", 1, 2**31)]}, "/tiers/0"),
        ({"tiers": [NewTier("A", 0, 0)]}, {"tiers": [NewTier("A", 0, -1)]}, "/tiers/0"),
        ({"tiers": [NewTier("A", 0, 1)]}, {"tiers": [NewTier("A", -1, 1)]}, "/tiers/0"),
        ({"rules": Rules(customer_max=1)}, {"rules": Rules(customer_max=0)}, "/customer_max"),
        ({"rules": Rules(customer_max=2**31 - 1)}, {"rules": Rules(customer_max=2**31)}, "/customer_max"),
        ({"rules": Rules(booking_min=100)}, {"rules": Rules(booking_min=101)}, "/booking_min"),
        (
            {"tiers": [NewTier("A", 1, 1, rules=Rules(booking_min=10))]},
            {"tiers": [NewTier("A", 1, 1, rules=Rules(booking_min=11))]}, "/tiers/0/booking_min",
        ),
        ({"refund_percent": 0}, {"refund_percent": -1}, "/refund_percent"),
        ({"refund_percent": 100}, {"refund_percent": 101}, "/refund_percent"),
        (
            {"starts_at": datetime(8999, 12, 31, tzinfo=UTC)}, {"starts_at": datetime(9000, 1, 1, tzinfo=UTC)},
            "/starts_at",
        ),
        (
            {"starts_at": datetime(1971, 1, 1, tzinfo=UTC)}, {"starts_at": datetime(1970, 12, 31, tzinfo=UTC)},
            "/starts_at",
        ),
        (
            {"cancel_until": datetime(8999, 12, 31, tzinfo=UTC)}, {"cancel_until": datetime(9000, 1, 1, tzinfo=UTC)},
            "/cancel_until",
        ),
    ],
)  # fmt: skip
async def test_an_event_at_a_bound_is_there_and_one_beyond_is_refused(
    office: BoxOffice, good: dict[str, Any], bad: dict[str, Any], pointer: str
) -> None:
    event: dict[str, Any] = {
        "client_id": CLIENT, "name": "E", "starts_at": datetime.now(UTC), "currency": "USD", "tiers": [NewTier("A", 1, 1)],
        "allow": ("past", "late_cancel"),
    }  # fmt: skip
    with pytest.raises(Malformed) as refusal:
        await office.store.create_event(**event | bad)
    assert (refusal.value.pointer or "") == pointer
    made = await office.store.create_event(**event | good)
    assert await office.store.event(made.id) == made
    assert [tier.capacity for tier in made.tiers] == [tier.capacity for tier in (event | good)["tiers"]]
    assert await office.catalogue.availability(made) == [tier.capacity for tier in made.tiers]


@pytest.mark.parametrize(("percent", "cents"), [(0, 0), (1, 29), (50, 1_499), (99, 2_969), (100, 2_999)])
async def test_a_cancellation_gives_back_the_events_percent(office: BoxOffice, percent: int, cents: int) -> None:
    """Of what the booking costs, rounded down: 29.99."""
    start = datetime.now(UTC) + timedelta(days=9)
    event = await office.store.create_event(CLIENT, "E", start, "USD", [NewTier("A", 2_999, 5)], refund_percent=percent)
    booking = (await book(office, event, A=1)).booking_id
    await settle_all(office)
    assert (await office.cancellations.cancel(CLIENT, booking)).refunded_cents == cents


async def test_only_a_client_has_events_and_keys(office: BoxOffice) -> None:
    with pytest.raises(NotFound):
        await office.store.create_event(
            "nobody", "E", datetime.now(UTC) + timedelta(days=1), "USD", [NewTier("A", 1, 1)]
        )
    with pytest.raises(NotFound):
        await office.access.create_api_key("nobody")
    with pytest.raises(NotFound):
        await office.access.revoke_api_key("nobody")
    with pytest.raises(NotFound):
        await office.control.change_event("nobody", status="inactive")
    with pytest.raises(NotFound):
        await office.control.change_tier("nobody", is_active=False)


async def test_a_load_brings_what_is_missing_and_nothing_else(office: BoxOffice, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)
    await book(office, event, GA=2)
    assert await office.loader.load(SHARD) == Loaded((), (), 0)
    await office.redis.delete(keys.catalogue(SHARD), keys.api_keys(KEYS_SHARD))
    await office.redis.hdel(keys.event(SHARD, event.id), f"p:{tier_of(event, 'GA')}")

    loaded = await office.loader.load(SHARD)

    assert (loaded.events, loaded.lost, loaded.api_keys) == ((event.id,), (), 0)
    assert await office.loader.load(KEYS_SHARD) == Loaded((), (), 2)
    assert (await counters(office, event, "GA")).held == 2
    await book(office, event, GA=2)


async def test_a_version_that_comes_again_after_redis_went_back_is_another(
    office: BoxOffice, open_sale: SaleMaker
) -> None:
    """Its counter went back with it and has reached the same number, with other events and keys behind it."""
    await load_all(office)
    event = await open_sale(GA=10)
    await office.catalogue.refresh()
    assert (await office.catalogue.api_keys.caller_of(KEY)).client == CLIENT
    other = msgspec.structs.replace(event, id="another00000", name="Another")
    await office.redis.hdel(keys.catalogue(SHARD), event.id)
    await office.redis.hset(keys.catalogue(SHARD), other.id, msgspec.json.encode(other))
    await office.redis.hdel(keys.api_keys(KEYS_SHARD), KEY.partition(".")[0])
    for shard in (KEYS_SHARD, SHARD):
        await office.redis.set(keys.gate(shard), "first:of another run")

    async def sees_it() -> bool:
        await office.catalogue.refresh()
        return [found.id for found in await office.catalogue.events()] == [other.id]

    await eventually(sees_it)

    async def refused() -> bool:
        try:
            await office.catalogue.api_keys.caller_of("shop.another secret")
        except Unauthorized:
            return KEY.partition(".")[0] not in office.catalogue.api_keys.known
        return False

    await eventually(refused)
