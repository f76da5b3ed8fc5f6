"""The audit's look at what an operator changed while the sale went on: I12. And whether Redis sells by the terms that
PostgreSQL has: I3."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from boxoffice.sales.catalogue import EventView
from boxoffice.sales.loading import read_events
from boxoffice.stores import keys
from boxoffice.stores.shard import Shards
from ops.rush.findings import Findings
from ops.rush.operating import Changes, Price
from ops.rush.stock_checks import Pool

__all__ = ["check_changes", "check_terms"]

SLACK_S: Final = 0.02
"""Times of admission are whole milliseconds of another process's clock."""

_PRICES: Final = """
SELECT i.tier_id AS tier, i.unit_price_cents AS cents, count(*) AS bookings,
       extract(epoch FROM min(b.created_at) FILTER (WHERE b.expires_at IS NULL))::float8 AS first,
       extract(epoch FROM max(b.created_at))::float8 AS last
FROM booking_items i JOIN bookings b ON b.id = i.booking_id WHERE i.tier_id = ANY($1::text[]) GROUP BY 1, 2
"""
"""A hold may have been changed since it was let in: what came then is at the price of that time."""

_ADMITTED: Final = """
SELECT count(*) FROM bookings
WHERE event_id = $1 AND created_at > to_timestamp($2::float8) AND created_at < to_timestamp($3::float8)
"""

_TOTALS: Final = "SELECT tier_id AS tier, total FROM inventory WHERE tier_id = ANY($1::text[])"


async def check_changes(pool: Pool, changes: Changes, *, went_back: bool, findings: Findings) -> None:
    """`went_back`: a store did meanwhile, and may have forgotten a change: then only what was never asked for is broken."""
    finding = findings["I12"]
    for row in await pool.fetch(_PRICES, list(changes.prices)):
        if trouble := _price_trouble(row, changes.prices[row["tier"]], went_back):
            finding.blame(f"tier {row['tier']}: {row['bookings']} bookings at {row['cents']}, {trouble}")
    if not went_back:
        for row in await pool.fetch(_TOTALS, list(changes.capacities)):
            answered = changes.capacities[row["tier"]]
            if answered not in (None, row["total"]):
                finding.blame(f"tier {row['tier']}: a capacity of {answered} was told, it is {row['total']}")
        for pause in changes.pauses:
            if let_in := await pool.fetchval(_ADMITTED, pause.event, pause.from_s + SLACK_S, pause.until_s - SLACK_S):
                finding.blame(f"event {pause.event}: {let_in} bookings were let in while it was paused")
    made = ", ".join(f"{count} {what}" for what, count in sorted(changes.made.items()))
    finding.looked_at.append(f"{made or 'nothing was changed'}{', and a store went back' if went_back else ''}")


def _price_trouble(row: Any, prices: list[Price], went_back: bool) -> str:
    at = next((at for at, price in enumerate(prices) if price.cents == row["cents"]), None)
    if at is None:
        return "which it never cost"
    if went_back:
        return ""
    if row["first"] is not None and row["first"] < prices[at].sent_s - SLACK_S:
        return "one of them before that was asked for"
    # A price ends when the next that was answered is in force: one that nobody confirmed may have come, or not.
    ends_s = min((price.answered_s for price in prices[at + 1 :]), default=None)
    if ends_s is not None and row["last"] > ends_s + SLACK_S:
        return "one of them after another price was in force"
    return ""


async def check_terms(shards: Shards, pool: Pool, findings: Findings) -> None:
    """Status, times, limits, prices and capacities by which Redis lets in, and those of PostgreSQL."""
    events = await read_events(pool)
    for event in events:
        view, here = event.view, shards[event.view.shard]
        raw = await here.redis.hget(keys.catalogue(here.number), view.id)  # type: ignore[misc]
        if raw is None:
            findings["I3"].blame(f"event {view.id}: Redis does not know it")
            continue
        there = msgspec.json.decode(raw, type=EventView)
        sold_for = await here.redis.hmget(  # type: ignore[misc]
            keys.event(here.number, view.id), [f"p:{tier.id}" for tier in view.tiers]
        )
        if different := [name for name in _DECIDING if getattr(view, name) != getattr(there, name)]:
            findings["I3"].blame(f"event {view.id}: {', '.join(different)} are others in Redis")
        for tier, price in zip(view.tiers, sold_for, strict=True):
            expected = f"{'' if tier.active else '-'}{tier.price_cents}"
            if (price or b"").decode() != expected:
                findings["I3"].blame(f"tier {tier.id}: costs {expected}, in Redis {(price or b'nothing').decode()}")
    findings["I3"].looked_at.append(f"terms of {len(events)} events")


_DECIDING: Final = ("status", "currency", "customer_max", "on_sale_at", "off_sale_at", "tiers", "allocated")
