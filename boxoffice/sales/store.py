"""What is on sale, as it is written: into PostgreSQL, and from there into Redis for everyone who reads it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from boxoffice import ids
from boxoffice.clock import CLOCK, Clock, iso
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import NotFound
from boxoffice.notices.writing import notify_event
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.checks import Checks, NewTier, Terms
from boxoffice.sales.loading import Loader, read_events
from boxoffice.sales.rules import NONE, Rules
from boxoffice.settings import Settings
from boxoffice.stores.database import Database
from boxoffice.stores.models import Client, Event, EventChange, EventShare, Inventory, Tier
from boxoffice.stores.shard import Shards

__all__ = ["CatalogueStore", "NewTier"]


class CatalogueStore:
    """Creates and changes events."""

    def __init__(self, database: Database, shards: Shards, settings: Settings, clock: Clock = CLOCK) -> None:
        self._database = database
        self._clock = clock
        self._loader = Loader(database, shards)
        self.shards = settings.shards
        self._checks = Checks(settings)

    async def create_event(
        self,
        client_id: str,
        name: str,
        starts_at: datetime,
        currency: str,
        tiers: Sequence[NewTier],
        *,
        rules: Rules = NONE,
        cancel_until: datetime | None = None,
        refund_percent: int = 100,
        status: str = "active",
        on_sale_at: datetime | None = None,
        off_sale_at: datetime | None = None,
        by: str = "operator",
        allow: Collection[str] = (),
        shared_with: Collection[str] = (),
    ) -> EventView:
        """A new event in the shard that has the fewest: on sale at once, or from `on_sale_at`, or not (`inactive`).
        `rules` say how few and how many tickets are let in; `cancel_until` (None: its start) and `refund_percent` are its
        terms of cancellation. `by` is told in its history; `allow` has what is meant on purpose, of `checks.ALLOWED`;
        `shared_with` other shops that sell it.

        Raises `Malformed`, or `NotFound` when there is no such client. When Redis is away, the event is there and the
        workers load it later: `StoreAway`.
        """
        terms = Terms(
            name, starts_at, status, rules.customer_max, cancel_until, refund_percent, on_sale_at, off_sale_at, *rules[:3]
        )  # fmt: skip
        self._checks.currency(currency)
        self._checks.event(terms, self._clock.now(), allow)
        self._checks.tiers(tiers, currency, terms)
        event_id = ids.short_id()
        async with self._database.engine.begin() as connection:
            if await connection.scalar(select(Client.id).where(Client.id == client_id)) is None:
                raise NotFound("There is no such client.")
            shard = await self.emptiest_shard(connection)
            values = {"id": event_id, "client_id": client_id, "shard": shard, "currency": currency, **terms._asdict()}
            await connection.execute(insert(Event).values(values))
            await _insert_tiers(connection, event_id, tiers)
            if shared_with:
                shares = [{"event_id": event_id, "client_id": shop} for shop in shared_with]
                await connection.execute(insert(EventShare).values(shares))
            made: dict[str, Any] = {"name": [None, name], "starts_at": [None, iso(starts_at)], "status": [None, status]}
            made |= {rule: [None, tickets] for rule, tickets in rules.given.items()}
            change = {"event_id": event_id, "version": 1, "changed_by": by, "action": "create", "changes": made}
            await connection.execute(insert(EventChange).values(change))
            # SQLAlchemy's session, below SQLAlchemy: the statement is the one that every other change runs.
            session: Any = (await connection.get_raw_connection()).driver_connection
            await notify_event(session, event_id, "create", None, made)
        crashpoint("change_committed")
        return await self._loader.publish(event_id)

    async def events(self) -> list[EventView]:
        """All events as PostgreSQL has them, by (start, id)."""
        return [found.view for found in await read_events(self._database)]

    async def event(self, event_id: str) -> EventView:
        """The event as PostgreSQL has it. Raises `NotFound`."""
        found = await read_events(self._database, ids_=[event_id])
        if not found:
            raise NotFound("There is no such event.")
        return found[0].view

    async def emptiest_shard(self, connection: AsyncConnection) -> int:
        """Where a new event goes: the shard with the fewest, the lowest of several."""
        counted = await connection.execute(select(Event.shard, func.count()).group_by(Event.shard))
        events = {shard: count for shard, count in counted}
        return min(range(self.shards), key=lambda shard: (events.get(shard, 0), shard))


async def _insert_tiers(connection: AsyncConnection, event_id: str, tiers: Sequence[NewTier]) -> None:
    """Tiers of a new event, in the order given, with their inventory."""
    for order, tier in enumerate(tiers):
        tier_id = ids.short_id()
        values = {
            "id": tier_id,
            "event_id": event_id,
            "code": tier.code,
            "name": tier.name or tier.code,
            "price_cents": tier.price_cents,
            "display_order": order,
            "on_sale_at": tier.on_sale_at,
            "off_sale_at": tier.off_sale_at,
            **tier.rules._asdict(),
            "code_only": tier.code_only,
        }
        await connection.execute(insert(Tier).values(values))
        await connection.execute(insert(Inventory).values(tier_id=tier_id, total=tier.capacity))
