"""A sampled request has one span, whichever way it came in: a child of its caller's, named by its route."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from api.outermost import Outermost
from api.transport import shape
from boxoffice.admission import window
from boxoffice.admission.forms import Form
from boxoffice.errors import PriceOutdated
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.telemetry.metrics import REGISTRY
from boxoffice.telemetry.traces import current
from tests.api.conftest import booking_of
from tests.conftest import KEY, SaleMaker
from tests.support.shop.office import record_of
from tests.support.tracing import Found, Spans, traced
from tests.support.wire import Answer, Door

pytestmark = pytest.mark.wire

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"Traceparent: 00-{TRACE}-{CALLER}-01\r\n"
UNSAMPLED = f"Traceparent: 00-{TRACE}-{CALLER}-00\r\n"


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=50)


def request(method: str, target: str, more: str = "", body: bytes = b"") -> bytes:
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        f"{more}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def booking(event: EventView, key: str, more: str = SAMPLED, quantity: int = 1) -> bytes:
    body = json.dumps(booking_of(event, quantity)).encode()
    return request("POST", "/v1/bookings", f"Idempotency-Key: {key}\r\n{more}", body)


async def asked(door: Door, what: bytes) -> tuple[Answer, Spans]:
    with traced(0.0) as spans:
        (answer,) = await door.answers(what)
    return answer, spans


def of_request(spans: Spans) -> Found:
    (span,) = [span for span in spans.all() if span.kind == "server"]
    return span


async def test_a_booking_that_its_caller_samples(door: Door, event: EventView) -> None:
    answer, spans = await asked(door, booking(event, "k"))
    span, admission = of_request(spans), spans.only("admission")
    assert answer.status == 202
    assert (span.name, span.trace, span.parent) == ("POST /v1/bookings", TRACE, CALLER)
    assert span.attributes == {
        "http.request.method": "POST", "http.route": "/v1/bookings", "http.response.status_code": 202,
        "boxoffice.request_id": TRACE,
    }  # fmt: skip
    assert answer.headers["x-request-id"] == TRACE
    assert (admission.trace, admission.parent) == (TRACE, span.id)
    assert admission.attributes["boxoffice.booking_id"] == json.loads(answer.body)["id"]
    assert span.took_ns >= admission.took_ns > 0 and current.get() is None


async def test_a_request_id_of_the_callers_own_stays_and_stands_in_the_span(door: Door, event: EventView) -> None:
    answer, spans = await asked(door, booking(event, "k", SAMPLED + "X-Request-Id: mine\r\n"))
    assert answer.headers["x-request-id"] == of_request(spans).attributes["boxoffice.request_id"] == "mine"


async def test_one_that_is_sampled_here_is_named_by_its_trace(door: Door, event: EventView) -> None:
    with traced() as spans:
        (answer,) = await door.answers(booking(event, "k", ""))
    assert answer.headers["x-request-id"] == of_request(spans).trace
    assert of_request(spans).parent == ""


@pytest.mark.parametrize("more", [UNSAMPLED, ""])
async def test_one_that_is_not_sampled(door: Door, event: EventView, more: str) -> None:
    answer, spans = await asked(door, booking(event, "k", more))
    assert answer.status == 202 and spans.all() == []
    assert (answer.headers["x-request-id"] == TRACE) is (more == UNSAMPLED)


@pytest.mark.parametrize(
    ("method", "target", "name", "status"),
    [
        ("GET", "/v1/events/{event}", "GET /v1/events/{event_id}", 200),
        ("GET", "/v1/events/none", "GET /v1/events/{event_id}", 404),
        ("HEAD", "/v1/events/{event}", "HEAD /v1/events/{event_id}", 200),
        ("GET", "/v1/bookings/none", "GET /v1/bookings/{booking_id}", 404),
        ("GET", "/v1/bookings?limit=1", "GET /v1/bookings", 200),
        ("POST", "/v1/bookings/none/cancel", "POST /v1/bookings/{booking_id}/cancel", 404),
        ("GET", "/nowhere?card=4242424242424242", "GET unmatched", 404),
    ],
)
async def test_any_request(door: Door, event: EventView, method: str, target: str, name: str, status: int) -> None:
    """Nothing of its path or query but the route's template."""
    with traced(0.0) as spans:
        wire = await door.connect().send(request(method, target.format(event=event.id), SAMPLED)).quiet()
    (answer,) = wire.answers(heads=method == "HEAD")
    span = of_request(spans)
    assert (answer.status, span.name, span.attributes["http.response.status_code"]) == (status, name, status)
    assert (span.trace, span.parent, answer.headers["x-request-id"]) == (TRACE, CALLER, TRACE)


