"""What may become of a booking that is there: pay it, change or extend it, cancel it, refund it.

One file because these routes share how a booking is named, a key is read and an answer is shown.
"""

from __future__ import annotations

import contextlib
from typing import Any

from fastapi import APIRouter, Request, Response

from api import answers, schemas
from api.bodies import read_body
from api.dependencies import BEARER, Client, Office, Patience, header, respond
from api.headers import Headers
from api.prefer import PREFER, applied_header, wait_of
from api.refusals import RULES_REFUSE, SALE_REFUSES, problem_responses, with_headers
from api.transport.reply import JSON, NO_STORE, Header, Reply
from boxoffice import ids
from boxoffice.errors import NotCancellable, NotFound, Unavailable
from boxoffice.office import BoxOffice
from boxoffice.wire import hold_requests, render
from boxoffice.wire.parameters import check_content_encoding, check_content_type, parse_idempotency_key

__all__ = ["router"]

router = APIRouter(prefix="/v1/bookings/{booking_id}", tags=["bookings"], dependencies=[BEARER])

_NO_MONEY = ("declined", "failed", "voided")
"""The statuses of a payment that is over and brought nothing."""


def _key_header(description: str, example: str) -> dict[str, Any]:
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "required": True,
        "description": description,
        "schema": {"type": "string", "maxLength": 255},
        "example": example,
    }


def _body(schema: str, example: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}
    return {"required": True, "content": {"application/json": content}}


_PAID = {
    "parameters": [
        _key_header("Another one for each attempt: a repeat with the same key pays once.", "order-10042-card-1"),
        PREFER,
    ],
    "requestBody": _body(
        "HoldPaymentRequest",
        {
            "method": "card",
            "card_name": "Ada Lovelace",
            "card_number": "4242424242424242",
            "expected_amount_cents": 14700,
        },
    ),
}
_CHANGED = {
    "parameters": [
        _key_header("Another one for each change: a repeat with the same key changes nothing.", "order-10042-vip")
    ],
    "requestBody": _body(
        "ChangeRequest",
        {"items": [{"tier_id": "TIER_ID", "quantity": 3}], "expected_amount_cents": 14700},
    ),
}
_EXTENDED = {"requestBody": _body("ExtensionRequest", {"extra_s": 300})}
_REFUNDED = {
    "parameters": [_key_header("A repeat with the same key refunds once.", "order-10042-refund-1")],
    "requestBody": _body(
        "RefundRequest",
        {"items": [{"tier_id": "TIER_ID", "quantity": 1}], "reason": "row 7 is broken"},
    ),
}


@router.post(
    "/payment",
    status_code=202,
    summary="Pay a hold",
    responses={
        202: {
            "model": schemas.Booking,
            "description": "The payment is under way; poll the booking.",
            "headers": with_headers("Idempotency-Replayed", "Location", "Preference-Applied", "Retry-After"),
        },
        200: {
            "model": schemas.Booking,
            "description": "A payment that is under way no more, with how it went: it was waited for, or is a repeat.",
            "headers": with_headers("Idempotency-Replayed", "Location", "Preference-Applied"),
        },
        **problem_responses(
            "malformed-request",
            "unauthorized",
            "not-found",
            "payment-in-progress",
            "hold-ended",
            "sale-closed",
            "event-called-off",
            "price-changed",
            "too-many-attempts",
            "declined-too-often",
            "idempotency-key-reused",
            "card-data-not-accepted",
            "gate-closed",
            "store-away",
            "busy",
        ),
    },
    openapi_extra=_PAID,
)
async def pay(booking_id: str, request: Request, office: Office, client: Client, waits: Patience) -> Response:
    """Put the payment of a held booking on its way; it becomes `pending`. One that costs nothing needs no card: no body,
    or an empty object. One that was changed meanwhile, and costs another amount than `expected_amount_cents`, is not paid.

    A decline before `expires_at` leaves it `held`, to be paid with another card and another key, up to 5 times.
    """
    booking = _known(booking_id)
    key_digest = _idempotency_key(request)
    wanted = hold_requests.parse_payment(await _read(office, request), office.settings, office.gateway)
    view, replayed = await office.hold_payments.pay(
        client, booking, wanted.charge, key_digest, wanted.expected_amount_cents
    )
    headers: list[Header] = [JSON, NO_STORE, (b"location", b"/v1/bookings/" + booking.encode())]
    wait_s = _wait_of(request)
    if _is_under_way(view) and await waits.until_final(booking, wait_s, until_bank=True):
        headers.append(applied_header(wait_s))
        with contextlib.suppress(Unavailable):  # it is on its way for good
            view = (await office.bookings.get(client, booking)).view
    under_way = _is_under_way(view)
    if under_way:
        headers.append(answers.retry_after(office.admission.pause_s(booking, begun=not replayed)))
    if replayed:
        headers.append(answers.REPLAYED)
    return respond(Reply(202 if under_way else 200, render.booking(view), headers))


@router.patch(
    "",
    summary="Change the items of a hold",
    responses={
        200: {"model": schemas.Booking, "headers": with_headers("Idempotency-Replayed")},
        **problem_responses(
            "malformed-request",
            "unauthorized",
            "not-found",
            *SALE_REFUSES,
            "event-called-off",
            *RULES_REFUSE,
            "payment-in-progress",
            "hold-ended",
            "too-many-changes",
            "idempotency-key-reused",
            "card-data-not-accepted",
            "gate-closed",
            "store-away",
        ),
    },
    openapi_extra=_CHANGED,
)
async def change_items(booking_id: str, request: Request, office: Office, client: Client) -> Response:
    """Let a hold have other tiers or quantities, in one step: all of it or nothing.

    `items` is all that it shall have. What stays keeps its price; what comes is at today's, and is taken as a booking
    takes it. The deadline stays.
    """
    booking = _known(booking_id)
    key_digest = _idempotency_key(request)
    change = hold_requests.parse_change(await _read(office, request), office.settings)
    view, repeated = await office.hold_changes.change(client, booking, change, key_digest)
    headers: list[Header] = [JSON, NO_STORE]
    if repeated:
        headers.append(answers.REPLAYED)
    return respond(Reply(200, render.booking(view), headers))


