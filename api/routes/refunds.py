"""Reading refunds: all of a booking, or one."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api import schemas
from api.dependencies import BEARER, Client, Office, respond
from api.refusals import problem_responses, with_headers
from api.transport.reply import JSON, NO_STORE, Reply
from boxoffice.wire import render

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["bookings"], dependencies=[BEARER])


@router.get(
    "/bookings/{booking_id}/refunds",
    summary="List the refunds of a booking",
    responses={
        200: {"model": schemas.RefundList, "headers": with_headers()},
        **problem_responses("malformed-request", "unauthorized", "not-found", "gate-closed", "store-away"),
    },
)
async def list_refunds(booking_id: str, office: Office, client: Client) -> Response:
    """All of them, oldest first: what the shop asked for, and what somebody gave back at the gateway itself."""
    rows = await office.bookings.refunds(client, booking_id)
    body = b'{"data":[%b]}' % b",".join(render.refund_row(row) for row in rows)
    return respond(Reply(200, body, [JSON, NO_STORE]))


@router.get(
    "/refunds/{refund_id}",
    summary="Read a refund",
    responses={
        200: {"model": schemas.RefundRow, "headers": with_headers()},
        **problem_responses("malformed-request", "unauthorized", "not-found", "store-away"),
    },
)
async def read_refund(refund_id: str, office: Office, client: Client) -> Response:
    """The refund as it is now, by the `id` that asking for it answered."""
    return respond(Reply(200, render.refund_row(await office.bookings.refund(client, refund_id)), [JSON, NO_STORE]))
