"""Holds, cancellations and refunds over HTTP: statuses, headers and refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from boxoffice import ids
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from tests.api.conftest import Book, assert_problem, booking_of
from tests.conftest import OTHER_KEY, SHARD, SaleMaker, settle_all

PAYMENT = {"method": "card", "card_name": "Ada Lovelace", "card_number": "4242424242424242"}

Post = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture
def post(api: httpx2.AsyncClient) -> Post:
    """`await post(booking, "payment", PAYMENT, key="k")`."""

    async def post(
        booking: str, verb: str, body: Any = None, *, key: str | None = "k", **headers: str
    ) -> httpx2.Response:
        if key is not None:
            headers["Idempotency-Key"] = key
        return await api.post(f"/v1/bookings/{booking}/{verb}", json=body, headers=headers)

    return post


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=10, VIP=5)


@pytest.fixture
async def hold(book: Book, event: EventView) -> str:
    """A hold's id."""
    answer = await book(event, 2, payment=...)
    assert answer.status_code == 201
    booking: dict[str, Any] = answer.json()
    assert (booking["status"], booking["payment"]) == ("held", None)
    assert booking["expires_at"] > booking["created_at"]
    assert answer.headers["location"] == f"/v1/bookings/{booking['id']}"
    assert "retry-after" not in answer.headers
    return str(booking["id"])


async def test_paying_a_hold(hold: str, post: Post, office: BoxOffice) -> None:
    answer = await post(hold, "payment", PAYMENT)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert answer.headers["location"] == f"/v1/bookings/{hold}"
    assert answer.headers["retry-after"] == "1"
    assert "idempotency-replayed" not in answer.headers
    assert answer.json()["payment"]["last4"] == "4242"

    again = await post(hold, "payment", PAYMENT)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")

    assert_problem(await post(hold, "payment", PAYMENT, key="other"), 409, "payment-in-progress")
    other_card = PAYMENT | {"card_number": "4000000000000002"}
    assert_problem(await post(hold, "payment", other_card), 422, "idempotency-key-reused")
    await settle_all(office)
    assert (await post(hold, "payment", PAYMENT)).json()["status"] == "confirmed"
    ended = assert_problem(await post(hold, "payment", PAYMENT, key="other"), 409, "hold-ended")
    assert ended["booking_status"] == "confirmed"


async def test_a_payment_in_progress_says_when_to_ask_again(hold: str, post: Post) -> None:
    await post(hold, "payment", PAYMENT)
    answer = await post(hold, "payment", PAYMENT, key="other")
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["retry_after"] == 2


async def test_a_hold_that_costs_another_amount_than_its_customer_saw_is_not_paid(
    api: httpx2.AsyncClient, hold: str, event: EventView, post: Post, office: BoxOffice
) -> None:
    """It was changed in another tab. Nothing is charged and no key is used up; what was paid is told to a repeat, whatever it
    expects."""
    body = {"items": [{"tier_id": event.tiers[0].id, "quantity": 3}]}
    await api.patch(f"/v1/bookings/{hold}", json=body, headers={"Idempotency-Key": "tab"})

    for expected in (2_000, 0):
        answer = await post(hold, "payment", PAYMENT | {"expected_amount_cents": expected}, key="pay")
        problem = assert_problem(answer, 409, "price-changed")
        assert (problem["amount_cents"], problem["currency"]) == (3_000, "USD")
    assert assert_problem(await post(hold, "payment", {"expected_amount_cents": 0}, key="pay"), 409, "price-changed")
    assert (await api.get(f"/v1/bookings/{hold}")).json()["status"] == "held"
    answer = await post(hold, "payment", PAYMENT | {"expected_amount_cents": -1}, key="pay")
    assert assert_problem(answer, 400, "malformed-request")["errors"] == [
        {"pointer": "/expected_amount_cents", "code": "out_of_range"}
    ]  # fmt: skip

    paid = await post(hold, "payment", PAYMENT | {"expected_amount_cents": 3_000}, key="pay")
    assert (paid.status_code, paid.json()["amount_cents"]) == (202, 3_000)
    for expected in (2_000, None):
        again = await post(hold, "payment", PAYMENT | {"expected_amount_cents": expected}, key="pay")
        assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    await settle_all(office)
    late = await post(hold, "payment", PAYMENT | {"expected_amount_cents": 2_000}, key="late")
    assert_problem(late, 409, "hold-ended")