@router.post(
    "/extend",
    summary="Extend a hold",
    responses={
        200: {"model": schemas.Booking, "headers": with_headers()},
        **problem_responses(
            "malformed-request",
            "unauthorized",
            "not-found",
            "payment-in-progress",
            "hold-ended",
            "already-extended",
            "gate-closed",
            "store-away",
        ),
    },
    openapi_extra=_EXTENDED,
)
async def extend(booking_id: str, request: Request, office: Office, client: Client) -> Response:
    """Let a hold last longer, once, by at most its first length."""
    extra_s = hold_requests.parse_extension(await _read(office, request), office.settings)
    record = await office.holds.extend(client, _known(booking_id), extra_s)
    return _shown(await office.bookings.show(record))


@router.post(
    "/cancel",
    summary="Cancel a booking",
    responses={
        200: {"model": schemas.Booking, "headers": with_headers("Preference-Applied")},
        **problem_responses(
            "malformed-request",
            "unauthorized",
            "not-found",
            "payment-in-progress",
            "not-cancellable",
            "gate-closed",
            "store-away",
        ),
    },
    openapi_extra={"parameters": [PREFER]},
)
async def cancel(booking_id: str, request: Request, office: Office, client: Client, waits: Patience) -> Response:
    """Give the tickets back: a hold at once, a confirmed booking after its event's terms (until when, how much of the
    price).

    Needs no idempotency key: a booking that was cancelled answers 200 again. When a payment is under way it is let go
    first; should that take too long, the answer is 409 `payment-in-progress`: ask again. It takes no body: some of the
    tickets are given back by a refund.
    """
    hold_requests.parse_nothing(await read_body(request.receive, office.settings.limits.body_max_bytes))
    if not (wait_s := _wait_of(request)):
        return _shown(await office.cancellations.cancel(client, booking_id))
    view = await office.cancellations.cancel(client, booking_id, wait_s, waits.until_news)
    return _shown(view, applied_header(wait_s))


@router.post(
    "/refunds",
    status_code=201,
    summary="Refund a booking",
    responses={
        201: {"model": schemas.Refund, "headers": with_headers("Idempotency-Replayed", "Location")},
        **problem_responses(
            "malformed-request",
            "unauthorized",
            "not-found",
            "not-cancellable",
            "nothing-owed",
            "refund-owed",
            "refund-too-large",
            "idempotency-key-reused",
            "card-data-not-accepted",
            "gate-closed",
            "store-away",
        ),
    },
    openapi_extra=_REFUNDED,
)
async def refund(booking_id: str, request: Request, office: Office, client: Client) -> Response:
    """Refund a confirmed booking at full price whatever the event's terms, whole or some of its tickets, which go on
    sale again. For the shop's operators. All that is left is `"items": "all"`, and cancels the booking.

    A refund that the gateway refuses is owed: the booking's `refund` tells of it. `"items": "owed"`, a repeat under the
    same key, `"items": "all"`, and any refund or cancellation of a cancelled booking try it again; however often, it is
    paid once. Until it is paid, or written off, no more tickets of its tiers are refunded by name.
    """
    booking = _known(booking_id)
    key_digest = _idempotency_key(request)
    wanted = hold_requests.parse_refund(await _read(office, request), office.settings)
    try:
        if wanted.owed:
            refunded = await office.refunds.retry(client, booking)
        else:
            refunded = await office.refunds.refund(client, booking, key_digest, wanted.items, wanted.reason)
    except NotFound:
        # Of a hold that nobody tried to pay only Redis knows.
        status = (await office.bookings.get(client, booking)).view.status
        raise NotCancellable(f"The booking is {status}.", booking_status=status) from None
    headers = [JSON, NO_STORE, (b"location", b"/v1/bookings/" + booking.encode())]
    if refunded.repeated:
        headers.append(answers.REPLAYED)
    return respond(Reply(201, render.refund(refunded), headers))


def _known(booking_id: str) -> str:
    booking = ids.canonical_booking_id(booking_id)
    if booking is None:
        raise NotFound("There is no such booking.")
    return booking


def _idempotency_key(request: Request) -> str:
    values = [value for name, value in request.headers.raw if name == b"idempotency-key"]
    return parse_idempotency_key(values)


async def _read(office: BoxOffice, request: Request) -> bytes:
    raw = await read_body(request.receive, office.settings.limits.body_max_bytes)
    if raw:
        check_content_type(header(request, "content-type"))
        check_content_encoding(header(request, "content-encoding"))
    return raw


def _wait_of(request: Request) -> int:
    return wait_of(Headers.of(request.headers.raw).prefer)


def _is_under_way(view: render.BookingView) -> bool:
    """A booking is pending, too, while another attempt than the one that is shown is under way."""
    return view.status == "pending" and (view.payment is None or view.payment.status not in _NO_MONEY)


def _shown(view: render.BookingView, *more: Header) -> Response:
    return respond(Reply(200, render.booking(view), [JSON, NO_STORE, *more]))
