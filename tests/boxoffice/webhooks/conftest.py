"""A shop with an endpoint on this machine, and couriers that may go there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from boxoffice.notices.writing import write
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.webhooks.couriers import Couriers
from tests.support.endpoint import ALLOWED, Endpoint, at_endpoint
from tests.support.shop.orders import CLIENT

TYPE = "event.changed"
OTHER_TYPE = "event.paused"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Few at a time, and short pauses, which `let_pass` lets pass."""
    webhooks = settings.webhooks.model_copy(
        update={"timeout_s": 2.0, "retry_s": 10.0, "retry_max_s": 30.0, "in_flight_max": 2, **ALLOWED}
    )
    return settings.model_copy(update={"webhooks": webhooks})


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """The shop's server."""
    async with at_endpoint() as endpoint:
        yield endpoint


@dataclass
class Desk:
    """What a test does and asks about endpoints."""

    office: BoxOffice
    endpoint: Endpoint
    id: str = ""
    secret: str = ""

    async def subscribe(self, url: str = "", client: str = CLIENT, **more: Any) -> str:
        made = await self.office.endpoints.create(client, url or self.endpoint.url, **more)
        self.id, self.secret = made["id"], made["secret"]
        return self.id

    async def happens(
        self, count: int = 1, client: str = CLIENT, kind: str = TYPE, committed: bool = True
    ) -> list[str]:
        """So many things of which the shop is told; ids of their notices."""
        async with self.office.database.begin() as connection:
            for number in range(count):
                await write(connection, client, kind, {"number": number})
        before = await self.office.notices.head()
        await self.office.notices.number()
        page = await self.office.notices.after(client, before, most=count)
        return [notice.id for notice in page.notices]

    async def go(self, couriers: Couriers | None = None) -> int:
        """One look, and what follows from it until all couriers are back. Returns how many went."""
        couriers = couriers or self.office.couriers
        went = await couriers.look()
        await couriers.at_rest()
        return went

    async def row(self, endpoint: str = "") -> Any:
        return await self.office.database.fetchrow("SELECT * FROM webhook_endpoints WHERE id = $1", endpoint or self.id)

    async def log(self, endpoint: str = "") -> list[dict[str, Any]]:
        """Oldest first."""
        return (await self.office.endpoints.deliveries(None, endpoint or self.id, most=1_000))[::-1]

    async def let_pass(self, seconds: float, endpoint: str = "") -> None:
        """So much time, for one endpoint and what is to be sent to it."""
        await self.office.database.execute(
            "UPDATE webhook_endpoints SET paused_until = paused_until - $2 * interval '1 second', leased_until = leased_until"
            " - $2 * interval '1 second', failing_since = failing_since - $2 * interval '1 second' WHERE id = $1",
            endpoint or self.id, seconds,
        )  # fmt: skip
        await self.office.database.execute(
            "UPDATE webhook_deliveries SET next_at = next_at - $2 * interval '1 second', since = since - $2 *"
            " interval '1 second' WHERE endpoint_id = $1",
            endpoint or self.id, seconds,
        )  # fmt: skip


@pytest.fixture
async def desk(office: BoxOffice, endpoint: Endpoint) -> AsyncIterator[Desk]:
    yield Desk(office, endpoint)
    await office.couriers.stop()
