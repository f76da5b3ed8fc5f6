"""Payments that are to be looked at: who claims one, whose lease it is, and when it is over.

A test is one transaction, in which now() stands still: times are told in seconds from then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from boxoffice.books import looks
from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker, settle_all
from tests.support.shop.office import book

Seen = dict[str, tuple[float, float | None, int]]


class Rows:
    """Payments `mine` and `other` of two bookings, and looks, in one transaction."""

    def __init__(self, session: Any, now: datetime, mine: str, other: str) -> None:
        self.session, self.now, self.mine, self.other = session, now, mine, other

    def at(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=seconds)

    async def put(self, key: str, due_at: float = -5, leased: float | None = None, tries: int = 3) -> None:
        """A look."""
        await self.session.execute(
            "INSERT INTO looks (payment_key, due_at, leased_until, tries) VALUES ($1, $2, $3, $4)",
            key, self.at(due_at), None if leased is None else self.at(leased), tries,
        )  # fmt: skip

    async def all(self) -> Seen:
        """Due at, leased until and tries, by payment."""
        rows = await self.session.fetch("SELECT payment_key, due_at, leased_until, tries FROM looks")
        return {
            row["payment_key"]: (
                (row["due_at"] - self.now).total_seconds(),
                row["leased_until"] and (row["leased_until"] - self.now).total_seconds(),
                row["tries"],
            )
            for row in rows
        }


@pytest.fixture
async def rows(office: BoxOffice, open_sale: SaleMaker) -> AsyncIterator[Rows]:
    event = await open_sale(GA=10)
    mine, other = [(await book(office, event, customer=name, GA=1)).booking_id for name in ("mine", "other")]
    await settle_all(office)
    async with (await office.pool()).acquire() as session, session.transaction():
        for key, booking in (("mine", mine), ("other", other)):
            await session.execute(
                "UPDATE payments SET payment_key = $1, gateway = 'bank/1', reference = 'ref of ' || $1 WHERE booking_id = $2",
                key, booking,
            )  # fmt: skip
        yield Rows(session, await session.fetchval("SELECT now()"), mine, other)


@pytest.mark.parametrize(
    ("due_at", "leased", "gateway", "claimed"),
    [
        (-5, None, "bank/1", True), (0, None, "bank/1", True), (0.001, None, "bank/1", False), (-5, -0.001, "bank/1", True),
        (-5, 0, "bank/1", False), (-5, None, "bank/2", False), (-5, None, "bank", True),
    ],
)  # fmt: skip
async def test_what_is_due_and_nobodys_is_claimed(
    rows: Rows, due_at: float, leased: float | None, gateway: str, claimed: bool
) -> None:
    await rows.put("mine", due_at, leased)
    await rows.put("other", leased=9)
    await rows.session.execute("UPDATE payments SET gateway = $1 WHERE payment_key = 'mine'", gateway)
    before = await rows.all()
    found = await looks.claim_due(rows.session, 1_500, 5, "bank/1")
    assert [tuple(each) for each in found] == [("mine", "ref of mine", 4, rows.at(1.5))] * claimed
    assert await rows.all() == before | ({"mine": (due_at, 1.5, 4)} if claimed else {})


async def test_so_many_are_claimed_the_longest_due_first(rows: Rows) -> None:
    await rows.put("mine", -1)
    await rows.put("other", -2)
    assert [each.payment_key for each in await looks.claim_due(rows.session, 1_000, 1, "bank/1")] == ["other"]
    assert [each.payment_key for each in await looks.claim_due(rows.session, 1_000, 1, "bank/1")] == ["mine"]


@pytest.mark.parametrize("ours", [True, False])
async def test_only_whoever_still_has_the_lease_ends_it(rows: Rows, ours: bool) -> None:
    """News end it; then the row stays, and is due at once."""
    for key in ("mine", "other"):
        await rows.put(key, leased=9)
    leased_until = rows.at(9 if ours else 8)
    before = await rows.all()
    await looks.put_off(rows.session, "mine", leased_until, 2_500)
    assert await rows.all() == before | ({"mine": (2.5, None, 3)} if ours else {})
    await rows.session.execute("UPDATE looks SET leased_until = $1", rows.at(9))
    await looks.close(rows.session, "mine", leased_until)
    assert set(await rows.all()) == ({"other"} if ours else {"mine", "other"})


async def test_payments_of_bookings_are_looked_at_when_money_went_back(rows: Rows) -> None:
    """Each once, of these bookings; who is looked at already stays as it is, and nothing was given back of nothing."""

    async def refund(key: str, booking: str, payment: str | None, cents: int) -> None:
        await rows.session.execute(
            "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, reason)"
            " VALUES ($1, $2, $3, $4, 'USD', 'r')",
            key, booking, payment, cents,
        )  # fmt: skip

    await refund("none", rows.mine, None, 5)
    await refund("nothing", rows.mine, "mine", 0)
    await refund("theirs", rows.other, "other", 5)
    await looks.ask_for(rows.session, [rows.mine])
    assert await rows.all() == {}
    await refund("first", rows.mine, "mine", 5)
    await refund("second", rows.mine, "mine", 5)
    await looks.ask_for(rows.session, [rows.mine])
    assert await rows.all() == {"mine": (0, None, 0)}
    await rows.session.execute("UPDATE looks SET tries = 7, leased_until = $1", rows.at(3))
    await looks.ask_for(rows.session, [rows.mine, rows.other])
    assert await rows.all() == {"mine": (0, 3, 7), "other": (0, None, 0)}


FIRST = {"gateway": "bank/1", "reference": "dp_1", "payment_key": "mine", "cents": 5, "status": "open", "reason": "fraud",
         "withdrawn": False}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, False), ({"cents": 6}, True), ({"status": "lost"}, True), ({"withdrawn": True}, True),
        ({"reason": "other"}, False),
        ({"gateway": "bank/2"}, True), ({"reference": "dp_2"}, True),
    ],
)  # fmt: skip
async def test_a_dispute_is_told_when_something_of_it_is_new(rows: Rows, change: dict[str, Any], told: bool) -> None:
    assert await looks.record_dispute(rows.session, **FIRST)
    assert await looks.record_dispute(rows.session, **FIRST | {"reference": "dp_other"})
    now = FIRST | change
    assert await looks.record_dispute(rows.session, **now) is told
    columns = "gateway, reference, payment_key, amount_cents, status, reason, withdrawn"
    found = {tuple(row) for row in await rows.session.fetch(f"SELECT {columns} FROM disputes")}
    apart = {"gateway", "reference"} & change.keys()
    wanted = [FIRST | {"reference": "dp_other"}, now if told else FIRST, *([FIRST] if apart else [])]
    assert found == {tuple(each.values()) for each in wanted}
