"""A booking says where its customer comes back to from the bank: somewhere that its shop is allowed, in each way in."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.settlement.authorising import request_of
from tests.api.conftest import booking_of
from tests.api.test_ownership import ask
from tests.api.test_ownership import request_of as request
from tests.conftest import CLIENT, KEY, OTHER_KEY, SaleMaker, settle_all
from tests.support.shop.office import record_of
from tests.support.wire import WAYS, Door, Wire

SHOP = "https://shop.example"


@pytest.fixture(params=["lane"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings


@pytest.fixture(params=WAYS)
def door(request: pytest.FixtureRequest, settings: Settings, office: BoxOffice) -> Door:
    return Door(request.param, settings, office)


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=100)


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
