"""Brings into Redis what PostgreSQL has on sale.

One file because a new field of an event is read, told to load.lua and compared in one go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from boxoffice.access.api_keys import KEYS_SHARD, VERSION
from boxoffice.access.key_mirror import KeyMirror
from boxoffice.clock import iso
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import NotFound, StoreAway
from boxoffice.notices.writing import notify_event
from boxoffice.sales.catalogue import NEVER_MS, EventView, TierView
from boxoffice.sales.code_mirror import CodeMirror
from boxoffice.sales.left import Allocated, allocated_text
from boxoffice.sales.rules import Rules, rules_text
from boxoffice.stores import keys
from boxoffice.stores.database import Database, Reader
from boxoffice.stores.lineage import server_of
from boxoffice.stores.postgres import TRANSIENT
from boxoffice.stores.redis import AWAY
from boxoffice.stores.scripts import Slot
from boxoffice.stores.shard import Shard, Shards
from boxoffice.telemetry.seldom import seldom

__all__ = ["Loaded", "Loader", "StoredEvent", "read_events", "windows_of"]

ON: Final = {"active": "1", "paused": "p", "inactive": "0", "called_off": "x"}
"""How the scripts are told of an event's status."""

CHUNK = 200
"""Events loaded in one pipeline."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as PostgreSQL has it: what readers see, when it is on sale, and per tier (in display order) total and sold.
    The total is the one before moves that Redis has not got yet: each of them is applied there once."""

    view: EventView
    windows: str
    """As lib/windows.lua reads them."""
    counts: tuple[tuple[int, int], ...]
    codes_version: int = 0
    """Of the event when its access codes were last changed; 0: it has never had any."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load brought into Redis: ids of new or changed events, those that had lost their counters after tickets were
    held or sold (reconcile them), those with another total in Redis than in PostgreSQL (as well), and API keys."""

    events: tuple[str, ...]
    lost: tuple[str, ...]
    api_keys: int
    apart: tuple[str, ...] = ()


_EVENTS: Final = """
SELECT e.*, ARRAY(SELECT s.client_id FROM event_shares s WHERE s.event_id = e.id ORDER BY s.client_id) AS shops
FROM events e WHERE ($1::int IS NULL OR e.shard = $1) AND ($2::text[] IS NULL OR e.id = ANY($2)) ORDER BY e.starts_at, e.id
"""

_ALLOCATED: Final = """
SELECT a.event_id, a.tier_id, coalesce('k' || c.digest, '@' || a.client_id) AS holder, a.tickets
FROM allocations a JOIN events e ON e.id = a.event_id LEFT JOIN access_codes c ON c.id = a.code_id
WHERE ($1::int IS NULL OR e.shard = $1) AND ($2::text[] IS NULL OR e.id = ANY($2))
  AND a.released_at IS NULL AND c.revoked_at IS NULL AND (a.client_id IS NULL OR a.client_id = e.client_id
  OR EXISTS (SELECT FROM event_shares s WHERE s.event_id = e.id AND s.client_id = a.client_id))
ORDER BY a.event_id, a.id
"""
"""Those whose holders may book."""

_TIERS: Final = """
SELECT t.*, i.total, i.sold, (
  SELECT coalesce(sum(m.total_delta), 0)::int FROM stock_moves m
  WHERE m.event_id = t.event_id AND m.tier_id = t.id AND m.applied_at IS NULL
) AS on_its_way
FROM tiers t JOIN inventory i ON i.tier_id = t.id JOIN events e ON e.id = t.event_id
WHERE ($1::int IS NULL OR e.shard = $1) AND ($2::text[] IS NULL OR e.id = ANY($2))
ORDER BY t.event_id, t.display_order, t.code
"""
"""With what of each total Redis has not been told of."""


async def read_events(
    connection: Reader, *, shard: int | None = None, ids_: Sequence[str] | None = None
) -> list[StoredEvent]:
    """Events with their tiers, of one shard, by id, or all of them, by (start, id)."""
    tiers_of: dict[str, list[Mapping[str, Any]]] = {}
    for tier in await connection.fetch(_TIERS, shard, ids_):
        tiers_of.setdefault(tier["event_id"], []).append(tier)
    allocated: dict[str, list[Allocated]] = {}
    for row in await connection.fetch(_ALLOCATED, shard, ids_):
        allocated.setdefault(row["event_id"], []).append(Allocated(row["tier_id"], row["holder"], row["tickets"]))
    return [
        _stored(event, tiers_of.get(event["id"], []), allocated.get(event["id"], []))
        for event in await connection.fetch(_EVENTS, shard, ids_)
    ]


