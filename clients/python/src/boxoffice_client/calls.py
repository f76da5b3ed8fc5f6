"""Every operation of the API as a `Call`: what is sent, and what a good answer is. No I/O.

Bodies and answers are the JSON itself, typed by `bodies.py`, which is generated from the API's description.

One file because it is the list of the API's operations, one function each; `tests/clients/test_python_calls.py` compares it
with the description.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from boxoffice_client import bodies

__all__ = ["Call"]

T = TypeVar("T")

Status = Literal["held", "pending", "confirmed", "failed", "expired", "cancelled"]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and the type of the answer to it."""

    method: str
    path: str
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    key: str | None = None
    """The idempotency key, sent with every attempt."""
    if_match: int | str | None = None
    """The version of an event, or its `ETag`."""
    wait_s: float = 0.0
    """Seconds that the server may take before it answers, beside the time of an attempt."""
    prefer_wait: bool = False
    """Whether it is told so by `Prefer: wait`."""
    repeatable: bool = True
    """Whether it may be sent again when nobody knows if it was done: sent twice it does the same as sent once."""


def _path(template: str, *ids: str) -> str:
    return template.format(*(quote(each, safe="") for each in ids))


def _query(**values: str | int | bool | None) -> dict[str, str | int]:
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in values.items()
        if value is not None
    }


def _keyed(
    path: str, body: Mapping[str, Any] | None, key: str | None, wait_s: float, method: str = "POST"
) -> Call[Any]:
    """With the caller's idempotency key, or a new one that every attempt of this call keeps."""
    return Call(method, path, body=body, key=key or str(uuid.uuid4()), wait_s=wait_s, prefer_wait=wait_s > 0)


# ---------------------------------------------------------------- what is on sale


def list_events(
    *, cursor: str | None = None, limit: int | None = None, on_sale: bool | None = None, past: bool | None = None
) -> Call[bodies.EventPage]:
    """Active events that you sell, by start, each with what is left of its tiers."""
    return Call("GET", "/v1/events", _query(cursor=cursor, limit=limit, on_sale=on_sale, past=past))


def read_event(event_id: str) -> Call[bodies.Event]:
    """One event, and what is left of its tiers."""
    return Call("GET", _path("/v1/events/{}", event_id))


# ---------------------------------------------------------------- bookings


def book(body: bodies.BookingRequest, *, key: str | None = None, wait_s: float = 0) -> Call[bodies.Accepted]:
    """Book or, without a payment, hold tickets. `wait_s`: let the server answer once it is final, at most so many seconds
    later (10)."""
    return _keyed("/v1/bookings", body, key, wait_s)


