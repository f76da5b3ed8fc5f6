"""Probes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from api import problems, schemas
from api.dependencies import respond, respond_json
from api.refusals import problem_responses, with_headers
from api.transport.reply import JSON, NO_STORE, Reply
from boxoffice.stores import durability

__all__ = ["router"]

router = APIRouter(tags=["health"])

_WELL: dict[int | str, dict[str, Any]] = {200: {"model": schemas.Health, "headers": with_headers()}}


@router.get("/healthz", summary="Alive", responses={**_WELL, **problem_responses()})
async def healthz() -> Response:
    """200 whenever the process can answer; no store is asked."""
    return respond(Reply(200, b'{"status":"alive"}', [JSON, NO_STORE]))


@router.get("/readyz", summary="Ready", responses={**_WELL, **problem_responses("not-ready")})
async def readyz(request: Request) -> Response:
    """200 when both stores answer, keep what they acknowledge, and the sale is loaded; else 503 with `reasons`, as while this
    process stops. `stated` names what is believed because a setting says so."""
    if request.scope.get("state", {}).get("stopping"):
        return respond(problems.not_ready({"process": "It is stopping."}))
    reasons = await request.app.state.office.readiness.reasons()
    if reasons:
        return respond(problems.not_ready(reasons))
    ready: dict[str, object] = {"status": "ready"}
    if stated := durability.stated(request.app.state.office.settings):
        ready["stated"] = stated
    return respond_json(ready)
