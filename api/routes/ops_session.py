"""Signing in and out at the page of operators."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from msgspec import Struct

from api import sessions
from api.dependencies import BEARER, Caller, Office, respond, respond_json
from api.ops_schemas import Session
from api.refusals import problem_responses, with_headers
from api.routes.managing import read
from api.transport.reply import NO_STORE, Header, Reply
from boxoffice.wire.strict import read_strictly

__all__ = ["described", "router"]

router = APIRouter()


class _SignIn(Struct, forbid_unknown_fields=True):
    api_key: str


@router.post("/ops/session", status_code=201, include_in_schema=False)
async def sign_in(request: Request, office: Office) -> Response:
    """Begin a session that stands for this key, in a cookie that no script can read."""
    sessions.check_page(request)
    api_key = read_strictly(await read(office, request) or b"{}", _SignIn).api_key
    token, caller = await office.sessions.begin(api_key)
    await office.throttle.change(caller.allowance)
    set_cookie: Header = (b"set-cookie", sessions.cookie(request, token, office.settings.api.session_s).encode())
    return respond_json(described(caller), 201, set_cookie)


@router.delete("/ops/session", status_code=204, include_in_schema=False)
async def sign_out(request: Request, office: Office) -> Response:
    """End the session, if there is one."""
    sessions.check_page(request)
    if (token := sessions.token_of(request)) is not None:
        await office.sessions.end(token)
    return respond(Reply(204, b"", [NO_STORE, (b"set-cookie", sessions.forgotten(request).encode())]))


@router.get(
    "/v1/ops/session",
    tags=["operators"],
    summary="Read who is signed in",
    dependencies=[BEARER],
    responses={
        200: {"model": Session, "headers": with_headers()},
        **problem_responses("unauthorized", "gate-closed", "store-away"),
    },
)
async def read_session(caller: Caller) -> Response:
    """The key that calls, or that the session at `/ops` stands for."""
    return respond_json(described(caller))


def described(caller: Caller) -> dict[str, object]:
    """What the page shows of whoever is signed in."""
    return {"api_key": caller.allowance.api_key, "client_id": caller.client, "scopes": sorted(caller.scopes)}
