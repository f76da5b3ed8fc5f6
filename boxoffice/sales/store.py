"""What is on sale, as it is written: into PostgreSQL, and from there into Redis for everyone who reads it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from boxoffice import ids
from boxoffice.access.api_keys import ApiKeyView, secret_digest
from boxoffice.currencies import is_currency
from boxoffice.errors import Malformed, NotFound
from boxoffice.gateway.factory import why_not_chargeable
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.loading import Loader, iso, read_events
from boxoffice.settings import Settings
from boxoffice.stores.database import Database
from boxoffice.stores.models import ApiKey, Client, Event, Inventory, Tier
from boxoffice.stores.shard import Shards
from boxoffice.texts import fault_of

__all__ = ["CatalogueStore", "NewTier"]

COUNT_MAX = 2_147_483_647
"""PostgreSQL's integer: capacities and prices in minor units."""

LAST_YEAR = 9000
"""No event starts later: JavaScript and Python count no further, and time zones push a time some hours on."""

TIERS_MAX = 100
"""Tiers of one event: every answer to a booking carries what is left of all of them."""


@dataclass(frozen=True, slots=True)
class NewTier:
    """A tier of an event that is about to be created."""

    code: str
    price_cents: int
    capacity: int
    name: str = ""


class CatalogueStore:
    """Creates and changes clients, API keys and events."""

    def __init__(self, database: Database, shards: Shards, settings: Settings) -> None:
        self._database = database
        self._loader = Loader(database, shards)
        self.shards = settings.shards
        self._text_max = settings.limits.text_max
        self._settings = settings

    async def create_client(self, name: str, *, client_id: str | None = None) -> str:
        """A shop's id: a new one, unless it is given and there is such a shop."""
        self._check_text(name, "/name")
        client_id = client_id or ids.short_id()
        async with self._database.engine.begin() as connection:
            await connection.execute(insert(Client).values(id=client_id, name=name).on_conflict_do_nothing())
        return client_id

    async def create_api_key(self, client_id: str) -> str:
        """A new API key of a client, `prefix.secret`. This is the only time that anybody sees the secret.

        Raises `NotFound` when there is no such client.
        """
        key = f"{ids.short_id()}.{secrets.token_urlsafe(32)}"
        await self.add_api_key(client_id, key)
        return key

    async def add_api_key(self, client_id: str, key: str) -> None:
        """Accept this API key for the client from now on, also when it was revoked before. `seed` uses it."""
        prefix, _, secret = key.partition(".")
        digest = secret_digest(secret)
        async with self._database.engine.begin() as connection:
            if await connection.scalar(select(Client.id).where(Client.id == client_id)) is None:
                raise NotFound("There is no such client.")
            await connection.execute(
                text(
                    "INSERT INTO api_keys (prefix, client_id, secret_sha256) VALUES (:prefix, :client, :digest) "
                    "ON CONFLICT (prefix) DO UPDATE SET client_id = excluded.client_id, "
                    "secret_sha256 = excluded.secret_sha256, revoked_at = NULL, updated_at = now()"
                ),
                {"prefix": prefix, "client": client_id, "digest": digest},
            )
        await self._loader.write_keys({prefix: ApiKeyView(digest, client_id)}, [])

    async def revoke_api_key(self, prefix: str) -> None:
        """Stop accepting a key, within `api.key_cache_s`. Raises `NotFound`."""
        async with self._database.engine.begin() as connection:
            statement = update(ApiKey).where(ApiKey.prefix == prefix)
            values = {"revoked_at": func.coalesce(ApiKey.revoked_at, func.now()), "updated_at": func.now()}
            if (await connection.execute(statement.values(values))).rowcount == 0:
                raise NotFound("There is no such API key.")
        await self._loader.write_keys({}, [prefix])

    async def create_event(
        self,
        client_id: str,
        name: str,
        starts_at: datetime,
        currency: str,
        tiers: Sequence[NewTier],
        *,
        customer_max: int | None = None,
        cancel_until: datetime | None = None,
        refund_percent: int = 100,
    ) -> EventView:
        """A new event, on sale at once, in the shard that has the fewest. `cancel_until` (None: its start) and
        `refund_percent` are its terms of cancellation.

        Raises `Malformed`, or `NotFound` when there is no such client. When Redis is away, the event is there and the
        workers load it later: `StoreAway`.
        """
        self._check_event(name, starts_at, currency, tiers, customer_max)
        if cancel_until is not None and cancel_until.tzinfo is None:
            raise Malformed("The end of cancelling needs a time zone, such as 2030-05-22T14:00:00Z.")
        if cancel_until is not None:
            _check_year(cancel_until, "/cancel_until")
        if not 0 <= refund_percent <= 100:
            raise Malformed("A cancellation gives back 0 to 100 percent.")
        event_id = ids.short_id()
        async with self._database.engine.begin() as connection:
            if await connection.scalar(select(Client.id).where(Client.id == client_id)) is None:
                raise NotFound("There is no such client.")
            values = {
                "id": event_id,
                "client_id": client_id,
                "shard": await self.emptiest_shard(connection),
                "name": name,
                "starts_at": starts_at,
                "currency": currency,
                "customer_max": customer_max,
                "cancel_until": cancel_until,
                "refund_percent": refund_percent,
            }
            await connection.execute(insert(Event).values(values))
            await _insert_tiers(connection, event_id, tiers)
        return await self._loader.publish(event_id)

    async def change_event(self, event_id: str, **changes: Any) -> EventView:
        """Change `name`, `starts_at`, `status` or `customer_max` of an event.

        Raises `NotFound`, or `Malformed` for an event that is put on sale and cannot be charged for.
        """
        if "name" in changes:
            self._check_text(changes["name"], "/name")
        async with self._database.engine.begin() as connection:
            if changes.get("status") == "active":
                await self._check_chargeable(connection, Event.id == event_id)
            statement = update(Event).where(Event.id == event_id).values(**changes, updated_at=func.now())
            if (await connection.execute(statement)).rowcount == 0:
                raise NotFound("There is no such event.")
        return await self._loader.publish(event_id)

    async def change_tier(self, tier_id: str, **changes: Any) -> EventView:
        """Change `name`, `price_cents`, `display_order` or `is_active` of a tier.

        Raises `NotFound`, or `Malformed` for a price that cannot be charged.
        """
        if "name" in changes:
            self._check_text(changes["name"], "/name")
        async with self._database.engine.begin() as connection:
            statement = update(Tier).where(Tier.id == tier_id).values(**changes, updated_at=func.now())
            event_id = await connection.scalar(statement.returning(Tier.event_id))
            await self._check_chargeable(connection, Tier.id == tier_id)
        if event_id is None:
            raise NotFound("There is no such tier.")
        return await self._loader.publish(event_id)

    async def events(self) -> list[EventView]:
        """All events as PostgreSQL has them, by (start, id)."""
        async with self._database.engine.connect() as connection:
            return [found.view for found in await read_events(connection)]

    async def clients(self) -> list[dict[str, Any]]:
        """All clients, oldest first."""
        async with self._database.engine.connect() as connection:
            rows = await connection.execute(
                select(Client.id, Client.name, Client.created_at).order_by(Client.created_at, Client.id)
            )
            return [{"id": row.id, "name": row.name, "created_at": iso(row.created_at)} for row in rows]

    async def api_keys(self, client_id: str | None = None) -> list[dict[str, Any]]:
        """API keys without their secrets, oldest first."""
        query = select(ApiKey.prefix, ApiKey.client_id, ApiKey.created_at, ApiKey.revoked_at)
        if client_id is not None:
            query = query.where(ApiKey.client_id == client_id)
        async with self._database.engine.connect() as connection:
            rows = await connection.execute(query.order_by(ApiKey.created_at, ApiKey.prefix))
            return [
                {
                    "prefix": row.prefix,
                    "client": row.client_id,
                    "created_at": iso(row.created_at),
                    "revoked_at": iso(row.revoked_at) if row.revoked_at else None,
                }
                for row in rows
            ]

    async def event(self, event_id: str) -> EventView:
        """The event as PostgreSQL has it. Raises `NotFound`."""
        async with self._database.engine.connect() as connection:
            found = await read_events(connection, ids_=[event_id])
        if not found:
            raise NotFound("There is no such event.")
        return found[0].view

    async def _check_chargeable(self, connection: AsyncConnection, which: ColumnElement[bool]) -> None:
        """The gateway may be another one than when the event was made. Raises `Malformed`."""
        query = select(Tier.price_cents, Event.currency).join(Event, Tier.event_id == Event.id).where(which)
        for price, currency in await connection.execute(query):
            self._check_price(price, currency, "/tiers")

    def _check_price(self, price_cents: int, currency: str, pointer: str) -> None:
        if why := why_not_chargeable(self._settings, price_cents, currency):
            raise Malformed(why, pointer=pointer, code="not_chargeable")

    async def emptiest_shard(self, connection: AsyncConnection) -> int:
        """Where a new event goes: the shard with the fewest, the lowest of several."""
        counted = await connection.execute(select(Event.shard, func.count()).group_by(Event.shard))
        events = {shard: count for shard, count in counted}
        return min(range(self.shards), key=lambda shard: (events.get(shard, 0), shard))

    def _check_text(self, value: str, pointer: str) -> None:
        if fault := fault_of(value, self._text_max):
            raise Malformed(f"The text at {pointer} {fault.what}.", pointer=pointer, code=fault.code)

    def _check_event(
        self, name: str, starts_at: datetime, currency: str, tiers: Sequence[NewTier], customer_max: int | None
    ) -> None:
        self._check_text(name, "/name")
        if starts_at.tzinfo is None:
            raise Malformed("The start needs a time zone, such as 2030-05-22T14:00:00Z.", pointer="/starts_at")
        _check_year(starts_at, "/starts_at")
        if not is_currency(currency):
            detail = "The currency is a code of ISO 4217, three capital letters, such as EUR."
            raise Malformed(detail, pointer="/currency", code="currency")
        self._check_price(0, currency, "/currency")
        if customer_max is not None and not 1 <= customer_max <= COUNT_MAX:
            raise Malformed("A customer may have one ticket or more.", pointer="/customer_max")
        if not 1 <= len(tiers) <= TIERS_MAX:
            raise Malformed(f"An event has 1 to {TIERS_MAX} tiers.", pointer="/tiers")
        for at, tier in enumerate(tiers):
            self._check_text(tier.code, f"/tiers/{at}/code")
            self._check_text(tier.name or tier.code, f"/tiers/{at}/name")
            if not (0 <= tier.price_cents <= COUNT_MAX and 0 <= tier.capacity <= COUNT_MAX):
                raise Malformed(
                    f"Prices and capacities are whole numbers from 0 to {COUNT_MAX}.", pointer=f"/tiers/{at}"
                )
            self._check_price(tier.price_cents, currency, f"/tiers/{at}/price_cents")
        if len({tier.code for tier in tiers}) < len(tiers):
            raise Malformed("Two tiers have the same code.", pointer="/tiers")


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
        }
        await connection.execute(insert(Tier).values(values))
        await connection.execute(insert(Inventory).values(tier_id=tier_id, total=tier.capacity))


def _check_year(moment: datetime, pointer: str) -> None:
    if not 1970 < moment.year < LAST_YEAR:
        raise Malformed(f"A time is in the years 1971 to {LAST_YEAR - 1}.", pointer=pointer, code="out_of_range")
