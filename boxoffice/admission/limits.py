"""How shops are told of the rules that a booking would break: least and most tickets of a booking, and of a customer."""

from __future__ import annotations

from typing import Any

from boxoffice.admission import outcomes
from boxoffice.errors import BookingLimit, CustomerLimit
from boxoffice.sales.catalogue import EventView

__all__ = ["beyond"]


def beyond(event: EventView, outcome: outcomes.BookingLimit | outcomes.CustomerLimit) -> BookingLimit | CustomerLimit:
    """With `least` and `limit`, of which tier, and of a customer what it has, and may still take: what is bounded alone."""
    tier = next((tier for tier in event.tiers if tier.id == outcome.tier), None)
    what = f"{_range(outcome.least, outcome.most)} of {f'tier {tier.code}' if tier else 'this event'}"
    details: dict[str, Any] = {
        "least": outcome.least, "limit": outcome.most, "tier_id": outcome.tier, "code": tier and tier.code,
    }  # fmt: skip
    if isinstance(outcome, outcomes.BookingLimit):
        return BookingLimit(f"A booking has {what}.", **_there(details))
    details |= {"held": outcome.have, "may_take": outcome.left}
    return CustomerLimit(f"A customer has {what}.", **_there(details))


def _there(details: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value is not None}


def _range(least: int | None, most: int | None) -> str:
    bounds = [f"{word} {tickets}" for word, tickets in (("at least", least), ("at most", most)) if tickets is not None]
    return f"{' and '.join(bounds)} tickets"
