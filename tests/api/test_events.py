"""What is on sale, over HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.rules import RULES
from boxoffice.stores import keys
from tests.api.conftest import SHOP_FRONT, Book, assert_problem
from tests.conftest import SaleMaker, eventually


async def test_an_event_shows_its_active_tiers(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """In display order, with what is left of each now."""
    event = await open_sale(GA=10, VIP=5, BOX=2)
    ga, vip, box = event.tiers
    bounds = {"on_sale_at": None, "off_sale_at": None, **dict.fromkeys(RULES), "access_code_required": False}
    await book(event, 3)
    await office.control.change_tier(vip.id, is_active=False)

    async def noticed() -> Any:
        answer = (await api.get(f"/v1/events/{event.id}")).json()
        return answer if len(answer["tiers"]) < 3 else None

    # A running process compares its catalogue with Redis once a second.
    assert await eventually(noticed) == {
        "id": event.id,
        "name": "Concert",
        "starts_at": event.starts_at,
        "status": "active",
        "currency": "USD",
        "on_sale_at": None,
        "off_sale_at": None,
        **dict.fromkeys(RULES),
        "version": 2,
        "tiers": [
            {"id": ga.id, "code": "GA", "name": "GA", "price_cents": 1000, "capacity": 10, **bounds, "available": 7},
            {"id": box.id, "code": "BOX", "name": "BOX", "price_cents": 3000, "capacity": 2, **bounds, "available": 2},
        ],
    }
    booked = (await book(event)).json()["availability"]
    assert [tier["code"] for tier in booked] == ["GA", "BOX"]


async def test_events_are_listed_by_start(api: httpx2.AsyncClient, office: BoxOffice, open_sale: SaleMaker) -> None:
    """Active ones, page by page, each as it reads alone."""
    events = [await open_sale(starts_in=timedelta(days=days), GA=1) for days in (5, 1, 3, 3)]
    gone = await open_sale(starts_in=timedelta(days=2), GA=1)
    await office.control.change_event(gone.id, status="inactive")

    found: list[Any] = []
    cursor = None
    while True:
        page = (await api.get("/v1/events", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        found += page["data"]
        if (cursor := page["next_cursor"]) is None:
            break

    assert len(found) == 4
    assert [event["id"] for event in found] == [e.id for e in sorted(events, key=lambda e: (e.starts_ms, e.id))]
    assert found[0] == (await api.get(f"/v1/events/{found[0]['id']}")).json()
    assert (await api.get(f"/v1/events/{gone.id}")).json()["status"] == "inactive"


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=1.5", "cursor=%00", "cursor=abc", "cursor=%F0%9F%8E%9F"]
)
async def test_a_malformed_query_is_refused(api: httpx2.AsyncClient, query: str) -> None:
    assert_problem(await api.get(f"/v1/events?{query}"), 400, "malformed-request")


async def test_counters_that_are_not_loaded_are_not_zero(
    api: httpx2.AsyncClient, office: BoxOffice, open_sale: SaleMaker
) -> None:
    event = await open_sale(GA=1)
    await office.redis.delete(keys.event(event.shard, event.id))

    assert_problem(await api.get(f"/v1/events/{event.id}"), 503, "gate-closed")


async def test_pages_of_a_shop_front_may_read_answers(
    api: httpx2.AsyncClient, book: Book, open_sale: SaleMaker
) -> None:
    """Of the origins that are set, on every route, refusals included; of no other."""
    event = await open_sale(GA=1)
    for path in (f"/v1/events/{event.id}", "/v1/events", "/v1/bookings/x"):
        good = await api.get(path, headers={"Origin": SHOP_FRONT})
        bad = await api.get(path, headers={"Origin": "https://evil.example"})
        assert good.headers["access-control-allow-origin"] == SHOP_FRONT
        assert "Idempotency-Replayed" in good.headers["access-control-expose-headers"]
        assert good.headers["vary"] == "Origin"
        assert "access-control-allow-origin" not in bad.headers

    preflight = await api.options(
        "/v1/bookings",
        headers={
            "Origin": SHOP_FRONT,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == SHOP_FRONT
