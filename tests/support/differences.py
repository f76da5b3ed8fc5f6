"""A payment as the gateway has it and as our row has it, where these differ."""

from __future__ import annotations

from typing import Any

from boxoffice import ids
from boxoffice.gateway.base import (
    AuthorizeRequest,
    CaptureRequest,
    Found,
    Record,
)
from tests.conftest import SHARD
from tests.support.shop.office import Till

AGO, NOW, NEVER = "now() - interval '100 seconds'", "now()", "NULL"


async def stray(till: Till, *, captured: bool) -> str:
    """Money at the gateway for a booking that nobody here knows."""
    key, booking = ids.digest("stray"), ids.booking_id(SHARD, 1_000)
    await till.gateway.authorize(AuthorizeRequest(key, booking, 500, "USD", "card", "tok_ok_4242"))
    if captured:
        await till.gateway.capture_batch([CaptureRequest(key, "", 500)])
    return key


def told(status: Any, captured: int = 0, refunded: int = 0) -> Record:
    """A payment of 10.00 as the gateway lists it."""
    return Record("k", "b", 1, Found(status, "r", 1_000, "USD", captured, refunded))


def ours(status: str, booking: str, **changes: object) -> dict[str, object]:
    """Our row of it: nothing due, settled long ago."""
    row = {"status": status, "booking_status": booking, "due": None, "overdue": True, "settled": True, "leased": False}
    return row | changes


async def pair_of_sales(till: Till) -> tuple[str, str]:
    """Two that were sold and captured, with a refund each: of the first 10.00 and 5.00, of the second 20.00."""
    first, second = await till.book(GA=3), await till.book(GA=4)
    await till.rest()
    await till.refund(first, "one", GA=1)
    await till.refund(second, "two", GA=2)
    await till.pump()
    (key,) = await till.fetch("SELECT payment_key FROM payments WHERE booking_id = $1", first)
    await till.gateway.refund_at_gateway(key[0], 500)
    await till.office.payments_audit.read_reversals()
    return first, second