def _stored(
    event: Mapping[str, Any], tiers: list[Mapping[str, Any]], allocated: list[Allocated]
) -> StoredEvent:  # fmt: skip
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
            TierView(
                tier["id"], tier["code"], tier["name"], tier["price_cents"], tier["total"], tier["is_active"],
                _iso_or_none(tier["on_sale_at"]), _iso_or_none(tier["off_sale_at"]), Rules.of(tier), tier["code_only"],
            )
            for tier in tiers
        ),
        on_sale_at=_iso_or_none(event["on_sale_at"]),
        off_sale_at=_iso_or_none(event["off_sale_at"]),
        version=event["version"],
        client=event["client_id"],
        shops=tuple(event["shops"]),
        rules=Rules.of(event),
        allocated=tuple(allocated),
    )  # fmt: skip
    counts = tuple((max(0, tier["total"] - tier["on_its_way"]), tier["sold"]) for tier in tiers)
    return StoredEvent(view, windows_of(event, tiers), counts, event["codes_version"])


def windows_of(event: Mapping[str, Any], tiers: Iterable[Mapping[str, Any]]) -> str:
    """`opens|closes|tier:opens:closes,...` in ms, 0 for no bound, with the tiers that have times of their own: one that they
    lack is the event's. A tier that is sold by access code alone goes on sale for nobody else. Empty when nothing has any."""
    own = [
        f"{tier['id']}:{_opens_ms(event, tier)}:{_ms(tier['off_sale_at'] or event['off_sale_at'])}"
        for tier in tiers
        if tier["on_sale_at"] or tier["off_sale_at"] or tier["code_only"]
    ]
    if not (own or event["on_sale_at"] or event["off_sale_at"]):
        return ""
    return f"{_ms(event['on_sale_at'])}|{_ms(event['off_sale_at'])}|{','.join(own)}"


def _opens_ms(event: Mapping[str, Any], tier: Mapping[str, Any]) -> int:
    return NEVER_MS if tier["code_only"] else _ms(tier["on_sale_at"] or event["on_sale_at"])


def _ms(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.timestamp() * 1_000)


def _iso_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)