async def test_a_hold_that_left_redis_has_ended(hold: str, post: Post, office: BoxOffice) -> None:
    await post(hold, "payment", PAYMENT)
    await settle_all(office)
    await office.redis.delete(keys.booking(SHARD, hold))
    assert_problem(await post(hold, "payment", PAYMENT, key="late"), 409, "hold-ended")


async def test_five_attempts(hold: str, post: Post, office: BoxOffice) -> None:
    for number in range(5):
        answer = await post(hold, "payment", PAYMENT | {"card_number": "4000000000000002"}, key=f"k{number}")
        assert answer.status_code == 202
        await settle_all(office)
    assert_problem(await post(hold, "payment", PAYMENT, key="k6"), 409, "too-many-attempts")


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/method", "missing"),
        ({"method": "card"}, "/card_number", "missing"),
        ({"method": "cash"}, "/method", "unknown_method"),
        (PAYMENT | {"token": "tok_ok"}, "/token", "ambiguous"),
        (PAYMENT | {"cvc": "123"}, "/cvc", "unknown_member"),
        ({"payment": PAYMENT}, "/payment", "unknown_member"),
        (PAYMENT | {"card_name": ""}, "/card_name", "empty"),
        (PAYMENT | {"card_number": "4242424242424241"}, "/card_number", "card_number"),
        ({"method": "card", "token": "tok_nonsense"}, "/token", "token"),
        ([], "", "wrong_type"),
    ],
)
async def test_a_payment_is_read_as_strictly_as_a_booking(
    hold: str, post: Post, body: Any, pointer: str, code: str
) -> None:
    """The pointer is into this body, where the payment is all there is."""
    problem = assert_problem(await post(hold, "payment", body), 400, "malformed-request")
    assert problem["errors"] in ([{"pointer": pointer, "code": code}], [{"pointer": "/method", "code": "missing"}])


async def test_a_card_number_in_the_wrong_place_is_refused(hold: str, post: Post, office: BoxOffice) -> None:
    answer = await post(hold, "payment", PAYMENT | {"card_name": "4242 4242 4242 4242"})
    problem = assert_problem(answer, 422, "card-data-not-accepted")
    assert problem["errors"] == [{"pointer": "/card_name", "code": "card_data"}]
    assert "4242" not in answer.text


@pytest.mark.parametrize("raw", [b"", b"{", b'{"method":"card","method":"card"}', b"\xff", b'"' + b"x" * 20_000 + b'"'])
async def test_a_body_that_is_none_is_refused(hold: str, api: httpx2.AsyncClient, raw: bytes) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    for verb in ("payment", "extend", "refunds", "cancel"):
        if raw or verb != "cancel":
            answer = await api.post(f"/v1/bookings/{hold}/{verb}", content=raw, headers=headers)
            assert_problem(answer, 400, "malformed-request")
    assert (await api.get(f"/v1/bookings/{hold}")).json()["status"] == "held"


ALL = {"items": "all"}


