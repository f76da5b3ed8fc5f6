"""The HTTP door, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api import documentation, problems
from api.bodies import ClientGone
from api.cors import Cors
from api.counting import Counting, expect
from api.dependencies import respond
from api.front import Front
from api.methods import Heads, allowed
from api.outermost import Outermost
from api.query import only_known
from api.rights import check_declared, routes_of
from api.routes import (
    actions,
    allocations,
    bookings,
    endpoints,
    events,
    feed,
    health,
    holds,
    operating,
    ops_session,
    pages,
    refunds,
    root,
    rushes,
    sales,
    streams,
    webhooks,
)
from api.streams.opening import Streams
from boxoffice.backoffice.sums import summing
from boxoffice.bookings.waiting import Waiting
from boxoffice.errors import BoxOfficeError
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import durability
from boxoffice.telemetry.metrics import REGISTRY
from boxoffice.telemetry.port import open_port
from boxoffice.telemetry.traces import tracing
from boxoffice.wire.parameters import bad_parameter

__all__ = ["create_app", "entrance_of"]

_LOOK_THEMSELVES: Final = (webhooks, health, feed, root)
"""At their parameters: callers of the first two, gateways and load balancers, add some of their own, of which none is read, and
so do links to the last; the feed is asked for below, too, where nobody else looks."""


def entrance_of(app: Any) -> Any:
    """What answers for this application once the request's id and origin were looked at: its fast path, or FastAPI."""
    while isinstance(app, Outermost | Cors):
        app = app.app
    return app


def create_app(settings: Settings, *, office: BoxOffice | None = None) -> Outermost:
    """The application. It opens its own box office when it starts, unless it is handed one."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if office is not None:
            yield
            await front.streams.aclose()
            return
        durability.say_what_is_stated(settings)
        REGISTRY.counts = settings.telemetry.count
        async with (
            open_box_office(settings) as opened, _port(opened), tracing(settings.telemetry, "api"),
            summing(opened.sums, opened.clock),
        ):  # fmt: skip
            move_in(opened)
            yield
            await front.streams.aclose()

    app = FastAPI(
        title="boxoffice",
        description=documentation.DESCRIPTION,
        version="1",
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
        # The names of operations are what a generated client calls its functions.
        generate_unique_id_function=lambda route: route.name,
    )
    front = Front(app)

    def move_in(opened: BoxOffice) -> None:
        front.office = app.state.office = opened
        front.waiting = app.state.waiting = Waiting(opened.shards.news, opened.bookings, settings.streams.waits_max)
        front.streams = app.state.streams = Streams(opened)

    if office is not None:
        move_in(office)
    app.add_middleware(Counting)
    app.add_middleware(Heads)
    routers = (
        events, sales, allocations, bookings, holds, refunds, feed, streams, endpoints, webhooks, health, documentation,
        pages, root, ops_session, operating, rushes,
    )  # fmt: skip
    for module in routers:
        app.include_router(module.router, dependencies=None if module in _LOOK_THEMSELVES else [Depends(only_known)])
    if settings.gateway.kind == "simulator":
        app.include_router(actions.router, dependencies=[Depends(only_known)])
    check_declared(app.routes)
    expect(routes_of(app.routes))
    app.add_exception_handler(BoxOfficeError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _unserved)
    app.add_exception_handler(ClientGone, _gone)
    app.add_exception_handler(Exception, _failed)
    entrance = front if settings.api.fast_path else app
    return Outermost(Cors(entrance, settings.api.cors_origins, lambda: front.office.catalogue.api_keys), front.stop)


def _port(office: BoxOffice) -> AbstractAsyncContextManager[None]:
    """For whoever watches this process: never the public one."""
    telemetry = office.settings.telemetry
    return open_port({"/metrics": partial(office.readings.metrics, "api")}, telemetry.host, telemetry.api_port)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, BoxOfficeError)
    return respond(problems.of_error(error, route=_route(request), client=_client(request)))


async def _malformed(request: Request, error: Exception) -> Response:
    """FastAPI's own finding, without what was sent."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()[0]
    name = str(found["loc"][-1]) if found["loc"] and found["loc"][0] == "query" else ""
    refusal = bad_parameter("A parameter is malformed.", name, str(found["type"]))
    return respond(problems.of_error(refusal, route=_route(request), client=_client(request)))


async def _unserved(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {404: "There is nothing at this path.", 405: "Another method is needed here."}
    detail = details.get(error.status_code, "This cannot be served.")
    found = dict(error.headers or {})
    if error.status_code == 405:
        found["Allow"] = allowed(request)
    headers = [(name.lower().encode(), value.encode()) for name, value in found.items()]
    return respond(problems.of_status(error.status_code, detail, headers))


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)


async def _failed(_request: Request, _error: Exception) -> Response:
    """The error goes on to the server, which logs it."""
    return respond(problems.of_status(500, "This is our mistake, and it is in our log."))


def _client(request: Request) -> str:
    """Empty of somebody we do not know, or not yet."""
    client: str = getattr(request.state, "client", "")
    return client


def _route(request: Request) -> str:
    route: Any = request.scope.get("route")
    return getattr(route, "name", "")
