"""Booking without HTTP: what a shop asks for, put straight to the box office."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from boxoffice import ids
from boxoffice.admission.forms import Admitted
from boxoffice.errors import BoxOfficeError
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.store import NewTier
from boxoffice.stores import keys
from boxoffice.stores.record import Charge, Record, unpack

__all__ = ["CLIENT", "Order", "book", "book_many", "charge", "first_sale", "order", "record_of", "status_of", "tier_of"]

CLIENT = "shop00000000"


async def first_sale(office: BoxOffice) -> EventView:
    """A shop and ten tickets, in an office that a test opened itself."""
    await office.store.create_client("Shop", client_id=CLIENT)
    return await office.store.create_event(
        CLIENT, "Concert", datetime.now(UTC) + timedelta(days=30), "USD", [NewTier("GA", 1_000, 10)]
    )


@dataclass
class Order:
    """A request that is known to be well-formed."""

    customer_id: str
    reference: str | None
    lines: tuple[tuple[str, int], ...]
    charge: Charge | None
    hold_s: int | None = None


def tier_of(event: EventView, code: str) -> str:
    """A tier's id."""
    return next(tier.id for tier in event.tiers if tier.code == code)


def charge(behaviour: str = "ok") -> Charge:
    """A card that makes the simulated gateway behave so."""
    return Charge("card", f"tok_{behaviour}_4242", "Ann Example", "4242")


def order(
    event: EventView, *, card: str | None = "ok", customer: str = "ann", hold_s: int | None = None, **tickets: int
) -> Order:
    """So many tickets of each tier, by code."""
    lines = tuple((tier_of(event, code), quantity) for code, quantity in tickets.items())
    return Order(customer, None, lines, charge(card) if card else None, hold_s)


async def book(
    office: BoxOffice, event: EventView, *, key: str | None = None, client: str = CLIENT, card: str | None = "ok",
    customer: str = "ann", hold_s: int | None = None, **tickets: int,
) -> Admitted:  # fmt: skip
    """Admit one booking."""
    wanted = order(event, card=card, customer=customer, hold_s=hold_s, **tickets)
    return await office.admission.book(client, wanted, ids.digest(key or ids.short_id()))


async def book_many(office: BoxOffice, event: EventView, count: int, **how: object) -> list[str]:
    """Ids of so many bookings by as many customers, all of which are admitted."""
    answers = await asyncio.gather(
        *(book(office, event, customer=f"c{n}", **how) for n in range(count)),  # type: ignore[arg-type]
        return_exceptions=True,
    )
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, BoxOfficeError):
            raise answer
    return [answer.booking_id for answer in answers if isinstance(answer, Admitted)]


async def record_of(office: BoxOffice, booking: str) -> Record | None:
    """The booking in Redis."""
    raw = await office.redis.get(keys.booking(ids.shard_of(booking), booking))
    return unpack(booking, raw) if raw is not None else None


async def status_of(office: BoxOffice, booking: str) -> str | None:
    """The booking in PostgreSQL: its status, with the failure if there is one."""
    row = await (await office.pool()).fetchrow("SELECT status, failure_code FROM bookings WHERE id = $1::uuid", booking)
    return None if row is None else row["status"] + (f" {row['failure_code']}" if row["failure_code"] else "")
