"""What PostgreSQL has on sale gets into Redis: all of it, in its shard, and once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from boxoffice.access.api_keys import KEYS_SHARD, VERSION
from boxoffice.errors import StoreAway
from boxoffice.office import BoxOffice
from boxoffice.sales import loading
from boxoffice.sales.catalogue import EventView, TierView
from boxoffice.sales.left import Allocated
from boxoffice.sales.loading import Loaded, StoredEvent, read_events, windows_of
from boxoffice.sales.rules import Rules
from boxoffice.sales.store import NewTier
from boxoffice.stores import keys
from boxoffice.stores.shard import Shard
from tests.conftest import CLIENT, SHARD, SaleMaker


@pytest.mark.parametrize(
    ("status", "on"), [("active", "1"), ("paused", "p"), ("inactive", "0"), ("called_off", "x")]
)  # fmt: skip
def test_the_script_is_told_of_every_tier(status: str, on: str) -> None:
    tiers = (
        TierView("t1", "A", "a", 100, 9, True), TierView("t2", "B", "b", 0, 8, False, rules=Rules(2, 3, 4, 5)),
        TierView("t3", "C", "c", 0, 7, True, rules=Rules(customer_max=6)),
    )  # fmt: skip
    view = EventView(
        "event", "Name", "2030", 7_000, status, "EUR", 1, 4, tiers, rules=Rules(1, 9, 1, 4),
        allocated=(Allocated("t1", "@shop", 5),),
    )  # fmt: skip
    arguments = loading.load_arguments(StoredEvent(view, "7|8|", ((9, 3), (8, 0), (7, 0))))
    assert msgspec.json.decode(str(arguments.pop("view")), type=EventView) == view
    assert arguments == {
        "event": "event", "on": on, "starts_ms": 7_000, "currency": "EUR", "customer_max": 4,
        "tiers": ["t1|100|9|3", "t2|-0|8|0", "t3|0|7|0"], "windows": "7|8|", "rules": "1:9:1|t2:2:3:4:5,t3:0:0:0:6",
        "allocated": "t1:@shop:5",
    }  # fmt: skip


async def test_an_event_is_read_as_it_was_written(office: BoxOffice) -> None:
    starts = datetime(2031, 5, 22, 14, 0, 0, 250_000, tzinfo=UTC)
    tiers = [NewTier("VIP", 2_000, 5, "Front"), NewTier("GA", 1_000, 100)]
    made = await office.store.create_event(CLIENT, "Concert", starts, "EUR", tiers, rules=Rules(customer_max=4))
    bare = await office.store.create_event(CLIENT, "Other", starts - timedelta(days=1), "USD", tiers[1:])
    vip, ga = made.tiers
    assert made == EventView(
        made.id, "Concert", "2031-05-22T14:00:00.250000Z", int(starts.timestamp() * 1_000), "active", "EUR", SHARD, 4,
        (TierView(vip.id, "VIP", "Front", 2_000, 5, True), TierView(ga.id, "GA", "GA", 1_000, 100, True)),
        version=1, client=CLIENT, rules=Rules(customer_max=4),
    )  # fmt: skip
    assert bare.customer_max == 0
    await (await office.pool()).execute("UPDATE inventory SET sold = 3 WHERE tier_id = $1", vip.id)
    async with office.database.reader() as connection:
        both = await read_events(connection)
        assert [found.view.id for found in both] == [bare.id, made.id], "by their start"
        assert both[1] == StoredEvent(made, "", ((5, 3), (100, 0)))
        assert await read_events(connection, shard=SHARD) == both
        assert await read_events(connection, shard=0) == []
        assert await read_events(connection, ids_=[made.id]) == both[1:]
        assert await read_events(connection, ids_=[]) == []


@pytest.mark.parametrize("chunk", [1, 200])
async def test_a_load_tells_what_was_new_and_what_was_lost(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Of its shard alone, however many go in one pipeline. API keys stand in one shard."""
    monkeypatch.setattr(loading, "CHUNK", chunk)
    first, second, third = [await open_sale(GA=10) for _ in range(3)]
    other = await open_sale(GA=10, shard=0)
    assert await office.loader.load(SHARD) == Loaded((), (), 0)
    await (await office.pool()).execute("UPDATE events SET name = 'New' WHERE id = $1", second.id)
    await office.redis.delete(keys.event(SHARD, first.id), keys.event(0, other.id))
    await office.redis.hset(keys.owners(SHARD, first.id), "00000000deadbeef", 1)  # type: ignore[misc]
    loaded = await office.loader.load(SHARD)
    assert set(loaded.events) == {first.id, second.id} and loaded.api_keys == 0
    assert third.id not in loaded.events and loaded.lost == (first.id,)
    assert not await office.redis.exists(keys.event(0, other.id))
    await office.redis.delete(keys.api_keys(KEYS_SHARD))
    assert (await office.loader.load(0)).api_keys == (2 if KEYS_SHARD == 0 else 0)
    assert await office.redis.exists(keys.event(0, other.id))


