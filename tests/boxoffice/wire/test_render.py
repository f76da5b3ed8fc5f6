"""How events and bookings read."""

from __future__ import annotations

import json

from boxoffice.sales.catalogue import EventView, TierView
from boxoffice.stores.record import Body, Charge, Line, Outcome, Payload, Record
from boxoffice.wire import render

TIERS = tuple(TierView(f"tier{n:08}", f'T"%d{n}', "Tier", 1_000 * n, 50, n != 2) for n in (1, 2, 3))
EVENT = EventView("event0000000", "100% “Live” %d", "2030-01-01T00:00:00Z", 1, "active", "USD", 0, 0, TIERS)


def record(state: str, payload: Payload, deadline_ms: int = 0) -> Record:
    lines = (Line(TIERS[0].id, 2, 1_000), Line(TIERS[2].id, 1, 3_000))
    body = Body("shop", "Zoë", 5_000, "USD", lines, 'order "7"')
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
