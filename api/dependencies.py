"""What routes ask for."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import msgspec
from fastapi import Depends, Request, Response, Security
from fastapi.security import HTTPBearer

from api.pipeline import caller_of
from api.rights import RIGHTS, is_operators, scope_of
from api.sessions import token_of
from api.transport.reply import JSON, NO_STORE, Header, Reply
from api.waits import Waits
from boxoffice.access import scopes
from boxoffice.errors import BoxOfficeError
from boxoffice.office import BoxOffice
from boxoffice.telemetry import request_id

__all__ = ["BEARER", "Caller", "Client", "Office", "Patience", "header", "refuse", "respond", "respond_json"]

BEARER = Security(HTTPBearer(auto_error=False, description="An API key of your shop, such as `demo.boxoffice`."))
"""For the documentation only: `permitted` and `_caller` decide."""


async def _office(request: Request) -> BoxOffice:
    office: BoxOffice = request.app.state.office
    return office


Office = Annotated[BoxOffice, Depends(_office)]


async def _waits(request: Request) -> Waits:
    return Waits(request.app.state.waiting, request.receive)


Patience = Annotated[Waits, Depends(_waits)]
"""For routes that may wait (`Prefer: wait=N`)."""


async def _caller(request: Request, office: Office) -> scopes.Caller:
    name = request.scope["route"].name
    authorization = header(request, "authorization")
    token = token_of(request) if authorization is None else None
    if token is None:
        caller, origin = await caller_of(office, authorization), header(request, "origin")
    else:
        caller, origin = await office.sessions.caller_of(token), None  # it is our own page
    request.state.client = caller.client
    caller.check(scopes.OPS if is_operators(name, caller) else scope_of(name), origin)
    if request.method in ("GET", "HEAD"):
        office.throttle.read(caller.allowance)
    else:
        await office.throttle.change(caller.allowance)
    return caller


Caller = Annotated[scopes.Caller, Depends(_caller)]
"""Whoever calls, with a key that has the route's scope, or signed in at `/ops` with such a key."""


async def _client(caller: Caller) -> str:
    return caller.client


Client = Annotated[str, Depends(_client)]
"""The shop that calls, with a key that has the route's scope."""


async def refuse(request: Request, error: BoxOfficeError) -> NoReturn:
    """Raise this error of a request that is looked at before its key is. Where the route needs a key, whoever has none, or
    too often used it, hears of that instead; the refusal is the caller's, and no stranger's."""
    if RIGHTS[request.scope["route"].name].scope is not None:
        await _caller(request, request.app.state.office)
    raise error


def header(request: Request, name: str) -> bytes | None:
    """A header as it came; empty when it came twice, which no server of ours lets by."""
    values = request.headers.getlist(name)
    return (values[0].encode("latin-1") if len(values) == 1 else b"") if values else None


def respond(reply: Reply) -> Response:
    """An answer to this task's request in FastAPI's own words."""
    body = reply.body_to(request_id.current.get())
    response = Response(body, reply.status)
    response.raw_headers = [*reply.headers, *reply.length(body)]
    return response


def respond_json(shown: Any, status: int = 200, *more: Header) -> Response:
    """The same of something that msgspec writes as JSON, and that nobody keeps."""
    return respond(Reply(status, msgspec.json.encode(shown), [JSON, NO_STORE, *more]))
