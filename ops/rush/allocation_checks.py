"""The audit's look at what was set aside for a shop or a code: I14. Counted by what the operator was told and by bookings; the
counts of the scripts are I7's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from ops.rush.agreed import Aside
from ops.rush.findings import Finding, Findings
from ops.rush.history import History
from ops.rush.setting_aside import Allotted
from ops.rush.stock_checks import OpenBookings, Pool

__all__ = ["check_allocations", "check_sides"]

_TOTAL: Final = "SELECT total FROM inventory WHERE tier_id = $1"

_BOUGHT: Final = """
SELECT b.client_id AS shop, b.access_code AS code, sum(i.quantity - i.refunded)::int AS tickets
FROM bookings b JOIN booking_items i ON i.booking_id = b.id WHERE i.tier_id = $1 AND b.status = 'confirmed' GROUP BY 1, 2
"""

_ALLOCATIONS: Final = """
SELECT a.id, coalesce('@' || a.client_id, 'k' || c.digest) AS holder, a.tickets
FROM allocations a LEFT JOIN access_codes c ON c.id = a.code_id WHERE a.event_id = $1 AND a.released_at IS NULL
"""


async def check_allocations(
    pool: Pool, asides: Mapping[str, Aside], answers: Mapping[str, list[Allotted] | None], history: History,
    opened: OpenBookings, *, went_back: bool, findings: Findings,
) -> None:  # fmt: skip
    """`went_back`: a store did meanwhile, and may have forgotten what was set aside, or brought back tickets that others had
    bought by then. What shops are told at the end nothing excuses."""
    finding, allocations, used = findings["I14"], 0, 0
    for event, aside in asides.items():
        rows = {row["id"]: (row["holder"], row["tickets"]) for row in await pool.fetch(_ALLOCATIONS, event)}
        has = await _tickets(pool, event, aside.tier, opened)
        available = await pool.fetchval(_TOTAL, aside.tier) - has[""]
        left = {holder: max(0, tickets - has[holder]) for holder, tickets in rows.values()}
        heard = answers.get(event)
        if heard is not None and not went_back:
            _check_heard(event, heard, rows, finding)
            if (short := sum(left.values()) - available) > (lacking := sum(row.lacking for row in heard)):
                finding.blame(
                    f"event {event}: {short} tickets that are set aside are not there, {lacking} were told of"
                )
        _check_left(event, aside, available, left, history, finding)
        allocations += len(rows)
        used += sum(min(tickets, has[holder]) for holder, tickets in rows.values())
    finding.looked_at.append(f"{allocations} allocations at the end, {used} tickets used of them")


async def _tickets(pool: Pool, event: str, tier: str, opened: OpenBookings) -> Counter[str]:
    """Held and bought ones: in all (""), of each shop and of each code."""
    has = Counter({"": opened.held[tier]})
    for (who, where), tickets in opened.owned.get(event, {}).items():
        if where == tier:
            has[who] += tickets
    for row in await pool.fetch(_BOUGHT, tier):
        for who in ("", f"@{row['shop']}", *([f"k{row['code']}"] if row["code"] else [])):
            has[who] += row["tickets"]
    return has


def _check_heard(
    event: str, heard: list[Allotted], rows: Mapping[str, tuple[str, int]], finding: Finding
) -> None:  # fmt: skip
    """What was set aside, changed and released is as it was told last."""
    if {row.id: (row.holder, row.tickets) for row in heard} != dict(rows):
        finding.blame(f"event {event}: {_listed(heard)} were told to be set aside, {sorted(rows.values())} are")


def _listed(heard: Iterable[Allotted]) -> list[tuple[str, int]]:
    return sorted((row.holder, row.tickets) for row in heard)


def _check_left(
    event: str, aside: Aside, available: int, left: Mapping[str, int], history: History, finding: Finding
) -> None:
    """Each shop is told what it may sell without a code: what is reserved for nobody, and for itself."""
    free = max(0, available - sum(left.values()))
    for shop in (history.client, aside.shop):
        shown = history.left.get((shop, event), {}).get(aside.tier)
        right = max(0, min(available, free + left.get(f"@{shop}", 0)))
        if shown is not None and shown != right:
            finding.blame(f"event {event}: shop {shop} is told of {shown} tickets, and may sell {right}")


def check_sides(free: Mapping[str, int], before: Mapping[str, int]) -> list[str]:
    """Tiers of which somebody took what is set aside for another, between two looks at the same allocations: what is available
    less what is reserved never falls below zero, nor further below."""
    return [tier for tier, left in free.items() if left < min(0, before.get(tier, left))]
