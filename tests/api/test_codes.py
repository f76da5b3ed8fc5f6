"""Access codes over HTTP: made and told once, listed, used in a booking, revoked."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from boxoffice.sales.catalogue import EventView
from tests.api.conftest import Book, assert_problem
from tests.conftest import SaleMaker
from tests.support.shop.orders import tier_of

GIVEN = "FANS-OF-ADA-2030"
SOON, LATER = "2040-01-01T10:00:00Z", "2040-01-02T10:00:00Z"


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=10, VIP=4)


async def test_a_presale_by_codes(api: httpx2.AsyncClient, event: EventView, book: Book) -> None:
    """Who has one books before the others, as often as it has tickets, until it is revoked. Nothing repeats what it reads."""
    path = f"/v1/events/{event.id}"
    await api.patch(path, json={"on_sale_at": SOON})
    answer = await api.post(f"{path}/access-codes", json={"count": 2, "tickets": 2, "label": "fan club"})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    first, second = answer.json()["data"]
    assert (await book(event, access_code=first["code"])).status_code == 202
    assert_problem(await book(event), 409, "sale-not-open")
    short = assert_problem(await book(event, 2, access_code=first["code"].lower()), 409, "access-code-used-up")
    assert short["left"] == 1
    listed = (await api.get(f"{path}/access-codes")).json()["data"]
    assert {each["id"]: (each["used"], each["label"]) for each in listed} == {
        first["id"]: (1, "fan club"), second["id"]: (0, "fan club"),
    }  # fmt: skip
    assert (await api.get(f"{path}/access-codes", params={"limit": 1})).json()["data"] == listed[:1]
    assert (await api.get(f"{path}/access-codes", params={"after": listed[0]["id"]})).json()["data"] == listed[1:]
    revoke = f"{path}/access-codes/{second['id']}/revoke"
    assert [(await api.post(revoke)).json() for _ in range(2)] == [{"revoked": 1}, {"revoked": 0}]
    problems = [
        (await book(event, access_code=code), reason)
        for code, reason in ((second["code"], "revoked"), (GIVEN, "unknown"))
    ]
    for refused, reason in problems:
        assert assert_problem(refused, 403, "access-code-invalid")["reason"] == reason
        assert GIVEN not in refused.text and second["code"] not in refused.text
    history = (await api.get(f"{path}/history")).json()["data"]
    assert [(each["action"], each["changed_by"]) for each in history[:2]] == [
        ("revoke_codes", "key:shop"), ("create_codes", "key:shop"),
    ]  # fmt: skip


async def test_a_tier_that_needs_a_code(api: httpx2.AsyncClient, event: EventView, book: Book) -> None:
    """And a code that is for it alone."""
    vip, ga = tier_of(event, "VIP"), tier_of(event, "GA")
    path = f"/v1/events/{event.id}"
    changed = (await api.patch(f"{path}/tiers/{vip}", json={"access_code_required": True})).json()
    assert {tier["id"]: tier["access_code_required"] for tier in changed["tiers"]} == {vip: True, ga: False}
    added = await api.post(
        f"{path}/tiers", json={"code": "B", "price_cents": 1, "capacity": 1, "access_code_required": True}
    )
    assert added.json()["tiers"][-1]["access_code_required"] is True
    given = {"codes": [GIVEN], "tickets": 9, "tier_id": vip, "valid_until": SOON}
    (code,) = (await api.post(f"{path}/access-codes", json=given)).json()["data"]
    assert code["code"] == GIVEN
    items = [{"tier_id": vip, "quantity": 1}]
    assert_problem(await book(event, items=items), 403, "access-code-required")
    assert (await book(event, items=items, access_code=GIVEN)).status_code == 202
    items = [{"tier_id": ga, "quantity": 1}]
    refused = await book(event, items=items, access_code=GIVEN)
    assert assert_problem(refused, 403, "access-code-invalid")["reason"] == "other_tier"
    assert (await book(event, items=items)).status_code == 202


async def test_a_key_is_for_one_code(api: httpx2.AsyncClient, event: EventView, book: Book) -> None:
    """A repeat with another code, or with none, is another request. Null and nothing are none."""
    await api.post(f"/v1/events/{event.id}/access-codes", json={"codes": [GIVEN], "tickets": 9})
    first = await book(event, key="k", access_code=GIVEN)
    again = await book(event, key="k", access_code=GIVEN.replace("-", ""))
    assert again.json()["id"] == first.json()["id"]
    for other in ("ANOTHER-CODE-123", None, ""):
        assert_problem(await book(event, key="k", access_code=other), 422, "idempotency-key-reused")
    bare = await book(event, key="l")
    assert (await book(event, key="l", access_code=None)).json()["id"] == bare.json()["id"]


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        (7, 400, "wrong_type"),
        (["a"], 400, "wrong_type"),
        ("x" * 65, 400, "too_long"),
        ("A\nB", 400, "control_character"),
        ("4242424242424242", 422, "card_data"),
    ],
)
async def test_what_is_no_code_is_refused(event: EventView, book: Book, code: Any, status: int, error: str) -> None:
    refused = await book(event, access_code=code)
    problem = assert_problem(refused, status, "malformed-request" if status == 400 else "card-data-not-accepted")
    assert problem["errors"] == [{"pointer": "/access_code", "code": error}]


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/tickets", "missing"),
        ({"tickets": 1}, "/count", "ambiguous"),
        ({"tickets": 1, "count": 1, "codes": [GIVEN]}, "/count", "ambiguous"),
        ({"tickets": 1, "codes": []}, "/codes", "empty"),
        ({"tickets": 0, "count": 1}, "/tickets", "out_of_range"),
        ({"tickets": 1, "count": 10_001}, "/count", "out_of_range"),
        ({"tickets": 1, "count": 1, "tier_id": "\n"}, "/tier_id", "empty"),
        ({"tickets": 1, "codes": ["short"]}, "/codes/0", "too_short"),
        ({"tickets": 1, "count": 1, "valid_from": LATER, "valid_until": SOON}, "/valid_until", "window"),
        ({"tickets": 1, "count": 1, "surprise": 1}, "/surprise", "unknown_member"),
    ],
)
async def test_codes_that_cannot_be_are_not_made(
    api: httpx2.AsyncClient, event: EventView, body: dict[str, Any], pointer: str, code: str
) -> None:
    refused = await api.post(f"/v1/events/{event.id}/access-codes", json=body)
    problem = assert_problem(refused, 400, "malformed-request")
    assert problem["errors"] == [{"pointer": pointer, "code": code}]
    assert (await api.get(f"/v1/events/{event.id}/access-codes")).json() == {"data": []}


@pytest.mark.parametrize("query", [{"limit": 101}, {"limit": 0}, {"after": "\u00e9"}])
async def test_a_page_that_cannot_be(api: httpx2.AsyncClient, event: EventView, query: dict[str, Any]) -> None:
    assert_problem(await api.get(f"/v1/events/{event.id}/access-codes", params=query), 400, "malformed-request")
