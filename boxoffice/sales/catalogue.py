"""What is on sale, as the hot path reads it: a map in this process, kept from Redis, never from PostgreSQL.
One file because the map has nothing but these views.

Look-ups are plain dict reads. The map is compared with Redis at most once a second, and read again when the catalogue's
version has changed; an id that it lacks may ask sooner, a few times and then once a second.

One file because the map and what it is a map of are read and changed together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError

from boxoffice.access.api_keys import VERSION, ApiKeys
from boxoffice.errors import GateClosed, NotFound, StoreAway
from boxoffice.sales.left import Allocated, Left, ask_left, counts_of, left_of
from boxoffice.sales.rules import NONE, Rules
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.freshness import CHECK_S, STALE_S, Freshness
from boxoffice.stores.gate import Lacking
from boxoffice.stores.lookups import BatchedReads
from boxoffice.stores.redis import AWAY
from boxoffice.stores.shard import Shards

__all__ = ["NEVER_MS", "Catalogue", "EventView", "TierView"]

NEVER_MS: Final = 9_999_999_999_999
"""When a tier goes on sale for whoever has no access code, if it is sold to those alone (`lua/lib/windows.lua`)."""


WRITTEN_S: Final = 5.0
"""So long an event that this process wrote is shown as it was written, should Redis be read without it: longer than a
reading of Redis takes that had begun before."""


class TierView(msgspec.Struct, frozen=True):
    """A tier as readers see it, without what is left of it."""

    id: str
    code: str
    name: str
    price_cents: int
    capacity: int
    active: bool
    on_sale_at: str | None = None
    """In place of the event's; None: the event's."""
    off_sale_at: str | None = None
    rules: Rules = NONE
    code_only: bool = False
    """Sold to holders of an access code alone."""


class EventView(msgspec.Struct, frozen=True):
    """An event as readers see it. `tiers` are in display order, the inactive ones among them."""

    id: str
    name: str
    starts_at: str
    starts_ms: int
    status: str
    currency: str
    shard: int
    customer_max: int
    """Tickets that one customer may have; 0 for any number."""
    tiers: tuple[TierView, ...]
    on_sale_at: str | None = None
    off_sale_at: str | None = None
    version: int = 0
    """Grows with every change of the event or its tiers."""
    client: str = ""
    """The shop that owns it. Empty: a version before this wrote the view, and every shop sells it until it is loaded again."""
    shops: tuple[str, ...] = ()
    """Others that it is shared with."""
    rules: Rules = NONE
    """`customer_max` among them."""
    allocated: tuple[Allocated, ...] = ()
    """For holders that may book: of no code that is revoked, and no shop that sells it no more."""

    def sold_by(self, client: str) -> bool:
        """Whether this shop sees and sells it."""
        return client == self.client or client in self.shops or not self.client

    @property
    def tier_ids(self) -> str:
        """Ids of all tiers in display order, comma-separated, as admit.lua takes them."""
        return ",".join([tier.id for tier in self.tiers])

    def in_window(self, tier: TierView, now_s: float) -> bool:
        """Whether the tier's sale has begun for everybody and not ended, at this time (seconds of the epoch)."""
        if tier.code_only:
            return False
        opens, closes = tier.on_sale_at or self.on_sale_at, tier.off_sale_at or self.off_sale_at
        return (not opens or _seconds(opens) <= now_s) and (not closes or now_s < _seconds(closes))

    def describe(self, availability: Sequence[int | None]) -> dict[str, Any]:
        """The event as the API answers it: its active tiers, each with what is left."""
        return {
            "id": self.id,
            "name": self.name,
            "starts_at": self.starts_at,
            "status": self.status,
            "currency": self.currency,
            "on_sale_at": self.on_sale_at,
            "off_sale_at": self.off_sale_at,
            "version": self.version,
            **self.rules._asdict(),
            "tiers": [
                {
                    "id": tier.id,
                    "code": tier.code,
                    "name": tier.name,
                    "price_cents": tier.price_cents,
                    "capacity": tier.capacity,
                    "on_sale_at": tier.on_sale_at,
                    "off_sale_at": tier.off_sale_at,
                    **tier.rules._asdict(),
                    "access_code_required": tier.code_only,
                    "available": available,
                }
                for tier, available in zip(self.tiers, availability, strict=True)
                if tier.active
            ],
        }


