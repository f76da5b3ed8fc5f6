"""Whether a booking may be cancelled or refunded, and how much comes back. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from boxoffice.books.sold import Item, Paid, Sold
from boxoffice.errors import Malformed, NotCancellable, RefundOwed, RefundTooLarge

__all__ = ["Back", "cancellation", "check_cancellable", "check_not_owed", "left_of", "payable", "refund_of"]


class Back(NamedTuple):
    """What is to come back of a booking."""

    tickets: dict[str, int]
    """Tier to quantity."""
    cents: int
    ends: bool
    """Nothing is left of the booking then."""


def left_of(items: Iterable[Item]) -> dict[str, int]:
    """Tier to the tickets that have not come back."""
    return {item.tier: item.quantity - item.refunded for item in items}


def check_cancellable(sold: Sold, *, by_terms: bool) -> None:
    """Raises `NotCancellable` of a booking that is not confirmed; `by_terms` also when the time to cancel has passed."""
    if sold.status != "confirmed":
        raise NotCancellable(f"The booking is {sold.status}.", booking_status=sold.status)
    if by_terms and sold.too_late:
        raise NotCancellable("The time to cancel has passed.", booking_status=sold.status)


def cancellation(sold: Sold) -> Back:
    """All that is left, at its event's share of the price, rounded down."""
    back = left_of(sold.items)
    price = sum(back[item.tier] * item.unit_price_cents for item in sold.items)
    return Back(back, price * sold.refund_percent // 100, ends=True)


def refund_of(sold: Sold, wanted: Mapping[str, int] | None) -> Back:
    """These tickets (tier to quantity) at their full price, or (None) all that are left.

    Raises `Malformed` for a tier that the booking does not have, `RefundTooLarge` for more than are left of it.
    """
    left = left_of(sold.items)
    back = dict(wanted) if wanted is not None else left
    for tier, quantity in back.items():
        if tier not in left:
            raise Malformed("The booking has no such tier.", pointer="/items", code="unknown_tier")
        if quantity > left[tier]:
            raise RefundTooLarge(tier_id=tier, requested=quantity, refundable=left[tier])
    cents = sum(back.get(item.tier, 0) * item.unit_price_cents for item in sold.items)
    return Back(back, cents, all(left[tier] == back.get(tier, 0) for tier in left))


def check_not_owed(wanted: Iterable[str], owed: Iterable[tuple[int, list[str]]]) -> None:
    """Raises `RefundOwed` when some of these tiers were to be refunded before, of the first of them. `owed`: cents and tiers of
    each refund; nobody knows of which tiers an old one was."""
    owed = list(owed)
    for tier in sorted(wanted):
        cents = sum(cents for cents, tiers in owed if tier in (tiers or [tier]))
        if cents:
            raise RefundOwed(tier_id=tier, owed_cents=cents)


def payable(cents: int, paid: Paid) -> int:
    """How much of that can come back of the payment: no more than is left of it."""
    return min(cents, paid.amount_cents - paid.spoken_for_cents)