@pytest.mark.parametrize(
    ("verb", "raw", "pointer", "code"),
    [
        *(("refunds", raw, "/items", "missing") for raw in (b"", b"{}", b'{"reason":"x"}')),
        *(("refunds", raw, "/items", "wrong_type") for raw in (b'{"items":null}', b'{"items":{}}', b'{"items":true}')),
        *(("refunds", raw, "/items", "malformed") for raw in (b'{"items":""}', b'{"items":"ALL"}')),
        ("refunds", b'{"items":[]}', "/items", "empty"),
        *(("refunds", raw, "", "wrong_type") for raw in (b"null", b"[]", b'"all"')),
        ("refunds", b" ", "", "not_json"),
        *(("extend", raw, "/extra_s", "missing") for raw in (b"", b"{}")),
        ("extend", b'{"extra_s":null}', "/extra_s", "wrong_type"),
        ("extend", b'{"extra_s":0}', "/extra_s", "out_of_range"),
        ("extend", b"null", "", "wrong_type"),
        ("cancel", b'{"items":[{"tier_id":"x","quantity":1}]}', "/items", "unknown_member"),
        ("cancel", b"null", "", "wrong_type"),
    ],
)  # fmt: skip
async def test_a_lost_body_moves_nothing(
    book: Book, event: EventView, api: httpx2.AsyncClient, office: BoxOffice,
    verb: str, raw: bytes, pointer: str, code: str,
) -> None:  # fmt: skip
    """What is not said is not the largest of what might have been said, and what is said is not passed over."""
    booking = (await book(event, 3, payment=... if verb == "extend" else booking_of(event)["payment"])).json()
    await settle_all(office)
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    path = f"/v1/bookings/{booking['id']}"
    before = (await api.get(path)).json()

    answer = await api.post(f"{path}/{verb}", content=raw, headers=headers)

    problem = assert_problem(answer, 400, "malformed-request")
    assert problem["errors"] == [{"pointer": pointer, "code": code}]
    await settle_all(office)
    after = (await api.get(path)).json()
    assert [after[name] for name in ("status", "refunded_cents", "expires_at")] == [
        before[name] for name in ("status", "refunded_cents", "expires_at")
    ]


async def test_a_cancellation_may_say_nothing_in_two_ways(hold: str, api: httpx2.AsyncClient) -> None:
    for raw in (b"", b"{}"):
        answer = await api.post(f"/v1/bookings/{hold}/cancel", content=raw)
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


async def test_a_payment_needs_a_key(hold: str, post: Post) -> None:
    for verb, body in (("payment", PAYMENT), ("refunds", ALL)):
        problem = assert_problem(await post(hold, verb, body, key=None), 400, "malformed-request")
        assert problem["errors"] == [{"header": "Idempotency-Key", "code": "missing"}]


@pytest.mark.parametrize("verb", ["payment", "extend", "cancel", "refunds"])
async def test_another_shops_booking_is_not_there(hold: str, api: httpx2.AsyncClient, post: Post, verb: str) -> None:
    body = {"payment": PAYMENT, "extend": {"extra_s": 60}, "refunds": ALL}.get(verb)
    for booking in ("nonsense", ids.booking_id(SHARD, 1)):
        assert_problem(await post(booking, verb, body), 404, "not-found")
    api.headers["authorization"] = f"Bearer {OTHER_KEY}"
    assert_problem(await post(hold, verb, body), 404, "not-found")
    api.headers["authorization"] = "Bearer nobody.knows"
    assert_problem(await post(hold, verb, body), 401, "unauthorized")


async def test_extending_a_hold(hold: str, post: Post, api: httpx2.AsyncClient) -> None:
    before = (await api.get(f"/v1/bookings/{hold}")).json()["expires_at"]
    for bad in ({"extra_s": 0}, {"extra_s": 601}, {"extra_s": 1.5}, {"more": 1}):
        assert_problem(await post(hold, "extend", bad), 400, "malformed-request")

    answer = await post(hold, "extend", {"extra_s": 60})

    assert (answer.status_code, answer.json()["status"]) == (200, "held")
    assert answer.json()["expires_at"] > before
    assert_problem(await post(hold, "extend", {"extra_s": 60}), 409, "already-extended")


