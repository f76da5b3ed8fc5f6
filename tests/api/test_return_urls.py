"""A booking says where its customer comes back to from the bank: somewhere that its shop is allowed, in each way in."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settlement.authorising import request_of
from boxoffice.stores import keys
from tests.api.conftest import booking_of
from tests.api.test_ownership import ask
from tests.api.test_ownership import request_of as request
from tests.conftest import CLIENT, KEY, OTHER_KEY, settle_all
from tests.support.shop.office import record_of
from tests.support.wire import Door, Wire

SHOP = "https://shop.example"


pytestmark = pytest.mark.wire


async def say(office: BoxOffice, allowed: list[str], usual: str | None = None) -> None:
    """And have every process know."""
    await office.access.set_return_urls(CLIENT, allowed, usual)
    office.catalogue.api_keys.look_at = office.catalogue.api_keys.clock() - 1
    await office.catalogue.api_keys.renew()


async def book(wire: Wire, event: EventView, key: str, api_key: str = KEY, **more: Any) -> tuple[int, Any]:
    status, _, body = await ask(wire, request("POST", "/v1/bookings", api_key, booking_of(event, 1, **more), key))
    return status, body


async def test_a_booking_goes_back_to_where_its_shop_is_allowed(
    door: Door, office: BoxOffice, event: EventView
) -> None:
    """It is shown, kept by both stores, and told to the gateway; to anywhere else it is refused, by its pointer."""
    await say(office, [SHOP])
    wire = door.connect()
    for n in range(8):
        assert (await book(wire, event, f"warm-{n}"))[0] == 202
    for key, payment in (("paid", {}), ("held", {"payment": ...})):
        status, booking = await book(wire, event, key, return_url=f"{SHOP}/{key}", metadata={"a": "1"}, **payment)
        assert (status, booking["return_url"]) == (202 if key == "paid" else 201, f"{SHOP}/{key}")
        record = await record_of(office, booking["id"])
        assert record is not None and request_of(record).return_url == f"{SHOP}/{key}"
    status, again = await book(wire, event, "held", return_url=f"{SHOP}/elsewhere", metadata={"a": "1"}, payment=...)
    assert (status, again["id"], again["return_url"]) == (201, booking["id"], f"{SHOP}/held"), "it is the same booking"
    for url, code in (("https://evil.example/", "not_allowed"), (f"{SHOP}@evil.example", "url"), (7, "wrong_type")):
        status, problem = await book(wire, event, "bad", return_url=url)
        assert (status, problem["errors"]) == (400, [{"pointer": "/return_url", "code": code}])
    assert (await book(wire, event, "theirs", OTHER_KEY, return_url=SHOP))[1]["errors"][0]["code"] == "not_allowed"
    await settle_all(office)
    await office.redis.flushall()
    found = (await ask(wire, request("GET", f"/v1/bookings?event_id={event.id}&idempotency_key=paid", KEY)))[2]
    assert [each["return_url"] for each in found.get("data", [])] == [f"{SHOP}/paid"] or found["status"] == 503


@pytest.mark.parametrize("end", ["held", "confirmed"])
async def test_a_repeat_is_told_what_it_booked_though_its_url_is_allowed_no_more(
    door: Door, office: BoxOffice, event: EventView, end: str
) -> None:
    """Nobody is sent there anew. What is no repeat is refused by its pointer, also when the sale would refuse it; a key that
    came with another request is told so; and none of them takes a ticket, or uses up a key."""
    wire, payment = door.connect(), {"payment": ...} if end == "held" else {}
    await say(office, [f"{SHOP}/old", f"{SHOP}/new"])
    old = {"return_url": f"{SHOP}/old", **payment}
    _, booking = await book(wire, event, "k", **old)
    await settle_all(office)
    await say(office, [f"{SHOP}/new"])
    left = await office.redis.hgetall(keys.event(event.shard, event.id))  # type: ignore[misc]

    status, again = await book(wire, event, "k", **old)

    assert (status, again["id"], again["status"]) == (201 if end == "held" else 200, booking["id"], end)
    assert again["return_url"] == f"{SHOP}/old"
    refused = 400, [{"pointer": "/return_url", "code": "not_allowed"}]
    status, problem = await book(wire, event, "another", **old)
    assert (status, problem["errors"]) == refused
    status, problem = await book(wire, event, "k", customer_id="bob", **old)
    assert (status, problem["type"]) == (422, "/problems/idempotency-key-reused")
    await office.control.pause(event.id)
    status, problem = await book(wire, event, "another", **old)
    assert (status, problem["errors"]) == refused
    assert (await book(wire, event, "k", **old))[1]["id"] == booking["id"]
    await office.control.resume(event.id)
    after = await office.redis.hgetall(keys.event(event.shard, event.id))  # type: ignore[misc]
    tiers = {name: count for name, count in left.items() if name[:2] in (b"a:", b"h:", b"c:")}
    assert {name: after[name] for name in tiers} == tiers
    assert (await book(wire, event, "another", **old | {"return_url": f"{SHOP}/new"}))[0] in (201, 202)


async def test_bookings_that_do_not_say_go_where_the_shop_says(door: Door, office: BoxOffice, event: EventView) -> None:
    """As it was when they were made."""
    wire = door.connect()
    assert (await book(wire, event, "before", return_url=None))[1]["return_url"] is None
    await say(office, [SHOP], f"{SHOP}/usual")
    _, booking = await book(wire, event, "usual")
    assert booking["return_url"] == f"{SHOP}/usual"
    assert (await book(wire, event, "own", return_url=f"{SHOP}/own"))[1]["return_url"] == f"{SHOP}/own"
    assert (await book(wire, event, "theirs", OTHER_KEY))[1]["return_url"] is None
    await say(office, [])
    assert (await book(wire, event, "after"))[1]["return_url"] is None
    assert (await book(wire, event, "usual"))[1]["return_url"] == f"{SHOP}/usual"
