"""What a stream says of an event: exact near the end, coarse before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from boxoffice.clock import iso
from boxoffice.sales.catalogue import EventView, TierView
from boxoffice.wire.availability import availability_of, coarse

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def event(*tiers: TierView, status: str = "active") -> EventView:
    starts = NOW + timedelta(days=1)
    return EventView("e", "Concert", iso(starts), int(starts.timestamp() * 1_000), status, "USD", 1, 0, tiers)


def tier(name: str, *, active: bool = True, on_sale_at: datetime | None = None) -> TierView:
    return TierView(name, name, name, 1_000, 500, active, on_sale_at and iso(on_sale_at))


@pytest.mark.parametrize(
    ("tickets", "told"),
    [(0, 0), (1, 1), (99, 99), (100, 100), (109, 100), (110, 110), (999, 990), (1_000, 1_000), (98_765, 98_000)],
)
def test_thousands_are_told_in_two_digits(tickets: int, told: int) -> None:
    assert coarse(tickets) == told


def test_what_is_exact_says_so() -> None:
    (many, few) = availability_of(event(tier("a"), tier("b")), [12_345, 99], NOW.timestamp()).tiers
    assert (many.available, many.exact, few.available, few.exact) == (12_000, False, 99, True)


def test_it_is_sold_out_when_nothing_is_left_of_any_tier() -> None:
    sale = event(tier("a"), tier("b"), tier("gone", active=False))
    told = [availability_of(sale, left, NOW.timestamp()) for left in ([1, 0, 5], [0, 0, 5])]
    assert [(each.sold_out, len(each.tiers)) for each in told] == [(False, 2), (True, 2)]


def test_a_sale_opens_and_stops() -> None:
    opens = NOW + timedelta(hours=1)
    sale = event(tier("a"), tier("b", on_sale_at=opens))
    before, after = [availability_of(sale, [1, 1], at.timestamp()) for at in (NOW, opens)]
    assert [[each.on_sale for each in told.tiers] for told in (before, after)] == [[True, False], [True, True]]
    assert not availability_of(event(tier("a"), status="paused"), [1], NOW.timestamp()).on_sale
    assert not availability_of(sale, [1, 1], (NOW + timedelta(days=1)).timestamp()).on_sale, "it has begun"
