"""What of a booking is still valid, and its refunds: told alike by both stores, to its own shop alone."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from boxoffice import ids
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from tests.api.conftest import Book, assert_problem
from tests.conftest import OTHER_KEY, SHARD, SaleMaker, settle_all
from tests.support.shop.office import Till

THEIRS = {"Authorization": f"Bearer {OTHER_KEY}"}


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=10, VIP=10)


@pytest.fixture
async def till(office: BoxOffice, event: EventView) -> Till:
    return Till(office, event)


async def sold(api: httpx2.AsyncClient, event: EventView, book: Book, office: BoxOffice, token: str = "tok_ok") -> str:
    """A confirmed booking of three GA and two VIP."""
    items = [{"tier_id": event.tiers[0].id, "quantity": 3}, {"tier_id": event.tiers[1].id, "quantity": 2}]
    booking = (await book(event, items=items, payment={"method": "card", "token": token})).json()
    assert [item["refunded"] for item in booking["items"]] == [0, 0]
    await settle_all(office)
    return str(booking["id"])


async def give_back(api: httpx2.AsyncClient, booking: str, key: str, items: Any, **more: Any) -> dict[str, Any]:
    answer = await api.post(
        f"/v1/bookings/{booking}/refunds", json={"items": items} | more, headers={"Idempotency-Key": key}
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def back_of(api: httpx2.AsyncClient, booking: str) -> dict[str, tuple[int, int]]:
    """Tier's code to quantity and refunded, wherever the booking is shown."""
    read = (await api.get(f"/v1/bookings/{booking}")).json()
    (listed,) = [each for each in (await api.get("/v1/bookings")).json()["data"] if each["id"] == booking]
    assert listed["items"] == read["items"]
    return {item["code"]: (item["quantity"], item["refunded"]) for item in read["items"]}


async def test_items_say_how_many_of_them_are_valid(
    api: httpx2.AsyncClient, event: EventView, book: Book, office: BoxOffice
) -> None:
    """Fresh from Redis, refunded in part, repeated, cancelled, and when Redis has forgotten everything."""
    booking = await sold(api, event, book, office)
    assert await back_of(api, booking) == {"GA": (3, 0), "VIP": (2, 0)}
    await give_back(api, booking, "1", [{"tier_id": event.tiers[0].id, "quantity": 2}])
    assert await back_of(api, booking) == {"GA": (3, 2), "VIP": (2, 0)}
    await settle_all(office)
    await give_back(api, booking, "2", [{"tier_id": event.tiers[1].id, "quantity": 1}])
    assert await back_of(api, booking) == {"GA": (3, 2), "VIP": (2, 1)}
    await office.redis.flushall()
    assert await back_of(api, booking) == {"GA": (3, 2), "VIP": (2, 1)}


async def test_what_was_never_sold_is_not_refunded(
    api: httpx2.AsyncClient, event: EventView, book: Book, office: BoxOffice
) -> None:
    held = (await book(event, payment=...)).json()
    cancelled = (await api.post(f"/v1/bookings/{held['id']}/cancel")).json()
    assert [(item["quantity"], item["refunded"]) for item in cancelled["items"]] == [(1, 0)]
    booking = await sold(api, event, book, office)
    answer = (await api.post(f"/v1/bookings/{booking}/cancel")).json()
    assert {item["code"]: (item["quantity"], item["refunded"]) for item in answer["items"]} == {
        "GA": (3, 3),
        "VIP": (2, 2),
    }


async def test_refunds_are_listed_and_read(
    api: httpx2.AsyncClient, event: EventView, book: Book, office: BoxOffice, till: Till
) -> None:
    """Oldest first, each with its tickets, its money, why, and how it stands; the same by its own id."""
    booking = await sold(api, event, book, office)
    path = f"/v1/bookings/{booking}/refunds"
    assert (await api.get(path)).json() == {"data": []}
    ga, vip = (tier.id for tier in event.tiers)
    one = await give_back(api, booking, "1", [{"tier_id": ga, "quantity": 2}], reason="row 7 is broken")
    two = await give_back(api, booking, "2", "all")
    # What Redis has made is a note, which is trimmed after a while.
    await (await office.pool()).execute("DELETE FROM stock_moves")

    first, second = (await api.get(path)).json()["data"]
    assert (first["id"], second["id"]) == (one["id"], two["id"])
    price = event.tiers[0].price_cents
    assert first["items"] == [{"tier_id": ga, "code": "GA", "quantity": 2}]
    assert [first[name] for name in ("booking_id", "amount_cents", "currency", "status", "reason", "origin")] == [
        booking, 2 * price, "USD", "due", "row 7 is broken", "shop",
    ]  # fmt: skip
    assert second["items"] == [
        {"tier_id": ga, "code": "GA", "quantity": 1}, {"tier_id": vip, "code": "VIP", "quantity": 2},
    ]  # fmt: skip
    assert (second["amount_cents"], second["reason"]) == (price + 2 * event.tiers[1].price_cents, "requested")
    assert first["failure_code"] is None and first["owed_since"] is None
    assert first["created_at"] <= first["updated_at"] and first["created_at"] < second["created_at"]
    assert (await api.get(f"/v1/refunds/{one['id']}")).json() == first

    await till.rest()
    paid = (await api.get(f"/v1/refunds/{one['id']}")).json()
    assert paid == first | {"status": "succeeded", "updated_at": paid["updated_at"]}
    assert paid["updated_at"] > first["updated_at"]


async def test_what_the_gateway_refuses_is_told_with_its_reason(
    api: httpx2.AsyncClient, event: EventView, book: Book, office: BoxOffice, till: Till
) -> None:
    booking = await sold(api, event, book, office, "tok_refund_refused")
    refund = (await give_back(api, booking, "1", "all"))["id"]
    await till.rest_bookings()
    await till.pump()
    read = (await api.get(f"/v1/bookings/{booking}")).json()["refund"]
    told = (await api.get(f"/v1/refunds/{refund}")).json()
    assert (told["status"], told["failure_code"], told["owed_since"]) == ("owed", read["code"], read["since"])


async def test_refunds_are_told_to_their_own_shop_alone(
    api: httpx2.AsyncClient, event: EventView, book: Book, office: BoxOffice
) -> None:
    booking = await sold(api, event, book, office)
    refund = (await give_back(api, booking, "1", "all"))["id"]
    nobodys = ids.booking_id(SHARD, 1)
    for path in (f"/v1/bookings/{booking}/refunds", f"/v1/refunds/{refund}"):
        assert (await api.get(path)).status_code == 200
        theirs = assert_problem(await api.get(path, headers=THEIRS), 404, "not-found")
        other = path.replace(booking, nobodys).replace(refund, "0" * 32)
        unknown = assert_problem(await api.get(other), 404, "not-found")
        assert unknown | {"request_id": theirs["request_id"]} == theirs, "in every word as what there is not"
    for odd in ("%00", "x" * 65, "x" * 5_000, "%ff", "%20", "nobody"):
        assert_problem(await api.get(f"/v1/refunds/{odd}"), 404, "not-found")
        assert_problem(await api.get(f"/v1/bookings/{odd}/refunds"), 404, "not-found")


async def test_a_hold_that_nobody_paid_has_no_refunds(api: httpx2.AsyncClient, event: EventView, book: Book) -> None:
    """PostgreSQL does not know it, and it is there all the same."""
    held = (await book(event, payment=...)).json()["id"]
    assert (await api.get(f"/v1/bookings/{held}/refunds")).json() == {"data": []}
    assert_problem(await api.get(f"/v1/bookings/{held}/refunds", headers=THEIRS), 404, "not-found")
