"""The shop over HTTP: it posts what a shop's program would, and a worker does its rounds when asked."""

from __future__ import annotations

from itertools import count
from typing import Any

import httpx2

from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from tests.conftest import SHARD, eventually, settle_all

__all__ = ["GOOD_CARD", "Shop", "body_of", "payment"]

GOOD_CARD = "4242424242424242"


def payment(card: str = GOOD_CARD) -> dict[str, str]:
    """Ada pays."""
    return {"method": "card", "card_name": "Ada Lovelace", "card_number": card}


def body_of(
    tickets: dict[str, int], card: str | None = GOOD_CARD, *, customer_id: str = "ada", **more: Any
) -> dict[str, Any]:
    """The body of a booking: tickets by the id of their tier; without a card it is a hold. What is `...` is left out."""
    body: dict[str, Any] = {
        "customer_id": customer_id,
        "items": [{"tier_id": tier, "quantity": quantity} for tier, quantity in tickets.items()],
        "payment": payment(card) if card else ...,
    }
    return {name: value for name, value in (body | more).items() if value is not ...}


class Shop:
    """What a shop front does."""

    def __init__(self, api: httpx2.AsyncClient, office: BoxOffice) -> None:
        self.api = api
        self.office = office
        self._numbers = count(1)

    async def on_sale(self) -> dict[str, Any]:
        """The one event."""
        (event,) = (await self.api.get("/v1/events")).json()["data"]
        found: dict[str, Any] = event
        return found

    async def available(self, code: str) -> int:
        """What is left of a tier."""
        event = await self.on_sale()
        return next(int(tier["available"]) for tier in event["tiers"] if tier["code"] == code)

    async def book(
        self, tickets: dict[str, int], *, key: str | None = None, card: str | None = "4242424242424242", **more: Any
    ) -> httpx2.Response:
        """Tickets by the code of their tier; without a card they are held."""
        ids = {tier["code"]: tier["id"] for tier in (await self.on_sale())["tiers"]}
        body = body_of({ids[code]: quantity for code, quantity in tickets.items()}, card, **more)
        return await self.api.post("/v1/bookings", json=body, headers=self.headers(key))

    async def pay(self, booking: dict[str, Any], card: str, *, key: str | None = None) -> httpx2.Response:
        """Pay a hold."""
        path = f"/v1/bookings/{booking['id']}/payment"
        return await self.api.post(path, json=payment(card), headers=self.headers(key))

    async def post(self, booking: dict[str, Any], verb: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        """`extend`, `cancel`, `refunds`."""
        return await self.api.post(f"/v1/bookings/{booking['id']}/{verb}", json=body, headers=self.headers(None))

    async def read(self, booking: dict[str, Any]) -> dict[str, Any]:
        """The booking as it is now."""
        found: dict[str, Any] = (await self.api.get(f"/v1/bookings/{booking['id']}")).json()
        return found

    async def settled(self, booking: dict[str, Any]) -> dict[str, Any]:
        """Let the worker do its round, then read."""
        await settle_all(self.office)
        await self.office.pump.work_outbox()
        return await self.read(booking)

    async def kept(self, booking: dict[str, Any]) -> dict[str, Any]:
        """As PostgreSQL has it: what the shop reads once the booking is some seconds old."""
        await self.office.redis.delete(keys.booking(SHARD, booking["id"]))
        return await self.read(booking)

    async def until(self, booking: dict[str, Any], status: str) -> dict[str, Any]:
        """Poll until the booking has this status."""

        async def there() -> dict[str, Any] | None:
            await self.office.holds.expire(SHARD)
            found = await self.settled(booking)
            return found if found["status"] == status else None

        found: dict[str, Any] = await eventually(there)
        return found

    def headers(self, key: str | None) -> dict[str, str]:
        """A header; a new key unless one is given."""
        return {"Idempotency-Key": key or f"key-{next(self._numbers)}"}
