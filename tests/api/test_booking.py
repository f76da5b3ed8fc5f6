"""Booking over HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.stores.database import Database
from tests.api.conftest import Book, assert_problem, booking_of
from tests.conftest import KEY, OTHER_KEY, SaleMaker, settle_all


@pytest.fixture(params=[1, 4], ids=["1 shard", "4 shards"])
def shards(request: pytest.FixtureRequest) -> int:
    return int(request.param)


async def test_a_booking_is_accepted(book: Book, open_sale: SaleMaker) -> None:
    """The answer is 202 with the booking, where to read it, and what is left of every tier."""
    event = await open_sale(GA=10, VIP=5)

    answer = await book(event, 2, reference="order 7")

    assert answer.status_code == 202
    booking = answer.json()
    assert answer.headers["location"] == f"/v1/bookings/{booking['id']}"
    assert answer.headers["retry-after"] == "1"
    assert "idempotency-replayed" not in answer.headers
    ga, vip = event.tiers
    assert booking == {
        "id": booking["id"],
        "status": "pending",
        "event_id": event.id,
        "customer_id": "customer-1",
        "reference": "order 7",
        "metadata": {},
        "return_url": None,
        "items": [
            {"tier_id": ga.id, "code": "GA", "quantity": 2, "refunded": 0, "unit_price_cents": 1000,
             "line_total_cents": 2000}
        ],
        "amount_cents": 2000,
        "currency": "USD",
        "refunded_cents": 0,
        "created_at": booking["created_at"],
        "expires_at": None,
        "expires_in_s": None,
        "payment": {
            "status": "pending", "method": "card", "last4": "4242", "reference": None, "failure_code": None,
            "next_action": None,
        },
        "failure": None,
        "refund": None,
        "availability": [
            {"tier_id": ga.id, "code": "GA", "available": 8}, {"tier_id": vip.id, "code": "VIP", "available": 5},
        ],
    }  # fmt: skip


async def test_a_booking_asks_postgresql_nothing(
    book: Book, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its amount comes from the map, its key and its tickets from Redis: a pool that nobody could get says so."""
    event = await open_sale(GA=10)

    async def away(database: Database) -> Any:
        raise AssertionError("PostgreSQL was asked")

    monkeypatch.setattr(Database, "pool", away)
    assert (await book(event, 2)).status_code == 202
    assert (await book(event, 9)).status_code == 409