_event = msgspec.json.Decoder(EventView)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


class Catalogue:
    """Events, tiers and API keys, read from Redis."""

    def __init__(self, shards: Shards, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.shards = shards
        self.known_events: dict[str, EventView] = {}
        self.known_tiers: dict[str, tuple[EventView, TierView]] = {}
        self._by_shard: dict[int, tuple[tuple[bytes | None, bytes], list[EventView]]] = {}
        self.loaded = False
        self.freshness = Freshness(self.read, clock)
        self._looked_up: dict[str, EventView] = {}
        self._written: dict[str, tuple[float, EventView]] = {}
        """What this process wrote a moment ago, and when."""
        self.lacking = Lacking(lambda shard: shards[shard].redis)
        self._left = BatchedReads(self._read_left, most=200)
        self.api_keys = ApiKeys(
            shards, settings.api.key_cache_s, clock=clock, rates=settings.rates, declines=settings.declines
        )

    def find_tier(self, tier_id: str) -> tuple[EventView, TierView] | None:
        """The tier and its event, if the map has them and is fresh. Otherwise await `event_of_tier`."""
        freshness = self.freshness
        age = freshness.clock() - freshness.compared  # `freshness.age`, without a call for each booking
        if age > CHECK_S:
            if age > STALE_S:
                return None
            self.freshness.ask()
        return self.known_tiers.get(tier_id)

    def known_tier(self, tier_id: str) -> tuple[EventView, TierView] | None:
        """The tier and its event as last seen, however long ago: admit.lua compares price and state once more."""
        return self.known_tiers.get(tier_id)

    def find_event(self, event_id: str) -> EventView | None:
        """The event, if the map has it and is fresh. Otherwise await `event`."""
        age = self.freshness.age
        if age > CHECK_S:
            if age > STALE_S:
                return None
            self.freshness.ask()
        return self.known_events.get(event_id)

    async def event_of_tier(self, tier_id: str) -> tuple[EventView, TierView]:
        """The tier and its event.

        Raises `NotFound`; `GateClosed` while Redis has no catalogue; `StoreAway` when Redis was never reached.
        """
        if self.freshness.age > CHECK_S or tier_id not in self.known_tiers:
            await self.refresh()
        try:
            return self.known_tiers[tier_id]
        except KeyError:
            raise self._missing() from None

    async def event(self, event_id: str) -> EventView:
        """The event, active or not. Raises as `event_of_tier`."""
        if self.freshness.age > CHECK_S or event_id not in self.known_events:
            await self.refresh()
        try:
            return self.known_events[event_id]
        except KeyError:
            raise self._missing() from None

    async def events(self) -> list[EventView]:
        """Events that are on sale or paused, past ones among them, by (starts_at, id).

        Raises `GateClosed` or `StoreAway` as `event_of_tier`.
        """
        if self.freshness.age > CHECK_S:
            await self.refresh()
        if not self.loaded:
            raise GateClosed
        active = [event for event in self.known_events.values() if event.status in ("active", "paused")]
        return sorted(active, key=lambda event: (event.starts_ms, event.id))

    async def availability(self, event: EventView, client: str = "") -> list[int]:
        """What is left of each tier for this shop, in display order: what is set aside for it is, what is set aside for others
        is not. Without a client for everybody. Raises as `left`."""
        return counts_of(event, await self.left(event), client)

    async def left(self, event: EventView) -> Left:
        """What is left of each tier, and for whom. Raises `StoreAway`, and `GateClosed` when the counters are not loaded."""
        self._looked_up[event.id] = event
        left = await self._left.ask(event.id)
        if left is None or None in [left.available.get(tier.id) for tier in event.tiers]:
            self.lacking.met(event.shard)
            raise GateClosed
        return left

    def saw(self, view: EventView) -> None:
        """Put an event that this process has just written into the map: its readers see it before the next comparison.

        Always as an object of its own: whatever was worked out for the view before it is of no use any more."""
        known = self.known_events.get(view.id)
        if known is None or known.version <= view.version:
            self._written[view.id] = self.freshness.clock(), view
            self._enter(msgspec.structs.replace(view))

    def _enter(self, view: EventView) -> None:
        self.known_events[view.id] = view
        for tier in view.tiers:
            self.known_tiers[tier.id] = view, tier

    async def _read_left(self, events: list[str]) -> Mapping[str, Left]:
        """What is left, for everybody who asked in one turn of the loop."""
        found: dict[str, Left] = {}
        try:
            for redis, known in self.shards.by_redis(
                (self._looked_up[name] for name in events), lambda event: event.shard
            ):
                async with redis.pipeline(transaction=False) as pipeline:
                    for event in known:
                        ask_left(pipeline, event)
                    replies = iter(await pipeline.execute())
                    found |= {event.id: left_of(event, replies) for event in known}
        except (RedisError, OSError) as error:
            raise StoreAway from error
        return found

    def _missing(self) -> Exception:
        return NotFound() if self.loaded else GateClosed()

    async def refresh(self) -> None:
        """Compare the map with Redis now, unless that was done too often. Raises `StoreAway` when there is no map."""
        try:
            await self.freshness.refresh()
        except AWAY as error:
            if not self.loaded:
                raise StoreAway from error

    async def read(self) -> None:
        """Read what has changed in any shard. Raises what Redis raises."""
        before = self._by_shard.copy()
        try:
            await self._read_shards()
        finally:  # what was read before a shard failed is not read again
            self.loaded = len(self._by_shard) == len(self.shards)
            if self._by_shard != before:
                every = [event for _, events in self._by_shard.values() for event in events]
                self.known_events = {event.id: event for event in every}
                self.known_tiers = {tier.id: (event, tier) for event in every for tier in event.tiers}
                self._enter_written()

    def _enter_written(self) -> None:
        """What was written while Redis was being read may not be among what was read. Once it is, or after a while, Redis alone
        says what there is."""
        now = self.freshness.clock()
        for event_id, (written_at, view) in list(self._written.items()):
            known = self.known_events.get(event_id)
            if now - written_at > WRITTEN_S or (known is not None and known.version >= view.version):
                del self._written[event_id]
            else:
                self._enter(view)

    async def _read_shards(self) -> None:
        for redis, numbers in self.shards.by_redis(range(len(self.shards)), int):
            async with redis.pipeline(transaction=False) as pipe:
                for shard in numbers:
                    pipe.hget(keys.catalogue(shard), VERSION)
                    pipe.get(keys.gate(shard))
                replies = await pipe.execute()
            for shard, version, gate in zip(numbers, replies[::2], replies[1::2], strict=True):
                # An empty Redis says nothing about the catalogue: what we know stays, and the gate refuses the sales.
                if version is None and gate is not None:
                    self.lacking.met(shard)
                # The version of a Redis that went back comes again, for other events: under another run's gate.
                if version is None or (shard in self._by_shard and self._by_shard[shard][0] == (gate, version)):
                    continue
                found: dict[bytes, bytes] = await redis.hgetall(keys.catalogue(shard))  # type: ignore[misc]
                if VERSION.encode() not in found:  # lost between the two reads
                    continue
                newest = gate, found.pop(VERSION.encode())
                self._by_shard[shard] = (newest, [_event.decode(view) for view in found.values()])
