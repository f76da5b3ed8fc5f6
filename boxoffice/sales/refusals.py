"""Why tickets are not to be had, in the words of every request that takes some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from boxoffice.errors import DeclinedTooOften, SaleClosed, SoldOut
from boxoffice.sales.catalogue import EventView

__all__ = ["declined_too_often", "sale_closed", "sold_out"]

RETURN_S: Final = 15
"""When to ask again for tickets that may come back, unless a hold ends sooner: one may be paid, cancelled or declined any
moment."""


_DECLINED: Final = {
    "customer": "Too many payments of this customer were declined lately; no other is tried for now.",
    "client": "Too many payments of this shop's customers were declined lately; no other is tried for now.",
    "event": "Too many payments for this event were declined lately; no other is tried for now.",
}


def declined_too_often(whose: str, left_ms: int) -> DeclinedTooOften:
    """Of whom so many payments were declined that no other is tried for so long: `customer`, `client` or `event`."""
    return DeclinedTooOften(_DECLINED[whose], whose=whose, retry_after_s=max(1, -(-left_ms // 1_000)))


def sold_out(
    event: EventView, wanted: Iterable[tuple[str, int]], left: Mapping[str, int], held: Mapping[str, int],
    next_end_ms: int, now_ms: int,
) -> SoldOut:  # fmt: skip
    """Fewer tickets are left than were asked for (tier and quantity). `left` and `held` are by tier, of every tier that is
    short; a counter that is wrong may be below 0. `next_end_ms`: when the next hold ends, 0 when nobody knows of one.

    Tickets that are held, pending or set aside for others (`held` has them all) may come back. It says when to ask again only
    if some of every tier may: otherwise waiting is in vain.
    """
    codes = {tier.id: tier.code for tier in event.tiers}
    shortfall: list[dict[str, Any]] = [
        {
            "tier_id": tier, "code": codes[tier], "requested": quantity, "available": max(0, left[tier]),
            "may_return": held[tier] > 0,
        }
        for tier, quantity in wanted
        if tier in left
    ]  # fmt: skip
    detail = "; ".join(
        f"{short['code']}: requested {short['requested']}, available {short['available']}" for short in shortfall
    )
    gone = [short["code"] for short in shortfall if not short["may_return"]]
    hope = (
        f"Nothing of {', '.join(gone)} is held that may come back."
        if gone
        else "Tickets that are held or set aside may come back."
    )
    wait_ms = next_end_ms - now_ms if next_end_ms else 1_000 * RETURN_S
    wait = {} if gone else {"retry_after_s": max(1, min(RETURN_S, -(-wait_ms // 1_000)))}
    return SoldOut(
        f"Not enough tickets are left. {detail}. {hope}", shortfall=shortfall, may_return=not gone, **wait
    )  # fmt: skip


def sale_closed(event: EventView, why: str) -> SaleClosed:
    """`why` is `event`, `started`, or the id of a tier that is off sale."""
    if why == "event":
        return SaleClosed("The event is not on sale.", reason="event")
    if why == "started":
        return SaleClosed("The event has started.", reason="started")
    code = next((tier.code for tier in event.tiers if tier.id == why), why)
    return SaleClosed(f"Tier {code} is not on sale.", reason="tier", tier_id=why)
