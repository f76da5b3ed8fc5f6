"""An example to play with: a shop, its API key and a concert. Run again, it mends what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from boxoffice.access.store import AccessStore
from boxoffice.books.moves import apply_moves
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.codes import AccessCodes
from boxoffice.sales.control import Control
from boxoffice.sales.store import CatalogueStore, NewTier
from boxoffice.settings import Settings
from boxoffice.stores.database import Database
from boxoffice.stores.models import Event
from boxoffice.stores.scripts import load_scripts
from boxoffice.stores.shard import open_shards
from ops.seed_shop import ShopSeed

__all__ = ["DEMO_CLIENT", "DEMO_KEY", "SeedReport", "seed"]

DEMO_CLIENT: Final = "demo00000000"
DEMO_KEY: Final = "demo.boxoffice"
"""Public, so only servers that were started for play get it unasked."""

NAME: Final = "Black Sabbath Concert in Kathmandu"
TIERS: Final = (
    NewTier("VIP", 10_000, 50, "VIP"),
    NewTier("FRONT_ROW", 5_000, 200, "Front Row"),
    NewTier("GA", 1_000, 1_000, "General Admission"),
)
AHEAD: Final = timedelta(days=180)
SEED_LOCK: Final = 0x73656564
"""Advisory lock: two seeds at once make one event."""


@dataclass(frozen=True, slots=True)
class SeedReport:
    """The example, and what had to be done for it."""

    event: EventView
    created: bool
    moved: bool
    api_key: str | None


async def seed(settings: Settings, *, demo_key: bool, shop_url: str = "") -> SeedReport:
    """Make the example event, and the demo API key when asked to; with `shop_url` also what the demo shop there needs.

    An event that is there keeps its sales; when its start has passed, it moves ahead.
    """
    database, shards = Database(settings), open_shards(settings, load_scripts(), retries=3)
    try:
        async with database.engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": SEED_LOCK})
            access, store = AccessStore(database, shards, settings), CatalogueStore(database, shards, settings)
            control = Control(database, shards, settings, lambda here: apply_moves(here, database))
            report = await _seed(database.engine, access, store, control, demo_key)
            if shop_url:
                codes = AccessCodes(database, shards, control)
                await ShopSeed(database.engine, access, store, control, codes).sow(
                    DEMO_CLIENT, shop_url, settings.data_dir
                )
            return report
    finally:
        await shards.aclose()
        await database.close()


async def _seed(
    engine: AsyncEngine, access: AccessStore, store: CatalogueStore, control: Control, demo_key: bool
) -> SeedReport:
    await access.create_client("Demo shop", client_id=DEMO_CLIENT, allow_same_name=True)
    if demo_key:
        await access.add_api_key(DEMO_CLIENT, DEMO_KEY)
    now = datetime.now(UTC)
    start = (now + AHEAD).replace(hour=13, minute=15, second=0, microsecond=0)
    async with engine.connect() as connection:
        query = select(Event.id, Event.starts_at).where(Event.client_id == DEMO_CLIENT, Event.name == NAME)
        found = (await connection.execute(query.order_by(Event.created_at))).first()
    key = DEMO_KEY if demo_key else None
    if found is None:
        event = await store.create_event(DEMO_CLIENT, NAME, start, "USD", TIERS)
        return SeedReport(event, created=True, moved=False, api_key=key)
    past = found.starts_at <= now
    event = await control.change_event(found.id, starts_at=start if past else found.starts_at)
    return SeedReport(event, created=False, moved=past, api_key=key)
