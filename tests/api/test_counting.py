"""Requests are counted once, by the template of their route and what they were answered, whichever way they go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api.app import create_app, entrance_of
from api.counting import BOOK, READ_BOOKING, READ_EVENT, Counting
from api.rights import routes_of
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings, TelemetrySettings
from boxoffice.telemetry.series import REGISTRY, REQUEST_SECONDS, REQUESTS
from tests.conftest import KEY, SaleMaker
from tests.support.shop.web import body_of
from tests.support.telling import Changes, change
from tests.support.wire import WAYS, Door

BOOKINGS, BOOKING, EVENT = "/v1/bookings", "/v1/bookings/{booking_id}", "/v1/events/{event_id}"


@pytest.fixture(params=["fast"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings


@pytest.fixture(params=WAYS)
def door(settings: Settings, office: BoxOffice, request: pytest.FixtureRequest) -> Door:
    return Door(request.param, settings, office)


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=5)


def request_of(method: str, target: str, body: bytes = b"", *more: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *more]
    if not any(line.startswith("Authorization") for line in more):
        lines.append(f"Authorization: Bearer {KEY}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def booking(event: EventView, quantity: int, key: str, *more: str) -> bytes:
    body = json.dumps(body_of({event.tiers[0].id: quantity})).encode()
    return request_of("POST", BOOKINGS, body, "Content-Type: application/json", f"Idempotency-Key: {key}", *more)


def of_http(changes: Changes) -> Changes:
    """Only those."""
    return {name: value for name, value in changes.items() if name.startswith("http_")}


def rows(event: EventView) -> Iterator[tuple[bytes, str, bool]]:
    """Each request, the label values with which it counts, and whether its time is taken where it is answered."""
    yield booking(event, 1, "first"), f"POST {BOOKINGS} 202", False
    yield booking(event, 1, "first"), f"POST {BOOKINGS} 202", False
    yield booking(event, 5, "many"), f"POST {BOOKINGS} 409", False
    yield request_of("POST", BOOKINGS, b"{", "Content-Type: application/json"), f"POST {BOOKINGS} 400", False
    yield booking(event, 1, "x", "Authorization: Bearer nobody.x"), f"POST {BOOKINGS} 401", True
    yield booking(event, 1, "second", "Origin: https://shop.example"), f"POST {BOOKINGS} 202", True
    yield request_of("GET", f"{BOOKINGS}/nothing"), f"GET {BOOKING} 404", True
    yield request_of("GET", f"/v1/events/{event.id}"), f"GET {EVENT} 200", True
    yield request_of("HEAD", f"/v1/events/{event.id}"), f"GET {EVENT} 200", True
    yield request_of("GET", f"/v1/events/{event.id}?x=1"), f"GET {EVENT} 400", True
    yield request_of("DELETE", f"/v1/events/{event.id}"), f"DELETE {EVENT} 405", True
    yield request_of("GET", "/v1/events"), "GET /v1/events 200", True
    yield request_of("GET", "/healthz"), "GET /healthz 200", True
    yield request_of("GET", "/nowhere/4242424242424242"), "GET unmatched 404", True


async def test_every_request_counts_once(door: Door, event: EventView) -> None:
    await door.answers(booking(event, 1, "who comes first waits for the map and for its API key"))
    for request, labels, timed in rows(event):
        with change() as changes:
            answers = (await door.connect().send(request).quiet()).answers(heads=request.startswith(b"HEAD"))
        found = of_http(changes)
        assert len(answers) == 1
        assert found.pop("http_connections") == 1
        route = labels.split()[1]
        seconds = found.pop(f"http_request_seconds {route}", 0)
        assert seconds == (1 if timed or door.way != "lane" else 0), labels
        assert found == {f"http_requests {labels}": 1}


@pytest.mark.parametrize(("method", "counted"), [("BREW", "other"), ("PATCH", "PATCH")])
async def test_a_method_is_a_label_only_when_it_is_one(method: str, counted: str) -> None:
    """Whichever server stands in front: a label has few values. What ends without an answer is our mistake."""

    async def gone(*_: object) -> None:
        raise LookupError

    with change() as changes, pytest.raises(LookupError):
        await Counting(gone)({"type": "http", "method": method}, None, None)
    assert changes == {f"http_requests {counted} unmatched 500": 1, "http_request_seconds unmatched": 1}


async def test_a_preflight_counts_as_one(door: Door) -> None:
    asks = ("Origin: https://shop.example", "Access-Control-Request-Method: POST")
    with change() as changes:
        await door.answers(request_of("OPTIONS", BOOKINGS, b"", *asks))
        await door.answers(request_of("OPTIONS", BOOKINGS, b"", asks[0], "Access-Control-Request-Method: BREW"))
    found = of_http(changes)
    assert found == {
        "http_connections": 2, "http_requests OPTIONS preflight 200": 1, "http_requests OPTIONS preflight 400": 1,
    }  # fmt: skip


async def test_our_own_mistake_counts_as_500(
    door: Door, event: EventView, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> Any:
        raise LookupError

    monkeypatch.setattr(office.catalogue, "events", fail)
    assert ("GET", "/v1/events", "500") in REQUESTS.cells, "an alert sees the first"
    with change() as changes:
        await door.answers(request_of("GET", "/v1/events"))
    assert of_http(changes)["http_requests GET /v1/events 500"] == 1


async def test_nothing_is_counted_when_it_is_switched_off(
    door: Door, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(REGISTRY, "counts", False)
    with change() as changes:
        await door.answers(booking(event, 1, "one"))
        await door.answers(request_of("GET", f"/v1/events/{event.id}"))
        await door.answers(request_of("GET", "/v1/events"))
    assert of_http(changes) == {"http_connections": 3}


@pytest.mark.parametrize("counts", [True, False])
async def test_an_api_counts_when_its_settings_say_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, counts: bool
) -> None:
    monkeypatch.setattr(REGISTRY, "counts", not counts)
    app = entrance_of(create_app(settings.model_copy(update={"telemetry": TelemetrySettings(count=counts)}))).behind
    async with app.router.lifespan_context(app):
        assert REGISTRY.counts is counts


@pytest.mark.parametrize(
    ("pieces", "end", "reason"),
    [
        ([b"nonsense\r\n\r\n"], False, "unreadable"),
        ([b"GET / HTTP/1.1\r\nHost"], True, "incomplete"),
        ([request_of("POST", BOOKINGS, b"x" * 20_000)], False, "body_too_large"),
    ],
)
async def test_what_the_connection_refuses(
    settings: Settings, office: BoxOffice, pieces: list[bytes], end: bool, reason: str
) -> None:
    door = Door("lane", settings, office)
    with change() as changes:
        await door.answers(*pieces, end=end)
    assert of_http(changes) == {"http_connections": 1, f"http_refused {reason}": 1}


async def test_one_connection_too_many(settings: Settings, office: BoxOffice) -> None:
    settings = settings.model_copy(update={"api": settings.api.model_copy(update={"connections_max": 2})})
    door = Door("lane", settings, office)
    with change() as changes:
        clients = [door.connect() for _ in range(3)]
    assert of_http(changes) == {"http_connections": 3, "http_refused crowded": 1}
    for client in clients:
        client.hang_up()


async def test_requests_that_come_before_the_answers_to_others_are_delayed(
    settings: Settings, office: BoxOffice
) -> None:
    door = Door("lane", settings, office)
    with change() as changes:
        await door.answers(*[request_of("GET", "/healthz") * 30])
    assert of_http(changes)["http_requests GET /healthz 200"] == 30
    assert 0 < of_http(changes)["http_requests_delayed"] < 30


def test_routes_that_are_hot_have_the_names_that_others_have(settings: Settings, office: BoxOffice) -> None:
    """The middleware takes the template of the route; the short cuts bring their own."""
    front: Any = entrance_of(create_app(settings, office=office))
    app = front.behind
    named = {(method, route.path) for route in routes_of(app.routes) for method in route.methods}
    assert {route.labels for route in (BOOK, READ_BOOKING, READ_EVENT)} <= named
    assert {("/v1/bookings",), (BOOKING,), (EVENT,)} <= set(REQUEST_SECONDS.spreads)
