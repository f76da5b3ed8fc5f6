"""Probes."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from api import problems
from api.dependencies import problem_responses, respond
from api.reply import JSON, Reply
from boxoffice import durability

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Alive")
async def healthz() -> Response:
    """200 as long as the process can answer at all."""
    return respond(Reply(200, b'{"status":"alive"}', [JSON]))


@router.get("/readyz", summary="Ready", responses=problem_responses(503))
async def readyz(request: Request) -> Response:
    """200 when both stores answer, keep what they acknowledge, and the sale is loaded; else 503 with `reasons`. `stated`
    names what is believed because a setting says so."""
    reasons = await request.app.state.readiness.reasons()
    if reasons:
        return respond(problems.not_ready(reasons))
    ready: dict[str, object] = {"status": "ready"}
    if stated := durability.stated(request.app.state.office.settings):
        ready["stated"] = stated
    return respond(Reply(200, msgspec.json.encode(ready), [JSON]))
