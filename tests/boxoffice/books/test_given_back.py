"""What was given back of a booking before: of its own refunds, the one that is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.books import given_back
from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker, settle_all
from tests.support.shop.office import book_many


class Shelf:
    """Refunds of two bookings, written down one by one, a minute apart."""

    def __init__(self, session: Any, mine: str, other: str) -> None:
        self.session, self.mine, self.other = session, mine, other
        self._minutes = 0

    async def put(self, key: str, status: str, *, attempt: int = 0, cents: int = 100, other: bool = False) -> None:
        """A refund of my booking, or of the other one."""
        self._minutes += 1
        await self.session.execute(
            "INSERT INTO refunds (refund_key, booking_id, amount_cents, currency, reason, status, attempt, fingerprint,"
            " owed_since, failure_code, written_off_at, written_off_by, written_off_reason, created_at, updated_at)"
            " SELECT $1, $2, $3, 'USD', 'r', $4, $5, 'print of ' || $1, CASE WHEN $4 = 'owed' THEN now() END, 'why',"
            " CASE WHEN w THEN now() END, CASE WHEN w THEN 'eve' END, CASE WHEN w THEN 'why' END, t, t"
            " FROM (SELECT $4 = 'written_off' AS w, now() + $6 * interval '1 minute' AS t) AS x",
            key, self.other if other else self.mine, cents, status, attempt, self._minutes,
        )  # fmt: skip


@pytest.fixture
async def shelf(office: BoxOffice, open_sale: SaleMaker) -> Any:
    mine, other = await book_many(office, await open_sale(GA=10), 2, GA=2)
    await settle_all(office)
    async with (await office.pool()).acquire() as session:
        yield Shelf(session, mine, other)


async def test_the_latest_refund_is_the_earlier_one_or_the_one_that_is_named(shelf: Shelf) -> None:
    assert await given_back.earlier(shelf.session, shelf.mine, None) is None
    await shelf.put("first", "succeeded", cents=7)
    await shelf.put("second", "due", cents=9)
    await shelf.put("theirs", "due", other=True)
    for key, found in (
        (None, ("second", 9, "USD", "due")), ("first", ("first", 7, "USD", "succeeded")), ("theirs", None), ("none", None),
    ):  # fmt: skip
        assert await given_back.earlier(shelf.session, shelf.mine, key) == found


@pytest.mark.parametrize(
    ("status", "attempt", "counts"),
    [
        ("due", 1, True), ("pending", 1, True), ("succeeded", 2, True), ("owed", 1, True), ("dropped", 1, False),
        ("written_off", 1, False), ("due", 0, False), ("owed", 0, False),
    ],
)  # fmt: skip
async def test_which_refund_the_gateway_has_refused(shelf: Shelf, status: str, attempt: int, counts: bool) -> None:
    """The one that moved last, of this booking."""
    await shelf.put("earlier", "succeeded", attempt=1)
    await shelf.put("this", status, attempt=attempt)
    await shelf.put("theirs", "due", attempt=1, other=True)
    assert await given_back.refused_once(shelf.session, shelf.mine) == ("this" if counts else "earlier")
    await shelf.session.execute("UPDATE refunds SET updated_at = now() + interval '1 day' WHERE refund_key = 'earlier'")
    assert await given_back.refused_once(shelf.session, shelf.mine) == "earlier"
    await shelf.session.execute("DELETE FROM refunds WHERE booking_id = $1", shelf.mine)
    assert await given_back.refused_once(shelf.session, shelf.mine) is None


async def test_a_key_is_known_by_its_own_refund(shelf: Shelf) -> None:
    await shelf.put("mine", "due")
    await shelf.put("theirs", "due", other=True)
    for key in ("mine", "theirs"):
        assert await given_back.is_there(shelf.session, key)
        assert (await given_back.refund_before(shelf.session, key))["fingerprint"] == f"print of {key}"
    assert not await given_back.is_there(shelf.session, "none")
    assert await given_back.refund_before(shelf.session, "none") is None


async def test_what_is_owed_with_the_tiers_that_came_back(shelf: Shelf) -> None:
    """Of each refund that is owed, its own moves."""
    await shelf.put("owed", "owed", cents=30)
    await shelf.put("paid", "succeeded", cents=40)
    await shelf.put("bare", "owed", cents=50)
    await shelf.put("theirs", "owed", cents=60, other=True)
    (tier, event) = await shelf.session.fetchrow("SELECT id, event_id FROM tiers")
    for key, booking in (("owed", shelf.mine), ("paid", shelf.mine), ("theirs", shelf.other)):
        await shelf.session.execute(
            "INSERT INTO stock_moves (event_id, tier_id, booking_id, sold_delta, refund_key) VALUES ($1, $2, $3, -1, $4)",
            event, tier, booking, key,
        )  # fmt: skip
    found = await given_back.owed_tiers(shelf.session, shelf.mine)
    assert sorted(found) == [(30, [tier]), (50, [])]
