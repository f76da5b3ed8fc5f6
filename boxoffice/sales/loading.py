"""Brings into Redis what PostgreSQL has on sale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from redis.asyncio import Redis
from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from boxoffice.access.api_keys import KEYS_SHARD, VERSION, ApiKeyView
from boxoffice.errors import StoreAway
from boxoffice.sales.catalogue import EventView, TierView
from boxoffice.stores import keys
from boxoffice.stores.database import Database
from boxoffice.stores.models import ApiKey, Event, Inventory, Tier
from boxoffice.stores.redis import AWAY
from boxoffice.stores.scripts import Slot
from boxoffice.stores.shard import Shard, Shards

__all__ = ["Loaded", "Loader", "StoredEvent", "iso", "read_events"]

CHUNK = 200
"""Events loaded in one pipeline."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as PostgreSQL has it: what readers see, and per tier (in display order) total and sold."""

    view: EventView
    counts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load brought into Redis: ids of new or changed events, those among them that had lost their
    counters after tickets were held or sold (reconcile them), and API keys."""

    events: tuple[str, ...]
    lost: tuple[str, ...]
    api_keys: int


def iso(moment: datetime) -> str:
    """A time as the API writes it: UTC, `Z`, whole seconds unless there is more."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


async def read_events(
    connection: AsyncConnection, *, shard: int | None = None, ids_: Sequence[str] | None = None
) -> list[StoredEvent]:
    """Events with their tiers, of one shard, by id, or all of them, by (start, id)."""
    events = select(Event).order_by(Event.starts_at, Event.id)
    tiers = (
        select(Tier, Inventory.total, Inventory.sold)
        .join(Inventory, Inventory.tier_id == Tier.id)
        .join(Event, Event.id == Tier.event_id)
        .order_by(Tier.event_id, Tier.display_order, Tier.code)
    )
    if shard is not None:
        events, tiers = events.where(Event.shard == shard), tiers.where(Event.shard == shard)
    if ids_ is not None:
        events, tiers = events.where(Event.id.in_(ids_)), tiers.where(Event.id.in_(ids_))
    tiers_of: dict[str, list[RowMapping]] = {}
    for tier in (
        await connection.execute(tiers.with_only_columns(*Tier.__table__.c, Inventory.total, Inventory.sold))
    ).mappings():
        tiers_of.setdefault(tier["event_id"], []).append(tier)
    rows = (await connection.execute(events.with_only_columns(*Event.__table__.c))).mappings()
    return [_stored(row, tiers_of.get(row["id"], [])) for row in rows]


def _stored(event: RowMapping, tiers: list[RowMapping]) -> StoredEvent:
    view = EventView(
        id=event["id"],
        name=event["name"],
        starts_at=iso(event["starts_at"]),
        starts_ms=int(event["starts_at"].timestamp() * 1_000),
        status=event["status"],
        currency=event["currency"],
        shard=event["shard"],
        customer_max=event["customer_max"] or 0,
        tiers=tuple(
            TierView(tier["id"], tier["code"], tier["name"], tier["price_cents"], tier["total"], tier["is_active"])
            for tier in tiers
        ),
    )
    return StoredEvent(view, tuple((tier["total"], tier["sold"]) for tier in tiers))


