"""What the shop of the tests orders, at whichever of its three levels: tickets by the code of their tier, and a test card.

`script.Desk` puts it to the scripts of one shard, `office.Till` to the box office, `web.Shop` sends it by HTTP.
"""

from __future__ import annotations

from boxoffice import ids
from boxoffice.sales.catalogue import EventView
from boxoffice.stores.record import Charge
from boxoffice.wire.metadata import metadata_of
from boxoffice.wire.requests import BookingRequest

__all__ = ["CLIENT", "KEY", "OTHER", "OTHER_KEY", "card", "lines_of", "order", "tier_of"]

CLIENT = "shop00000000"
"""The shop."""
KEY = "shop.secret-of-the-shop"
"""Its API key."""

OTHER = "other0000000"
"""Another one, whose bookings are none of the shop's business."""
OTHER_KEY = "other.secret-of-the-other"


def card(token: str = "tok_ok") -> Charge:
    """A card with which the simulated gateway behaves so: `card("tok_3ds")`."""
    digits = {"tok_ok": "4242", "tok_card_declined": "0002"}.get(token, "9999")
    return Charge("card", f"{token}_{digits}", "Ada Lovelace", digits)


def tier_of(event: EventView, code: str) -> str:
    """A tier's id."""
    return next(tier.id for tier in event.tiers if tier.code == code)


def lines_of(event: EventView, **tickets: int) -> tuple[tuple[str, int], ...]:
    """So many tickets of each tier, by code."""
    return tuple((tier_of(event, code), quantity) for code, quantity in tickets.items())


def order(
    event: EventView, token: str | None = "tok_ok", *, customer: str = "ada", reference: str | None = None,
    hold_s: int | None = None, metadata: dict[str, str] | None = None, return_url: str | None = None,
    access_code: str = "", **tickets: int,
) -> BookingRequest:  # fmt: skip
    """`order(event, GA=2)`. Without a token it is to be held."""
    return BookingRequest(
        customer, lines_of(event, **tickets), reference, card(token) if token else None, hold_s,
        metadata=metadata_of(metadata) if metadata else None, return_url=return_url,
        access_code=ids.code_digest(access_code) if access_code else "",
    )  # fmt: skip
