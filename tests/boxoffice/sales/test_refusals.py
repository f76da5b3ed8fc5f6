"""Why tickets are not to be had, and whether they may come back."""

from __future__ import annotations

import pytest

from boxoffice.sales.catalogue import EventView, TierView
from boxoffice.sales.refusals import RETURN_S, sale_closed, sold_out

TIERS = tuple(TierView(f"tier{n}", f"T{n}", "Tier", 1_000 * n, 50, True) for n in (1, 2, 3))
EVENT = EventView("event", "Concert", "", 1, "active", "USD", 0, 0, TIERS)
NOW_MS = 1_763_840_000_007


@pytest.mark.parametrize(
    ("held", "hope"),
    [
        ({"tier1": 1, "tier2": 5}, "Tickets that are held or set aside may come back."),
        ({"tier1": 1, "tier2": 0}, "Nothing of T2 is held that may come back."),
        ({"tier1": -1, "tier2": 0}, "Nothing of T1, T2 is held that may come back."),
    ],
)
def test_tickets_may_come_back_while_some_of_every_short_tier_are_held(held: dict[str, int], hope: str) -> None:
    """A tier that has enough is not named. Waiting for one tier is in vain when another of them is gone."""
    asked = [("tier1", 2), ("tier2", 1), ("tier3", 9)]
    refused = sold_out(EVENT, asked, {"tier2": 0, "tier1": -3}, held, 0, NOW_MS)

    may = {tier: count > 0 for tier, count in held.items()}
    assert refused.details["shortfall"] == [
        {"tier_id": "tier1", "code": "T1", "requested": 2, "available": 0, "may_return": may["tier1"]},
        {"tier_id": "tier2", "code": "T2", "requested": 1, "available": 0, "may_return": may["tier2"]},
    ]
    assert refused.details["may_return"] is all(may.values())
    assert ("retry_after_s" in refused.details) is all(may.values())
    said = "T1: requested 2, available 0; T2: requested 1, available 0."
    assert refused.detail == f"Not enough tickets are left. {said} {hope}"


@pytest.mark.parametrize(
    ("in_ms", "seconds"),
    [(-1, 1), (0, 1), (1, 1), (1_000, 1), (1_001, 2), (14_000, 14), (15_000, RETURN_S), (600_000, RETURN_S)],
)
def test_when_to_ask_again(in_ms: int, seconds: int) -> None:
    """When the next hold ends, in whole seconds and never at once; sooner than in a minute, for any may be cancelled."""
    refused = sold_out(EVENT, [("tier1", 1)], {"tier1": 0}, {"tier1": 1}, NOW_MS + in_ms, NOW_MS)
    assert refused.details["retry_after_s"] == seconds


def test_who_is_at_the_bank_may_come_back_too() -> None:
    """While no hold of the shard has an end."""
    refused = sold_out(EVENT, [("tier1", 1)], {"tier1": 0}, {"tier1": 1}, 0, NOW_MS)
    assert refused.details["retry_after_s"] == RETURN_S


@pytest.mark.parametrize(
    ("why", "reason", "detail"),
    [
        ("event", {"reason": "event"}, "The event is not on sale."),
        ("started", {"reason": "started"}, "The event has started."),
        ("tier2", {"reason": "tier", "tier_id": "tier2"}, "Tier T2 is not on sale."),
        ("tier9", {"reason": "tier", "tier_id": "tier9"}, "Tier tier9 is not on sale."),
    ],
)
def test_what_is_not_on_sale_is_named(why: str, reason: dict[str, str], detail: str) -> None:
    refused = sale_closed(EVENT, why)
    assert (refused.details, refused.detail) == (reason, detail)