class Loader:
    """Loads events and API keys. One per process is enough."""

    def __init__(self, database: Database, shards: Shards) -> None:
        self._database = database
        self._shards = shards

    async def load(self, shard: int) -> Loaded:
        """Bring into Redis what PostgreSQL has and Redis lacks: events, static fields, API keys. Idempotent."""
        async with self._database.engine.connect() as connection:
            stored = await read_events(connection, shard=shard)
        api_keys = await self._load_keys() if shard == KEYS_SHARD else 0
        changed, lost = [], []
        for start in range(0, len(stored), CHUNK):
            some = stored[start : start + CHUNK]
            for event, (word, *_) in zip(some, await self._load(self._shards[shard], some), strict=True):
                if word != b"unchanged":
                    changed.append(event.view.id)
                if word == b"lost":
                    lost.append(event.view.id)
        redis = self._shards[shard].redis
        if not await redis.hexists(keys.catalogue(shard), VERSION):  # type: ignore[misc]
            await redis.hsetnx(keys.catalogue(shard), VERSION, str(await _first_version(redis)))  # type: ignore[misc]
        return Loaded(tuple(changed), tuple(lost), api_keys)

    async def publish(self, event_id: str) -> EventView:
        """Load one event into Redis, or what changed of it; with all others of its shard while there is no catalogue.

        Raises `StoreAway` when Redis is.
        """
        async with self._database.engine.connect() as connection:
            found = await read_events(connection, ids_=[event_id])
        try:
            here = self._shards[found[0].view.shard]
            if await here.redis.hexists(keys.catalogue(here.number), VERSION):  # type: ignore[misc]
                await self._load(here, found)
            else:
                await self.load(here.number)
        except AWAY as error:
            raise StoreAway("Redis does not answer. The change is in PostgreSQL; a worker will load it.") from error
        return found[0].view

    async def write_keys(self, good: dict[str, ApiKeyView], revoked: list[str]) -> int:
        """Write or remove these, which PostgreSQL has so; all of its keys while Redis has none. Returns how many differed.

        Raises `StoreAway` when Redis is.
        """
        try:
            if await self._shards[KEYS_SHARD].redis.hexists(keys.api_keys(KEYS_SHARD), VERSION):  # type: ignore[misc]
                return await self._write_keys(good, revoked)
            return await self._load_keys()
        except AWAY as error:
            raise StoreAway("Redis does not answer. The change is in PostgreSQL; a worker will load it.") from error

    async def _load_keys(self) -> int:
        async with self._database.engine.connect() as connection:
            known = (await connection.execute(select(*ApiKey.__table__.c))).mappings().all()
        good = {
            row["prefix"]: ApiKeyView(row["secret_sha256"], row["client_id"]) for row in known if not row["revoked_at"]
        }
        return await self._write_keys(good, [row["prefix"] for row in known if row["revoked_at"]])

    async def _write_keys(self, good: dict[str, ApiKeyView], revoked: list[str]) -> int:
        """Those that PostgreSQL was not asked for stay: another process may have just made them."""
        name, redis = keys.api_keys(KEYS_SHARD), self._shards[KEYS_SHARD].redis
        there = {key.decode(): value for key, value in (await redis.hgetall(name)).items()}  # type: ignore[misc]
        new = {prefix: msgspec.json.encode(view) for prefix, view in good.items()}
        new = {prefix: view for prefix, view in new.items() if there.get(prefix) != view}
        gone = [prefix for prefix in revoked if prefix in there]
        if new or gone or VERSION not in there:
            first = 0 if VERSION in there else await _first_version(redis)
            async with redis.pipeline(transaction=True) as pipe:
                if new:
                    pipe.hset(name, mapping=new)
                if gone:
                    pipe.hdel(name, *gone)
                pipe.hincrby(name, VERSION, first or 1)
                await pipe.execute()
        return len(new) + len(gone)

    async def _load(self, here: Shard, events: list[StoredEvent]) -> list[Any]:
        """Run load.lua for each event of the shard, in one pipeline; a server that does not know it gets it first."""
        await here.redis.script_load(here.scripts.load.text)
        async with here.redis.pipeline(transaction=False) as pipe:
            for event in events:
                view = event.view
                call = here.call(
                    "load", sale=keys.event(view.shard, view.id), catalogue=keys.catalogue(view.shard),
                    owners=keys.owners(view.shard, view.id), **load_arguments(event),
                )  # fmt: skip
                pipe.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
            return await pipe.execute()


async def _first_version(redis: Redis) -> int:
    """Of what was empty or lost: microseconds of the epoch by Redis's clock, so that no reader remembers it."""
    seconds, micros = await redis.time()
    return int(seconds) * 1_000_000 + int(micros)


def load_arguments(event: StoredEvent) -> dict[str, Slot | Sequence[Slot]]:
    view = event.view
    tiers = [
        f"{tier.id}|{'' if tier.active else '-'}{tier.price_cents}|{total}|{sold}"
        for tier, (total, sold) in zip(view.tiers, event.counts, strict=True)
    ]
    json = msgspec.json.encode(view).decode()
    on = "1" if view.status == "active" else "0"
    return {
        "event": view.id, "view": json, "on": on, "starts_ms": view.starts_ms, "currency": view.currency,
        "customer_max": view.customer_max, "tiers": tiers,
    }  # fmt: skip