async def test_each_event_that_is_lost_or_apart_is_told(office: BoxOffice, open_sale: SaleMaker) -> None:
    """However many there are of either, in the order of their starts."""
    events = [await open_sale(GA=10, starts_in=timedelta(days=day)) for day in range(1, 6)]
    await office.loader.load(SHARD)
    for event in (events[0], events[3]):
        await office.redis.hset(keys.owners(SHARD, event.id), "00000000deadbeef", 1)  # type: ignore[misc]
        await office.redis.delete(keys.event(SHARD, event.id))
    for event in (events[1], events[4]):
        await (await office.pool()).execute("UPDATE inventory SET total = 9 WHERE tier_id = $1", event.tiers[0].id)
    loaded = await office.loader.load(SHARD)
    assert loaded.lost == loaded.events == (events[0].id, events[3].id)
    assert loaded.apart == (events[1].id, events[4].id)


@pytest.mark.parametrize("how", ["load", "publish"])
async def test_a_catalogue_that_was_lost_is_whole_before_it_has_a_version(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """In its own shard. Until then no reader calls an event unknown; afterwards, the version is one that nobody has seen."""
    event, other = await open_sale(GA=1), await open_sale(GA=1)
    catalogue = keys.catalogue(SHARD)
    for shard in (0, SHARD):
        await office.redis.delete(keys.catalogue(shard))
    give = office.redis.hsetnx

    async def at_last(name: str, field: str, value: str) -> Any:
        assert (name, field) == (catalogue, VERSION) and int(value) > 1_000_000_000_000_000
        assert set(await office.redis.hkeys(catalogue)) == {event.id.encode(), other.id.encode()}  # type: ignore[misc]
        return await give(name, field, value)  # type: ignore[misc]

    monkeypatch.setattr(office.redis, "hsetnx", at_last)
    await (office.loader.load(SHARD) if how == "load" else office.loader.publish(event.id))
    assert not await office.redis.exists(keys.catalogue(0))
    assert await office.redis.hexists(catalogue, VERSION)  # type: ignore[misc]
    await office.redis.hset(catalogue, VERSION, 41)  # type: ignore[misc]
    await (office.loader.load(SHARD) if how == "load" else office.loader.publish(event.id))
    assert await office.redis.hget(catalogue, VERSION) == b"41", "one that is there goes on from where it was"  # type: ignore[misc]


async def test_an_empty_shard_has_a_catalogue_too(office: BoxOffice) -> None:
    """With a version and nothing on sale: whoever reads it knows that it was loaded."""
    await office.loader.load(SHARD)
    assert list(await office.redis.hgetall(keys.catalogue(SHARD))) == [VERSION.encode()]  # type: ignore[misc]


async def test_what_redis_does_not_take_is_loaded_later(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await open_sale(GA=1)

    async def away(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(office.redis, "hexists", away)
    with pytest.raises(StoreAway, match="The change is in PostgreSQL"):
        await office.loader.publish(event.id)


async def test_who_lost_the_lock_brings_no_older_state(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session ended after it had read the event; another one changed and mirrored it before the first went on."""
    event = await open_sale(GA=1)
    pool, real = await office.pool(), office.loader.load_some
    met: list[Any] = []

    async def late(here: Shard, events: list[StoredEvent], **how: Any) -> Any:
        if not met:
            await pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%FROM events e WHERE%'"
                " AND state = 'idle in transaction' AND datname = current_database() AND pid <> pg_backend_pid()"
            )
            await office.control.pause(event.id)
        met.append((await real(here, events, **how))[0])
        return [met[-1]]

    monkeypatch.setattr(office.loader, "load_some", late)
    with pytest.raises(StoreAway):
        await office.loader.publish(event.id)
    assert met == [[b"older", 2]]
    assert await office.redis.hget(keys.event(SHARD, event.id), "on") == b"p"  # type: ignore[misc]
    assert (await office.store.event(event.id)).version == 2


@pytest.mark.parametrize("how", ["load", "publish"])
async def test_what_postgresql_lost_is_undone_in_redis_by_a_later_version(
    office: BoxOffice, open_sale: SaleMaker, how: str
) -> None:
    """A standby was promoted that had not heard of two changes: what it has counts, and its next change is in force at once."""
    event, other = await open_sale(GA=1), await open_sale(GA=1)
    for name in ("One", "Two"):
        await office.control.change_event(event.id, name=name)
    await (await office.pool()).execute("UPDATE events SET name = 'Concert', version = 1 WHERE id = $1", event.id)
    with capture_logs() as lines:
        for _ in range(2):
            await (office.loader.load(SHARD) if how == "load" else office.loader.publish(event.id))
    assert [(line["event_id"], line["version"], line["redis_version"]) for line in lines] == [(event.id, 1, 3)]
    stored = await office.store.event(event.id)
    assert (stored.name, stored.version) == ("Concert", 4)
    raw = await office.redis.hget(keys.catalogue(SHARD), event.id)  # type: ignore[misc]
    assert msgspec.json.decode(raw or b"", type=EventView) == stored
    rows = await (await office.pool()).fetch("SELECT version, mirrored FROM events ORDER BY version")
    assert [tuple(row) for row in rows] == [(other.version, other.version), (4, 4)]
    await office.control.pause(event.id)
    assert await office.redis.hget(keys.event(SHARD, event.id), "on") == b"p"  # type: ignore[misc]


def test_windows_are_told_with_what_tiers_have_of_their_own() -> None:
    """A bound that a tier lacks is the event's; tiers without any are not named."""

    def at(second: int | None) -> datetime | None:
        return None if second is None else datetime.fromtimestamp(second, UTC)

    def told(
        opens: int | None, closes: int | None, *tiers: tuple[int | None, int | None], code_only: bool = False
    ) -> str:
        rows = [
            {"id": f"t{n}", "on_sale_at": at(o), "off_sale_at": at(c), "code_only": code_only}
            for n, (o, c) in enumerate(tiers)
        ]
        return windows_of({"on_sale_at": at(opens), "off_sale_at": at(closes)}, rows)

    assert told(None, None, (None, None)) == ""
    assert told(1, None, (None, None)) == "1000|0|"
    assert told(None, None, (None, None), code_only=True) == "0|0|t0:9999999999999:0"
    assert told(1, 2, (3, None), (None, 4), code_only=True) == "1000|2000|t0:9999999999999:2000,t1:9999999999999:4000"
    assert told(None, 2) == "0|2000|"
    assert told(None, None, (3, None)) == "0|0|t0:3000:0"
    assert told(1, 2, (None, None), (3, None), (None, 4), (5, 6)) == "1000|2000|t1:3000:2000,t2:1000:4000,t3:5000:6000"
