"""What happened, told in its order."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from api import answers, feed_schemas
from api.bodies import ClientGone, unless_gone
from api.dependencies import BEARER, Office, respond
from api.headers import Headers
from api.refusals import problem_responses, with_headers
from boxoffice.notices.types import NOTICE_TYPES

__all__ = ["router"]

router = APIRouter(prefix="/v1/feed", tags=["feed"], dependencies=[BEARER])


def _parameter(name: str, description: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema, **more}


_PARAMETERS: Final = [
    _parameter(
        "after",
        "A `cursor` of the feed; `now` for its end. Without it the feed begins with the oldest notice that is kept.",
        {"type": "string", "minLength": 1},
    ),
    _parameter(
        "limit", "Most notices of the page, up to 1,000.", {"type": "integer", "minimum": 1, "default": 100}
    ),
    _parameter(
        "types",
        "Only notices of these types, separated by commas.",
        {"type": "array", "items": {"type": "string", "enum": list(NOTICE_TYPES)}, "minItems": 1},
        style="form", explode=False,
    ),
    _parameter(
        "wait",
        "Seconds to wait for the first notice when there is none, up to 30; 0 without it.",
        {"type": "integer", "minimum": 0},
    ),
]  # fmt: skip


@router.get(
    "",
    summary="Read what happened",
    responses={
        200: {"model": feed_schemas.FeedPage, "headers": with_headers()},
        **problem_responses("malformed-request", "unauthorized", "cursor-gone", "too-many-waits", "store-away"),
    },
    openapi_extra={"parameters": _PARAMETERS},
)
async def read_feed(request: Request, office: Office) -> Response:
    """Your notices, in the order in which you are told of them: each once, and none is passed over. Go on behind the
    `cursor` of the page, also when it is empty."""
    query = request.scope["query_string"].decode("latin-1")
    read = partial(answers.read_feed, office, Headers.of(request.headers.raw), query)
    try:
        return respond(await unless_gone(request.receive, read()))
    except ClientGone:
        return respond(await read(waits=False))