async def test_extending_by_the_most(hold: str, post: Post) -> None:
    booking = (await post(hold, "extend", {"extra_s": 600})).json()
    assert booking["expires_at"][14:16] == f"{(int(booking['created_at'][14:16]) + 20) % 60:02d}"


async def test_cancelling_a_hold(hold: str, post: Post, api: httpx2.AsyncClient) -> None:
    for _ in range(3):
        answer = await post(hold, "cancel", key=None)
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert (await api.get(f"/v1/bookings/{hold}")).json()["status"] == "cancelled"
    assert_problem(await post(hold, "extend", {"extra_s": 60}), 409, "hold-ended")


async def test_cancelling_a_confirmed_booking(book: Book, event: EventView, post: Post, office: BoxOffice) -> None:
    booking = (await book(event, 2)).json()["id"]
    await settle_all(office)

    for _ in range(3):
        answer = await post(booking, "cancel", key=None)
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["refunded_cents"]) == ("cancelled", 2_000)
        assert answer.json()["failure"]["code"] == "cancelled"


async def test_refunding_some_tickets(
    book: Book, event: EventView, post: Post, office: BoxOffice, api: httpx2.AsyncClient
) -> None:
    """Whoever reads the booking sees it at once, also while Redis answers for fresh ones."""
    booking = (await book(event, 3)).json()["id"]
    await settle_all(office)
    one = {"items": [{"tier_id": event.tiers[0].id, "quantity": 1}], "reason": "row 7 is broken"}

    answer = await post(booking, "refunds", one)

    assert answer.status_code == 201
    refund = answer.json()
    assert refund == {
        "id": refund["id"], "booking_id": booking, "booking_status": "confirmed", "amount_cents": 1_000,
        "currency": "USD", "status": "due",
    }  # fmt: skip
    read = (await api.get(f"/v1/bookings/{booking}")).json()
    assert (read["status"], read["refunded_cents"]) == ("confirmed", 1_000)
    again = await post(booking, "refunds", one)
    assert (again.json(), again.headers["idempotency-replayed"]) == (refund, "true")
    two = {"items": [{"tier_id": event.tiers[0].id, "quantity": 2}]}
    assert_problem(await post(booking, "refunds", two), 422, "idempotency-key-reused")
    four = {"items": [{"tier_id": event.tiers[0].id, "quantity": 4}]}
    assert_problem(await post(booking, "refunds", four, key="k4"), 409, "refund-too-large")
    for bad in (
        {"items": []},
        {"items": [one["items"][0]] * 2},
        {"reason": ""},
        {"items": [{"tier_id": "x", "quantity": 0}]},
    ):
        assert_problem(await post(booking, "refunds", bad, key="bad"), 400, "malformed-request")
    assert (await post(booking, "refunds", ALL, key="rest")).json()["booking_status"] == "cancelled"


async def test_a_second_refund_of_a_tier_waits_for_the_first(
    book: Book, event: EventView, post: Post, office: BoxOffice
) -> None:
    """While the first is owed, a new key refunds no other ticket."""
    card = PAYMENT | {"card_number": "4000000000010100"}
    booking = (await book(event, 2, payment=card)).json()["id"]
    await settle_all(office)
    one = {"items": [{"tier_id": event.tiers[0].id, "quantity": 1}]}
    assert (await post(booking, "refunds", one, key="k1")).status_code == 201
    await office.pump.work_outbox()

    refused = await post(booking, "refunds", one, key="k2")

    assert_problem(refused, 409, "refund-owed")
    assert (refused.json()["tier_id"], refused.json()["owed_cents"]) == (event.tiers[0].id, 1_000)
    assert (await post(booking, "refunds", one, key="k1")).json()["status"] == "due"


