"""What is on sale."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from api import answers, event_schemas
from api.dependencies import BEARER, Client, Office, respond
from api.headers import Headers
from api.refusals import problem_responses, with_headers
from api.transport.reply import JSON, Reply
from boxoffice.sales.catalogue import EventView
from boxoffice.wire import render
from boxoffice.wire.event_copies import tag_of
from boxoffice.wire.parameters import bad_parameter

__all__ = ["is_on_sale", "router"]

CONDITIONAL: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"},
            "description": "The `ETag` of what you have: while nothing of it has changed, the answer is 304 without a body.",
        }
    ]
}  # fmt: skip

UNCHANGED: Final = {"description": "What you have is what there is.", "headers": with_headers("ETag")}

router = APIRouter(prefix="/v1/events", tags=["events"], dependencies=[BEARER])


@router.get(
    "",
    summary="List events",
    responses={
        200: {"model": event_schemas.EventPage, "headers": with_headers("ETag")},
        304: UNCHANGED,
        **problem_responses("malformed-request", "unauthorized", "gate-closed", "store-away"),
    },
    openapi_extra=CONDITIONAL,
)
async def list_events(
    request: Request,
    office: Office,
    client: Client,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1)] = 20,
    on_sale: Annotated[bool, Query(description="Leave out what cannot be booked now.")] = False,
    past: Annotated[bool, Query(description="Show what has started, too.")] = False,
) -> Response:
    """Active events that you sell, by start, each with what is left of its tiers."""
    if limit > office.settings.limits.page_max:
        raise bad_parameter(f"A page has up to {office.settings.limits.page_max} events.", "limit", "out_of_range")
    events = [event for event in await office.catalogue.events() if event.sold_by(client)]
    if not past:
        now_ms = time.time() * 1_000
        events = [event for event in events if event.starts_ms > now_ms]
    if on_sale:
        events = [event for event in events if is_on_sale(event)]
    if cursor is not None:
        after = _after(cursor)
        events = [event for event in events if (event.starts_ms, event.id) > after]
    page = events[:limit]
    shown = await asyncio.gather(*(office.event_copies.show(event, client) for event in page))
    body = render.page([each.body for each in shown], _cursor(page[-1]) if len(events) > limit else None)
    tag = tag_of(body)
    answer = Reply(200, body, [JSON, answers.CATALOGUE, (b"etag", tag)])
    return respond(answers.unless_known(Headers.of(request.headers.raw), tag, answer))


@router.get(
    "/{event_id}",
    summary="Read an event",
    responses={
        200: {"model": event_schemas.Event, "headers": with_headers("ETag")},
        304: UNCHANGED,
        **problem_responses("unauthorized", "not-found", "gate-closed", "store-away"),
    },
    openapi_extra=CONDITIONAL,
)
async def read_event(event_id: str, request: Request, office: Office) -> Response:
    """The event with its active tiers in display order, and what is left of each."""
    return respond(await answers.read_event(office, Headers.of(request.headers.raw), event_id))


def is_on_sale(event: EventView) -> bool:
    """Whether the window of one of its tiers is open now, by this host's clock. Redis decides by its own, in admit.lua."""
    now = time.time()
    return event.status == "active" and event.starts_ms > now * 1_000 and any(
        tier.active and event.in_window(tier, now) for tier in event.tiers
    )  # fmt: skip


def _cursor(event: EventView) -> str:
    return base64.urlsafe_b64encode(f"{event.starts_ms}.{event.id}".encode()).decode().rstrip("=")


def _after(cursor: str) -> tuple[int, str]:
    try:
        starts_ms, _, event_id = base64.urlsafe_b64decode(cursor + "==").decode().partition(".")
        return int(starts_ms), event_id
    except (ValueError, binascii.Error):
        raise bad_parameter("This is no cursor of ours.", "cursor", "cursor") from None
