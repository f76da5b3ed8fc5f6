"""Who may call what: every route, with every scope, by every owner, with keys that are good, revoked, expired or missing.

The requests are generated from the application's own routes and from its table of rights. A route that is added later is
walked without a word here; one that declares nothing keeps the application from starting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI

from api.app import create_app, entrance_of
from api.rights import RIGHTS, Owner, Right, check_declared, routes_of, scope_of
from boxoffice.access.scopes import SCOPES, USUAL
from boxoffice.access.store import Grant
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from tests.api.conftest import booking_of
from tests.conftest import CLIENT, KEY, SaleMaker
from tests.support.shop.office import book
from tests.support.shop.orders import OTHER
from tests.support.wire import Door, Wire


@pytest.fixture(params=["lane"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """No pages but those of API keys; and no room for a stream, which would not end: whoever may have one is told so."""
    changes = {
        "api": settings.api.model_copy(update={"cors_origins": ()}),
        "streams": settings.streams.model_copy(update={"max": 0}),
    }
    return settings.model_copy(update=changes)


def good(call: Call) -> int:
    """What a read is answered that may be made."""
    return 503 if call.name.startswith("stream_") else 200


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=10_000)


class Call(NamedTuple):
    """A route as it is asked for."""

    name: str
    method: str
    path: str
    body: bytes

    def request(self, key: str | None, *headers: str) -> bytes:
        lines = [
            f"{self.method} {self.path} HTTP/1.1", "Host: x", "Content-Type: application/json",
            f"Idempotency-Key: {self.name}", f"Content-Length: {len(self.body)}", *headers,
            *([] if key is None else [f"Authorization: Bearer {key}"]), "", "",
        ]  # fmt: skip
        return "\r\n".join(lines).encode() + self.body


def calls(settings: Settings, office: BoxOffice, event: EventView, booking: str) -> Iterator[Call]:
    """Every route of the application, about this booking and event. With a body where only a good one gets to what it names."""
    bodies: dict[str, Any] = {
        "book": booking_of(event, 1), "change_items": {"items": booking_of(event, 2)["items"]},
        "extend": {"extra_s": 60}, "refund": {"items": "all"},
        "pay": {"method": "card", "card_name": "Ada Lovelace", "card_number": "4242424242424242"},
    }  # fmt: skip
    app: Any = create_app(settings.model_copy(update={"api": settings.api.model_copy(update={"fast_path": False})}),
                          office=office)  # fmt: skip
    named = {"booking_id": booking, "event_id": event.id}
    for route in routes_of(entrance_of(app).routes):
        path = re.sub(r"\{(\w+)\}", lambda found: named.get(found[1], "nothing"), route.path)
        body = json.dumps(bodies[route.name]).encode() if route.name in bodies else b""
        for method in sorted(route.methods):
            yield Call(route.name, method, path, body)


async def ask(wire: Wire, request: bytes) -> tuple[int, Any, dict[str, str]]:
    before = len(wire.answers())
    (answer,) = (await wire.send(request).quiet()).answers()[before:]
    body = json.loads(answer.body) if "json" in answer.headers.get("content-type", "") else None
    return answer.status, body, answer.headers


def named(problem: Any) -> tuple[int, str]:
    return problem["status"], problem["type"]


async def test_every_route_asks_for_its_scope_and_no_other(
    door: Door, settings: Settings, office: BoxOffice, event: EventView
) -> None:
    """Each of the six alone; the refusal names the one that is missing, and says nothing of what the route names. One that
    needs no key takes every key."""
    keys = {scope: await office.access.create_api_key(CLIENT, Grant((scope,))) for scope in SCOPES}
    booking = (await book(office, event, None, GA=1)).booking_id
    wire, walked = door.connect(), set()
    for call in calls(settings, office, event, booking):
        needed, operators = RIGHTS[call.name].scope, RIGHTS[call.name].operators
        for scope, key in keys.items():
            status, problem, _ = await ask(wire, call.request(key))
            if needed in (None, scope) or (operators and scope == "ops"):
                assert status not in (401, 403), (call, scope, problem)
            else:
                assert named(problem) == (403, "/problems/forbidden"), (call, scope)
                assert problem["scope"] == needed
        walked.add(call.name)
    assert walked == RIGHTS.keys(), "and no right is of a route that there is not"


@pytest.mark.parametrize("kind", ["none", "unknown", "wrong secret", "revoked", "expired"])
async def test_no_route_takes_a_key_that_is_not_good(
    door: Door, settings: Settings, office: BoxOffice, event: EventView, kind: str
) -> None:
    """Whatever its scopes: 401, the same for all of these."""
    every = Grant(tuple(SCOPES), datetime.now(UTC) + timedelta(hours=1))
    good = await office.access.create_api_key(CLIENT, every)
    prefix = good.partition(".")[0]
    if kind == "revoked":
        await office.access.revoke_api_key(prefix)
    if kind == "expired":
        await (await office.pool()).execute("UPDATE api_keys SET expires_at = now() WHERE prefix = $1", prefix)
        await office.loader.load(0)
    key = {"none": None, "unknown": "nobody.knows", "wrong secret": f"{prefix}.wrong"}.get(kind, good)
    booking = (await book(office, event, None, GA=1)).booking_id
    wire, told = door.connect(), set()
    for call in calls(settings, office, event, booking):
        status, problem, headers = await ask(wire, call.request(key))
        if RIGHTS[call.name].scope is None:
            assert status not in (401, 403), call
        else:
            assert named(problem) == (401, "/problems/unauthorized"), call
            assert headers["www-authenticate"] == "Bearer"
            told.add(problem["detail"])
    assert len(told) <= 2, "a missing key is told as a bad one, but for its sentence"


async def test_a_key_that_was_good_a_moment_ago_is_refused_on_the_lane_too(
    door: Door, settings: Settings, office: BoxOffice, event: EventView
) -> None:
    """On a connection whose requests are taken by their shape: revoked, its next one within two seconds is refused."""
    key = await office.access.create_api_key(CLIENT, Grant(("book",)))
    (call,) = [each for each in calls(settings, office, event, "") if each.name == "book"]
    wire = door.connect()
    for _ in range(4):
        assert (await ask(wire, call.request(key)))[0] == 202
    await office.access.add_api_key(CLIENT, key, Grant(("read",)))
    office.catalogue.api_keys.clock = lambda: 1e12
    assert named((await ask(wire, call.request(key)))[1]) == (403, "/problems/forbidden")


async def test_no_route_names_to_one_shop_what_is_anothers(
    door: Door, settings: Settings, office: BoxOffice, event: EventView
) -> None:
    """With every scope of a shop: 404, the same as of what does not exist. What is shared may be seen and sold, not managed."""
    key = await office.access.create_api_key(OTHER, Grant(USUAL))
    booking = (await book(office, event, None, GA=1)).booking_id
    named = {Owner.BOOKER: {booking}, Owner.SELLER: {event.id, event.tiers[0].id}, Owner.OWNER: {event.id}}
    wire = door.connect()
    for shared in (True, False):
        if not shared:
            await office.sharing.unshare(event.id, OTHER)
            await office.catalogue.read()
        for call in calls(settings, office, event, booking):
            owner = RIGHTS[call.name].owner
            if not any(name in call.path or name in call.body.decode() for name in named.get(owner, ())):
                continue
            status, problem, _ = await ask(wire, call.request(key))
            if shared and owner is Owner.SELLER:
                assert status in (good(call), 202), call
            else:
                assert status in ((404, 400) if owner is Owner.OWNER else (404,)), (call, problem)


def test_a_route_that_declares_nothing_keeps_the_application_from_starting() -> None:
    app = FastAPI()

    @app.get("/new")
    async def new() -> None:
        """Nothing."""

    with pytest.raises(LookupError, match="who may call new"):
        check_declared(app.routes)


def test_a_right_says_whose_it_is() -> None:
    """What needs no key names nothing that is anybody's."""
    assert scope_of("refund") == "refund"
    with pytest.raises(LookupError):
        scope_of("healthz")
    for right in RIGHTS.values():
        assert isinstance(right, Right)
        assert (right.scope is None) == (right.owner is Owner.NOBODY)
        assert right.scope is None or right.scope in SCOPES


