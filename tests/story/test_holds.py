"""Selling in two steps: set tickets aside, then pay; and giving them back."""

from __future__ import annotations

from boxoffice.gateway.simulator.simulator import Simulator
from tests.conftest import SHARD
from tests.support.shop.web import Shop

GOOD, DECLINES, ASKS = "4242424242424242", "4000000000000002", "4000000000003220"


async def test_tickets_are_held_while_the_customer_types(shop: Shop) -> None:
    """201, until when, and nobody else can have them; then they are paid."""
    answer = await shop.book({"VIP": 2}, card=None)

    assert answer.status_code == 201
    hold = answer.json()
    assert hold["status"] == "held"
    assert hold["expires_at"] > hold["created_at"]
    assert hold["payment"] is None
    assert (await shop.book({"VIP": 1})).status_code == 409

    paid = await shop.pay(hold, GOOD)

    assert (paid.status_code, paid.json()["status"]) == (202, "pending")
    assert (await shop.settled(hold))["status"] == "confirmed"
    assert (await shop.kept(hold))["payment"]["status"] == "captured"


async def test_another_card_may_do(shop: Shop) -> None:
    """A decline leaves the tickets held; another card, with another key, pays them."""
    hold = (await shop.book({"VIP": 2}, card=None)).json()

    await shop.pay(hold, DECLINES)
    declined = await shop.settled(hold)
    assert (declined["status"], declined["payment"]["status"]) == ("held", "declined")
    assert await shop.available("VIP") == 0

    await shop.pay(hold, GOOD)
    assert (await shop.settled(hold))["status"] == "confirmed"


async def test_a_hold_ends_with_its_time(shop: Shop) -> None:
    """Unpaid tickets go on sale again when the time is up, and cannot be paid any more."""
    hold = (await shop.book({"VIP": 2}, card=None, hold_s=1)).json()

    ended = await shop.until(hold, "expired")

    assert ended["id"] == hold["id"]
    assert await shop.available("VIP") == 2
    late = await shop.pay(hold, GOOD)
    assert (late.status_code, late.json()["type"]) == (409, "/problems/hold-ended")


async def test_a_customer_cancels_and_is_paid_back(shop: Shop) -> None:
    """A confirmed booking is cancelled, its tickets are on sale at once, and the money goes back."""
    booking = (await shop.book({"VIP": 2})).json()
    await shop.settled(booking)

    answer = await shop.post(booking, "cancel")

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["refunded_cents"]) == ("cancelled", 4_000)
    assert await shop.available("VIP") == 2
    await shop.settled(booking)
    assert isinstance(shop.office.gateway, Simulator)
    (record,) = [record async for record in shop.office.gateway.records()]
    assert (record.payment.captured_cents, record.payment.refunded_cents) == (4_000, 4_000)


async def test_the_bank_asks_the_customer_first(shop: Shop) -> None:
    """3-D Secure: the booking stays pending and says where to send the customer; then it is confirmed."""
    booking = (await shop.book({"GA": 1}, card=ASKS)).json()
    asked = await shop.read((await shop.office.settlements[SHARD].drain(), booking)[1])
    assert (asked["status"], asked["payment"]["status"]) == ("pending", "requires_action")
    assert asked["payment"]["next_action"]

    gateway = shop.office.gateway
    assert isinstance(gateway, Simulator)
    (record,) = [record async for record in gateway.records()]
    await gateway.complete_action(record.payment_key)

    assert (await shop.until(booking, "confirmed"))["payment"]["next_action"] is None
