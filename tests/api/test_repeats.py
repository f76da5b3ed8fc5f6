"""What the repeat of a request is answered with: by what has become of the booking, in each way into the application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from boxoffice.stores.record import unpack
from tests.api.conftest import booking_of
from tests.api.test_ownership import ask, request_of
from tests.conftest import KEY, SHARD, settle_all
from tests.support.shop.office import Till
from tests.support.wire import Door

DECLINED = {"method": "card", "token": "tok_card_declined"}


pytestmark = pytest.mark.wire


Fate = Callable[[Till, str], Awaitable[None]]


async def nothing(till: Till, booking: str) -> None:
    """Happens to it."""


async def settled(till: Till, booking: str) -> None:
    await settle_all(till.office)


async def paid(till: Till, booking: str) -> None:
    await till.pay(booking)


async def paid_and_settled(till: Till, booking: str) -> None:
    await till.pay(booking)
    await settle_all(till.office)


async def cancelled(till: Till, booking: str) -> None:
    await settle_all(till.office)
    await till.cancel(booking)


async def time_is_up(till: Till, booking: str) -> None:
    """And no sweep has seen it."""
    await till.time_is_up(booking)


async def declined(till: Till, booking: str) -> None:
    await till.pay(booking, "tok_card_declined")
    await settle_all(till.office)


async def declined_and_time_is_up(till: Till, booking: str) -> None:
    await declined(till, booking)
    await till.time_is_up(booking)


async def expired(till: Till, booking: str) -> None:
    await till.time_is_up(booking)
    await till.office.holds.expire(SHARD)


HELD, PAID = {"payment": ...}, {}
FATES: dict[str, tuple[dict[str, Any], Fate, int, str]] = {
    # name: body, what happens before its repeat, status of that, what the booking is then
    "a hold": (HELD, nothing, 201, "held"),
    "a hold that is being paid": (HELD, paid, 202, "pending"),
    "a hold that was paid": (HELD, paid_and_settled, 200, "confirmed"),
    "a hold that was cancelled": (HELD, cancelled, 200, "cancelled"),
    "a hold whose time is up": (HELD, time_is_up, 200, "held"),
    "a hold that was declined": (HELD, declined, 201, "held"),
    "a hold that was declined and whose time is up": (HELD, declined_and_time_is_up, 200, "held"),
    "a hold that expired": (HELD, expired, 200, "expired"),
    "a booking": (PAID, nothing, 202, "pending"),
    "a booking that was confirmed": (PAID, settled, 200, "confirmed"),
    "a booking that failed": ({"payment": DECLINED}, settled, 200, "failed"),
    "a booking that was cancelled": (PAID, cancelled, 200, "cancelled"),
}


@pytest.mark.parametrize("name", FATES)
async def test_a_repeat_is_answered_by_what_the_booking_is(
    door: Door, office: BoxOffice, event: EventView, name: str
) -> None:
    """201 says that tickets are held, 202 that something is under way. Of a booking that has ended neither is true, and a
    repeat takes nothing."""
    changes, fate, status, now = FATES[name]
    wire, body = door.connect(), booking_of(event, **changes)
    first, headers, made = await ask(wire, request_of("POST", "/v1/bookings", KEY, body))
    assert (first, "idempotency-replayed" in headers) == (201 if changes is HELD else 202, False)
    await fate(Till(office, event), made["id"])

    for _ in range(2):
        again, headers, booking = await ask(wire, request_of("POST", "/v1/bookings", KEY, body))
        assert (again, booking["status"], booking["id"]) == (status, now, made["id"])
        assert (headers["idempotency-replayed"], headers["location"]) == ("true", f"/v1/bookings/{made['id']}")
        assert ("retry-after" in headers) is (status == 202)
    assert booking["availability"][0]["available"] == (100 if now in ("cancelled", "expired", "failed") else 99)


@pytest.mark.parametrize(
    "name",
    ["a hold that was paid", "a hold that was declined", "a hold that was declined and whose time is up",
     "a booking that failed"],
)  # fmt: skip
async def test_it_is_so_when_only_postgresql_has_the_booking(
    door: Door, office: BoxOffice, event: EventView, name: str
) -> None:
    """Its key is remembered, its record is gone."""
    changes, fate, status, now = FATES[name]
    wire, body = door.connect(), booking_of(event, **changes)
    _, _, made = await ask(wire, request_of("POST", "/v1/bookings", KEY, body))
    await fate(Till(office, event), made["id"])
    await office.redis.delete(keys.booking(event.shard, made["id"]))

    again, headers, booking = await ask(wire, request_of("POST", "/v1/bookings", KEY, body))

    assert (again, booking["status"], booking["id"]) == (status, now, made["id"])
    assert headers["idempotency-replayed"] == "true" and "retry-after" not in headers


async def test_a_key_that_was_used_before_redis_forgot_it_answers_the_first_booking(
    door: Door, office: BoxOffice, event: EventView
) -> None:
    """However often it comes: the second id was a repeat, too, and is no booking that failed."""
    wire, body = door.connect(), booking_of(event)
    _, _, first = await ask(wire, request_of("POST", "/v1/bookings", KEY, body))
    await settle_all(office)
    record = unpack(first["id"], await office.redis.get(keys.booking(event.shard, first["id"])))
    await office.redis.delete(keys.idempotency(event.shard, record.scope))
    status, _, second = await ask(wire, request_of("POST", "/v1/bookings", KEY, body))
    assert status == 202 and second["id"] != first["id"]
    await settle_all(office)

    again, headers, booking = await ask(wire, request_of("POST", "/v1/bookings", KEY, body))

    assert (again, booking["id"], booking["status"]) == (200, first["id"], "confirmed")
    assert (headers["idempotency-replayed"], headers["location"]) == ("true", f"/v1/bookings/{first['id']}")


async def test_the_repeat_of_a_payment_is_answered_alike(door: Door, office: BoxOffice, event: EventView) -> None:
    """202 while it is under way, 200 once it is not: the booking may be held again, confirmed, or be paid by another one."""
    wire = door.connect()
    _, _, hold = await ask(wire, request_of("POST", "/v1/bookings", KEY, booking_of(event, payment=...)))
    path = f"/v1/bookings/{hold['id']}/payment"
    first = request_of("POST", path, KEY, {"method": "card", "token": "tok_card_declined"}, "p1")
    for key, card, now in (("p1", "tok_card_declined", "held"), ("p2", "tok_ok", "confirmed")):
        request = request_of("POST", path, KEY, {"method": "card", "token": card}, key)
        for _ in range(2):
            status, headers, booking = await ask(wire, request)
            assert (status, booking["status"], headers["retry-after"]) == (202, "pending", "1")
        status, headers, booking = await ask(wire, first)
        told = (booking["status"], booking["payment"]["status"])
        assert (status, told) == ((202, ("pending", "pending")) if key == "p1" else (200, ("pending", "declined")))
        assert ("retry-after" in headers) is (status == 202)
        await settle_all(office)
        status, headers, booking = await ask(wire, request)
        assert (status, booking["status"], headers["idempotency-replayed"]) == (200, now, "true")
        assert "retry-after" not in headers