# ---------------------------------------------------------------- pages

PAGE, EVIL = "https://page.example", "https://evil.example"
ALLOW = "access-control-allow-origin"


async def test_a_pages_key_is_for_its_pages(
    door: Door, office: BoxOffice, event: EventView, settings: Settings
) -> None:
    """Without any setting. A page that it is not for is refused; without an origin it is no page, and served."""
    key = await office.access.create_api_key(CLIENT, Grant(("browse",), origins=(PAGE,)))
    wire = door.connect()
    for call in calls(settings, office, event, ""):
        if RIGHTS[call.name].scope == "browse":
            status, _, headers = await ask(wire, call.request(key, f"Origin: {PAGE}"))
            assert (status, headers.get(ALLOW)) == (good(call), PAGE), call
            assert "Origin" in headers["vary"] and "Retry-After" in headers["access-control-expose-headers"]
            status, problem, headers = await ask(wire, call.request(key, f"Origin: {EVIL}"))
            assert (named(problem), problem["reason"]) == ((403, "/problems/forbidden"), "origin"), call
            assert ALLOW not in headers and EVIL not in json.dumps(problem)
            assert (await ask(wire, call.request(key)))[0] == good(call)
            # Another key knows no pages: as before, it is served, and the browser keeps the answer from the page.
            status, _, headers = await ask(wire, call.request(KEY, f"Origin: {EVIL}"))
            assert (status, ALLOW in headers) == (good(call), False), call


@pytest.mark.parametrize("origins", [(PAGE,), ("*",)])
async def test_a_page_may_ask_whether_it_may_ask(
    door: Door, office: BoxOffice, event: EventView, origins: tuple[str, ...]
) -> None:
    """A preflight has no key: any key's page is told yes, in a process that has seen no key yet."""
    key = await office.access.create_api_key(CLIENT, Grant(("browse",), origins=origins))
    request = "OPTIONS /v1/events/{} HTTP/1.1\r\nHost: x\r\nOrigin: {}\r\nAccess-Control-Request-Method: {}\r\n" \
              "Access-Control-Request-Headers: authorization\r\n\r\n"  # fmt: skip
    for origin, method, good in ((PAGE, "GET", True), (EVIL, "GET", origins == ("*",)), (PAGE, "DELETE", False)):
        wire = door.connect()
        status, _, headers = await ask(wire, request.format(event.id, origin, method).encode())
        assert status == (200 if good else 400), (origin, method)
        if good:
            assert headers[ALLOW] == origin
    await office.access.revoke_api_key(key.partition(".")[0])
    office.catalogue.api_keys.look_at = 0.0
    status, _, _ = await ask(door.connect(), request.format(event.id, PAGE, "GET").encode())
    assert status == 405, "there is no page any more"
