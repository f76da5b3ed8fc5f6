"""Answers byte for byte but for their ids: every member of a refusal, its line in the log, and every header of an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from api import problems
from api.app import create_app, entrance_of
from api.front import Front
from api.transport.reply import SECURITY
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.api.conftest import Book, booking_of
from tests.conftest import CLIENT, SaleMaker, settle_all

NOBODYS = "01a2289d-1441-7000-936f-ca3c86615eea"
JSON = {"Content-Type": "application/json"}
KEYED = JSON | {"Idempotency-Key": "another"}
NO_KEY = {"Authorization": ""}
BAD, NO_CURSOR = "A parameter is malformed.", "This is no cursor of ours."
NOT_THERE = "There is no such booking."
NEEDS_KEY = "The API key is missing, unknown, revoked or expired."
NEEDS_NAME = "An Idempotency-Key is needed here."
STATES = "held, pending, confirmed, failed, expired, cancelled"

Case = tuple[str, dict[str, str], Any, str, str, str, dict[str, Any]]


def parameter(name: str, code: str) -> dict[str, Any]:
    return {"errors": [{"parameter": name, "code": code}]}


def pointer(where: str, code: str) -> dict[str, Any]:
    return {"errors": [{"pointer": where, "code": code}]}


def header(name: str, code: str) -> dict[str, Any]:
    return {"errors": [{"header": name, "code": code}]}


MALFORMED = "malformed-request"
REFUSALS: list[Case] = [
    # method and path, headers, body, name of the route, slug, detail, further members
    ("GET /v1/events", NO_KEY, "", "list_events", "unauthorized", NEEDS_KEY, {}),
    ("GET /v1/events?limit=x", {}, "", "list_events", MALFORMED, BAD, parameter("limit", "int_parsing")),
    ("GET /v1/events?limit=0", {}, "", "list_events", MALFORMED, BAD,
     parameter("limit", "greater_than_equal")),
    ("GET /v1/events?limit=101", {}, "", "list_events", MALFORMED, "A page has up to 100 events.",
     parameter("limit", "out_of_range")),
    ("GET /v1/events?on_sale=maybe", {}, "", "list_events", MALFORMED, BAD,
     parameter("on_sale", "bool_parsing")),
    ("GET /v1/events?cursor=%21", {}, "", "list_events", MALFORMED, NO_CURSOR, parameter("cursor", "cursor")),
    ("GET /v1/events?cursor=YQ", {}, "", "list_events", MALFORMED, NO_CURSOR, parameter("cursor", "cursor")),
    ("GET /v1/events?cursor=YQY", {}, "", "list_events", MALFORMED, NO_CURSOR, parameter("cursor", "cursor")),
    ("GET /v1/events/EVENT", NO_KEY, "", "read_event", "unauthorized", NEEDS_KEY, {}),
    ("GET /v1/events/x", {}, "", "read_event", "not-found", "There is no such thing, or it is not yours.", {}),
    ("GET /v1/bookings", NO_KEY, "", "list_bookings", "unauthorized", NEEDS_KEY, {}),
    ("GET /v1/bookings?limit=0", {}, "", "list_bookings", MALFORMED, BAD,
     parameter("limit", "greater_than_equal")),
    ("GET /v1/bookings?limit=101", {}, "", "list_bookings", MALFORMED, "A page has up to 100 bookings.",
     parameter("limit", "out_of_range")),
    ("GET /v1/bookings?status=odd", {}, "", "list_bookings", MALFORMED, f"A status is one of {STATES}.",
     parameter("status", "unknown")),
    ("GET /v1/bookings?cursor=%21", {}, "", "list_bookings", MALFORMED, NO_CURSOR, parameter("cursor", "cursor")),
    ("GET /v1/bookings?event_id=e&idempotency_key=%22", {}, "", "list_bookings", MALFORMED,
     "The Idempotency-Key is not a quoted string.", parameter("idempotency_key", "malformed")),
    ("GET /v1/bookings?event_id=e&idempotency_key=%22%22", {}, "", "list_bookings", MALFORMED,
     "The Idempotency-Key is empty.", parameter("idempotency_key", "empty")),
    ("GET /v1/bookings?event_id=e&idempotency_key=%C3%A9", {}, "", "list_bookings", MALFORMED,
     "An Idempotency-Key is printable ASCII.", parameter("idempotency_key", "not_printable")),
    ("GET /v1/bookings?reference=", {}, "", "list_bookings", MALFORMED, "This parameter has 1 to 255 characters.",
     parameter("reference", "length")),
    ("GET /v1/bookings?customer_id=4242424242424242", {}, "", "list_bookings", "card-data-not-accepted",
     "A card number stands where none may be.", parameter("customer_id", "card_data")),
    ("GET /v1/bookings/PAID", NO_KEY, "", "read_booking", "unauthorized", NEEDS_KEY, {}),
    ("GET /v1/bookings/x", {}, "", "read_booking", "not-found", NOT_THERE, {}),
    (f"GET /v1/bookings/{NOBODYS}", {}, "", "read_booking", "not-found", NOT_THERE, {}),
    ("POST /v1/bookings", NO_KEY, "{}", "book", "unauthorized", NEEDS_KEY, {}),
    ("POST /v1/bookings", JSON, "{}", "book", MALFORMED, NEEDS_NAME, header("Idempotency-Key", "missing")),
    ("POST /v1/bookings", KEYED, "{}", "book", MALFORMED, "A member is missing.", pointer("/customer_id", "missing")),
    ("POST /v1/bookings", {"Idempotency-Key": "k"}, "{}", "book", MALFORMED, "The Content-Type of a body is application/json.",
     header("Content-Type", "content_type")),
    ("POST /v1/bookings", KEYED, "MANY", "book", "sold-out",
     "Not enough tickets are left. GA: requested 9, available 3. Tickets that are held or set aside may come back.",
     {"shortfall": [{"tier_id": "TIER", "code": "GA", "requested": 9, "available": 3, "may_return": True}],
      "may_return": True, "retry_after": 15}),
    ("POST /v1/bookings/x/payment", KEYED, "CARD", "pay", "not-found", NOT_THERE, {}),
    (f"POST /v1/bookings/{NOBODYS}/payment", KEYED, "CARD", "pay", "not-found", NOT_THERE, {}),
    ("POST /v1/bookings/HELD/payment", NO_KEY, "CARD", "pay", "unauthorized", NEEDS_KEY, {}),
    ("POST /v1/bookings/HELD/payment", JSON, "CARD", "pay", MALFORMED, NEEDS_NAME, header("Idempotency-Key", "missing")),
    ("POST /v1/bookings/HELD/payment", KEYED, '{"a":1}', "pay", MALFORMED, "There is a member that does not belong here.",
     pointer("/a", "unknown_member")),
    ("POST /v1/bookings/PAID/payment", KEYED, "CARD", "pay", "hold-ended", "The booking is confirmed.",
     {"booking_status": "confirmed"}),
    ("POST /v1/bookings/x/extend", JSON, '{"extra_s":1}', "extend", "not-found", NOT_THERE, {}),
    (f"POST /v1/bookings/{NOBODYS}/extend", JSON, '{"extra_s":1}', "extend", "not-found", NOT_THERE, {}),
    ("POST /v1/bookings/HELD/extend", NO_KEY, "{}", "extend", "unauthorized", NEEDS_KEY, {}),
    ("POST /v1/bookings/HELD/extend", {"Content-Type": "text/plain"}, "{}", "extend", MALFORMED,
     "The Content-Type of a body is application/json.", header("Content-Type", "content_type")),
    ("POST /v1/bookings/HELD/extend", JSON | {"Content-Encoding": "gzip"}, "{}", "extend", MALFORMED,
     "The body is compressed: send it without Content-Encoding.", header("Content-Encoding", "content_encoding")),
    ("POST /v1/bookings/HELD/extend", JSON, "{}", "extend", MALFORMED, "A member is missing.", pointer("/extra_s", "missing")),
    ("POST /v1/bookings/HELD/extend", JSON, '{"extra_s":0}', "extend", MALFORMED, "An extension is 1 to 600 seconds.",
     pointer("/extra_s", "out_of_range")),
    ("POST /v1/bookings/PAID/extend", JSON, '{"extra_s":1}', "extend", "hold-ended", "The booking is confirmed.",
     {"booking_status": "confirmed"}),
    ("POST /v1/bookings/x/cancel", {}, "", "cancel", "not-found", NOT_THERE, {}),
    (f"POST /v1/bookings/{NOBODYS}/cancel", {}, "", "cancel", "not-found", NOT_THERE, {}),
    ("POST /v1/bookings/HELD/cancel", NO_KEY, "", "cancel", "unauthorized", NEEDS_KEY, {}),
    ("POST /v1/bookings/HELD/cancel", {}, '{"a":1}', "cancel", MALFORMED, "There is a member that does not belong here.",
     pointer("/a", "unknown_member")),
    ("POST /v1/bookings/x/refunds", KEYED, '{"items":"all"}', "refund", "not-found", NOT_THERE, {}),
    (f"POST /v1/bookings/{NOBODYS}/refunds", KEYED, '{"items":"all"}', "refund", "not-found", NOT_THERE, {}),
    ("POST /v1/bookings/PAID/refunds", NO_KEY, "{}", "refund", "unauthorized", NEEDS_KEY, {}),
    ("POST /v1/bookings/PAID/refunds", JSON, "{}", "refund", MALFORMED, NEEDS_NAME, header("Idempotency-Key", "missing")),
    ("POST /v1/bookings/PAID/refunds", KEYED, "{}", "refund", MALFORMED, "A member is missing.", pointer("/items", "missing")),
    ("POST /v1/bookings/HELD/refunds", KEYED, '{"items":"all"}', "refund", "not-cancellable", "The booking is held.",
     {"booking_status": "held"}),
    ("POST /v1/bookings/PAID/refunds", KEYED, '{"items":"owed"}', "refund", "nothing-owed",
     "No refund of this booking was refused by the gateway.", {}),
    ("POST /v1/bookings/PAID/refunds", KEYED, '{"items":[{"tier_id":"TIER","quantity":2}]}', "refund", "refund-too-large",
     "The refund exceeds what was captured and not yet refunded.", {"tier_id": "TIER", "requested": 2, "refundable": 1}),
    ("POST /v1/webhooks/nobody", NO_KEY, "{}", "hear", "not-found", "There is no such gateway.", {}),
    ("POST /v1/webhooks/simulator", NO_KEY, "{}", "hear", "webhook-refused", "The webhook's signature does not fit.", {}),
    ("GET /docs/x", NO_KEY, "", "docs_file", "not-found", "There is nothing at this path.", {}),
    ("GET /nothing", {}, "", "", "not-found", "There is nothing at this path.", {}),
    ("GET /v1/bookings/x/y", {}, "", "", "not-found", "There is nothing at this path.", {}),
    ("PUT /v1/events", {}, "", "", "method-not-allowed", "Another method is needed here.", {}),
]  # fmt: skip

NO_STORE = {"content-type": "application/json", "cache-control": "no-store"}
CATALOGUE = {"content-type": "application/json", "cache-control": "private, max-age=1"}
AT_HELD, AT_PAID = {"location": "/v1/bookings/HELD"}, {"location": "/v1/bookings/PAID"}
AGAIN, SOON = {"idempotency-replayed": "true"}, {"retry-after": "1"}

ANSWERS: list[tuple[str, dict[str, str], str, int, dict[str, str]]] = [
    # method and path, headers, body, status, headers of the answer: one after another
    ("GET /healthz", {}, "", 200, NO_STORE),
    ("GET /readyz", {}, "", 200, NO_STORE),
    ("GET /openapi.json", {}, "", 200, {"content-type": "application/json", "cache-control": "max-age=60"}),
    ("GET /docs", {}, "", 200, {"content-type": "text/html; charset=utf-8", "cache-control": "max-age=3600"}),
    ("GET /docs/swagger-ui.css", {}, "", 200,
     {"content-type": "text/css; charset=utf-8", "cache-control": "max-age=86400", "accept-ranges": "bytes"}),
    ("GET /docs/favicon.png", {}, "", 200,
     {"content-type": "image/png", "cache-control": "max-age=86400", "accept-ranges": "bytes"}),
    ("GET /actions/x", {}, "", 404, {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"}),
    ("POST /actions/x", {}, "", 404, {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"}),
    ("GET /v1/events", {}, "", 200, CATALOGUE),
    ("GET /v1/events/EVENT", {}, "", 200, CATALOGUE),
    ("GET /v1/bookings/PAID", {}, "", 200, NO_STORE),
    ("GET /v1/bookings", {}, "", 200, NO_STORE),
    ("POST /v1/bookings", JSON | {"Idempotency-Key": "paid"}, "ONE", 200, NO_STORE | AT_PAID | AGAIN),
    ("POST /v1/bookings/HELD/extend", JSON, '{"extra_s":1}', 200, NO_STORE),
    ("POST /v1/bookings/HELD/payment", KEYED, "CARD", 202, NO_STORE | AT_HELD | SOON),
    ("POST /v1/bookings/HELD/payment", KEYED, "CARD", 202, NO_STORE | AT_HELD | SOON | AGAIN),
    ("GET /v1/bookings/HELD", {}, "", 200, NO_STORE | SOON),
    ("POST /v1/bookings/PAID/refunds", KEYED, '{"items":"all"}', 201, NO_STORE | AT_PAID),
    ("POST /v1/bookings/PAID/refunds", KEYED, '{"items":"all"}', 201, NO_STORE | AT_PAID | AGAIN),
    ("POST /v1/bookings/PAID/cancel", {}, "", 200, NO_STORE),
]  # fmt: skip

Send = Callable[[str, dict[str, str], str], Awaitable[tuple[httpx2.Response, Any]]]


@pytest.fixture
async def send(api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker) -> Send:
    """Sends with HELD, PAID, EVENT and TIER for the ids of a held booking, a confirmed one, and what they are for."""
    event = await open_sale(GA=5)
    held, paid = await book(event, key="held", payment=None), await book(event, key="paid")
    await settle_all(office)
    names = {held.json()["id"]: "HELD", paid.json()["id"]: "PAID", event.id: "EVENT", event.tiers[0].id: "TIER"}
    bodies = {"ONE": booking_of(event), "MANY": booking_of(event, 9), "CARD": booking_of(event)["payment"]}

    def named(text: str) -> str:
        for found, name in names.items():
            text = text.replace(found, name)
        return text

    async def send(what: str, headers: dict[str, str], body: str) -> tuple[httpx2.Response, Any]:
        text = json.dumps(bodies[body]) if body in bodies else body
        for found, name in names.items():
            what, text = what.replace(name, found), text.replace(name, found)
        answer = await api.request(*what.split(" "), headers=headers | {"X-Request-Id": "REQUEST"}, content=text)
        told = {name: named(value) for name, value in answer.headers.items()}
        known = json.loads(named(answer.text)) if "json" in told["content-type"] else None
        length = told.pop("content-length")
        assert int(length) == len(answer.content)
        told = {name: value for name, value in told.items() if name.encode() not in dict(SECURITY)}
        assert told.pop("x-request-id") == "REQUEST"
        return answer, (known, {name: value for name, value in told.items() if name not in ("etag", "last-modified")})

    return send


async def test_every_member_of_a_refusal(send: Send) -> None:
    """And what of it stands in the log: which route, whose request, where; nobody's for what is not served at all."""
    table = {problem.slug: problem for problem in (*problems.PROBLEMS.values(), *problems.HTTP_PROBLEMS.values())}
    for what, headers, body, route, slug, detail, members in REFUSALS:
        with capture_logs() as said:
            _, (problem, told) = await send(what, headers, body)
            await asyncio.sleep(0)
        status, title = table[slug].status, table[slug].title
        assert problem == {
            "type": f"/problems/{slug}", "title": title, "status": status, "detail": detail, **members, "request_id": "REQUEST",
        }, what  # fmt: skip
        more = {401: {"www-authenticate": "Bearer"}, 405: {"allow": "GET, HEAD, POST"}}.get(status, {})
        more |= {"retry-after": str(members["retry_after"])} if "retry_after" in members else {}
        assert told == {"content-type": "application/problem+json", "cache-control": "no-store"} | more, what
        line: dict[str, Any] = {
            "event": "request.refused",
            "log_level": "info",
            "type": slug,
            "status": status,
            "route": route,
            "request_id": "REQUEST",
        }
        line |= {"errors": members["errors"]} if "errors" in members else {}
        line["client"] = "" if headers == NO_KEY else CLIENT
        assert [each for each in said if each["event"].startswith("request.") or "request_id" in each] == (
            [line] if route else []
        ), what


async def test_every_header_of_an_answer(send: Send) -> None:
    for what, headers, body, status, told in ANSWERS:
        answer, (_, found) = await send(what, headers, body)
        assert (answer.status_code, found) == (status, told), what


async def test_an_application_that_is_handed_no_office_opens_one_of_its_own(
    settings: Settings, office: BoxOffice
) -> None:
    """While it runs, and says so to whoever asks; every way in is served by the same."""
    app = create_app(settings)
    entrance = entrance_of(app)
    behind: Any = entrance.behind if isinstance(entrance, Front) else entrance
    assert not hasattr(behind.state, "office")
    async with behind.router.lifespan_context(behind):
        opened = behind.state.office
        assert isinstance(opened, BoxOffice) and opened is not office
        assert getattr(entrance, "office", opened) is opened
        assert await opened.readiness.reasons() == {}
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as client:
            assert (await client.get("/readyz")).json() == {"status": "ready"}
    handed: Any = entrance_of(create_app(settings, office=office))
    handed = handed.behind if isinstance(handed, Front) else handed
    async with handed.router.lifespan_context(handed):
        assert handed.state.office is office
