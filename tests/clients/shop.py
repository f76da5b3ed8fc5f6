"""A shop on the packed client in Python; run by `test_python_shop.py` in an environment of its own."""

from __future__ import annotations

import asyncio
import json
import sys

from boxoffice_client import AsyncClient, Client, Retries, bodies, problems

base_url, api_key = sys.argv[1:]
patient = Retries(deadline_s=60, attempt_s=3, first_s=0.1)

GOOD, DECLINED = "4242424242424242", "4000000000000002"


def card(number: str) -> bodies.PaymentRequest:
    return {"method": "card", "card_name": "Ada", "card_number": number}


def noticed(client: Client, booking_id: str) -> list[str]:
    """What the feed tells of a booking, to its cancellation."""
    found: list[str] = []
    for notice in client.feed(types=["booking.held", "booking.confirmed", "booking.cancelled"]):
        if notice["booking_id"] == booking_id:
            found.append(notice["type"])
            if notice["type"] == "booking.cancelled":
                break
    return found


def sell() -> dict[str, object]:
    told: dict[str, object] = {}
    with Client(base_url, api_key, retries=patient) as client:
        event = client.list_events(on_sale=True)["data"][0]
        items: list[bodies.ItemRequest] = [{"tier_id": event["tiers"][0]["id"], "quantity": 1}]

        def booked(customer: str, number: str = GOOD) -> bodies.Booking:
            accepted = client.book({"customer_id": customer, "items": items, "payment": card(number)})
            return client.wait_until_final(accepted["id"], deadline_s=30)

        told["bought"] = booked("plain")["status"]
        told["answer lost"] = booked("lost-answer")["status"]
        told["refused twice"] = booked("busy-twice")["status"]
        declined = booked("declined", DECLINED)
        assert declined["failure"] is not None
        told["declined"] = declined["failure"]["code"]

        hold = client.book({"customer_id": "holder", "items": items})
        client.change_items(hold["id"], {"items": [{**items[0], "quantity": 2}]})
        longer = client.extend(hold["id"], {"extra_s": 60})
        assert longer["expires_at"] is not None and hold["expires_at"] is not None
        assert longer["expires_at"] > hold["expires_at"]
        client.pay(hold["id"], {"method": "card", "token": "tok_card_declined"})
        told["still held"] = client.wait_until_final(hold["id"], deadline_s=30)["status"]
        client.pay(hold["id"], {"method": "card", "token": "tok_ok"})
        told["paid"] = client.wait_until_final(hold["id"], deadline_s=30)["status"]
        told["cancelled"] = client.cancel(hold["id"])["status"]

        told["watched"] = [(each.name, each.data["status"]) for each in client.watch_booking(hold["id"])]
        told["noticed"] = noticed(client, hold["id"])
        told["left"] = next(client.watch_availability(event["id"])).data["event_id"] == event["id"]

        try:
            client.book({"customer_id": "greedy", "items": [{**items[0], "quantity": 10}]})
        except problems.SoldOut as error:
            told["short of"] = error.problem["shortfall"][0]["requested"]
            assert error.key and error.request_id == error.problem["request_id"]
        again = client.book({"customer_id": "same", "items": items}, key="order-7")
        told["same"] = client.book({"customer_id": "same", "items": items}, key="order-7")["id"] == again["id"]
        told["bookings"] = sum(each["customer_id"] == "lost-answer" for each in client.list_bookings(limit=50)["data"])
    return told


async def sell_at_once() -> list[object]:
    async with AsyncClient(base_url, api_key, retries=patient) as client:
        event = (await client.list_events(on_sale=True))["data"][0]
        tier = event["tiers"][0]["id"]

        async def booked(customer: str) -> str:
            accepted = await client.book(
                {"customer_id": customer, "items": [{"tier_id": tier, "quantity": 1}], "payment": card(GOOD)}
            )
            return (await client.wait_until_final(accepted["id"], deadline_s=30))["status"]

        sold = await asyncio.gather(booked("a"), booked("b"), booked("lost-async"))
        (cancelled,) = (await client.list_bookings(customer_id="holder"))["data"]
        watched = [each.data["status"] async for each in client.watch_booking(cancelled["id"])]
        return [*sold, *watched]


print(json.dumps(sell() | {"at once": asyncio.run(sell_at_once())}))
