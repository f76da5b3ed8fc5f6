"""Each answer says which request it is to, whichever way it came, and so does every line of the log that is written for it."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest
import structlog

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.telemetry import log, request_id
from tests.api.conftest import booking_of
from tests.conftest import KEY, SaleMaker
from tests.support.wire import WAYS, Answer, Door

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED = f"Traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n"


@pytest.fixture(params=["wire"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings


@pytest.fixture(params=WAYS)
def door(request: pytest.FixtureRequest, settings: Settings, office: BoxOffice) -> Door:
    return Door(request.param, settings, office)


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=4)


class Lines(io.BytesIO):
    """What is logged."""

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.getvalue().splitlines()) if line["event"] == event]


@pytest.fixture
def said() -> Iterator[Lines]:
    root, handlers, level = logging.root, logging.root.handlers[:], logging.root.level
    stream = Lines()
    log.configure(Settings(log_level="info"), stream)
    # Whoever said something in this test is not to say it to this stream for ever.
    structlog.configure(**structlog.get_config() | {"cache_logger_on_first_use": False})
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def request_of(method: str, target: str, more: str = "", body: bytes = b"") -> bytes:
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


def booking(event: EventView, key: str, more: str = "", quantity: int = 1) -> bytes:
    body = json.dumps(booking_of(event, quantity)).encode()
    return request_of("POST", "/v1/bookings", f"Idempotency-Key: {key}\r\n{more}", body)


def named(answer: Answer) -> str:
    """Its id, which a problem has in it, too."""
    if answer.status >= 400 and answer.body:
        assert json.loads(answer.body)["request_id"] == answer.headers["x-request-id"]
    else:
        assert b"request_id" not in answer.body
    return answer.headers["x-request-id"]


async def test_every_route_says_whose_answer_it_is(door: Door, event: EventView) -> None:
    """The id that the request came with, accepted or refused, read or not there, and a HEAD's."""
    (booked,) = await door.answers(booking(event, "k", "X-Request-ID: r-0\r\n"))
    assert (booked.status, named(booked)) == (202, "r-0")
    for n, (request, status) in enumerate(
        (
            ("GET " + booked.headers["location"], 200), (f"GET /v1/events/{event.id}", 200), ("GET /v1/events", 200),
            ("GET /v1/bookings/nobody", 404), ("GET /healthz", 200), ("GET /nothing", 404), ("PUT /v1/events", 405),
            ("POST /v1/bookings", 400), ("GET /docs", 200), ("GET /v1/events?limit=x", 400),
        )
    ):  # fmt: skip
        method, target = request.split()
        (answer,) = await door.answers(request_of(method, target, f"X-Request-Id: r-{n}\r\n"))
        assert (answer.status, named(answer)) == (status, f"r-{n}"), request
    wire = await door.connect().send(request_of("HEAD", "/v1/bookings/nobody", "X-Request-Id: head\r\n")).quiet()
    (answer,) = wire.answers(heads=True)
    assert (answer.status, answer.headers["x-request-id"]) == (404, "head")


@pytest.mark.parametrize(
    "given", ["", "X-Request-Id: a b\r\n", f"X-Request-Id: {'a' * 129}\r\n", "X-Request-Id: 4242424242424242\r\n"]
)
async def test_a_request_without_a_good_id_gets_one(door: Door, event: EventView, given: str) -> None:
    """Its trace's, or one that no other request has, on every connection and in a shape as well."""
    wire = door.connect()
    for n in range(8):
        await wire.send(booking(event, f"{n}", given)).quiet()
    await wire.send(request_of("GET", f"/v1/events/{event.id}", given)).quiet()
    answers = wire.answers()
    assert [answer.status for answer in answers] == [202] * 4 + [409] * 4 + [200]
    names = [named(answer) for answer in answers]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[0-9a-f]{12}-[0-9a-f]+", name) for name in names)
    (traced,) = await door.answers(booking(event, "traced", given + TRACED))
    assert named(traced) == TRACE


