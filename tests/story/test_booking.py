"""Selling tickets at once: book, poll, repeat, sell out."""

from __future__ import annotations

from tests.support.shop.web import Shop


async def test_a_customer_buys_tickets(shop: Shop) -> None:
    """The answer is 202 at once; a moment later the booking is confirmed, and the money is taken."""
    answer = await shop.book({"GA": 2, "VIP": 1})

    assert answer.status_code == 202
    booking = answer.json()
    assert (booking["status"], booking["amount_cents"]) == ("pending", 4_000)
    assert answer.headers["location"] == f"/v1/bookings/{booking['id']}"
    assert await shop.available("GA") == 8, "they are off sale before they are paid"

    assert (await shop.settled(booking))["status"] == "confirmed"
    assert (await shop.kept(booking))["payment"]["status"] == "captured"


async def test_a_shop_that_lost_the_answer_asks_again(shop: Shop) -> None:
    """The same key is the same booking, however often it is sent, also when it is confirmed by then."""
    first = (await shop.book({"GA": 2}, key="order-1")).json()
    await shop.settled(first)

    again = await shop.book({"GA": 2}, key="order-1")

    assert again.status_code == 200
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.json()["id"], again.json()["status"]) == (first["id"], "confirmed")
    assert await shop.available("GA") == 8


async def test_the_last_ticket_is_sold_once(shop: Shop) -> None:
    """Who comes too late is told what is short; of the other tiers in the order nothing is taken."""
    await shop.book({"VIP": 2})

    late = await shop.book({"GA": 1, "VIP": 1})

    assert late.status_code == 409
    problem = late.json()
    assert problem["type"] == "/problems/sold-out"
    assert [(tier["code"], tier["requested"], tier["available"]) for tier in problem["shortfall"]] == [("VIP", 1, 0)]
    assert await shop.available("GA") == 10


async def test_a_declined_card_gives_the_tickets_back(shop: Shop) -> None:
    """The booking fails, says why, and its tickets are on sale again."""
    booking = (await shop.book({"VIP": 2}, card="4000000000009995")).json()
    assert await shop.available("VIP") == 0

    failed = await shop.settled(booking)

    assert (failed["status"], failed["failure"]["code"]) == ("failed", "payment_declined")
    assert failed["payment"]["failure_code"] == "insufficient_funds"
    assert await shop.available("VIP") == 2


async def test_a_booking_is_found_by_the_shops_own_reference(shop: Shop) -> None:
    """An order number of the shop's finds the booking; so does its idempotency key."""
    booking = (await shop.book({"GA": 1}, key="k-7", reference="order 7")).json()
    await shop.book({"GA": 1}, reference="order 8")
    await shop.settled(booking)

    by_reference = (await shop.api.get("/v1/bookings", params={"reference": "order 7"})).json()
    event = (await shop.on_sale())["id"]
    by_key = (await shop.api.get("/v1/bookings", params={"event_id": event, "idempotency_key": "k-7"})).json()

    assert [found["id"] for found in by_reference["data"]] == [booking["id"]]
    assert [found["id"] for found in by_key["data"]] == [booking["id"]]