async def test_bookings_on_one_connection_are_sampled_each_by_itself(
    door: Door, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those whose heads are matched and not parsed; what one was does not go over to the next."""
    monkeypatch.setattr(shape, "is_worth_it", lambda pattern: True)
    wire = door.connect()
    with traced(0.0) as spans:
        for n, more in enumerate([UNSAMPLED, UNSAMPLED, SAMPLED, UNSAMPLED, SAMPLED]):
            await wire.send(booking(event, f"k{n}", more)).quiet()
    assert [answer.status for answer in wire.answers()] == [202] * 5
    assert len(spans.named("POST /v1/bookings")) == len(spans.named("admission")) == 2
    assert all(answer.headers["x-request-id"] == TRACE for answer in wire.answers())
    assert door.way != "lane" or wire.protocol.shape is not None


async def test_what_is_sent_right_behind_a_traced_request_is_in_no_trace_of_its(
    door: Door, office: BoxOffice, event: EventView
) -> None:
    """It is read where the answer to that request was written, and its caller samples none of its own."""
    read = request("GET", f"/v1/events/{event.id}", SAMPLED)
    with traced(0.0) as spans:
        answers = await door.answers(read + booking(event, "k", UNSAMPLED) + booking(event, "l", SAMPLED))
    assert [answer.status for answer in answers] == [200, 202, 202]
    unsampled, sampled = [await record_of(office, json.loads(answer.body)["id"]) for answer in answers[1:]]
    assert unsampled is not None and unsampled.payload.trace == ""
    assert [span.name for span in spans.all() if span.kind == "server"] == [
        "GET /v1/events/{event_id}", "POST /v1/bookings",
    ]  # fmt: skip
    booked, admission = spans.only("POST /v1/bookings"), spans.only("admission")
    assert admission.parent == booked.id and sampled is not None
    assert sampled.payload.trace == f"00-{booked.trace}-{booked.id}-01"


async def test_a_booking_that_is_asked_for_once_more_keeps_its_trace(
    door: Door, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its price was read anew: the second call is made by another task than the first."""
    await door.answers(booking(event, "known", UNSAMPLED))
    real, calls = window.answers_of, []

    def outdated_at_first(forms: list[Form], *rest: Any) -> list[Any]:
        calls.append(forms)
        return real(forms, *rest) if len(calls) > 1 else [PriceOutdated()]

    monkeypatch.setattr(window, "answers_of", outdated_at_first)
    answer, spans = await asked(door, booking(event, "k"))
    assert (answer.status, len(calls)) == (202, 2)
    assert (spans.only("admission").trace, spans.only("admission").attributes["boxoffice.outcome"]) == (
        TRACE,
        "replayed",
    )


@pytest.mark.parametrize(("fails", "status", "failed"), [(False, 499, False), (True, 500, True)])
async def test_a_request_without_an_answer(fails: bool, status: int, failed: bool) -> None:
    """Whoever asked has gone; or it is our mistake, and the server answers."""

    async def app(*_: object) -> None:
        if fails:
            raise KeyError

    async def nobody(*_: object) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"traceparent", SAMPLED[13:-2].encode())]}
    with traced(0.0) as spans, suppress(KeyError):
        await Outermost(app)(scope, nobody, nobody)
    span = of_request(spans)
    assert (span.attributes["http.response.status_code"], span.failed) == (status, failed)


async def test_a_route_is_known_where_nothing_is_counted(
    door: Door, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(REGISTRY, "counts", False)
    with traced(0.0) as spans:
        await door.answers(
            request("GET", "/v1/events?limit=1", SAMPLED), request("GET", f"/v1/events/{event.id}", SAMPLED)
        )
    assert [span.name for span in spans.all()] == ["GET /v1/events", "GET /v1/events/{event_id}"]


async def test_a_refusal_at_the_door_has_its_span(door: Door, event: EventView) -> None:
    answer, spans = await asked(door, booking(event, "k", SAMPLED, quantity=0))
    assert answer.status == 400
    assert of_request(spans).attributes["http.response.status_code"] == 400 and spans.named("admission") == []