async def test_bookings_of_one_shape_have_each_their_own(door: Door, event: EventView) -> None:
    """Whatever the one before them on the connection was called."""
    wire = door.connect()
    for n in range(8):
        await wire.send(booking(event, f"a{n}", f"X-Request-Id: r-{n}\r\n{TRACED}")).quiet()
    for n in range(8):
        await wire.send(booking(event, f"b{n}", TRACED.replace("4736", f"000{n}"))).quiet()
    names = [named(answer) for answer in wire.answers()]
    assert names == [f"r-{n}" for n in range(8)] + [TRACE.replace("4736", f"000{n}") for n in range(8)]


async def test_of_two_ids_the_last_is_taken(door: Door) -> None:
    """In every way alike."""
    (answer,) = await door.answers(request_of("GET", "/v1/bookings/nobody", "X-Request-Id: a\r\nX-Request-Id: b\r\n"))
    assert named(answer) == "b"


@pytest.mark.parametrize(
    ("sent", "status", "name"),
    [
        (b"NONSENSE\r\n\r\n", 400, None), (b"GET / HTTP/1.1\r\nHost: x\r\nX-Y: " + b"a" * 17_000, 431, None),
        (b"POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: r-1\r\nContent-Length: 17000\r\n\r\n", 400, "r-1"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: r-1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "r-1"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: r-1\r\nContent-Length: 170000000\r\n\r\n", 400, "r-1"),
    ],
)  # fmt: skip
async def test_what_is_refused_before_anybody_routes_it_has_one(
    door: Door, said: Lines, sent: bytes, status: int, name: str | None
) -> None:
    """Its own as soon as its head was read, and its line in the log has it."""
    wire = await door.connect().send(sent, end=True).quiet()
    (answer,) = wire.answers()
    assert answer.status == status
    assert named(answer) == name if name else re.fullmatch("[0-9a-f]{12}-[0-9a-f]+", named(answer))
    lines = said.of("request.unreadable") + said.of("request.refused")
    assert [line["request_id"] for line in lines] == [named(answer)]


async def test_a_body_that_does_not_come_in_time_is_told_whose_it_was(door: Door) -> None:
    head = b"POST /v1/bookings HTTP/1.1\r\nHost: x\r\nX-Request-Id: r-1\r\nContent-Length: 10\r\n\r\n"
    wire = door.connect().send(head + b"{")
    wire.protocol.look(wire.protocol.loop.time() + 3_600)
    (answer,) = wire.answers()
    assert (answer.status, named(answer)) == (408, "r-1")


async def test_one_connection_too_many_has_one(door: Door) -> None:
    door.kind.patience = door.kind.patience.model_copy(update={"connections_max": 0})
    (answer,) = door.connect().answers()
    assert answer.status == 503
    assert re.fullmatch("[0-9a-f]{12}-[0-9a-f]+", named(answer))


async def test_each_line_of_the_log_names_its_request(
    door: Door, event: EventView, said: Lines, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal by the checks, by the sale, of a read, by FastAPI; a bug's traceback; and what is deeper down logs of it."""
    for request in (
        request_of("POST", "/v1/bookings", "X-Request-Id: checks\r\nIdempotency-Key: a\r\n", b"{"),
        booking(event, "k", "X-Request-Id: sale\r\n", quantity=5),
        request_of("GET", "/v1/bookings/nobody", "X-Request-Id: read\r\n"),
        request_of("GET", "/v1/events?limit=x", "X-Request-Id: query\r\n"),
    ):
        await door.answers(request)
    assert [line["request_id"] for line in said.of("request.refused")] == ["checks", "sale", "read", "query"]

    async def fails(*_: object) -> None:
        structlog.get_logger().warning("deeper")
        raise ValueError("a bug")

    monkeypatch.setattr(office.bookings, "get", fails)
    (answer,) = await door.answers(request_of("GET", "/v1/bookings/x", "X-Request-Id: bug\r\n"))
    assert (answer.status, named(answer)) == (500, "bug")
    assert [line["request_id"] for line in said.of("deeper") + said.of("request.failed")] == ["bug", "bug"]


async def test_what_nobody_caught_is_answered_and_logged_with_it(
    door: Door, said: Lines, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the server itself, which logs the traceback."""

    async def fails(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(office.catalogue, "events", fails)
    (answer,) = await door.answers(request_of("GET", "/v1/events", "X-Request-Id: bug\r\n"))
    assert (answer.status, named(answer), answer.headers["content-security-policy"]) == (500, "bug", STRICT)
    (line,) = (line for line in map(json.loads, said.getvalue().splitlines()) if "exception" in line)
    assert line["request_id"] == "bug" and "ValueError" in line["exception"]


async def test_a_call_for_many_works_in_the_name_of_none(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an admission call logs is of all that are in it, not of the one whose request began it."""
    names: list[bytes] = []
    window = office.admission.windows[event.shard]
    send = window.send

    async def noted(*arguments: Any) -> Any:
        names.append(request_id.current.get())
        return await send(*arguments)

    monkeypatch.setattr(window, "send", noted)
    for way in WAYS:
        door = Door(way, office.settings, office)
        for n in range(3):
            await door.answers(booking(event, f"{way}{n}", "X-Request-Id: r-1\r\n"))
    assert names == [b""] * 9


STRICT = "default-src 'none'; frame-ancestors 'none'"


async def test_every_answer_says_what_browsers_may_do_with_it(door: Door, event: EventView) -> None:
    """Nothing but read it, unless it is a page; when it was made, but not by which program."""
    requests = [booking(event, "k"), booking(event, "k2", quantity=5), b"NONSENSE\r\n\r\n"]
    requests += [
        request_of("GET", path)
        for path in ("/healthz", "/readyz", "/nothing", f"/v1/events/{event.id}", "/v1/events", "/docs", "/actions/x")
    ]
    for request in requests:
        (answer,) = await door.answers(request)
        headers = answer.headers
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer"), request
        assert "date" in headers and "server" not in headers and "x-powered-by" not in headers
        policy = headers["content-security-policy"]
        if b"/docs" in request:
            assert "script-src 'self' 'unsafe-inline'" in policy and "frame-ancestors 'none'" in policy
        else:
            assert policy == ("default-src 'none'" if b"/actions" in request else STRICT)


async def test_so_do_refusals_that_no_route_makes(door: Door) -> None:
    """Of a request that does not come in time, of one that is none, and of a connection too many."""
    slow = door.connect().send(b"POST /v1/bookings HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    slow.protocol.look(slow.protocol.loop.time() + 3_600)
    garbled = await door.connect().send(b"NONSENSE\r\n\r\n", end=True).quiet()
    door.kind.patience = door.kind.patience.model_copy(update={"connections_max": 0})
    answers = [*slow.answers(), *garbled.answers(), *door.connect().answers()]
    assert [answer.status for answer in answers] == [408, 400, 503]
    for answer in answers:
        headers = answer.headers
        assert parsedate_to_datetime(headers["date"]).tzinfo is not None and "server" not in headers
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert headers["content-security-policy"] == STRICT


async def test_a_page_of_another_origin_may_send_and_read_it(api: httpx2.AsyncClient) -> None:
    asked = {
        "Origin": "https://shop.example", "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "x-request-id, traceparent",
    }  # fmt: skip
    assert (await api.options("/v1/events", headers=asked)).status_code == 200
    refused = await api.options("/v1/events", headers=asked | {"Origin": "https://x.example", "X-Request-Id": "r-1"})
    assert (refused.status_code, refused.headers["x-request-id"], refused.json()["request_id"]) == (400, "r-1", "r-1")
    answer = await api.get("/v1/events", headers={"Origin": "https://shop.example"})
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
