"""What the demo shop sells, its two keys, and where its customers come back to. Run again, it mends what is missing.

An event of each kind that its page shows: one that opens in a moment, a presale, and one of which next to nothing is left. They
start later than the example of `ops/seed.py`, so that it stays the first of every list.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from boxoffice import ids
from boxoffice.access.scopes import BOOK, BROWSE, READ, REFUND
from boxoffice.access.store import AccessStore, Grant
from boxoffice.errors import Malformed
from boxoffice.sales.codes import AccessCodes, CodeTerms
from boxoffice.sales.control import Control
from boxoffice.sales.rules import NONE, Rules
from boxoffice.sales.store import CatalogueStore, NewTier
from boxoffice.stores.models import Event
from ops.stack.data_dir import write_private
from ops.stack.supervisor import DEMO_CODE

__all__ = ["BROWSE_KEY", "SHOP_EVENTS", "SHOP_KEY", "ShopEvent", "ShopSeed", "origins_of"]

BROWSE_KEY: Final = "shop-browse.key"
SHOP_KEY: Final = "shop-secret.key"
"""Files in the data directory, ours alone."""

KEEPS: Final = 18
"""Return URLs of the shop that are kept beside those of this run."""


class ShopEvent(NamedTuple):
    """One event of the demo shop. Times count from when it is made, or made ready again."""

    name: str
    starts_in: timedelta
    tiers: tuple[NewTier, ...]
    opens_in: timedelta | None = None
    """None: on sale at once."""
    opens_again: bool = False
    """Its sale opens anew with every start of the demo."""
    code: str = ""
    rules: Rules = NONE


SHOP_EVENTS: Final = (
    ShopEvent(
        "Late Night Organ", timedelta(days=190),
        (NewTier("NAVE", 2_500, 300, "Nave"), NewTier("GALLERY", 4_000, 80, "Gallery")),
        opens_in=timedelta(minutes=3), opens_again=True,
    ),
    ShopEvent(
        "Himalayan Jazz Weekend", timedelta(days=200),
        (NewTier("DAY", 6_000, 500, "Saturday"), NewTier("WEEKEND", 10_500, 200, "Both days")),
        opens_in=timedelta(days=30), code=DEMO_CODE,
    ),
    ShopEvent(
        "The Smallest Stage", timedelta(days=210),
        (NewTier("SOFA", 7_500, 2, "Sofa"), NewTier("CHAIR", 3_000, 6, "Chair"), NewTier("WINDOW", 0, 4, "At the window")),
        rules=NONE._replace(booking_max=4, customer_max=6),
    ),
)  # fmt: skip

CODE_TICKETS: Final = 100


def origins_of(url: str) -> tuple[str, ...]:
    """How browsers may name a shop on this machine: by its address, and by its name."""
    return (url, url.replace("//127.0.0.1:", "//localhost:")) if "//127.0.0.1:" in url else (url,)


class ShopSeed:
    """Makes a client of the API a demo shop."""

    def __init__(
        self, engine: AsyncEngine, access: AccessStore, store: CatalogueStore, control: Control, codes: AccessCodes
    ) -> None:  # fmt: skip
        self._engine = engine
        self._access = access
        self._store = store
        self._control = control
        self._codes = codes

    async def sow(self, client: str, url: str, folder: Path) -> None:
        """Keys for a shop at `url`, in files of `folder`; the URLs that customers may come back to; and its events."""
        origins = origins_of(url)
        await self._bring_key(client, folder / BROWSE_KEY, Grant((BROWSE,), origins=origins))
        await self._bring_key(client, folder / SHOP_KEY, Grant((READ, BOOK, REFUND)))
        await self._return_urls(client, origins)
        for event in SHOP_EVENTS:
            await self._event(client, event, datetime.now(UTC))

    async def _bring_key(self, client: str, path: Path, grant: Grant) -> None:
        """The key of the file, or a new one; good for just this."""
        key = _key_in(path)
        good = (key.partition(".")[0], sorted(grant.scopes), list(grant.origins), None)
        there = await self._access.api_keys(client)
        if good not in [(row["prefix"], sorted(row["scopes"]), row["origins"], row["revoked_at"]) for row in there]:
            await self._access.add_api_key(client, key, grant)

    async def _return_urls(self, client: str, origins: Sequence[str]) -> None:
        (shop,) = [row for row in await self._access.clients() if row["id"] == client]
        if not set(origins) <= {*shop["return_urls"]}:
            others = [url for url in shop["return_urls"] if url not in origins]
            await self._access.set_return_urls(client, [*others[-KEEPS:], *origins], shop["return_url"])

    async def _event(self, client: str, event: ShopEvent, now: datetime) -> None:
        starts_at = (now + event.starts_in).replace(hour=19, minute=0, second=0, microsecond=0)
        opens_at = (now + event.opens_in).replace(microsecond=0) if event.opens_in else None
        async with self._engine.connect() as connection:
            query = select(Event.id, Event.starts_at).where(Event.client_id == client, Event.name == event.name)
            found = (await connection.execute(query.order_by(Event.created_at))).first()
        if found is None:
            made = await self._store.create_event(
                client, event.name, starts_at, "USD", event.tiers, rules=event.rules, on_sale_at=opens_at
            )
            await self._code(made.id, event.code)
        elif found.starts_at <= now or event.opens_again:
            await self._control.change_event(found.id, starts_at=starts_at, on_sale_at=opens_at)

    async def _code(self, event_id: str, code: str) -> None:
        if code:
            try:
                await self._codes.create(event_id, CodeTerms(CODE_TICKETS, label="demo shop"), given=[code])
            except Malformed as error:  # a run before this one made it
                if error.code != "duplicate_code":
                    raise


def _key_in(path: Path) -> str:
    """The key of a file, which gets a new one if it has none."""
    key = path.read_text().strip() if path.exists() else f"{ids.short_id()}.{secrets.token_urlsafe(32)}"
    write_private(path, f"{key}\n")
    return key
