"""Books tickets below HTTP: the office's own admission, with a test card."""

from __future__ import annotations

from dataclasses import dataclass

from boxoffice import ids
from boxoffice.admission.forms import Admitted
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.stores.record import Charge

__all__ = ["CLIENT", "Ask", "book", "tier_id"]

CLIENT = "shop00000000"


@dataclass(frozen=True)
class Ask:
    """What a shop asks for, already known to be well-formed."""

    customer_id: str
    lines: tuple[tuple[str, int], ...]
    charge: Charge | None
    hold_s: int | None = None
    reference: str | None = None


def tier_id(event: EventView, code: str) -> str:
    """Of the tier with this code."""
    return next(tier.id for tier in event.tiers if tier.code == code)


async def book(
    office: BoxOffice,
    event: EventView,
    *,
    customer: str = "ann",
    key: str | None = None,
    token: str | None = "tok_ok_4242",
    hold_s: int | None = None,
    **tiers: int,
) -> Admitted:
    """`await book(office, event, GA=2)`. Without a token it is a hold."""
    charge = Charge("card", token, "Ann", token[-4:]) if token else None
    lines = tuple((tier_id(event, code), quantity) for code, quantity in tiers.items())
    return await office.admission.book(CLIENT, Ask(customer, lines, charge, hold_s), ids.digest(key or ids.short_id()))
