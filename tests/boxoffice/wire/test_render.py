"""How events and bookings read."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from boxoffice.money.refunds import Refunded
from boxoffice.sales.catalogue import EventView, TierView
from boxoffice.stores.record import Body, Charge, Line, Outcome, Payload, Record
from boxoffice.wire import render

TIERS = tuple(TierView(f"tier{n:08}", f'T"%d{n}', "Tier", 1_000 * n, 50, n != 2) for n in (1, 2, 3))
EVENT = EventView("event0000000", "100% “Live” %d", "2030-01-01T00:00:00Z", 1, "active", "USD", 0, 0, TIERS)


def record(state: str, payload: Payload, deadline_ms: int = 0) -> Record:
    lines = (Line(TIERS[0].id, 2, 1_000), Line(TIERS[2].id, 1, 3_000))
    body = Body("shop", "Zoë", 5_000, "USD", lines, 'order "7"', {"seat": "7"}, "https://shop.example")
    return Record("id", state, 1, 1_763_840_000_007, deadline_ms, "", "", "", EVENT.id, "", "", "1", body, payload)


def test_an_event_reads_as_it_describes_itself() -> None:
    """Whatever its texts hold, and whatever is left."""
    for left in ([1, 2, 3], [0, 0, 0], [10**9, 0, 7]):
        assert json.loads(render.event(EVENT, left)) == EVENT.describe(left)


def test_what_is_left_names_the_active_tiers() -> None:
    assert json.loads(render.left(EVENT, [1, 2, 3])) == [
        {"tier_id": TIERS[0].id, "code": TIERS[0].code, "available": 1},
        {"tier_id": TIERS[2].id, "code": TIERS[2].code, "available": 3},
    ]


def test_a_changed_event_is_shown_changed() -> None:
    """What is remembered of an event goes with its view."""
    one = EventView("event0000001", "One", "", 1, "active", "USD", 0, 0, TIERS)
    two = EventView("event0000001", "Two", "", 1, "active", "USD", 0, 0, TIERS[:1])

    assert json.loads(render.event(one, [1, 2, 3]))["name"] == "One"
    assert json.loads(render.event(two, [1])) == two.describe([1])


def test_a_pending_booking_shows_its_card() -> None:
    charge = Charge("card", "tok_ok_4242", "Ada", "4242")

    shown = json.loads(render.booking(render.of_record(record("P", Payload(charge)), EVENT)))

    assert (shown["status"], shown["created_at"], shown["expires_at"]) == ("pending", "2025-11-22T19:33:20.007Z", None)
    assert shown["payment"] == {
        "status": "pending", "method": "card", "last4": "4242", "reference": None, "failure_code": None,
        "next_action": None,
    }  # fmt: skip
    assert [item["line_total_cents"] for item in shown["items"]] == [2_000, 3_000]
    assert "tok_ok" not in json.dumps(shown)


def test_an_unknown_payment_is_under_way() -> None:
    view = render.of_record(record("P", Payload(None, Outcome("unknown", "card"))), EVENT)

    assert view.payment is not None
    assert view.payment.status == "pending"


def test_a_failure_has_a_sentence() -> None:
    view = render.of_record(record("F", Payload(failure="payment_declined")), EVENT)
    strange = render.of_record(record("F", Payload(failure="of_tomorrow")), EVENT)

    assert view.failure is not None and strange.failure is not None
    assert view.failure.message == "The payment was declined."
    assert (strange.failure.code, strange.failure.message) == ("of_tomorrow", "The booking failed.")


def test_a_booking_carries_what_is_left() -> None:
    shown = render.booking(render.of_record(record("H", Payload(), 1_763_840_600_000), EVENT))

    both = json.loads(render.with_left(shown, EVENT, [1, 2, 3]))

    assert both.pop("availability") == json.loads(render.left(EVENT, [1, 2, 3]))
    assert both == json.loads(shown)
    assert both["expires_at"] == "2025-11-22T19:43:20.000Z"


def test_a_page_of_none() -> None:
    assert json.loads(render.page([], None)) == {"data": [], "next_cursor": None}


def test_every_value_of_a_booking_stands_where_it_belongs() -> None:
    outcome = Outcome("declined", "card", "0002", "ch_1", "insufficient_funds", "https://bank")
    view = render.of_record(record("H", Payload(None, outcome), 1_763_840_600_999), EVENT, 1_763_840_000_000)
    assert json.loads(render.booking(view)) == {
        "id": "id",
        "status": "held",
        "event_id": EVENT.id,
        "customer_id": "Zoë",
        "reference": 'order "7"',
        "metadata": {"seat": "7"},
        "return_url": "https://shop.example",
        "items": [
            {"tier_id": TIERS[0].id, "code": TIERS[0].code, "quantity": 2, "refunded": 0,
             "unit_price_cents": 1_000, "line_total_cents": 2_000},
            {"tier_id": TIERS[2].id, "code": TIERS[2].code, "quantity": 1, "refunded": 0,
             "unit_price_cents": 3_000, "line_total_cents": 3_000},
        ],
        "amount_cents": 5_000,
        "currency": "USD",
        "refunded_cents": 0,
        "refund": None,
        "created_at": "2025-11-22T19:33:20.007Z",
        "expires_at": "2025-11-22T19:43:20.999Z",
        "expires_in_s": 600,
        "payment": {"status": "declined", "method": "card", "last4": "0002", "reference": "ch_1",
                    "failure_code": "insufficient_funds", "next_action": "https://bank"},
        "failure": None,
    }  # fmt: skip


def test_a_tier_that_left_the_event_has_no_code() -> None:
    event = EventView(EVENT.id, "Other", "", 1, "active", "USD", 0, 0, TIERS[:1])
    view = render.of_record(record("H", Payload()), event)
    assert [item.code for item in view.items] == [TIERS[0].code, ""]
    assert view.payment is None


@pytest.mark.parametrize(
    ("deadline_ms", "status", "now_ms", "left"),
    [
        (0, "held", 1, None),
        (10_000, "held", 1_000, 9),
        (10_000, "pending", 1_000, 9),
        (10_000, "held", 1_001, 8),
        (10_000, "held", 10_000, 0),
        (10_000, "held", 99_000, 0),
        *((10_000, status, 1_000, None) for status in ("confirmed", "failed", "expired", "cancelled")),
    ],
)
def test_whole_seconds_until_a_hold_ends(deadline_ms: int, status: str, now_ms: int, left: int | None) -> None:
    assert render.seconds_left(deadline_ms, status, now_ms) == left


def test_a_hold_ends_by_this_hosts_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render.time, "time_ns", lambda: 4_000_999_999)
    assert render.seconds_left(10_000, "held") == 6


@pytest.mark.parametrize("refund_key", ["key", None])
def test_every_value_of_a_refund_stands_where_it_belongs(refund_key: str | None) -> None:
    refunded = Refunded("booking", "cancelled", refund_key, 1_500, "EUR", repeated=True, refund_status="pending")
    assert json.loads(render.refund(refunded)) == {
        "id": refund_key, "booking_id": "booking", "booking_status": "cancelled", "amount_cents": 1_500,
        "currency": "EUR", "status": "pending",
    }  # fmt: skip


def test_counts_are_remembered_no_longer_than_they_are_told() -> None:
    """The same object is told to many; another one, though equal in length, is told anew."""
    first: Any = [1, 2, 3]
    assert render.left(EVENT, first) is render.left(EVENT, first)
    assert [tier["available"] for tier in json.loads(render.left(EVENT, [4, 5, 6]))] == [4, 6]
    assert [tier["available"] for tier in json.loads(render.left(EVENT, first))] == [1, 3]


def test_the_same_counts_of_two_events_name_the_tiers_of_each() -> None:
    counts: Any = [1, 2, 3]
    other = EventView("event0000009", "Other", "", 1, "active", "USD", 0, 0, TIERS[::-1])
    for view in (EVENT, other, EVENT):
        both = json.loads(render.with_left(b'{"id":1}', view, counts))
        assert both == {"id": 1, "availability": json.loads(render.left(view, counts))}
    assert render.left(EVENT, counts) != render.left(other, counts)


def test_texts_of_very_many_events_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but speed depends on them; memory does."""
    full: dict[str, Any] = dict.fromkeys(map(str, range(10_000)))
    monkeypatch.setattr(render, "texts_by_event", full)
    render.event(EVENT, [1, 2, 3])
    assert len(full) == 10_001
    other = EventView("event0000009", "Other", "", 1, "active", "USD", 0, 0, TIERS)
    render.event(other, [1, 2, 3])
    assert list(full) == [other.id]


def test_a_page_of_some() -> None:
    assert json.loads(render.page([b"1", b"2"], "next")) == {"data": [1, 2], "next_cursor": "next"}
    at = datetime(2030, 5, 22, 16, tzinfo=timezone(timedelta(hours=2)))
    for micros, told in ((0, "000000"), (123_456, "123456")):
        page = json.loads(render.page([], None, at.replace(microsecond=micros)))
        assert page == {"data": [], "next_cursor": None, "as_of": f"2030-05-22T14:00:00.{told}Z"}
