"""What PostgreSQL knows of bookings, as repairs read it: which, from when on, and what a row becomes as a record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.books import queries
from boxoffice.books.moves import Note, came_back, note_of
from boxoffice.books.queries import finals_since
from boxoffice.office import BoxOffice
from boxoffice.stores.record import Attempt, Body, Charge, Line, Outcome, Payload
from tests.conftest import SHARD, SaleMaker, settle_all
from tests.support.shop.office import book
from tests.support.shop.orders import tier_of

SINCE = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("created", "applied", "found"),
    [
        (SINCE, SINCE - 2 * MOMENT, True), (SINCE - MOMENT, SINCE, True), (SINCE - MOMENT, SINCE - MOMENT, False),
        (SINCE - MOMENT, None, True), (SINCE + MOMENT, SINCE + MOMENT, True),
    ],
)  # fmt: skip
async def test_bookings_whose_tickets_came_back_since(
    office: BoxOffice, open_sale: SaleMaker, created: datetime, applied: datetime | None, found: bool
) -> None:
    """From that very moment on, moved in PostgreSQL or in Redis; those of its own shard, and no move that is of no booking."""
    pool = await office.pool()
    booked = {}
    for shard in (SHARD, 0):
        event = await open_sale(GA=10, shard=shard)
        booked[shard] = (await book(office, event, GA=2)).booking_id
        await pool.execute(
            "INSERT INTO stock_moves (event_id, tier_id, sold_delta, total_delta, created_at) VALUES ($1, $2, 0, 1, now())",
            event.id, tier_of(event, "GA"),
        )  # fmt: skip
        await settle_all(office)
        await pool.execute(
            "INSERT INTO stock_moves (event_id, tier_id, booking_id, sold_delta, created_at, applied_at)"
            " VALUES ($1, $2, $3, -2, $4, $5)",
            event.id, tier_of(event, "GA"), booked[shard], created, applied,
        )  # fmt: skip
    await pool.execute("UPDATE bookings SET updated_at = $1", SINCE - MOMENT)
    assert await finals_since(pool, SHARD, SINCE) == ([booked[SHARD]] if found else [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "updated", "found"),
    [
        ("confirmed", SINCE, True), ("failed", SINCE + MOMENT, True), ("expired", SINCE, True), ("cancelled", SINCE, True),
        ("confirmed", SINCE - MOMENT, False), ("held", SINCE, False), ("pending", SINCE, False),
    ],
)  # fmt: skip
async def test_bookings_that_became_final_since(
    office: BoxOffice, open_sale: SaleMaker, status: str, updated: datetime, found: bool
) -> None:
    pool = await office.pool()
    booked = {}
    for shard in (SHARD, 0):
        booked[shard] = (await book(office, await open_sale(GA=10, shard=shard), GA=2)).booking_id
    await settle_all(office)
    await pool.execute("UPDATE bookings SET status = $1, updated_at = $2", status, updated)
    assert await finals_since(pool, SHARD, SINCE) == ([booked[SHARD]] if found else [])  # type: ignore[arg-type]


async def test_bookings_of_more_than_an_hour_before_are_not_looked_for(office: BoxOffice, open_sale: SaleMaker) -> None:
    """A booking's id has its time."""
    pool = await office.pool()
    booked = (await book(office, await open_sale(GA=10), GA=2)).booking_id
    await settle_all(office)
    made_ms = ids.made_ms(booked)
    assert made_ms is not None
    await pool.execute("UPDATE bookings SET updated_at = now() + interval '1 day'")
    for since_ms, found in ((made_ms + 3_600_000, [booked]), (made_ms + 3_600_001, [])):
        since = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=since_ms)
        assert await finals_since(pool, SHARD, since) == found  # type: ignore[arg-type]


# ---------------------------------------------------------------- a row as a record


def row(**changes: Any) -> Any:
    return {
        "id": "b1", "status": "confirmed", "sequence": 7, "admitted_ms": 11, "deadline_ms": 0, "client_id": "shop",
        "event_id": "event", "customer_id": "ann", "owner": None,
        "idempotency_key": "ab" * 16, "fingerprint": "print", "amount_cents": 300,
        "currency": "EUR", "reference": "ref 7", "failure_code": None, "duplicate_of": None,
        "metadata": '{"b": "2", "aa": "1"}', "return_url": "https://shop.example",
        "access_code": "c0de",
    } | changes  # fmt: skip


def payment(key: str = "pay1", **changes: Any) -> Any:
    return {
        "payment_key": key, "method": "card", "card_name": "Ann", "last4": "4242", "token": "tok", "payment_status": "declined",
        "payment_reference": "r1", "payment_failure": "lost_card", "next_action": None,
    } | changes  # fmt: skip


LINES = (Line("floor", 1, 100), Line("balcony", 2, 100))
OUTCOME = Outcome("declined", "card", "4242", "r1", "lost_card", None)


