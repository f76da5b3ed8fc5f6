"""Streams of server-sent events: one booking's states, and what is left of an event."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from api.dependencies import BEARER, respond
from api.refusals import problem_responses, with_headers
from api.streams.opening import Opening, Streams, begin
from api.streams.stream import Stream
from api.transport.reply import Reply

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["streams"], dependencies=[BEARER])

_LAST_ID: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "description": "The `id` of the last message that was read: what it said is not sent again.",
            "schema": {"type": "string", "maxLength": 64},
        }
    ]
}


def _stream(description: str, example: str) -> dict[str, Any]:
    content = {"text/event-stream": {"schema": {"type": "string"}, "example": example}}
    return {"description": description, "content": content, "headers": with_headers()}


@router.get(
    "/bookings/{booking_id}/stream",
    summary="Follow a booking",
    response_class=Response,
    responses={
        200: _stream(
            "A message `booking` now and after each change, whose data is the booking as reading it answers. The stream ends "
            "when nothing can follow.",
            'id: 41f0\nevent: booking\ndata: {"id":"01a2289d-1441-7000-936f-ca3c86615eea","status":"pending"}\n\n',
        ),
        204: {"description": "It has ended, and you know how: do not come back.", "headers": with_headers()},
        **problem_responses(
            "unauthorized", "not-found", "too-many-streams", "streams-full", "gate-closed", "store-away"
        ),
    },
    openapi_extra=_LAST_ID,
)
async def stream_booking(booking_id: str, request: Request) -> Response:
    """One booking's states as server-sent events, resumable by `Last-Event-ID`."""
    streams: Streams = request.app.state.streams
    return _answer(await streams.of_booking(Opening.of(request.scope), booking_id))


@router.get(
    "/events/{event_id}/stream",
    summary="Follow what is left of an event",
    response_class=Response,
    responses={
        200: _stream(
            "A message `availability` now and after each change: at most some a second, in two digits and zeros from 100 "
            "tickets on, exact below.",
            'id: 9c2e\nevent: availability\ndata: {"event_id":"5mzr2k9c1b7a","status":"active","on_sale":true,'
            '"sold_out":false,"tiers":[{"tier_id":"5mzr2k9c1b7d","code":"VIP","on_sale":true,"available":1200,'
            '"exact":false}]}\n\n',
        ),
        **problem_responses(
            "unauthorized", "not-found", "too-many-streams", "streams-full", "gate-closed", "store-away"
        ),
    },
    openapi_extra=_LAST_ID,
)
async def stream_event(event_id: str, request: Request) -> Response:
    """What is left of an event, and whether it is sold now, as server-sent events. A key with the scope `browse` suffices."""
    streams: Streams = request.app.state.streams
    return _answer(await streams.of_event(Opening.of(request.scope), event_id))


class _Begun(Response):
    """A stream, in FastAPI's words."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Answer with it."""
        await begin(send, self._stream)


def _answer(found: Stream | Reply) -> Response:
    return respond(found) if isinstance(found, Reply) else _Begun(found)
