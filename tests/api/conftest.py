"""The API with and without its fast path; both must answer alike."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from tests.conftest import SaleMaker, load_all
from tests.support.contract import Contract
from tests.support.shop.web import body_of
from tests.support.wire import WAYS, Door

SHOP_FRONT = "https://shop.example"


@pytest.fixture(params=["fast", "plain"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """`lane` is for tests that start a server."""
    changes = {"lane": request.param == "lane", "fast_path": request.param != "plain", "cors_origins": (SHOP_FRONT,)}
    return settings.model_copy(update={"api": settings.api.model_copy(update=changes)})


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that are marked `wire` choose the way in themselves, most of them by `door`: they come once, not twice."""
    if metafunc.definition.get_closest_marker("wire") and "settings" in metafunc.fixturenames:
        metafunc.definition.add_marker(pytest.mark.parametrize("settings", ["lane"], indirect=True))


@pytest.fixture(params=WAYS)
async def door(request: pytest.FixtureRequest, settings: Settings, office: BoxOffice) -> AsyncIterator[Door]:
    """The API's connections, in each of its ways, on one office. For tests that are marked `wire`."""
    door = Door(request.param, settings, office)
    yield door
    await door.aclose()


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    """On sale, a hundred tickets of one tier."""
    return await open_sale(GA=100)


@pytest.fixture
async def office(office: BoxOffice) -> BoxOffice:
    """Loaded in every shard, as workers do."""
    await load_all(office)
    return office


CONTRACT = Contract(json.loads(Path(__file__).with_name("openapi.json").read_text()))


@pytest.fixture
async def api(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """Every answer to it has to be as documented."""

    async def check(answer: httpx2.Response) -> None:
        await answer.aread()
        request = answer.request
        CONTRACT.check(request.method, request.url.path, answer.status_code, answer.headers, answer.content)

    api.event_hooks = {"response": [check]}
    return api


def booking_of(event: EventView, quantity: int = 1, **changes: Any) -> dict[str, Any]:
    """A good body: tickets of the event's first tier, paid by a card that succeeds."""
    return body_of({event.tiers[0].id: quantity}, **{"customer_id": "customer-1"} | changes)


Book = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture
def book(api: httpx2.AsyncClient) -> Book:
    """Posts a booking: `await book(event, key="k", customer_id="c")`. Keys are new unless one is given."""
    numbers = count()

    async def book(event: EventView, quantity: int = 1, key: str | None = None, **changes: Any) -> httpx2.Response:
        headers = {"Idempotency-Key": key or f"key-{next(numbers)}"}
        return await api.post("/v1/bookings", json=booking_of(event, quantity, **changes), headers=headers)

    return book


def assert_problem(answer: httpx2.Response, status: int, slug: str) -> dict[str, Any]:
    """The answer is this problem, well-formed."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"/problems/{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem
