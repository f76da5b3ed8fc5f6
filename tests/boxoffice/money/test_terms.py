"""Whether a booking may be cancelled or refunded, and how much comes back: tables, no store."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.books.sold import Item, Paid, Sold
from boxoffice.errors import BoxOfficeError, Malformed, NotCancellable, RefundOwed, RefundTooLarge
from boxoffice.money.terms import (
    Back,
    cancellation,
    check_cancellable,
    check_not_owed,
    left_of,
    payable,
    refund_of,
)

ITEMS = (Item("ga", 3, 1, 1_000), Item("vip", 2, 0, 555))


def sold(status: str = "confirmed", *, percent: int = 100, too_late: bool = False, items: Any = ITEMS) -> Sold:
    return Sold("b1", status, "shop", "ada", None, "event", "EUR", percent, 0, too_late, items)


def test_what_is_left_is_what_has_not_come_back() -> None:
    assert left_of(ITEMS) == {"ga": 2, "vip": 2}


@pytest.mark.parametrize(
    ("status", "too_late", "by_terms", "why"),
    [
        ("confirmed", False, True, None),
        ("confirmed", True, False, None),
        ("confirmed", True, True, "The time to cancel has passed."),
        ("failed", False, True, "The booking is failed."),
        ("cancelled", True, True, "The booking is cancelled."),
        ("held", True, False, "The booking is held."),
    ],
)
def test_who_may_cancel(status: str, too_late: bool, by_terms: bool, why: str | None) -> None:
    if why is None:
        check_cancellable(sold(status, too_late=too_late), by_terms=by_terms)
        return
    with pytest.raises(NotCancellable) as refused:
        check_cancellable(sold(status, too_late=too_late), by_terms=by_terms)
    assert (refused.value.detail, refused.value.details["booking_status"]) == (why, status)


@pytest.mark.parametrize(("percent", "cents"), [(100, 3_110), (50, 1_555), (33, 1_026), (1, 31), (0, 0)])
def test_a_cancellation_gives_back_all_that_is_left_at_its_share(percent: int, cents: int) -> None:
    """Rounded down, of the whole."""
    assert cancellation(sold(percent=percent)) == Back({"ga": 2, "vip": 2}, cents, ends=True)


@pytest.mark.parametrize(
    ("wanted", "back"),
    [
        (None, Back({"ga": 2, "vip": 2}, 3_110, ends=True)),
        ({"ga": 2, "vip": 2}, Back({"ga": 2, "vip": 2}, 3_110, ends=True)),
        ({"ga": 2}, Back({"ga": 2}, 2_000, ends=False)),
        ({"vip": 1}, Back({"vip": 1}, 555, ends=False)),
        ({"ga": 2, "vip": 1}, Back({"ga": 2, "vip": 1}, 2_555, ends=False)),
    ],
)
def test_a_refund_is_at_full_price_whatever_a_cancellation_gives(wanted: dict[str, int] | None, back: Back) -> None:
    assert refund_of(sold(percent=10), wanted) == back


@pytest.mark.parametrize(
    ("wanted", "error", "told"),
    [
        ({"ga": 3}, RefundTooLarge, {"tier_id": "ga", "requested": 3, "refundable": 2}),
        ({"ga": 1, "vip": 9}, RefundTooLarge, {"tier_id": "vip", "requested": 9, "refundable": 2}),
        ({"nobody": 1}, Malformed, {"pointer": "/items", "code": "unknown_tier"}),
    ],
)
def test_no_more_comes_back_than_is_there(
    wanted: dict[str, int], error: type[BoxOfficeError], told: dict[str, Any]
) -> None:
    with pytest.raises(error) as refused:
        refund_of(sold(), wanted)
    found = refused.value
    assert told == {name: found.details.get(name, getattr(found, name, None)) for name in told}


@pytest.mark.parametrize(
    ("wanted", "owed", "of"),
    [
        ({"ga": 1}, [], None),
        ({"ga": 1}, [(500, ["vip"])], None),
        ({"ga": 1}, [(0, ["ga"])], None),
        ({"ga": 1}, [(500, ["ga", "vip"]), (70, ["ga"]), (9, ["vip"])], ("ga", 570)),
        ({"vip": 1, "ga": 1}, [(500, ["ga", "vip"])], ("ga", 500)),
        ({"vip": 1}, [(500, [])], ("vip", 500)),
    ],
)
def test_what_is_owed_is_not_refunded_by_name(
    wanted: dict[str, int], owed: list[tuple[int, list[str]]], of: tuple[str, int] | None
) -> None:
    """Of an old one, whose moves were trimmed, nobody knows the tiers."""
    if of is None:
        check_not_owed(wanted, owed)
        return
    with pytest.raises(RefundOwed) as refused:
        check_not_owed(wanted, iter(owed))
    assert (refused.value.details["tier_id"], refused.value.details["owed_cents"]) == of


@pytest.mark.parametrize(
    ("cents", "paid", "spoken_for", "back"),
    [(500, 900, 0, 500), (500, 900, 400, 500), (500, 900, 401, 499), (500, 900, 900, 0), (0, 900, 0, 0)],
)
def test_no_more_money_comes_back_than_is_left_of_the_payment(
    cents: int, paid: int, spoken_for: int, back: int
) -> None:
    assert payable(cents, Paid("key", paid, spoken_for)) == back
