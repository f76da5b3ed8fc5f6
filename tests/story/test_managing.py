"""What a shop does with its sale beside selling: it changes a hold, looks at its bookings, and sets tickets aside."""

from __future__ import annotations

from tests.support.shop.orders import OTHER
from tests.support.shop.web import Shop, payment


async def test_a_hold_whose_payment_was_declined_is_changed(shop: Shop) -> None:
    """By then PostgreSQL knows it, too: both are told of its new items."""
    hold = (await shop.book({"GA": 2}, card=None)).json()
    await shop.pay(hold, "4000000000009995")
    await shop.settled(hold)

    items = [{"tier_id": hold["items"][0]["tier_id"], "quantity": 1}]
    changed = await shop.api.patch(f"/v1/bookings/{hold['id']}", json={"items": items}, headers=shop.headers("change"))

    assert (changed.status_code, changed.json()["amount_cents"]) == (200, 1_000)
    assert await shop.available("GA") == 9
    await shop.pay(hold, payment()["card_number"])
    assert (await shop.settled(hold))["status"] == "confirmed"
    assert (await shop.kept(hold))["amount_cents"] == 1_000


async def test_holds_stand_in_the_list_of_bookings(shop: Shop) -> None:
    hold = (await shop.book({"VIP": 1}, card=None)).json()
    sold = (await shop.book({"GA": 1})).json()
    await shop.settled(sold)

    for wanted in ("held", "confirmed"):
        found = (await shop.api.get("/v1/bookings", params={"status": wanted})).json()["data"]
        assert [booking["id"] for booking in found] == [(hold if wanted == "held" else sold)["id"]]


async def test_tickets_are_set_aside_for_another_shop(shop: Shop) -> None:
    event = await shop.on_sale()
    tier = next(tier["id"] for tier in event["tiers"] if tier["code"] == "GA")

    made = await shop.api.post(
        f"/v1/events/{event['id']}/allocations", json={"tier_id": tier, "shop": OTHER, "tickets": 4}
    )

    assert (made.status_code, made.json()["reserved"]) == (201, 4)
    late = await shop.book({"GA": 7})
    assert (late.status_code, late.json()["type"]) == (409, "/problems/sold-out")
