"""Changing a hold over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from tests.api.conftest import Book, assert_problem
from tests.conftest import SaleMaker, settle_all
from tests.support.shop.orders import tier_of

Patch = Callable[..., Awaitable[httpx2.Response]]
DECLINED = {"method": "card", "token": "tok_card_declined"}


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=10, VIP=5)


@pytest.fixture
async def hold(book: Book, event: EventView) -> dict[str, Any]:
    """Two GA."""
    booking: dict[str, Any] = (await book(event, 2, payment=..., key="hold")).json()
    return booking


@pytest.fixture
def patch(api: httpx2.AsyncClient, hold: dict[str, Any], event: EventView) -> Patch:
    """`await patch(GA=1, key="k")`; or a whole body."""

    async def patch(
        body: Any = None, *, key: str | None = "k", expected: int | None = None, **tiers: int
    ) -> httpx2.Response:
        if body is None:
            body = {"items": [{"tier_id": tier_of(event, code), "quantity": count} for code, count in tiers.items()]}
            body |= {} if expected is None else {"expected_amount_cents": expected}
        headers = {} if key is None else {"Idempotency-Key": key}
        return await api.patch(f"/v1/bookings/{hold['id']}", json=body, headers=headers)

    return patch


async def test_a_change(
    api: httpx2.AsyncClient, book: Book, patch: Patch, hold: dict[str, Any], event: EventView
) -> None:
    """200 with the booking as it is: items with their prices, the amount, and the deadline that it had."""
    answer = await patch(GA=1, VIP=2, expected=5_000)
    assert answer.status_code == 200
    assert "idempotency-replayed" not in answer.headers
    changed = answer.json()
    members = "quantity", "unit_price_cents", "line_total_cents"
    assert {item["code"]: tuple(item[name] for name in members) for item in changed["items"]} == {
        "GA": (1, 1_000, 1_000), "VIP": (2, 2_000, 4_000),
    }  # fmt: skip
    assert (changed["id"], changed["status"], changed["amount_cents"]) == (hold["id"], "held", 5_000)
    assert (changed["expires_at"], changed["created_at"]) == (hold["expires_at"], hold["created_at"])
    read = (await api.get(f"/v1/bookings/{hold['id']}")).json()
    assert read | {"expires_in_s": 0} == changed | {"expires_in_s": 0}
    again = await patch(VIP=2, GA=1, expected=5_000)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    posted = await book(event, 2, payment=..., key="hold")
    assert (posted.status_code, posted.json()["id"], posted.json()["amount_cents"]) == (201, hold["id"], 5_000)
    assert [tier["available"] for tier in posted.json()["availability"]] == [9, 3]


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/items", "missing"),
        ({"items": []}, "/items", "empty"),
        ({"items": "all"}, "/items", "wrong_type"),
        ({"items": [{"tier_id": "a", "quantity": 0}]}, "/items/0/quantity", "out_of_range"),
        ({"items": [{"tier_id": "a", "quantity": 11}]}, "/items/0/quantity", "out_of_range"),
        ({"items": [{"tier_id": "a", "quantity": 1}] * 2}, "/items/1/tier_id", "duplicate_tier"),
        ({"items": [{"tier_id": "a", "quantity": 1}], "customer_id": "bob"}, "/customer_id", "unknown_member"),
        ({"items": [{"tier_id": "a", "quantity": 1}], "expected_amount_cents": -1}, "/expected_amount_cents", "out_of_range"),
    ],
)  # fmt: skip
async def test_it_is_read_as_strictly_as_a_booking(patch: Patch, body: Any, pointer: str, code: str) -> None:
    problem = assert_problem(await patch(body), 400, "malformed-request")
    assert problem["errors"] == [{"pointer": pointer, "code": code}]


async def test_it_needs_a_key_and_a_tier_that_there_is(patch: Patch, open_sale: SaleMaker) -> None:
    problem = assert_problem(await patch(key=None, GA=1), 400, "malformed-request")
    assert problem["errors"] == [{"header": "Idempotency-Key", "code": "missing"}]
    assert_problem(await patch({"items": [{"tier_id": "zzzzzzzzzzzz", "quantity": 1}]}), 404, "not-found")
    other = await open_sale(GA=5)
    mixed = assert_problem(
        await patch({"items": [{"tier_id": tier_of(other, "GA"), "quantity": 1}]}), 400, "malformed-request"
    )
    assert mixed["errors"] == [{"pointer": "/items/0/tier_id", "code": "other_event"}]


async def test_a_refusal_changes_nothing_and_uses_up_no_key(
    api: httpx2.AsyncClient, patch: Patch, hold: dict[str, Any], office: BoxOffice, event: EventView
) -> None:
    gone = await patch(GA=2, VIP=6)
    problem = assert_problem(gone, 409, "sold-out")
    assert problem["shortfall"] == [
        {"tier_id": tier_of(event, "VIP"), "code": "VIP", "requested": 6, "available": 5, "may_return": False}
    ]
    assert "retry-after" not in gone.headers
    assert assert_problem(await patch(GA=3, expected=1), 409, "price-changed")["amount_cents"] == 3_000
    await office.control.change_tier(tier_of(event, "GA"), price_cents=1_200)
    problem = assert_problem(await patch(GA=3), 409, "price-changed")
    assert (problem["tier_id"], problem["unit_price_cents"]) == (tier_of(event, "GA"), 1_200)
    await office.control.pause(event.id)
    assert_problem(await patch(GA=2, VIP=1), 409, "sale-paused")
    assert (await api.get(f"/v1/bookings/{hold['id']}")).json()["items"] == hold["items"]
    assert (await patch(GA=1)).json()["amount_cents"] == 1_000, "the same key, for what is only given up"
    assert_problem(await patch(GA=2), 422, "idempotency-key-reused")


async def test_only_a_hold_is_changed(
    api: httpx2.AsyncClient, patch: Patch, hold: dict[str, Any], office: BoxOffice
) -> None:
    """Not while it is paid; again after a decline, in both stores; not once it is confirmed."""
    headers = {"Idempotency-Key": "p1"}
    await api.post(f"/v1/bookings/{hold['id']}/payment", json=DECLINED, headers=headers)
    busy = await patch(GA=1)
    assert_problem(busy, 409, "payment-in-progress")
    assert busy.headers["retry-after"] == "2"
    await settle_all(office)
    assert (await patch(GA=1)).status_code == 200
    (row,) = await (await office.pool()).fetch("SELECT amount_cents FROM bookings WHERE id = $1", hold["id"])
    assert row["amount_cents"] == 1_000
    paid = DECLINED | {"token": "tok_ok"}
    await api.post(f"/v1/bookings/{hold['id']}/payment", json=paid, headers={"Idempotency-Key": "p2"})
    await settle_all(office)
    problem = assert_problem(await patch(GA=2, key="late"), 409, "hold-ended")
    assert problem["booking_status"] == "confirmed"
    again = await patch(GA=1)
    assert (again.status_code, again.json()["status"], again.headers["idempotency-replayed"]) == (
        200,
        "confirmed",
        "true",
    )


async def test_what_is_added_needs_what_a_booking_of_it_needs(
    api: httpx2.AsyncClient, book: Book, patch: Patch, event: EventView
) -> None:
    """A hold without an access code gets no ticket that needs one; one with a code as many as are left of it. The event's
    least and most tickets of a booking are kept, too."""
    path, vip = f"/v1/events/{event.id}", tier_of(event, "VIP")
    await api.patch(f"{path}/tiers/{vip}", json={"access_code_required": True})
    (code,) = (await api.post(f"{path}/access-codes", json={"count": 1, "tickets": 3})).json()["data"]
    assert_problem(await patch(GA=2, VIP=1), 403, "access-code-required")

    items = [{"tier_id": vip, "quantity": 2}]
    coded = (await book(event, items=items, payment=..., access_code=code["code"])).json()
    for number, (quantity, slug) in enumerate(((4, "access-code-used-up"), (3, ""), (1, ""))):
        wanted = {"items": [{"tier_id": vip, "quantity": quantity}]}
        answer = await api.patch(f"/v1/bookings/{coded['id']}", json=wanted, headers={"Idempotency-Key": f"c{number}"})
        if slug:
            assert assert_problem(answer, 403 if "required" in slug else 409, slug)["left"] == 1
        else:
            assert answer.json()["items"][0]["quantity"] == quantity
    (listed,) = (await api.get(f"{path}/access-codes")).json()["data"]
    assert listed["used"] == 1, "what was given up may be had with the code again"

    await api.patch(path, json={"booking_min": 2, "booking_max": 3})
    for count, limits in ((1, (2, 3)), (4, (2, 3))):
        problem = assert_problem(await patch(GA=count), 409, "booking-limit")
        assert (problem["least"], problem["limit"]) == limits
    assert (await patch(GA=3)).status_code == 200
