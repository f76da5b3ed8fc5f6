"""What people write by hand: a FastAPI route, `SELECT ... FOR UPDATE`, one transaction for each booking.

Written as well as the design allows: validated by pydantic, asynchronous SQLAlchemy (Core) with a pool, the tables and indexes
of the real thing in a database of its own, locks in tier order, a unique index for idempotency, the payment authorised
in the process itself without any delay. Same server, same settings. No queue, no batch, no Redis.

    python -m bench.baseline PORT     (database: BOXOFFICE_DATABASE_URL, at the newest migration)
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, Field
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from api import server
from boxoffice import ids
from boxoffice.settings import Settings, load_settings
from boxoffice.stores import postgres
from boxoffice.stores.models import ApiKey, Booking, BookingItem, Event, Inventory, Payment, Tier

__all__ = ["create_app"]

POOL_SIZE = 32


class ItemIn(BaseModel):
    """One tier and a quantity."""

    tier_id: str
    quantity: int = Field(ge=1, le=10)


class PaymentIn(BaseModel):
    """A card."""

    method: str
    card_number: str = Field(min_length=13, max_length=19)
    card_name: str


class BookingIn(BaseModel):
    """A booking as asked for."""

    customer_id: str = Field(min_length=1, max_length=200)
    reference: str | None = None
    items: list[ItemIn] = Field(min_length=1, max_length=10)
    payment: PaymentIn


class BookingOut(BaseModel):
    """A booking as answered."""

    id: UUID
    status: str
    event_id: str
    customer_id: str
    amount_cents: int
    currency: str
    created_at: datetime


async def _connect(request: Request) -> AsyncIterator[AsyncConnection]:
    async with request.app.state.engine.connect() as connection:
        yield connection


Connection = Annotated[AsyncConnection, Depends(_connect)]


async def _client(request: Request, connection: Connection, authorization: Annotated[str, Header()]) -> str:
    """The shop of an API key; remembered, because it does not change."""
    known: dict[str, str] = request.app.state.clients
    if authorization not in known:
        prefix, _, secret = authorization.removeprefix("Bearer ").partition(".")
        digest = hashlib.sha256(secret.encode()).hexdigest()
        query = select(ApiKey.client_id).where(
            ApiKey.prefix == prefix, ApiKey.secret_sha256 == digest, ApiKey.revoked_at.is_(None)
        )
        client = await connection.scalar(query)
        await connection.rollback()
        if client is None:
            raise HTTPException(401)
        known[authorization] = client
    return known[authorization]


def create_app(settings: Settings) -> FastAPI:
    """The application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = postgres.open_engine(settings).url
        engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0)
        app.state.engine = engine
        app.state.clients = {}
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.post("/v1/bookings", status_code=202)(_book)
    app.get("/readyz")(_ready)
    return app


async def _ready(connection: Connection) -> dict[str, str]:
    await connection.execute(select(1))
    return {"status": "ready"}


async def _book(
    body: BookingIn,
    client: Annotated[str, Depends(_client)],
    connection: Connection,
    idempotency_key: Annotated[str, Header()],
) -> BookingOut:
    key = ids.digest(idempotency_key)
    try:
        async with connection.begin():
            booking = await _take(body, client, connection, key)
    except IntegrityError:
        booking = await _first(client, connection, key)
    return BookingOut.model_validate(booking)


async def _take(body: BookingIn, client: str, connection: AsyncConnection, key: str) -> dict[str, Any]:
    """Lock, look, write: all of it in the caller's transaction."""
    wanted = {item.tier_id: item.quantity for item in body.items}
    found = await connection.execute(_LOCKED, {"tiers": list(wanted)})
    rows = found.all()
    if len(rows) != len(wanted):
        raise HTTPException(404)
    event = rows[0]
    now = datetime.now(UTC)
    if event.status != "active" or event.starts_at <= now:
        raise HTTPException(409, "sale-closed")
    if any(row.total - row.sold < wanted[row.tier_id] for row in rows):
        raise HTTPException(409, "sold-out")
    booking = {
        "id": UUID(ids.booking_id(0, int(now.timestamp() * 1_000))),
        "client_id": client,
        "event_id": event.event_id,
        "customer_id": body.customer_id,
        "reference": body.reference,
        "status": "confirmed",
        "amount_cents": sum(row.price_cents * wanted[row.tier_id] for row in rows),
        "currency": event.currency,
        "idempotency_key": key,
        "fingerprint": ids.digest(body.customer_id, str(sorted(wanted.items())), body.payment.method),
        "sequence": 0,
        "created_at": now,
    }
    payment = {
        "payment_key": ids.scope(client, event.event_id, key),
        "booking_id": booking["id"],
        "gateway": "none",
        "method": body.payment.method,
        "card_name": body.payment.card_name,
        "last4": body.payment.card_number[-4:],
        "amount_cents": booking["amount_cents"],
        "currency": event.currency,
        "status": "captured",
    }
    items = [
        {
            "booking_id": booking["id"],
            "tier_id": row.tier_id,
            "quantity": wanted[row.tier_id],
            "unit_price_cents": row.price_cents,
            "line_total_cents": row.price_cents * wanted[row.tier_id],
        }
        for row in rows
    ]
    await connection.execute(_BOOKING, booking)
    await connection.execute(_ITEMS, items)
    await connection.execute(_PAYMENT, payment)
    await connection.execute(_SELL, [{"tier": tier, "quantity": quantity} for tier, quantity in wanted.items()])
    return booking


# Built once, so that SQLAlchemy compiles each once.
_BOOKING = insert(Booking)
_ITEMS = insert(BookingItem)
_PAYMENT = insert(Payment)
_SELL = (
    update(Inventory)
    .where(Inventory.tier_id == bindparam("tier"))
    .values(sold=Inventory.sold + bindparam("quantity"), version=Inventory.version + 1, updated_at=func.now())
)
_LOCKED = (
    select(
        Tier.id.label("tier_id"),
        Tier.price_cents,
        Inventory.total,
        Inventory.sold,
        Event.id.label("event_id"),
        Event.status,
        Event.starts_at,
        Event.currency,
    )
    .join(Inventory, Inventory.tier_id == Tier.id)
    .join(Event, Event.id == Tier.event_id)
    .where(Tier.is_active, Tier.id.in_(bindparam("tiers", expanding=True)))
    .order_by(Tier.id)
    .with_for_update(of=Inventory)
)


async def _first(client: str, connection: AsyncConnection, key: str) -> dict[str, Any]:
    """The key was used before: the booking that it made."""
    query = select(Booking).where(Booking.client_id == client, Booking.idempotency_key == key)
    found = (await connection.execute(query)).mappings().first()
    if found is None:
        raise HTTPException(409)
    return dict(found)


def main() -> None:
    """Serve until told to stop."""
    own: Any = server
    own.create_app = create_app
    server.serve(load_settings(), "127.0.0.1", int(sys.argv[1]))


if __name__ == "__main__":
    main()
