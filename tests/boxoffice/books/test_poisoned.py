"""A parked booking that is failed: what is written of it where nothing is, and what moves where something is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from boxoffice import ids
from boxoffice.books import poisoned
from boxoffice.books.poisoned import Facts
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from tests.conftest import SaleMaker, settle_all
from tests.support.shop.office import book
from tests.support.shop.orders import CLIENT, OTHER, tier_of

NEW = "01900000-0000-7001-8000-000000000001"
EPOCH = datetime.fromtimestamp(0, UTC)


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=20, VIP=5)


@pytest.fixture
async def session(office: BoxOffice) -> Any:
    async with (await office.pool()).acquire() as session:
        yield session


def facts(event: EventView, **changes: Any) -> Facts:
    lines = ((tier_of(event, "GA"), 2, 1_000), (tier_of(event, "VIP"), 1, 2_500), ("nothing00000", 3, 7))
    given = {
        "client": CLIENT, "event": event.id, "customer": "ann", "reference": "ref", "amount_cents": 4_500, "currency": "EUR",
        "key": "k" * 32, "fingerprint": "print", "sequence": 77, "deadline_ms": 5_250, "admitted_ms": 3_125, "lines": lines,
    }  # fmt: skip
    return Facts(**given | changes)


async def failed(session: Any, event: EventView, key: str, reference: str, due: str | None) -> None:
    """A payment of the new booking."""
    await poisoned.fail_payment(
        session, key, NEW, facts(event), books="bank", last4="4242", status="failed", reference=reference, due=due
    )


COLUMNS = (
    "client_id, event_id, customer_id, reference, status, amount_cents, currency, idempotency_key, fingerprint,"
    " failure_code, sequence, expires_at, created_at"
)


async def test_a_row_that_is_lacking_is_written(session: Any, event: EventView) -> None:
    """Each field its own, with those of its items whose tiers there are; and once more changes nothing."""
    for _ in range(2):
        await poisoned.fail_booking(session, NEW, facts(event))
        row = await session.fetchrow(f"SELECT {COLUMNS} FROM bookings WHERE id = $1", NEW)
        assert tuple(row) == (
            CLIENT, event.id, "ann", "ref", "failed", 4_500, "EUR", "k" * 32, "print", "poison", 77,
            EPOCH + timedelta(milliseconds=5_250), EPOCH + timedelta(milliseconds=3_125),
        )  # fmt: skip
        items = await session.fetch(
            "SELECT booking_id, tier_id, quantity, unit_price_cents, line_total_cents FROM booking_items"
        )
        assert {tuple(item) for item in items} == {
            (UUID(NEW), tier_of(event, "GA"), 2, 1_000, 2_000), (UUID(NEW), tier_of(event, "VIP"), 1, 2_500, 2_500),
        }  # fmt: skip


async def test_a_booking_that_was_no_hold_has_no_end(session: Any, event: EventView) -> None:
    await poisoned.fail_booking(session, NEW, facts(event, deadline_ms=0, reference=None))
    row = await session.fetchrow("SELECT expires_at, reference FROM bookings WHERE id = $1", NEW)
    assert tuple(row) == (None, None)


@pytest.mark.parametrize(
    ("status", "failed"),
    [
        ("pending", True), ("held", True), ("confirmed", False), ("failed", False), ("expired", False), ("cancelled", False),
    ],
)  # fmt: skip
async def test_only_what_is_undecided_is_failed(
    office: BoxOffice, session: Any, event: EventView, status: str, failed: bool
) -> None:
    """No other row moves."""
    booked = [(await book(office, event, customer=name, GA=2)).booking_id for name in ("ann", "bob")]
    await settle_all(office)
    await session.execute("UPDATE bookings SET status = $1, updated_at = '2001-01-01'", status)
    await poisoned.fail_booking(session, booked[0], facts(event))
    rows = await session.fetch(
        "SELECT id::text AS id, status, failure_code, updated_at > '2002-01-01' FROM bookings"
    )  # fmt: skip
    stays = (status, None, False)
    assert {row["id"]: tuple(row)[1:] for row in rows} == {
        booked[0]: ("failed", "poison", True) if failed else stays, booked[1]: stays,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ("", True), ("client_id = 'other'", False), ("event_id = 'other'", False), ("duplicate_of = id", False),
        ("idempotency_key = 'another'", False),
    ],
)  # fmt: skip
async def test_a_key_that_another_booking_has_is_not_taken_from_it(
    office: BoxOffice, session: Any, event: EventView, open_sale: SaleMaker, change: str, taken: bool
) -> None:
    """Of the same client and event, that is no repeat itself."""
    other = await open_sale(GA=5)
    booking = (await book(office, event, GA=1)).booking_id
    await settle_all(office)
    await session.execute("UPDATE bookings SET idempotency_key = $2 WHERE id = $1", booking, "k" * 32)
    if change:
        change = change.replace("client_id = 'other'", f"client_id = '{OTHER}'")
        change = change.replace("event_id = 'other'", f"event_id = '{other.id}'")
        await session.execute(f"UPDATE bookings SET {change} WHERE id = $1", booking)
    for _ in range(2):
        await poisoned.fail_booking(session, NEW, facts(event))
        key = await session.fetchval("SELECT idempotency_key FROM bookings WHERE id = $1", NEW)
        assert key == (ids.digest(NEW, "k" * 32) if taken else "k" * 32)


@pytest.mark.parametrize("due", [None, "void"])
async def test_a_payment_that_is_lacking_is_written(session: Any, event: EventView, due: str | None) -> None:
    await poisoned.fail_booking(session, NEW, facts(event))
    await failed(session, event, "pay", "ref 1", due)
    row = await session.fetchrow(
        "SELECT payment_key, booking_id::text, gateway, method, last4, amount_cents, currency, status, reference,"
        " failure_code, due, due_at IS NOT NULL FROM payments"
    )
    assert tuple(row) == (
        "pay", NEW, "bank", "card", "4242", 4_500, "EUR", "failed", "ref 1", "poison", due, due is not None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "moves"),
    [
        ("unknown", True), ("requires_action", True), ("authorized", False), ("captured", False), ("voided", False),
        ("declined", False), ("failed", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("due", [None, "void"])
async def test_only_a_payment_that_nobody_knows_is_failed(
    session: Any, event: EventView, status: str, moves: bool, due: str | None
) -> None:
    """No other payment moves."""
    await poisoned.fail_booking(session, NEW, facts(event))
    for key in ("pay", "other"):
        await failed(session, event, key, "ref 1", None)
    await session.execute(
        "UPDATE payments SET status = $1, failure_code = NULL, due_since = '2001-01-01', updated_at = '2001-01-01'",
        status,
    )
    await failed(session, event, "pay", "ref 2", due)
    rows = await session.fetch(
        "SELECT payment_key, status, failure_code, due, due_at IS NOT NULL AS at, due_since IS NOT NULL AS since,"
        " updated_at > '2002-01-01' AS now, reference FROM payments"
    )
    stays = (status, None, None, False, True, False, "ref 1")
    assert {row["payment_key"]: tuple(row)[1:] for row in rows} == {
        "pay": ("failed", "poison", due, due is not None, False, True, "ref 1") if moves else stays, "other": stays,
    }  # fmt: skip