def test_a_row_becomes_a_record() -> None:
    """Each field its own; the latest payment is the booking's."""
    record = queries.record_from(row(), LINES, [payment("pay1"), payment("pay2", payment_status="captured")])
    assert (record.id, record.state, record.sequence, record.admitted_ms, record.deadline_ms) == ("b1", "C", 7, 11, 0)
    assert (record.payment_key, record.scope) == ("pay2", ids.scope("shop", "event", "ab" * 16))
    assert (record.fingerprint, record.event, record.owner) == ("print", "event", ids.owner_digest("shop", "ann"))
    assert (record.items, record.tries) == ("floor:1,balcony:2", "2")
    assert record.body == Body(
        "shop", "ann", 300, "EUR", LINES, "ref 7", {"aa": "1", "b": "2"}, "https://shop.example", "c0de"
    )
    assert list(record.body.metadata or ()) == ["aa", "b"], "in their order, whatever PostgreSQL's is"
    assert queries.record_from(row(metadata=None), LINES, []).body.metadata is None
    outcome = Outcome("captured", "card", "4242", "r1", "lost_card", None)
    assert record.payload == Payload(None, outcome, None, record.payload.key, "", ())
    assert len(record.payload.key) == 22
    forgotten = queries.record_from(row(owner="of who was forgotten"), LINES, [])
    assert (forgotten.owner, forgotten.payload.owner) == 2 * ("of who was forgotten",)


@pytest.mark.parametrize(
    ("status", "state", "charge", "failure", "earlier"),
    [
        ("pending", "P", True, None, True), ("held", "H", False, None, True), ("expired", "E", False, "why", True),
        ("failed", "F", False, "why", False), ("cancelled", "X", False, "why", False), ("confirmed", "C", False, "why", False),
    ],
)  # fmt: skip
def test_what_is_kept_in_which_state(status: str, state: str, charge: bool, failure: str | None, earlier: bool) -> None:
    """The card as long as it may be charged; the reason once it has ended; earlier attempts as long as it may be paid."""
    fingerprint = ids.payment_fingerprint("card", "4242")
    found = queries.record_from(
        row(status=status, deadline_ms=99, failure_code="why"), LINES, [payment("pay1"), payment("pay2")]
    )
    assert (found.state, found.deadline_ms) == (state, 99)
    assert found.payload.charge == (Charge("card", "tok", "Ann", "4242") if charge else None)
    assert (found.payload.failure, found.payload.fingerprint) == (failure, fingerprint)
    assert found.payload.earlier == ((Attempt("pay1", fingerprint, OUTCOME),) if earlier else ())
    assert len(found.payload.key) == (32 if status in ("pending", "held", "expired") else 22)


def test_a_booking_without_payment() -> None:
    found = queries.record_from(row(status="held", deadline_ms=99), LINES, [])
    assert (found.payment_key, found.tries, found.payload) == ("", "0", Payload(key="ab" * 16))


@pytest.mark.parametrize(
    ("changes", "fingerprint", "outcome"),
    [
        ({}, ids.payment_fingerprint("card", "4242"), OUTCOME),
        ({"last4": None}, ids.payment_fingerprint("card", "tok"), Outcome("declined", "card", None, "r1", "lost_card", None)),
        ({"last4": None, "token": None}, "", Outcome("declined", "card", None, "r1", "lost_card", None)),
        ({"payment_status": None}, ids.payment_fingerprint("card", "4242"), Outcome("failed")),
    ],
)  # fmt: skip
def test_an_attempt_is_known_by_its_card_or_its_token(changes: Any, fingerprint: str, outcome: Outcome) -> None:
    assert queries.attempt_from(payment(**changes)) == Attempt("pay1", fingerprint, outcome)


def test_a_duplicate_names_the_first() -> None:
    found = queries.record_from(row(status="failed", failure_code="duplicate", duplicate_of="b0"), LINES, [])
    assert found.payload.failure == "duplicate_of:b0"


# ---------------------------------------------------------------- what Redis remembers of a move


def move(**changes: Any) -> Any:
    return {
        "booking_id": "b1", "tier_id": "floor", "sold_delta": -2, "refund_key": "r1", "amount_cents": 200, "reason": "rain",
        "failure_code": "by_shop", "cancelled": True, "fingerprint": "print", "all_items": "floor:2,balcony:1",
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, '["b1","floor",2,"r1",200,"rain","by_shop","print","floor:2,balcony:1"]'),
        ({"cancelled": False}, '["b1","floor",2,"r1",200,"rain","","print","floor:2,balcony:1"]'),
        ({"failure_code": None}, '["b1","floor",2,"r1",200,"rain","","print","floor:2,balcony:1"]'),
        (
            dict.fromkeys(("refund_key", "amount_cents", "reason", "fingerprint", "all_items")),
            '["b1","floor",2,"",0,"","by_shop","",""]',
        ),
        ({"booking_id": None}, "1"),
    ],
)  # fmt: skip
def test_a_note_has_all_that_came_back(changes: Any, note: str) -> None:
    """Why a booking is cancelled stands there only when it is."""
    assert note_of(move(**changes)) == note.encode()


def test_what_came_back_is_gathered_by_refund() -> None:
    """A note names all tiers, or, from earlier versions, its own only."""
    first = Note("b1", "floor", 2, "r1", 200, "", "", all_items="floor:2,balcony:1")
    second = Note("b1", "balcony", 1, "r1", 200, "", "", all_items="floor:2,balcony:1")
    old, older = Note("b1", "floor", 1, "r2", 100, "", ""), Note("b1", "floor", 3, "r2", 100, "", "")
    found = came_back([first, second, old, older])
    assert found == {"r1": (first, {"floor": 2, "balcony": 1}), "r2": (old, {"floor": 4})}