def list_bookings(
    *,
    customer_id: str | None = None,
    event_id: str | None = None,
    status: Status | None = None,
    reference: str | None = None,
    updated_since: str | None = None,
    order: Literal["created", "updated"] | None = None,
    idempotency_key: str | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> Call[bodies.BookingPage]:
    """A page of your bookings. `event_id` with `idempotency_key` finds one at once."""
    query = _query(
        customer_id=customer_id, event_id=event_id, status=status, reference=reference, updated_since=updated_since,
        order=order, idempotency_key=idempotency_key, cursor=cursor, limit=limit,
    )  # fmt: skip
    return Call("GET", "/v1/bookings", query)


def read_booking(booking_id: str, *, wait_s: float = 0) -> Call[bodies.Booking]:
    """The booking as it is now. `wait_s`: or once it is final, at most so many seconds later (10)."""
    return Call("GET", _path("/v1/bookings/{}", booking_id), wait_s=wait_s, prefer_wait=wait_s > 0)


def pay(
    booking_id: str, body: bodies.HoldPaymentRequest, *, key: str | None = None, wait_s: float = 0
) -> Call[bodies.Booking]:
    """Pay a hold. Another card needs another key: leave it out, and a new one is made."""
    return _keyed(_path("/v1/bookings/{}/payment", booking_id), body, key, wait_s)


def change_items(booking_id: str, body: bodies.ChangeRequest, *, key: str | None = None) -> Call[bodies.Booking]:
    """Let a hold have these items in place of those that it has."""
    return _keyed(_path("/v1/bookings/{}", booking_id), body, key, 0, "PATCH")


def extend(booking_id: str, body: bodies.ExtensionRequest) -> Call[bodies.Booking]:
    """Let a hold last longer, once. Sent again after an answer was lost it may raise `AlreadyExtended`, whose `expires_at` says
    until when."""
    return Call("POST", _path("/v1/bookings/{}/extend", booking_id), body=body)


def cancel(booking_id: str, *, wait_s: float = 0) -> Call[bodies.Booking]:
    """Give the tickets back: a hold at once, a confirmed booking after its event's terms."""
    return Call("POST", _path("/v1/bookings/{}/cancel", booking_id), wait_s=wait_s, prefer_wait=wait_s > 0)


def refund(booking_id: str, body: bodies.RefundRequest, *, key: str | None = None) -> Call[bodies.Refund]:
    """Give money and tickets back whatever the terms."""
    return _keyed(_path("/v1/bookings/{}/refunds", booking_id), body, key, 0)


def list_refunds(booking_id: str) -> Call[bodies.RefundList]:
    """All refunds of a booking, oldest first."""
    return Call("GET", _path("/v1/bookings/{}/refunds", booking_id))


def read_refund(refund_id: str) -> Call[bodies.RefundRow]:
    """One refund as it is now."""
    return Call("GET", _path("/v1/refunds/{}", refund_id))


# ---------------------------------------------------------------- managing a sale


def _made(path: str, body: Mapping[str, Any], if_match: int | str | None = None) -> Call[Any]:
    """Makes something under no key: made twice, there would be two."""
    return Call("POST", path, body=body, if_match=if_match, repeatable=False)


def create_event(body: bodies.EventRequest) -> Call[bodies.ManagedEvent]:
    """Make an event. After `Unanswered` it may be there: list events before you make it again."""
    return _made("/v1/events", body)


def change_event(
    event_id: str, body: bodies.EventChangeRequest, *, if_match: int | str | None = None
) -> Call[bodies.ManagedEvent]:
    """Change what is named. `if_match`: only while its `version` is this one."""
    return Call("PATCH", _path("/v1/events/{}", event_id), body=body, if_match=if_match)


def pause_event(event_id: str, *, if_match: int | str | None = None) -> Call[bodies.ManagedEvent]:
    """Let nothing in until it is resumed."""
    return Call("POST", _path("/v1/events/{}/pause", event_id), if_match=if_match)


def resume_event(event_id: str, *, if_match: int | str | None = None) -> Call[bodies.ManagedEvent]:
    """End a pause."""
    return Call("POST", _path("/v1/events/{}/resume", event_id), if_match=if_match)


def postpone_event(
    event_id: str, body: bodies.PostponementRequest, *, if_match: int | str | None = None
) -> Call[bodies.ManagedEvent]:
    """Give an event another start."""
    return Call("POST", _path("/v1/events/{}/postpone", event_id), body=body, if_match=if_match)


def call_off_event(
    event_id: str, body: bodies.CallOffRequest, *, if_match: int | str | None = None
) -> Call[bodies.CallOff]:
    """Call an event off, for good. Called once more, it tells how far that is."""
    return Call("POST", _path("/v1/events/{}/call-off", event_id), body=body, if_match=if_match)


def read_call_off(event_id: str) -> Call[bodies.CallOff]:
    """How far a call-off is."""
    return Call("GET", _path("/v1/events/{}/call-off", event_id))


def add_tier(
    event_id: str, body: bodies.TierRequest, *, if_match: int | str | None = None
) -> Call[bodies.ManagedEvent]:
    """One more tier of an event."""
    return _made(_path("/v1/events/{}/tiers", event_id), body, if_match)


def change_tier(
    event_id: str, tier_id: str, body: bodies.TierChangeRequest, *, if_match: int | str | None = None
) -> Call[bodies.EventWithCapacity]:
    """Change what is named of a tier."""
    return Call("PATCH", _path("/v1/events/{}/tiers/{}", event_id, tier_id), body=body, if_match=if_match)


def list_changes(event_id: str, *, limit: int | None = None, before: int | None = None) -> Call[bodies.History]:
    """What was changed of an event, the newest first."""
    return Call("GET", _path("/v1/events/{}/history", event_id), _query(limit=limit, before=before))


def create_codes(event_id: str, body: bodies.AccessCodesRequest) -> Call[bodies.NewAccessCodes]:
    """Make access codes. This answer alone has them."""
    return _made(_path("/v1/events/{}/access-codes", event_id), body)


def list_codes(event_id: str, *, limit: int | None = None, after: str | None = None) -> Call[bodies.AccessCodePage]:
    """What each access code of an event is good for."""
    return Call("GET", _path("/v1/events/{}/access-codes", event_id), _query(limit=limit, after=after))


def revoke_code(event_id: str, code_id: str) -> Call[bodies.Revoked]:
    """Let nothing more in with a code."""
    return Call("POST", _path("/v1/events/{}/access-codes/{}/revoke", event_id, code_id))


def create_allocation(
    event_id: str, body: bodies.AllocationRequest, *, if_match: int | str | None = None
) -> Call[bodies.Allocation]:
    """Set tickets aside for a shop or a code."""
    return _made(_path("/v1/events/{}/allocations", event_id), body, if_match)


def list_allocations(event_id: str, *, released: bool | None = None) -> Call[bodies.Allocations]:
    """What is set aside of an event."""
    return Call("GET", _path("/v1/events/{}/allocations", event_id), _query(released=released))


def read_allocation(event_id: str, allocation_id: str) -> Call[bodies.Allocation]:
    """One allocation."""
    return Call("GET", _path("/v1/events/{}/allocations/{}", event_id, allocation_id))


def change_allocation(
    event_id: str, allocation_id: str, body: bodies.AllocationChangeRequest, *, if_match: int | str | None = None
) -> Call[bodies.Allocation]:
    """Another size of an allocation."""
    path = _path("/v1/events/{}/allocations/{}", event_id, allocation_id)
    return Call("PATCH", path, body=body, if_match=if_match)


def release_allocation(
    event_id: str, allocation_id: str, body: bodies.ReleaseRequest, *, if_match: int | str | None = None
) -> Call[bodies.Allocation]:
    """Let everybody book what is reserved."""
    return _made(_path("/v1/events/{}/allocations/{}/release", event_id, allocation_id), body, if_match)


# ---------------------------------------------------------------- what has happened


def read_feed(
    *, after: str | None = None, types: Sequence[str] = (), wait_s: float = 0, limit: int | None = None
) -> Call[bodies.FeedPage]:
    """Notices behind the cursor `after` (None: from the oldest that is kept; `now`: from now on). `wait_s`: when there are
    none, wait for one for so many seconds (30)."""
    wait = int(wait_s)
    query = _query(after=after, types=",".join(types) or None, wait=wait or None, limit=limit)
    return Call("GET", "/v1/feed", query, wait_s=wait)


def stream_booking(booking_id: str) -> Call[Any]:
    """The states of a booking as server-sent events: `watch_booking` reads them."""
    return Call("GET", _path("/v1/bookings/{}/stream", booking_id))


def stream_event(event_id: str) -> Call[Any]:
    """What is left of an event as server-sent events: `watch_availability` reads them."""
    return Call("GET", _path("/v1/events/{}/stream", event_id))


# ---------------------------------------------------------------- where a shop is told


def create_webhook_endpoint(body: bodies.EndpointRequest) -> Call[bodies.NewWebhookEndpoint]:
    """Have notices sent to a URL. This answer alone has the secret by which `verify_webhook` knows them."""
    return _made("/v1/webhook-endpoints", body)


def list_webhook_endpoints() -> Call[bodies.WebhookEndpoints]:
    """All of your shop, and how each does."""
    return Call("GET", "/v1/webhook-endpoints")


def read_webhook_endpoint(endpoint_id: str) -> Call[bodies.WebhookEndpoint]:
    """How one does."""
    return Call("GET", _path("/v1/webhook-endpoints/{}", endpoint_id))


def change_webhook_endpoint(endpoint_id: str, body: bodies.EndpointChangeRequest) -> Call[bodies.WebhookEndpoint]:
    """Change what is named. One that is enabled is tried at once."""
    return Call("PATCH", _path("/v1/webhook-endpoints/{}", endpoint_id), body=body)


def delete_webhook_endpoint(endpoint_id: str) -> Call[bodies.WebhookEndpoint]:
    """Let it hear of nothing more. Sent again after an answer was lost it may raise `NotFound`."""
    return Call("DELETE", _path("/v1/webhook-endpoints/{}", endpoint_id))


def rotate_webhook_secret(endpoint_id: str, body: bodies.RotationRequest) -> Call[bodies.NewSecret]:
    """Sign with a new secret, and with the one before as well for a while. This answer alone has the new one."""
    return _made(_path("/v1/webhook-endpoints/{}/rotate", endpoint_id), body)


def list_webhook_deliveries(
    endpoint_id: str, *, status: str | None = None, cursor: str | None = None, limit: int | None = None
) -> Call[bodies.WebhookDeliveries]:
    """What was sent to it and what came of it, the latest first."""
    query = _query(status=status, cursor=cursor, limit=limit)
    return Call("GET", _path("/v1/webhook-endpoints/{}/deliveries", endpoint_id), query)


def redeliver_webhooks(endpoint_id: str, body: bodies.RedeliveryRequest) -> Call[bodies.Redelivered]:
    """Send notices again, under the same ids."""
    return Call("POST", _path("/v1/webhook-endpoints/{}/redeliver", endpoint_id), body=body)


# ---------------------------------------------------------------- how the service is


def healthz() -> Call[bodies.Health]:
    """Whether the process answers."""
    return Call("GET", "/healthz")


def readyz() -> Call[bodies.Health]:
    """Whether it can sell."""
    return Call("GET", "/readyz")