class Loader:
    """Loads events and API keys. One per process is enough."""

    def __init__(self, database: Database, shards: Shards) -> None:
        self._database = database
        self._shards = shards
        self._keys = KeyMirror(database, shards)
        self._codes = CodeMirror(shards)

    async def load(self, shard: int) -> Loaded:
        """Bring into Redis what PostgreSQL has and Redis lacks: events, static fields, API keys. Idempotent."""
        stored = await read_events(self._database, shard=shard)
        api_keys = await self._keys.load() if shard == KEYS_SHARD else 0
        found: dict[str, bytes] = {}
        for start in range(0, len(stored), CHUNK):
            some = stored[start : start + CHUNK]
            for event, (word, *_) in zip(
                some, await self.load_some(self._shards[shard], some, careful=True), strict=True
            ):
                found[event.view.id] = word
        for event_id in [event_id for event_id, word in found.items() if word == b"differs"]:
            _, found[event_id] = await self._publish(event_id)
        versions = {event.view.id: event.codes_version for event in stored}
        for event_id in await self._codes.behind(shard, versions, await server_of(self._database)):
            await self._publish(event_id)
        await self._mark({event.view.id: event.view.version for event in stored if found[event.view.id] == b"loaded"})
        redis = self._shards[shard].redis
        if not await redis.hexists(keys.catalogue(shard), VERSION):  # type: ignore[misc]
            await redis.hsetnx(keys.catalogue(shard), VERSION, str(await _first_version(redis)))  # type: ignore[misc]
        changed = tuple(
            event_id for event_id, word in found.items() if word not in (b"unchanged", b"apart", b"revoked")
        )
        lost, apart = ([event_id for event_id, word in found.items() if word == met] for met in (b"lost", b"apart"))
        return Loaded(changed, tuple(lost), api_keys, tuple(apart))

    async def withdraw_keys(self, shard: int) -> None:
        """Leave nothing of the API keys that PostgreSQL has forgotten, in the shard that has them. Raises `StoreAway`."""
        if shard == KEYS_SHARD:
            await self._keys.withdraw_unknown()

    async def publish(self, event_id: str) -> EventView:
        """Load one event into Redis, or what changed of it; with all others of its shard while there is no catalogue.

        Raises `StoreAway` when Redis is, and `NotFound`.
        """
        try:
            view, _ = await self._publish(event_id)
            here = self._shards[view.shard]
            if not await here.redis.hexists(keys.catalogue(here.number), VERSION):  # type: ignore[misc]
                await self.load(here.number)
        except (*AWAY, *TRANSIENT) as error:
            raise StoreAway("Redis does not answer. The change is in PostgreSQL; a worker will load it.") from error
        return view

    async def publish_unmirrored(self, shard: int) -> int:
        """Bring into Redis what was changed and not mirrored: whoever changed it died. Returns how many events.

        Raises Redis's errors.
        """
        rows = await self._database.fetch(
            "SELECT id FROM events WHERE shard = $1 AND mirrored < version ORDER BY id LIMIT 100", shard
        )
        for row in rows:
            await self._publish(row["id"])
        return len(rows)

    async def _publish(self, event_id: str) -> tuple[EventView, bytes]:
        """Read and load under the lock of the event's row, so that nobody brings an older state after a newer one. Who has lost
        the lock with its session is told so by the version in Redis. An event of which PostgreSQL has lost versions gets a
        later one than Redis has, so that its next changes are in force."""
        server = await server_of(self._database)
        async with self._database.begin() as connection:
            await connection.execute("SELECT FROM events WHERE id = $1 FOR NO KEY UPDATE", event_id)
            view, word, later = await self._load_one(connection, event_id)
            if word == b"older":
                seldom.error("event.changes_lost", event_id=event_id, version=view.version, redis_version=later)
                # Whoever has lost the lock cannot write this: its session is gone. Who has it has what counts.
                await connection.execute("UPDATE events SET version = $2 WHERE id = $1", event_id, later + 1)
                await notify_event(connection, event_id, "restore", None, {})
                view, word, _ = await self._load_one(connection, event_id)
            if word == b"revoked":
                seldom.error("event.call_off_lost", event_id=event_id)
            # Behind the event: whoever has lost the lock with its session was told so.
            await self._codes.bring(connection, view.shard, event_id, server)
            crashpoint("change_mirrored")
            await connection.execute("UPDATE events SET mirrored = $2 WHERE id = $1", event_id, view.version)
        return view, word

    async def _load_one(self, connection: Reader, event_id: str) -> tuple[EventView, bytes, int]:
        """The event, load.lua's word, and the version that Redis has if that is a later one. Raises `NotFound`."""
        found = await read_events(connection, ids_=[event_id])
        if not found:
            raise NotFound("There is no such event.")
        view = found[0].view
        ((word, *more),) = await self.load_some(self._shards[view.shard], found)
        return view, word, int(more[0]) if more else 0

    async def _mark(self, loaded: dict[str, int]) -> None:
        """Redis has these versions."""
        if loaded:
            await self._database.execute(
                "UPDATE events e SET mirrored = l.version FROM unnest($1::text[], $2::bigint[]) AS l (id, version)"
                " WHERE e.id = l.id AND e.mirrored < l.version",
                list(loaded), list(loaded.values()),
            )  # fmt: skip

    async def load_some(self, here: Shard, events: list[StoredEvent], *, careful: bool = False) -> list[Any]:
        """Run load.lua for each event of the shard, in one pipeline; a server that does not know it gets it first."""
        await here.redis.script_load(here.scripts.load.text)
        async with here.redis.pipeline(transaction=False) as pipe:
            for event in events:
                view = event.view
                call = here.call(
                    "load", sale=keys.event(view.shard, view.id), catalogue=keys.catalogue(view.shard),
                    owners=keys.owners(view.shard, view.id), careful=int(careful), **load_arguments(event),
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
    return {
        "event": view.id, "view": json, "on": ON[view.status], "windows": event.windows, "starts_ms": view.starts_ms,
        "currency": view.currency, "customer_max": view.customer_max, "tiers": tiers,
        "rules": rules_text(view.rules, [(tier.id, tier.rules) for tier in view.tiers]),
        "allocated": allocated_text(view.allocated),
    }  # fmt: skip