async def test_a_declined_card_fails_the_booking(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    event = await open_sale(GA=10)
    payment = {"method": "card", "card_name": "Ada", "card_number": "4000000000009995"}
    location = (await book(event, payment=payment)).headers["location"]
    await settle_all(office)

    booking = (await api.get(location)).json()

    assert booking["status"] == "failed"
    assert booking["failure"] == {"code": "payment_declined", "message": "The payment was declined."}
    assert booking["payment"]["failure_code"] == "insufficient_funds"
    assert booking["payment"]["last4"] == "9995"


async def test_a_repeat_gets_the_same_booking(book: Book, office: BoxOffice, open_sale: SaleMaker) -> None:
    """With its present status, and nothing taken twice."""
    event = await open_sale(GA=10)
    first = await book(event, key="k")
    await settle_all(office)

    again = await book(event, key="k")

    assert again.status_code == 200
    assert again.headers["idempotency-replayed"] == "true"
    assert "retry-after" not in again.headers
    assert again.headers["location"] == first.headers["location"]
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["status"] == "confirmed"
    assert again.json()["availability"][0]["available"] == 9


async def test_a_hundred_first_uses_of_a_key_make_one_booking(book: Book, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=200)

    answers = await asyncio.gather(*(book(event, key="same") for _ in range(100)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert answers[0].json()["availability"][0]["available"] == 199


async def test_a_key_belongs_to_its_request(book: Book, open_sale: SaleMaker) -> None:
    """Another customer, other tickets or another card need another key. A new reference or name does not."""
    event = await open_sale(GA=10)
    first = (await book(event, key="k")).json()

    other_card = {"method": "card", "card_name": "Ada", "card_number": "4000000000000002"}
    for changes in ({"quantity": 2}, {"customer_id": "customer-2"}, {"payment": other_card}):
        problem = assert_problem(await book(event, key="k", **changes), 422, "idempotency-key-reused")
        assert problem["booking_id"] == first["id"]
    assert (await book(event, key="k", reference="another")).json()["id"] == first["id"]


async def test_keys_of_two_shops_and_of_two_events_are_apart(
    api: httpx2.AsyncClient, book: Book, open_sale: SaleMaker
) -> None:
    one, two = await open_sale(GA=10), await open_sale(GA=10)
    headers = {"Idempotency-Key": "k", "Authorization": f"Bearer {OTHER_KEY}"}

    bookings = [await book(one, key="k"), await book(two, key="k")]
    bookings.append(await api.post("/v1/bookings", json=booking_of(one), headers=headers))

    assert [answer.status_code for answer in bookings] == [202, 202, 202]
    assert len({answer.json()["id"] for answer in bookings}) == 3


async def test_a_refused_booking_uses_up_no_key(book: Book, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=1)
    assert_problem(await book(event, 2, key="k"), 409, "sold-out")

    assert (await book(event, 1, key="k")).status_code == 202


async def test_sold_out_says_what_is_short(book: Book, open_sale: SaleMaker) -> None:
    """Every tier that is short, with what was asked for and what there is; no other tier loses a ticket."""
    event = await open_sale(GA=10, VIP=1, BOX=0)
    items = [{"tier_id": tier.id, "quantity": 2} for tier in event.tiers]

    problem = assert_problem(await book(event, items=items), 409, "sold-out")

    _, vip, box = event.tiers
    assert sorted(problem["shortfall"], key=lambda short: -short["available"]) == [
        {"tier_id": vip.id, "code": "VIP", "requested": 2, "available": 1, "may_return": False},
        {"tier_id": box.id, "code": "BOX", "requested": 2, "available": 0, "may_return": False},
    ]
    assert "VIP: requested 2, available 1" in problem["detail"]
    left = (await book(event)).json()["availability"]
    assert [tier["available"] for tier in left] == [9, 1, 0]


async def test_sold_out_says_whether_tickets_may_come_back(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """While some are held or being paid, and when to ask again; once all are sold, neither."""
    event = await open_sale(GA=2)
    held = await book(event, payment=..., hold_s=600)
    await book(event)

    answer = await book(event)
    problem = assert_problem(answer, 409, "sold-out")
    assert (problem["may_return"], problem["shortfall"][0]["may_return"]) == (True, True)
    assert answer.headers["retry-after"] == str(problem["retry_after"]) == "15"
    assert "may come back" in problem["detail"]

    await settle_all(office)
    assert (await book(event)).json()["may_return"] is True, "one is held, the other sold"
    await api.post(f"{held.headers['location']}/cancel")
    await book(event)
    await settle_all(office)
    answer = await book(event)
    problem = assert_problem(answer, 409, "sold-out")
    assert (problem["may_return"], problem["shortfall"][0]["may_return"]) == (False, False)
    assert "retry-after" not in answer.headers and "retry_after" not in problem


async def test_a_hold_that_is_about_to_end_is_worth_waiting_for(book: Book, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=1)
    await book(event, payment=..., hold_s=5)
    assert 1 <= int((await book(event)).headers["retry-after"]) <= 5


async def test_what_is_not_on_sale_is_refused(book: Book, office: BoxOffice, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)
    await office.control.change_tier(event.tiers[0].id, is_active=False)
    problem = assert_problem(await book(event), 409, "sale-closed")
    assert problem["reason"] == "tier"

    await office.control.change_event(event.id, status="inactive")
    assert assert_problem(await book(event), 409, "sale-closed")["reason"] == "event"


@pytest.mark.parametrize("payment", [..., {"method": "card", "token": "tok_ok"}], ids=["held", "paid"])
async def test_another_price_than_its_customer_has_seen_is_refused(
    book: Book, office: BoxOffice, open_sale: SaleMaker, payment: Any
) -> None:
    """It says what it costs now, takes nothing, and uses up no key. What costs as much as expected is let in."""
    event = await open_sale(GA=10)
    wanted = {"payment": payment, "key": "k"}

    for expected in (1_999, 2_001, 0):
        problem = assert_problem(await book(event, 2, **wanted, expected_amount_cents=expected), 409, "price-changed")
        assert (problem["amount_cents"], problem["currency"]) == (2_000, "USD")

    answer = await book(event, 2, **wanted, expected_amount_cents=2_000)
    assert answer.is_success, answer.text
    assert answer.json()["amount_cents"] == 2_000
    assert answer.json()["availability"][0]["available"] == 8, "the refused ones took nothing"


async def test_a_price_that_changed_since_the_customer_saw_it(
    book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """The price that counts is the one at which the script sells. What was booked before keeps its price, and its repeat is
    no new booking at another."""
    event = await open_sale(GA=10)
    held = (await book(event, 2, key="before", payment=..., expected_amount_cents=2_000)).json()

    await office.control.change_tier(event.tiers[0].id, price_cents=1_500)

    problem = assert_problem(await book(event, 2, expected_amount_cents=2_000), 409, "price-changed")
    assert problem["amount_cents"] == 3_000
    again = await book(event, 2, key="before", payment=..., expected_amount_cents=2_000)
    assert (again.json()["id"], again.json()["amount_cents"]) == (held["id"], 2_000)
    assert (await book(event, 2, expected_amount_cents=3_000)).json()["amount_cents"] == 3_000
    assert (await book(event, 2)).json()["amount_cents"] == 3_000, "who expects nothing pays what it costs"


@pytest.mark.parametrize("expected", [{}, {"expected_amount_cents": 3_000}], ids=["nothing", "their sum"])
async def test_prices_that_moved_against_each_other_are_read_anew(
    book: Book, office: BoxOffice, open_sale: SaleMaker, expected: dict[str, int]
) -> None:
    """Though their sum is what it was: each item is written, and refunded, at the price of its sale."""
    event = await open_sale(GA=10, VIP=10)
    ga, vip = event.tiers
    items = [{"tier_id": tier.id, "quantity": 1} for tier in event.tiers]
    await office.control.change_tier(vip.id, price_cents=2_000)
    first = (await book(event, items=items, **expected)).json()
    await office.control.change_tier(ga.id, price_cents=1_200)
    await office.control.change_tier(vip.id, price_cents=1_800)

    answer = await book(event, items=items, **expected)

    assert answer.status_code == 202, answer.text
    costs = {item["code"]: item["unit_price_cents"] for item in answer.json()["items"]}
    assert (answer.json()["amount_cents"], costs) == (3_000, {"GA": 1_200, "VIP": 1_800})
    costs = {item["code"]: item["unit_price_cents"] for item in first["items"]}
    assert costs == {"GA": 1_000, "VIP": 2_000}


async def test_the_expected_amount_belongs_to_the_request(book: Book, open_sale: SaleMaker) -> None:
    """The same key with another expectation, or with none, is another request."""
    event = await open_sale(GA=10)
    first = await book(event, key="k", expected_amount_cents=1_000)
    assert first.status_code == 202
    assert (await book(event, key="k", expected_amount_cents=1_000)).json()["id"] == first.json()["id"]
    for changes in ({}, {"expected_amount_cents": 999}):
        assert_problem(await book(event, key="k", **changes), 422, "idempotency-key-reused")


async def test_an_unknown_tier_is_not_found(book: Book, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)
    items = [{"tier_id": "zzzzzzzzzzzz", "quantity": 1}]

    assert_problem(await book(event, items=items), 404, "not-found")


async def test_tiers_of_two_events_are_refused(book: Book, open_sale: SaleMaker) -> None:
    one, two = await open_sale(GA=10), await open_sale(GA=10)
    items = [{"tier_id": event.tiers[0].id, "quantity": 1} for event in (one, two)]

    problem = assert_problem(await book(one, items=items), 400, "malformed-request")

    assert problem["errors"] == [{"pointer": "/items/1/tier_id", "code": "other_event"}]


async def test_a_booking_without_payment_is_held(api: httpx2.AsyncClient, book: Book, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)

    answer = await book(event, payment=..., hold_s=60)

    assert answer.status_code == 201
    booking = answer.json()
    assert (booking["status"], booking["payment"], booking["failure"]) == ("held", None, None)
    assert booking["expires_at"] > booking["created_at"]
    assert (await api.get(answer.headers["location"])).json()["status"] == "held"


async def test_an_empty_redis_is_closed_not_sold_out(book: Book, office: BoxOffice, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)
    assert (await book(event)).status_code == 202
    await office.redis.flushall()

    answer = await book(event)

    assert_problem(answer, 503, "gate-closed")
    assert answer.headers["retry-after"] == "1"


async def test_only_known_api_keys_are_served(api: httpx2.AsyncClient, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)
    good = {"Idempotency-Key": "k"}
    for authorization in ("", "Bearer", "Bearer ", f"Basic {KEY}", "Bearer shop.wrong", "Bearer \u00e9", KEY):
        headers = good | {"Authorization": authorization.encode("latin-1")}
        for answer in (
            await api.post("/v1/bookings", content=json.dumps(booking_of(event)), headers=headers),
            await api.get("/v1/bookings", headers=headers),
            await api.get("/v1/bookings/x", headers=headers),
            await api.get("/v1/events", headers=headers),
            await api.get(f"/v1/events/{event.id}", headers=headers),
        ):
            assert_problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