async def test_what_is_owed_is_told_and_tried_again(
    book: Book, event: EventView, post: Post, office: BoxOffice, api: httpx2.AsyncClient
) -> None:
    """A refused refund: the booking says so, and the shop asks once more, in its own time."""
    owed = {"items": "owed"}
    card = PAYMENT | {"card_number": "4000000000010100"}
    booking = (await book(event, 2, payment=card)).json()["id"]
    await settle_all(office)
    assert_problem(await post(booking, "refunds", owed), 409, "nothing-owed")
    assert (await post(booking, "cancel", key=None)).json()["refund"]["status"] == "pending"
    await office.pump.work_outbox()

    read = (await api.get(f"/v1/bookings/{booking}")).json()

    assert (read["status"], read["refunded_cents"]) == ("cancelled", 0)
    since = read["refund"].pop("since")
    assert since.endswith("Z")
    assert read["refund"] == {"status": "owed", "pending_cents": 0, "owed_cents": 2_000, "code": "refund_failed"}
    listed = (await api.get("/v1/bookings")).json()["data"]
    assert listed[0]["refund"]["owed_cents"] == 2_000
    answer = await post(booking, "refunds", owed, key="again")
    assert (answer.status_code, answer.json()["status"], answer.json()["amount_cents"]) == (201, "due", 2_000)
    assert "idempotency-replayed" not in answer.headers
    for body in (owed, ALL):
        again = await post(booking, "refunds", body, key="again")
        assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    await office.pump.work_outbox()
    read = (await post(booking, "cancel", key=None)).json()
    assert (read["refunded_cents"], read["refund"]["status"], read["refund"]["owed_cents"]) == (2_000, "succeeded", 0)
    assert_problem(await post(booking, "refunds", {"items": "OWED"}, key="x"), 400, "malformed-request")
    assert_problem(await api.post(f"/v1/bookings/{booking}/refunds", json=owed), 400, "malformed-request")


async def test_what_is_not_confirmed_cannot_be_refunded(hold: str, post: Post, office: BoxOffice) -> None:
    """A hold is cancelled, not refunded, whether PostgreSQL knows it or not."""
    assert assert_problem(await post(hold, "refunds", ALL), 409, "not-cancellable")["booking_status"] == "held"
    await post(hold, "payment", PAYMENT | {"card_number": "4000000000000002"})
    await settle_all(office)
    assert_problem(await post(hold, "refunds", ALL), 409, "not-cancellable")


async def test_seconds_left_are_told_beside_the_time(
    hold: str, post: Post, api: httpx2.AsyncClient, office: BoxOffice, book: Book, event: EventView
) -> None:
    """From the first answer on, while there is something to wait for."""
    assert (await book(event, payment=..., hold_s=60)).json()["expires_in_s"] == 60
    assert (await book(event)).json()["expires_in_s"] is None
    path = f"/v1/bookings/{hold}"
    assert 590 < (await api.get(path)).json()["expires_in_s"] < 600
    extended = await post(hold, "extend", {"extra_s": 100})
    assert 690 < extended.json()["expires_in_s"] < 700
    again = assert_problem(await post(hold, "extend", {"extra_s": 5}), 409, "already-extended")
    assert again["expires_at"] == extended.json()["expires_at"]

    assert 690 < (await post(hold, "payment", PAYMENT)).json()["expires_in_s"] < 700
    await settle_all(office)
    assert (await api.get(path)).json()["expires_in_s"] is None


async def test_too_much_held_and_not_paid_for(book: Book, open_sale: SaleMaker) -> None:
    """429 with whose limit it is, and when to ask again; a booking with its payment is served."""
    event = await open_sale(GA=100)
    for _ in range(4):
        assert (await book(event, 10, payment=...)).status_code == 201
    refused = await book(event, 1, payment=...)
    problem = assert_problem(refused, 429, "unpaid-limit")
    assert (problem["whose"], problem["held"], problem["limit"]) == ("customer", 40, 40)
    assert refused.headers["retry-after"] == str(problem["retry_after"])
    assert (await book(event, 10)).status_code == 202
    assert (await book(event, 10, payment=..., customer_id="customer-2")).status_code == 201
