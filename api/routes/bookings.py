"""Booking, and looking bookings up."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from api import answers, schemas
from api.dependencies import BEARER, Client, Office, Patience, respond
from api.headers import Headers
from api.prefer import PREFER
from api.refusals import RULES_REFUSE, SALE_REFUSES, problem_responses, with_headers
from api.transport.reply import JSON, NO_STORE, Reply
from boxoffice.bookings.listing import CREATED, UPDATED
from boxoffice.bookings.reading import BookingFilter
from boxoffice.errors import CardDataRefused, Malformed
from boxoffice.states import BOOKING_STATES
from boxoffice.wire import render
from boxoffice.wire.parameters import bad_parameter, check_parameter, parse_idempotency_key, parse_time

__all__ = ["router"]

router = APIRouter(prefix="/v1/bookings", tags=["bookings"], dependencies=[BEARER])

_KEY_HEADER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "1 to 255 printable ASCII characters, bare or quoted. The same key and body again give the same "
    "booking; valid for one client and one event, for ever.",
    "schema": {"type": "string", "maxLength": 255},
    "example": "order-10042",
}

_BOOKED: dict[str, Any] = {
    "parameters": [_KEY_HEADER, PREFER],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/BookingRequest"},
                "example": {
                    "customer_id": "customer-7",
                    "reference": "order-10042",
                    "items": [{"tier_id": "TIER_ID", "quantity": 2}],
                    "payment": {"method": "card", "card_name": "Ada Lovelace", "card_number": "4242424242424242"},
                },
            }
        },
    },
}

ORDERS: Final = (CREATED, UPDATED)

_HELD = with_headers("Idempotency-Replayed", "Location", "RateLimit", "RateLimit-Policy")
_FINAL = with_headers("Idempotency-Replayed", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy")
_ACCEPTED = {**_FINAL, **with_headers("Retry-After")}


@router.post(
    "",
    status_code=202,
    summary="Book tickets",
    responses={
        202: {"model": schemas.Accepted, "description": "Accepted for good; poll its Location.", "headers": _ACCEPTED},
        201: {"model": schemas.Accepted, "description": "Held until `expires_at`.", "headers": _HELD},
        200: {
            "model": schemas.Accepted,
            "description": "A booking that has ended since, as it is now: it was waited for, or this is a repeat.",
            "headers": _FINAL,
        },
        **problem_responses(
            "malformed-request",
            "unauthorized",
            "not-found",
            *SALE_REFUSES,
            *RULES_REFUSE,
            "declined-too-often",
            "idempotency-key-reused",
            "card-data-not-accepted",
            "gate-closed",
            "store-away",
            "busy",
        ),
    },
    openapi_extra=_BOOKED,
)
async def book(request: Request, office: Office, waits: Patience) -> Response:
    """Take the tickets off sale and accept the booking; it is paid and confirmed, or failed, a moment later.

    All items or none. A booking without `payment` is held.
    """
    return respond(await answers.book(office, Headers.of(request.headers.raw), waits))


@router.get(
    "",
    summary="List bookings",
    responses={
        200: {"model": schemas.BookingPage, "headers": with_headers()},
        **problem_responses("malformed-request", "unauthorized", "card-data-not-accepted", "gate-closed", "store-away"),
    },
)
async def list_bookings(
    office: Office,
    client: Client,
    customer_id: Annotated[str | None, Query()] = None,
    event_id: Annotated[str | None, Query()] = None,
    status: Annotated[str | None, Query(json_schema_extra={"enum": list(BOOKING_STATES)})] = None,
    reference: Annotated[str | None, Query()] = None,
    updated_since: Annotated[
        str | None,
        Query(description="Only what has changed since, then included.", json_schema_extra={"format": "date-time"}),
    ] = None,
    order: Annotated[
        str | None,
        Query(
            description="`created` (the newest first) when it is left out; `updated`: the oldest change first.",
            json_schema_extra={"enum": list(ORDERS)},
        ),
    ] = None,
    idempotency_key: Annotated[str | None, Query(description="With event_id, finds a booking at once.")] = None,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1)] = 20,
) -> Response:
    """Your bookings, the newest first; with `order=updated` the one whose last change is oldest.

    A booking is listed from its first payment attempt on, some milliseconds after it was accepted; with `status=held`, or
    asked for by `event_id` and `idempotency_key`, it is found at once.
    """
    texts = {
        "customer_id": customer_id,
        "event_id": event_id,
        "status": status,
        "reference": reference,
        "updated_since": updated_since,
        "order": order,
        "cursor": cursor,
    }
    for name, value in texts.items():
        if value is not None:
            check_parameter(value, name)
    for name, value, words, kind in (
        ("status", status, BOOKING_STATES, "A status"),
        ("order", order, ORDERS, "An order"),
    ):
        if value is not None and value not in words:
            raise bad_parameter(f"{kind} is one of {', '.join(words)}.", name, "unknown")
    key_digest = None
    if idempotency_key is not None:
        check_parameter(idempotency_key, "idempotency_key")
        key_digest = _digest_of(idempotency_key)
    if limit > office.settings.limits.page_max:
        raise bad_parameter(f"A page has up to {office.settings.limits.page_max} bookings.", "limit", "out_of_range")
    since = None if updated_since is None else parse_time(updated_since, "updated_since")
    for name, there in (("order", order == UPDATED), ("updated_since", since is not None)):
        if there and (status == "held" or key_digest is not None):
            # Redis has holds, and remembers of none when it changed; under a key there is one booking an event.
            raise bad_parameter(f"Not with {'idempotency_key' if key_digest else 'status=held'}.", name, "not_together")
    wanted = BookingFilter(customer_id, event_id, status, reference, key_digest, since, order or CREATED)
    page = await office.bookings.list(client, wanted, cursor, limit)
    shown = [render.booking(view) for view in page.views]
    return respond(Reply(200, render.page(shown, page.next_cursor, page.as_of), [JSON, NO_STORE]))


@router.get(
    "/{booking_id}",
    summary="Read a booking",
    responses={
        200: {
            "model": schemas.Booking,
            "headers": with_headers("Content-Location", "Preference-Applied", "Retry-After"),
        },
        **problem_responses("unauthorized", "not-found", "gate-closed", "store-away"),
    },
    openapi_extra={"parameters": [PREFER]},
)
async def read_booking(booking_id: str, request: Request, office: Office, waits: Patience) -> Response:
    """The booking as it is now. When its idempotency key had been used before, the first booking, named by
    `Content-Location`."""
    return respond(await answers.read_booking(office, Headers.of(request.headers.raw), booking_id, waits))


def _digest_of(idempotency_key: str) -> str:
    """As of the header, but that it is a parameter which is to blame."""
    try:
        return parse_idempotency_key([idempotency_key.encode()])
    except (Malformed, CardDataRefused) as error:
        error.details["errors"] = [{"parameter": "idempotency_key", "code": error.details["errors"][0]["code"]}]
        raise
