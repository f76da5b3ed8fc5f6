"""Managing what is on sale, over HTTP: made, changed, paused, told; by its own shop alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.rules import RULES
from boxoffice.stores import keys
from tests.api.conftest import Book, assert_problem
from tests.conftest import SHARD, SaleMaker
from tests.support.shop.orders import OTHER_KEY, tier_of

SOON = (datetime.now(UTC) + timedelta(days=20)).isoformat(timespec="seconds").replace("+00:00", "Z")
LATER = (datetime.now(UTC) + timedelta(days=40)).isoformat(timespec="seconds").replace("+00:00", "Z")
NEW: dict[str, Any] = {
    "name": "Opera",
    "starts_at": LATER,
    "tiers": [{"code": "GA", "price_cents": 4_900, "capacity": 5}],
}
THEIRS = {"Authorization": f"Bearer {OTHER_KEY}"}


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=10, VIP=4)


async def test_an_event_is_made_and_booked(api: httpx2.AsyncClient, book: Book, office: BoxOffice) -> None:
    answer = await api.post("/v1/events", json=NEW)
    made = answer.json()
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    assert answer.headers["location"] == f"/v1/events/{made['id']}"
    assert (made["name"], made["starts_at"], made["status"], made["currency"]) == ("Opera", LATER, "active", "USD")
    (tier,) = made["tiers"]
    assert (tier["code"], tier["name"], tier["price_cents"], tier["capacity"], tier["available"]) == (
        "GA",
        "GA",
        4_900,
        5,
        5,
    )
    assert (await book(await office.store.event(made["id"]))).status_code == 202
    (change,) = (await api.get(f"/v1/events/{made['id']}/history")).json()["data"]
    assert (change["action"], change["changed_by"]) == ("create", "key:shop")


async def test_every_member_of_a_new_event_is_taken(api: httpx2.AsyncClient, office: BoxOffice) -> None:
    tier = {
        "code": "A",
        "price_cents": 1,
        "capacity": 2,
        "name": "First",
        "on_sale_at": SOON,
        "off_sale_at": LATER,
        "booking_min": 2,
        "booking_max": 3,
        "customer_min": 1,
        "customer_max": 4,
    }
    body = {"name": "N", "starts_at": LATER, "tiers": [tier], "currency": "EUR", "status": "inactive", "customer_max": 9,
            "cancel_until": SOON, "refund_percent": 40, "on_sale_at": SOON, "off_sale_at": LATER,
            "booking_min": 1, "booking_max": 8, "customer_min": 2}  # fmt: skip
    made = (await api.post("/v1/events", json=body)).json()
    assert {name: made[name] for name in ("on_sale_at", "off_sale_at", "status", "currency", *RULES)} == {
        "on_sale_at": SOON, "off_sale_at": LATER, "status": "inactive", "currency": "EUR", "booking_min": 1,
        "booking_max": 8, "customer_min": 2, "customer_max": 9,
    }  # fmt: skip
    assert {name: made["tiers"][0][name] for name in tier} == tier
    row = await (await office.pool()).fetchrow("SELECT customer_max, refund_percent, cancel_until FROM events")
    assert (row["customer_max"], row["refund_percent"], row["cancel_until"]) == (9, 40, datetime.fromisoformat(SOON))


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"name": None}, "/name", "wrong_type"),
        ({"starts_at": "tomorrow"}, "/starts_at", None),
        ({"starts_at": "2030-05-22T14:00:00"}, "/starts_at", None),
        ({"starts_at": "2020-05-22T14:00:00Z"}, "/starts_at", "in_the_past"),
        ({"cancel_until": "2090-01-01T00:00:00Z"}, "/cancel_until", "after_start"),
        ({"on_sale_at": LATER, "off_sale_at": SOON}, "/off_sale_at", "window"),
        ({"currency": "ABC"}, "/currency", "currency"),
        ({"status": "called_off"}, "/status", "status"),
        ({"tiers": []}, "/tiers", "malformed"),
        ({"tiers": [{"code": "", "price_cents": 1, "capacity": 1}]}, "/tiers/0/code", "empty"),
        ({"tiers": [{"code": "A", "price_cents": 1, "capacity": 1, "name": ""}]}, "/name", "empty"),
        ({"tiers": [{"code": "A", "price_cents": 1}]}, "/tiers/0/capacity", "missing"),
        ({"customer_max": 0}, "/customer_max", "malformed"),
        ({"booking_min": "2"}, "/booking_min", "wrong_type"),
        (
            {"booking_max": 2, "tiers": [{"code": "A", "price_cents": 1, "capacity": 1, "customer_min": 3}]},
            "/tiers/0/customer_min",
            "least_above_most",
        ),
        ({"allow": ["everything"]}, "/allow/0", "unknown_word"),
        ({"surprise": 1}, "/surprise", "unknown_member"),
    ],
)
async def test_an_event_that_cannot_be_is_not_made(
    api: httpx2.AsyncClient, office: BoxOffice, change: dict[str, Any], pointer: str, code: str | None
) -> None:
    problem = assert_problem(await api.post("/v1/events", json=NEW | change), 400, "malformed-request")
    (error,) = problem["errors"]
    assert error["pointer"] == pointer and code in (None, error["code"])
    assert await office.store.events() == []


async def test_what_is_meant_is_made(api: httpx2.AsyncClient) -> None:
    meant = {"starts_at": "2020-05-22T14:00:00Z", "cancel_until": SOON, "allow": ["past", "late_cancel"]}
    assert (await api.post("/v1/events", json=NEW | meant)).status_code == 201


async def test_an_event_is_changed_by_whoever_read_it_last(
    api: httpx2.AsyncClient, event: EventView, book: Book
) -> None:
    """The other is told, and nothing of its change is done."""
    path = f"/v1/events/{event.id}"
    etag = (await api.get(path)).headers["etag"]
    changed = await api.patch(path, json={"name": "New", "on_sale_at": SOON}, headers={"If-Match": etag})
    assert (changed.status_code, changed.headers["etag"], changed.json()["name"]) == (200, '"2"', "New")
    lost = await api.patch(path, json={"name": "Mine"}, headers={"If-Match": etag})
    assert assert_problem(lost, 412, "event-changed")["version"] == 2
    refused = assert_problem(await book(event), 409, "sale-not-open")
    assert refused["opens_at"] == SOON.replace("Z", ".000Z")
    assert (await api.patch(path, json={"on_sale_at": None}, headers={"If-Match": "*"})).json()["on_sale_at"] is None
    assert (await book(event)).status_code == 202


@pytest.mark.parametrize("value", ["2", '"two"', '""', '"1', '"1", "2"', '"9999999999999999999"', '"²"', '"-1"'])
async def test_an_if_match_that_is_no_version_is_malformed(
    api: httpx2.AsyncClient, event: EventView, value: str
) -> None:
    answer = await api.patch(
        f"/v1/events/{event.id}", json={"name": "New"}, headers={"If-Match": value.encode("latin-1")}
    )  # fmt: skip
    assert assert_problem(answer, 400, "malformed-request")["errors"] == [{"header": "If-Match", "code": "malformed"}]


@pytest.mark.parametrize("value", ['W/"1"', ' "1" '])
async def test_an_if_match_may_be_weak_or_padded(api: httpx2.AsyncClient, event: EventView, value: str) -> None:
    answer = await api.patch(f"/v1/events/{event.id}", json={"name": "New"}, headers={"If-Match": value})
    assert answer.status_code == 200


async def test_a_sale_is_paused_and_resumed(api: httpx2.AsyncClient, event: EventView, book: Book) -> None:
    assert (await api.post(f"/v1/events/{event.id}/pause")).json()["status"] == "paused"
    assert_problem(await book(event), 409, "sale-paused")
    assert (await api.post(f"/v1/events/{event.id}/resume", json={})).json()["status"] == "active"
    assert (await book(event)).status_code == 202
    old = {"If-Match": '"1"'}
    for verb in ("pause", "resume"):
        assert_problem(await api.post(f"/v1/events/{event.id}/{verb}", headers=old), 412, "event-changed")
        assert_problem(await api.post(f"/v1/events/{event.id}/{verb}", json={"all": 1}), 400, "malformed-request")


async def test_an_ended_sale_says_so(api: httpx2.AsyncClient, event: EventView, book: Book) -> None:
    ended = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    assert (await api.patch(f"/v1/events/{event.id}", json={"off_sale_at": ended})).status_code == 200
    problem = assert_problem(await book(event), 409, "sale-closed")
    assert (problem["reason"], problem["tier_id"]) == ("ended", event.tiers[0].id)


async def test_a_tier_is_changed_and_its_capacity_told(api: httpx2.AsyncClient, event: EventView, book: Book) -> None:
    await book(event, 3)
    path = f"/v1/events/{event.id}/tiers/{tier_of(event, 'GA')}"
    answer = await api.patch(
        path, json={"capacity": 2, "price_cents": 1_500, "name": "Standing"}, headers={"If-Match": '"1"'}
    )
    assert answer.json()["capacity_change"] == {"before": 10, "asked": 2, "after": 3}
    tier = answer.json()["tiers"][0]
    assert (tier["capacity"], tier["available"], tier["price_cents"], tier["name"]) == (3, 0, 1_500, "Standing")
    assert (await api.patch(path, json={"active": False})).json()["capacity_change"] is None
    assert_problem(await book(event), 409, "sale-closed")
    assert [each["code"] for each in (await api.patch(path, json={"active": True, "display_order": 9})).json()["tiers"]] == [
        "VIP", "GA",
    ]  # fmt: skip
    assert_problem(await api.patch(path, json={"capacity": 1}, headers={"If-Match": '"1"'}), 412, "event-changed")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"capacity": -1}, "/capacity"), ({"capacity": 2**31}, "/capacity"), ({"price_cents": -1}, ""), ({"name": ""}, "/name"),
     ({"display_order": -1}, "/display_order"), ({"display_order": 10_000}, "/display_order"), ({"capacity": "7"}, "/capacity"),
     ({"code": "X"}, "/code"), ({"on_sale_at": "x"}, "/on_sale_at"), ({"booking_max": 0}, "/booking_max"),
     ({"customer_min": 3, "booking_max": 2}, "/customer_min"), ({"customer_max": True}, "/customer_max")],
)  # fmt: skip
async def test_a_tier_that_cannot_be_is_not_changed(
    api: httpx2.AsyncClient, office: BoxOffice, event: EventView, body: dict[str, Any], pointer: str
) -> None:
    answer = await api.patch(f"/v1/events/{event.id}/tiers/{event.tiers[0].id}", json=body)
    assert assert_problem(answer, 400, "malformed-request")["errors"][0]["pointer"] == pointer
    assert await office.store.event(event.id) == event


async def test_rules_are_set_told_and_taken_away(api: httpx2.AsyncClient, event: EventView, book: Book) -> None:
    """A booking that breaks one is told which, how many are let in, and how many the customer may still take; nothing of what
    was sent."""
    path, ga = f"/v1/events/{event.id}", tier_of(event, "GA")
    shown = (await api.patch(path, json={"booking_max": 4, "customer_max": 6})).json()
    assert [shown[rule] for rule in RULES] == [None, 4, None, 6]
    tier = {"booking_min": 2, "booking_max": 3, "customer_max": 5}
    shown = (await api.patch(f"{path}/tiers/{ga}", json=tier)).json()
    assert [shown["tiers"][0][rule] for rule in RULES] == [2, 3, None, 5]
    of_event = assert_problem(await book(event, 5), 409, "booking-limit")
    assert (of_event["limit"], "least" in of_event, "tier_id" in of_event) == (4, False, False)
    assert of_event["detail"] == "A booking has at most 4 tickets of this event."
    of_tier = assert_problem(await book(event, 1), 409, "booking-limit")
    assert {name: of_tier[name] for name in ("least", "limit", "tier_id", "code")} == {
        "least": 2, "limit": 3, "tier_id": ga, "code": "GA",
    }  # fmt: skip
    assert of_tier["detail"] == "A booking has at least 2 and at most 3 tickets of tier GA."
    assert (await book(event, 3)).status_code == 202
    refused = assert_problem(await book(event, 3), 409, "customer-limit")
    assert {name: refused[name] for name in ("held", "limit", "may_take", "tier_id", "code")} == {
        "held": 3, "limit": 5, "may_take": 2, "tier_id": ga, "code": "GA",
    }  # fmt: skip
    assert "ada" not in refused["detail"]
    assert (await book(event, 2)).status_code == 202
    assert (await book(event, 3, customer_id="another")).status_code == 202
    shown = (await api.patch(f"{path}/tiers/{ga}", json=dict.fromkeys(RULES))).json()
    assert [shown["tiers"][0][rule] for rule in RULES] == 4 * [None]
    in_all = assert_problem(await book(event, 2), 409, "customer-limit")
    assert (in_all["held"], in_all["limit"], in_all["may_take"], "tier_id" in in_all) == (5, 6, 1, False)
    assert (await book(event, 1)).status_code == 202


async def test_a_tier_is_added(api: httpx2.AsyncClient, event: EventView) -> None:
    answer = await api.post(f"/v1/events/{event.id}/tiers", json={"code": "BOX", "price_cents": 9_000, "capacity": 2})
    assert (answer.status_code, answer.headers["location"]) == (201, f"/v1/events/{event.id}")
    assert [(tier["code"], tier["available"]) for tier in answer.json()["tiers"]] == [
        ("GA", 10),
        ("VIP", 4),
        ("BOX", 2),
    ]
    again = await api.post(f"/v1/events/{event.id}/tiers", json={"code": "BOX", "price_cents": 1, "capacity": 1})
    assert assert_problem(again, 400, "malformed-request")["errors"][0] == {
        "pointer": "/code",
        "code": "duplicate_code",
    }


async def test_an_event_is_postponed_in_one_call(api: httpx2.AsyncClient, event: EventView, office: BoxOffice) -> None:
    body = {"starts_at": LATER, "cancel_until": SOON}
    assert (await api.post(f"/v1/events/{event.id}/postpone", json=body)).json()["starts_at"] == LATER
    for missing in ({"starts_at": LATER}, {"cancel_until": SOON}, {}):
        assert_problem(await api.post(f"/v1/events/{event.id}/postpone", json=missing), 400, "malformed-request")
    row = await (await office.pool()).fetchrow("SELECT starts_at, cancel_until FROM events")
    assert tuple(row) == tuple(map(datetime.fromisoformat, (LATER, SOON)))


async def test_a_history_is_read_page_by_page(api: httpx2.AsyncClient, event: EventView) -> None:
    await api.post(f"/v1/events/{event.id}/pause")
    await api.patch(f"/v1/events/{event.id}/tiers/{event.tiers[0].id}", json={"price_cents": 7})
    path = f"/v1/events/{event.id}/history"
    newest, pause = (await api.get(path, params={"limit": 2})).json()["data"]
    assert newest["changes"] == {"price_cents": {"from": 1_000, "to": 7}} and newest["tier_id"] == event.tiers[0].id
    assert (pause["action"], pause["changed_by"], pause["version"]) == ("pause", "key:shop", 2)
    assert [each["action"] for each in (await api.get(path, params={"before": pause["id"]})).json()["data"]] == [
        "create"
    ]
    for query in ("limit=0", "limit=101", "before=0", f"before={2**63}", "before=x"):
        assert_problem(await api.get(f"{path}?{query}"), 400, "malformed-request")


async def test_another_shops_event_is_not_managed(api: httpx2.AsyncClient, event: EventView, office: BoxOffice) -> None:
    base, tier = f"/v1/events/{event.id}", f"/v1/events/{event.id}/tiers/{event.tiers[0].id}"
    for method, path, body in (
        ("PATCH", base, {"name": "Mine"}), ("POST", f"{base}/pause", None), ("POST", f"{base}/resume", None),
        ("POST", f"{base}/postpone", {"starts_at": LATER, "cancel_until": None}),
        ("POST", f"{base}/tiers", {"code": "X", "price_cents": 1, "capacity": 1}),
        ("PATCH", tier, {"capacity": 1}), ("GET", f"{base}/history", None),
    ):  # fmt: skip
        for headers, status, slug in (
            (THEIRS, 404, "not-found"),
            ({"Authorization": "Bearer no.key"}, 401, "unauthorized"),
        ):
            assert_problem(await api.request(method, path, json=body, headers=headers), status, slug)
    assert await office.store.event(event.id) == event


async def test_past_events_are_listed_when_they_are_asked_for(
    api: httpx2.AsyncClient, office: BoxOffice, event: EventView
) -> None:
    past = await office.control.change_event(
        event.id, starts_at=datetime.now(UTC) - timedelta(minutes=1), allow=["past"]
    )  # fmt: skip
    await office.catalogue.read()
    assert (await api.get("/v1/events")).json()["data"] == []
    assert [each["id"] for each in (await api.get("/v1/events?past=true")).json()["data"]] == [past.id]
    assert (await api.get("/v1/events?past=true&on_sale=true")).json()["data"] == []
    assert_problem(await api.get("/v1/events?past=perhaps"), 400, "malformed-request")


@pytest.mark.parametrize(
    ("change", "listed"),
    [
        ({}, True),
        ({"on_sale_at": SOON}, False),
        ({"off_sale_at": "2020-01-01T00:00:00Z"}, False),
        ({"status": "paused"}, False),
    ],
)
async def test_what_can_be_booked_now_is_listed(
    api: httpx2.AsyncClient, office: BoxOffice, event: EventView, change: dict[str, Any], listed: bool
) -> None:
    assert (await api.patch(f"/v1/events/{event.id}", json=change)).status_code == 200
    await office.catalogue.read()
    assert bool((await api.get("/v1/events?on_sale=true")).json()["data"]) is listed
    assert len((await api.get("/v1/events")).json()["data"]) == 1


async def test_a_change_is_answered_while_redis_does_not_know_what_is_left(
    api: httpx2.AsyncClient, office: BoxOffice, event: EventView
) -> None:
    await office.redis.hdel(keys.event(SHARD, event.id), f"a:{event.tiers[0].id}")  # type: ignore[misc]
    answer = await api.patch(f"/v1/events/{event.id}", json={"name": "New"})
    assert [tier["available"] for tier in answer.json()["tiers"]] == [None, None]


async def test_an_event_is_called_off_and_told_how_far_that_is(
    api: httpx2.AsyncClient, event: EventView, book: Book, office: BoxOffice
) -> None:
    path = f"/v1/events/{event.id}/call-off"
    assert_problem(await api.get(path), 404, "not-found")
    for body, code in (({}, "missing"), ({"reason": ""}, "empty"), ({"reason": "x", "all": 1}, "unknown_member")):
        problem = assert_problem(await api.post(path, json=body), 400, "malformed-request")
        assert problem["errors"][0]["code"] == code
    assert_problem(await api.post(path, json={"reason": "x"}, headers={"If-Match": '"7"'}), 412, "event-changed")
    assert_problem(await api.post(path, json={"reason": "x"}, headers=THEIRS), 404, "not-found")
    await book(event)
    answer = await api.post(path, json={"reason": "Rain"})
    assert (answer.status_code, answer.headers["location"]) == (202, path)
    told = (await api.get(path)).json()
    assert told == answer.json()
    assert (told["status"], told["reason"], told["called_off_by"], told["refused"]) == (
        "running",
        "Rain",
        "key:shop",
        [],
    )
    assert (await api.post(path, json={"reason": "Snow"})).json()["reason"] == "Rain"
    assert_problem(await api.get(path, headers=THEIRS), 404, "not-found")
    assert_problem(await book(event), 409, "sale-closed")
    for method, other in (("PATCH", ""), ("POST", "/pause")):
        body = {"name": "New"} if method == "PATCH" else None
        answer = await api.request(method, f"/v1/events/{event.id}{other}", json=body)
        assert_problem(answer, 409, "event-called-off")
    assert (await api.get(f"/v1/events/{event.id}")).json()["status"] in ("called_off", "active")


@pytest.mark.parametrize("name", ["%00", "a%00b", "%0a", "%e2%82%ac", "%ed%a0%80", "%ff"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "{}/history"), ("GET", "{}/call-off"), ("POST", "{}/pause"), ("POST", "{}/resume"), ("PATCH", "{}"),
        ("POST", "{}/tiers"), ("POST", "{}/postpone"), ("POST", "{}/call-off"), ("PATCH", "event/tiers/{}"),
    ],
)  # fmt: skip
async def test_an_id_that_no_store_takes_is_unknown(
    api: httpx2.AsyncClient, event: EventView, method: str, path: str, name: str
) -> None:
    body = {
        "postpone": {"starts_at": "2040-01-01T00:00:00Z"}, "call-off": {"reason": "Rain"},
        "tiers": {"code": "NEW", "price_cents": 1, "capacity": 1},
    }.get(path.rpartition("/")[2], {"name": "New"})  # fmt: skip
    path = path.format(name).replace("event/", f"{event.id}/")
    answer = await api.request(method, f"/v1/events/{path}", json=None if method == "GET" else body)
    assert_problem(answer, 404, "not-found")
