"""What a request says and no route hears is refused, not left out: on every route, in each way into the application.

The requests are generated: from the application's own routes, and from the examples of its description.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from api import documentation
from api.query import parameters_of
from api.rights import routes_of
from boxoffice.access.scopes import SCOPES
from boxoffice.access.store import Grant
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from tests.api.test_documentation import application
from tests.api.test_rights import Call, ask, calls, event, settings
from tests.conftest import CLIENT, KEY
from tests.support.shop.office import book
from tests.support.wire import Door

__all__ = ["event", "settings"]

VALUE = "m4rk"
"""In no answer."""

UNHEARD = {"hear", "act", "sign_in", "start_rush"}
"""A gateway's message is its own to shape, the simulated bank's page sends no JSON, only the page of operators signs in, and
there is no rush but in the demo."""

OTHERS_CALL = {"hear", "healthz", "readyz"}
"""Gateways and load balancers, with parameters of their own."""

LINKED = {"root"}
"""Where links of others lead, with parameters that mean something to these."""


@pytest.fixture
async def key(office: BoxOffice) -> str:
    """Of every scope."""
    return await office.access.create_api_key(CLIENT, Grant(tuple(SCOPES)))


async def every_call(settings: Settings, office: BoxOffice, event: EventView) -> list[Call]:
    booking = (await book(office, event, None, GA=1)).booking_id
    return list(calls(settings, office, event, booking))


async def test_a_parameter_that_a_route_does_not_have_is_refused(
    door: Door, settings: Settings, office: BoxOffice, event: EventView, key: str
) -> None:
    """Named, when its name is a plain word; its value never is."""
    wire = door.connect()
    for call in await every_call(settings, office, event):
        if call.name in OTHERS_CALL | LINKED:
            continue
        for query, told in (
            (f"surprise={VALUE}", {"parameter": "surprise"}), ("surprise", {"parameter": "surprise"}),
            (f"4242424242424242={VALUE}", {}), (f"a%20{VALUE}=1", {}), (f"{VALUE}12345=1", {}), (f"=%00{VALUE}", {}),
        ):  # fmt: skip
            asked = call._replace(path=f"{call.path}?{query}")
            status, problem, _ = await ask(wire, asked.request(key))
            assert (status, problem["type"]) == (400, "/problems/malformed-request"), (asked, problem)
            assert problem["errors"] == [told | {"code": "unknown_parameter"}], asked
            assert VALUE not in json.dumps(problem) and "4242" not in json.dumps(problem)
        if call.method == "GET":
            wire.send(call._replace(method="HEAD", path=f"{call.path}?surprise=1").request(key))
            assert (await wire.quiet()).answers(heads=True)[-1].status == 400, call
            wire = door.connect()


async def test_what_others_call_takes_parameters_of_theirs(
    door: Door, settings: Settings, office: BoxOffice, event: EventView
) -> None:
    """A load balancer's probe, a gateway's webhook: the answer is the same as without."""
    wire, asked = door.connect(), set()
    for call in await every_call(settings, office, event):
        if call.name in OTHERS_CALL:
            plain = await ask(wire, call.request(KEY))
            status, body, _ = await ask(wire, call._replace(path=f"{call.path}?src=lb&src=lb").request(KEY))
            for each in (body, plain[1]):
                each.pop("request_id", None)  # each request has its own
            assert (status, body) == plain[:2], call
            asked.add(call.name)
    assert asked == OTHERS_CALL


async def test_a_parameter_that_is_there_twice_is_refused(
    door: Door, settings: Settings, office: BoxOffice, event: EventView, key: str
) -> None:
    """Also with the same value; and each that there is may be there once."""
    known = {
        route.name: parameters_of(route)
        for route in routes_of(application(settings, office).routes)
        if parameters_of(route)
    }
    assert known["list_events"] == {"cursor", "limit", "on_sale", "past"}
    assert known["list_changes"] == {"before", "limit"}
    wire = door.connect()
    for call in await every_call(settings, office, event):
        for name in known.get(call.name, ()):
            asked = call._replace(path=f"{call.path}?{name}=1&{name}=1")
            status, problem, _ = await ask(wire, asked.request(key))
            assert (status, problem.get("errors")) == (400, [{"parameter": name, "code": "duplicate"}]), asked
            _, answer, _ = await ask(wire, call._replace(path=f"{call.path}?{name}=1").request(key))
            assert (answer.get("errors") or [{}])[0].get("code") not in ("duplicate", "unknown_parameter"), asked


def places(body: Any, pointer: str = "") -> Iterator[str]:
    """Pointers to every object of a body."""
    if isinstance(body, dict):
        yield pointer
    for name, value in body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ():
        yield from places(value, f"{pointer}/{name}")


def with_member(body: Any, pointer: str, name: str) -> bytes:
    body = copy.deepcopy(body)
    at = body
    for step in pointer.split("/")[1:]:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[name] = VALUE
    return json.dumps(body).encode()


async def test_a_member_that_a_body_does_not_have_is_refused(
    door: Door, settings: Settings, office: BoxOffice, event: EventView, key: str
) -> None:
    """Wherever in the body it is, by its pointer; where there is no body at all, too. A name that is no plain word is told by
    the object that has it."""
    document = documentation.openapi(application(settings, office))
    bodies = {
        operation["operationId"]: operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for path in document["paths"].values() for operation in path.values()
    }  # fmt: skip
    wire, walked = door.connect(), set()
    for call in await every_call(settings, office, event):
        if call.method not in ("POST", "PATCH") or call.name in UNHEARD:
            continue
        body = bodies.get(call.name, {}).get("example", {})
        for pointer in places(body):
            for name, told in (("surprise", f"{pointer}/surprise"), ("4242424242424242", pointer)):
                asked = call._replace(body=with_member(body, pointer, name))
                status, problem, _ = await ask(wire, asked.request(key))
                assert (status, problem.get("errors")) == (400, [{"pointer": told, "code": "unknown_member"}]), asked
                assert VALUE not in json.dumps(problem) and "4242" not in json.dumps(problem)
        walked.add(call.name)
    assert walked >= {"book", "pay", "cancel", "refund", "create_event", "change_tier", "pause_event", "call_off_event"}
