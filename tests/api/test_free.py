"""Free tickets over HTTP: hold and confirm in one call, or one after the other, with no card at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.store import NewTier
from tests.api.conftest import Book, assert_problem, booking_of
from tests.api.transport.test_server import Serving, answer_of, connect, request_of, serving
from tests.conftest import CLIENT, settle_all

__all__ = ["serving"]

BODIES: dict[str, dict[str, Any]] = {"without": {"payment": ...}, "null": {"payment": None}, "with": {}}


@pytest.fixture
async def event(office: BoxOffice) -> EventView:
    """Free tickets, and some at 20.00."""
    tiers = [NewTier("FREE", 0, 100), NewTier("BOX", 2_000, 4)]
    return await office.store.create_event(CLIENT, "Fair", datetime.now(UTC) + timedelta(days=30), "USD", tiers)


@pytest.mark.parametrize("name", BODIES)
async def test_one_call_confirms(
    api: httpx2.AsyncClient, book: Book, event: EventView, office: BoxOffice, name: str
) -> None:
    """202 and `pending`, as with a card; a moment later it is confirmed, and there is no payment to see."""
    answer = await book(event, 2, key="k", **BODIES[name])
    assert (answer.status_code, answer.json()["status"], answer.json()["payment"]) == (202, "pending", None)
    assert answer.json()["expires_at"] is None
    await settle_all(office)
    booking = (await api.get(answer.headers["location"])).json()
    assert (booking["status"], booking["amount_cents"], booking["payment"]) == ("confirmed", 0, None)
    again = await book(event, 2, key="k", **BODIES[name])
    assert (again.status_code, again.json()["status"]) == (200, "confirmed")
    assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("body", [b"", b"{}", b" {\n} ", b'{"method":"card","token":"tok_card_declined"}'])
async def test_a_hold_is_confirmed_by_its_payment_call(
    api: httpx2.AsyncClient, book: Book, event: EventView, office: BoxOffice, body: bytes
) -> None:
    answer = await book(event, key="k", payment=..., hold_s=60)
    assert (answer.status_code, answer.json()["status"]) == (201, "held")
    path = f"{answer.headers['location']}/payment"
    headers = {"Idempotency-Key": "p"} | ({"Content-Type": "application/json"} if body else {})
    paid = await api.post(path, content=body, headers=headers)
    assert (paid.status_code, paid.json()["status"], paid.json()["payment"]) == (202, "pending", None)
    assert paid.headers["retry-after"] == "1"
    await settle_all(office)
    paid = await api.post(path, content=body, headers=headers)
    assert (paid.status_code, paid.json()["status"]) == (200, "confirmed")
    assert paid.headers["idempotency-replayed"] == "true"
    assert "retry-after" not in paid.headers
    repeated = await book(event, key="k", payment=..., hold_s=60)
    assert (repeated.status_code, repeated.json()["status"]) == (200, "confirmed")


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_what_costs_something_is_not_paid_with_nothing(
    api: httpx2.AsyncClient, book: Book, event: EventView, body: bytes
) -> None:
    items = [{"tier_id": tier.id, "quantity": 1} for tier in event.tiers]
    held = await book(event, items=items, payment=...)
    assert (held.status_code, held.json()["amount_cents"]) == (201, 2_000)
    headers = {"Idempotency-Key": "p"} | ({"Content-Type": "application/json"} if body else {})
    refused = await api.post(f"{held.headers['location']}/payment", content=body, headers=headers)
    assert assert_problem(refused, 400, "malformed-request")["errors"] == [{"pointer": "/method", "code": "missing"}]


async def test_a_payment_that_is_ignored_is_still_read(book: Book, event: EventView) -> None:
    """Neither a broken one nor a card number in the wrong place is let by; and what is not held has no `hold_s`."""
    broken = await book(event, payment={"method": "cash"})
    assert_problem(broken, 400, "malformed-request")
    assert_problem(await book(event, hold_s=60), 400, "malformed-request")
    assert_problem(
        await book(event, payment={"method": "card", "token": "4242424242424242"}), 422, "card-data-not-accepted"
    )


@pytest.mark.parametrize("settings", ["lane"], indirect=True)
async def test_it_is_so_in_the_lane(serving: Serving, event: EventView, office: BoxOffice) -> None:
    """Before and after a connection's head has been taken for a shape."""
    reader, writer = await connect(serving)
    for turn in range(3):
        for name, body in BODIES.items():
            sent = json.dumps(booking_of(event, **body)).encode()
            for replayed in (False, True):
                writer.write(request_of(sent, f"{name}-{turn}"))
                status, headers, booking = await answer_of(reader)
                assert (status, booking["payment"], booking["expires_at"]) == (202, None, None)
                assert headers["retry-after"] == "1"
                assert ("idempotency-replayed" in headers) == replayed
        for replayed in (False, True):
            writer.write(request_of(json.dumps(booking_of(event, payment=..., hold_s=60)).encode(), f"hold-{turn}"))
            status, headers, booking = await answer_of(reader)
            assert (status, booking["status"]) == (201, "held")
            assert ("idempotency-replayed" in headers) == replayed
    writer.close()
    await settle_all(office)
    assert not await (await office.pool()).fetch("SELECT 1 FROM payments")
