"""A shop on the client that openapi-python-client has made; run by `test_generated_clients.py` in its own environment."""

from __future__ import annotations

import json
import sys
import time

from shop_api import AuthenticatedClient
from shop_api.api.bookings import book, extend, list_bookings, pay, read_booking, refund
from shop_api.api.events import list_events
from shop_api.models import (
    Accepted,
    AlreadyExtendedProblem,
    Booking,
    BookingRequest,
    ExtensionRequest,
    HoldPaymentRequest,
    ItemRequest,
    PaymentRequest,
    Refund,
    RefundRequest,
    SoldOutProblem,
)

base_url, key = sys.argv[1:]
client = AuthenticatedClient(base_url=base_url, token=key)
card = PaymentRequest(method="card", card_name="Ada", card_number="4242424242424242")
tier = list_events.sync(client=client).data[0].tiers[0].id
items = [ItemRequest(tier_id=tier, quantity=2)]


def final(booking: str) -> Booking:
    """Polled until it is decided."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = read_booking.sync(booking, client=client)
        assert isinstance(found, Booking), found
        if found.status not in ("held", "pending"):
            return found
        time.sleep(0.05)
    raise TimeoutError(found)


held = book.sync(client=client, body=BookingRequest(customer_id="ada", items=items), idempotency_key="h")
assert isinstance(held, Accepted) and held.status == "held" and held.expires_in_s, held
longer = extend.sync(held.id, client=client, body=ExtensionRequest(extra_s=60))
assert isinstance(longer, Booking) and longer.expires_at > held.expires_at, longer
refused = extend.sync(held.id, client=client, body=ExtensionRequest(extra_s=60))
assert isinstance(refused, AlreadyExtendedProblem), refused
assert refused.expires_at == longer.expires_at
paying = HoldPaymentRequest.from_dict(card.to_dict() | {"expected_amount_cents": held.amount_cents})
assert isinstance(pay.sync(held.id, client=client, body=paying, idempotency_key="p"), Booking)
paid = final(held.id)

# Every optional member written out as null.
request = BookingRequest(customer_id="bob", items=items, payment=card, reference=None, hold_s=None)
booked = book.sync_detailed(client=client, body=request, idempotency_key="b")
assert booked.status_code == 202 and isinstance(booked.parsed, Accepted), booked
confirmed = final(booked.parsed.id)
back = refund.sync(confirmed.id, client=client, body=RefundRequest.from_dict({"items": "all"}), idempotency_key="r")
assert isinstance(back, Refund), back
listed = list_bookings.sync(client=client)
too_many = book.sync(
    client=client, body=BookingRequest(customer_id="c", items=[ItemRequest(tier, 10)]), idempotency_key="s"
)
assert isinstance(too_many, SoldOutProblem) and too_many.shortfall[0].requested == 10, too_many
print(json.dumps({"statuses": [paid.status, confirmed.status], "listed": len(listed.data)}))
