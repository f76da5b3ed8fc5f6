"""Tickets set aside over HTTP: for whom, what each shop sees of it, changed, released once."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from tests.api.conftest import Book, assert_problem, booking_of
from tests.conftest import SaleMaker
from tests.support.shop.orders import OTHER, OTHER_KEY, tier_of

THEIRS = {"Authorization": f"Bearer {OTHER_KEY}"}


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=10, VIP=4)


async def test_tickets_for_another_shop(
    api: httpx2.AsyncClient, event: EventView, book: Book, office: BoxOffice
) -> None:
    """Each sees what it may buy; who may not have what is reserved hears that it may come back."""
    path, tier = f"/v1/events/{event.id}", tier_of(event, "GA")
    answer = await api.post(f"{path}/allocations", json={"tier_id": tier, "shop": OTHER, "tickets": 4})
    made = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert answer.headers["location"] == f"{path}/allocations/{made['id']}"
    assert (made["tickets"], made["used"], made["reserved"], made["shop"]) == (4, 0, 4, OTHER)
    await office.catalogue.read()
    for headers, left in (({}, 6), (THEIRS, 10)):
        shown = (await api.get(path, headers=headers)).json()
        listed = (await api.get("/v1/events", headers=headers)).json()["data"]
        assert [each["tiers"][0]["available"] for each in (shown, *listed)] == [left, left]
        assert "allocated" not in shown
    (short,) = assert_problem(await book(event, 7), 409, "sold-out")["shortfall"]
    assert (short["available"], short["may_return"]) == (6, True)
    headers = THEIRS | {"Idempotency-Key": "theirs"}
    assert (await api.post("/v1/bookings", json=booking_of(event, 7), headers=headers)).status_code == 202
    read = await api.get(answer.headers["location"])
    assert (read.json()["used"], read.json()["reserved"]) == (4, 0)
    assert (await api.get(f"{path}/allocations")).json() == {"data": [read.json()]}


async def test_one_is_changed_and_released_once(api: httpx2.AsyncClient, event: EventView, book: Book) -> None:
    path, tier = f"/v1/events/{event.id}", tier_of(event, "GA")
    (code,) = (await api.post(f"{path}/access-codes", json={"count": 1, "tickets": 8})).json()["data"]
    answer = await api.post(f"{path}/allocations", json={"tier_id": tier, "code_id": code["id"], "tickets": 6})
    mine = answer.headers["location"]
    assert (answer.json()["code_id"], answer.json()["shop"]) == (code["id"], None)
    assert (await book(event, 2, access_code=code["code"])).status_code == 202
    assert (await api.patch(mine, json={"tickets": 5})).json()["tickets"] == 5
    release = f"{mine}/release"
    part = await api.post(release, json={"tickets": 1}, headers={"If-Match": "*"})
    assert (part.json()["tickets"], part.json()["reserved"]) == (4, 2)
    assert_problem(await api.post(release, json={"tickets": 1}, headers={"If-Match": '"1"'}), 412, "event-changed")
    released = [(await api.post(release, json={"tickets": None})).json() for _ in range(2)]
    assert released[0] == released[1] and released[0]["released_at"] is not None and not released[0]["in_force"]
    assert (await api.get(f"{path}/allocations")).json() == {"data": []}
    assert (await api.get(f"{path}/allocations", params={"released": "true"})).json()["data"] == released[:1]
    assert (await book(event, 8)).status_code == 202
    history = (await api.get(f"{path}/history")).json()["data"]
    assert [(each["action"], each["changed_by"], each["tier_id"]) for each in history[:4]] == [
        (action, "key:shop", tier)
        for action in ("release_allocation", "release_allocation", "change_allocation", "create_allocation")
    ]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/tier_id"),
        ({"tickets": 1}, "/tier_id"),
        ({"tier_id": "TIER"}, "/tickets"),
        ({"tier_id": "TIER", "tickets": "1", "shop": OTHER}, "/tickets"),
        ({"tier_id": "TIER", "tickets": 0, "shop": OTHER}, "/tickets"),
        ({"tier_id": "TIER", "tickets": 1}, "/shop"),
        ({"tier_id": "TIER", "tickets": 1, "shop": OTHER, "code_id": "c"}, "/shop"),
        ({"tier_id": "TIER", "tickets": 1, "shop": ""}, "/shop"),
        ({"tier_id": "TIER", "tickets": 1, "code_id": "c\u0000d"}, "/code_id"),
        ({"tier_id": "t" * 200, "tickets": 1, "shop": OTHER}, "/tier_id"),
        ({"tier_id": "TIER", "tickets": 1, "shop": OTHER, "client": OTHER}, "/client"),
    ],
)
async def test_what_cannot_be_read_is_pointed_at(
    api: httpx2.AsyncClient, event: EventView, body: dict[str, Any], pointer: str
) -> None:
    if body.get("tier_id") == "TIER":
        body = body | {"tier_id": tier_of(event, "GA")}
    answer = await api.post(f"/v1/events/{event.id}/allocations", json=body)
    (error,) = assert_problem(answer, 400, "malformed-request")["errors"]
    assert error["pointer"] == pointer
    assert (await api.get(f"/v1/events/{event.id}/allocations")).json() == {"data": []}


async def test_a_lost_body_releases_and_changes_nothing(api: httpx2.AsyncClient, event: EventView) -> None:
    asked = {"tier_id": tier_of(event, "GA"), "shop": OTHER, "tickets": 4}
    made = await api.post(f"/v1/events/{event.id}/allocations", json=asked)
    mine = made.headers["location"]
    for answer in (
        await api.post(f"{mine}/release"),
        await api.patch(mine),
        await api.post(f"{mine}/release", json={}),
    ):
        assert_problem(answer, 400, "malformed-request")
    assert_problem(await api.patch(mine, json={"tickets": -1}), 400, "malformed-request")
    assert (await api.get(mine)).json() == made.json()
    assert_problem(await api.get(f"{mine}0"), 404, "not-found")
    assert_problem(await api.get(mine, headers=THEIRS), 404, "not-found")
