"""What is left of an event, as a stream tells it: exact where it matters, coarse where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from boxoffice.sales.catalogue import EventView, TierView

__all__ = ["EXACT_BELOW", "AvailabilityView", "TierLeft", "availability_of", "coarse"]

EXACT_BELOW: Final = 100
"""So many tickets, or more, are told in two digits and zeros, rounded down: of thousands, who waits need not see each go."""


class TierLeft(msgspec.Struct, gc=False):
    """One active tier."""

    tier_id: str
    code: str
    on_sale: bool
    """Whether anybody may buy of it now, as far as its sale goes."""
    available: int
    """Rounded down when it is not exact."""
    exact: bool


class AvailabilityView(msgspec.Struct, gc=False):
    """What is left of an event, and whether it is sold now."""

    event_id: str
    status: str
    on_sale: bool
    """Whether one of its tiers is."""
    sold_out: bool
    """Whether nothing is left of any of its tiers."""
    tiers: list[TierLeft]


def availability_of(event: EventView, available: Sequence[int], now_s: float) -> AvailabilityView:
    """Of its active tiers in display order. `available`: of all tiers; `now_s`: seconds of the epoch."""
    sold = event.status == "active" and event.starts_ms > 1_000 * now_s
    tiers = [
        _left(tier, tickets, on_sale=sold and event.in_window(tier, now_s))
        for tier, tickets in zip(event.tiers, available, strict=True)
        if tier.active
    ]
    on_sale, left = any(tier.on_sale for tier in tiers), any(tier.available for tier in tiers)
    return AvailabilityView(event.id, event.status, on_sale, not left, tiers)


def _left(tier: TierView, tickets: int, *, on_sale: bool) -> TierLeft:
    return TierLeft(tier.id, tier.code, on_sale, coarse(tickets), tickets < EXACT_BELOW)


def coarse(tickets: int) -> int:
    """So many, rounded down to two digits and zeros."""
    unit = 1
    while tickets // unit >= EXACT_BELOW:
        unit *= 10
    return tickets // unit * unit
