"""Managing what is on sale: make an event, change it and its tiers, pause it, postpone it, read its history, and who may book
with an access code.

One file because every route here is entered by who may manage the event, and is a few lines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from api import answers, event_schemas, holder_schemas
from api.dependencies import BEARER, Office, respond_json
from api.refusals import problem_responses, with_headers
from api.routes.managing import IF_MATCH, REFUSALS, Manager, if_match, named, read, takes
from boxoffice.errors import Unavailable
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.wire import event_requests as requests
from boxoffice.wire.hold_requests import parse_nothing
from boxoffice.wire.parameters import bad_parameter

__all__ = ["router"]


router = APIRouter(prefix="/v1/events", tags=["sales"], dependencies=[BEARER, Depends(named)])


_SHOWN: dict[int | str, dict[str, Any]] = {
    200: {"model": event_schemas.ManagedEvent, "headers": with_headers("ETag")}, **problem_responses(*REFUSALS)
}  # fmt: skip


@router.post(
    "",
    status_code=201,
    summary="Create an event",
    responses={
        201: {"model": event_schemas.ManagedEvent, "headers": with_headers("ETag", "Location")},
        **problem_responses("malformed-request", "unauthorized", "store-away"),
    },
    openapi_extra=takes(
        "EventRequest",
        {
            "name": "First night", "starts_at": "2030-05-22T19:00:00Z", "on_sale_at": "2030-05-01T10:00:00Z",
            "tiers": [{"code": "GA", "price_cents": 4900, "capacity": 500}],
        },
        conditional=False,
    ),
)  # fmt: skip
async def create_event(request: Request, office: Office, by: Manager) -> Response:
    """Make an event of your shop: on sale at once, from `on_sale_at`, or closed (`"status": "inactive"`)."""
    form = requests.parse_event(await read(office, request))
    assert by.client is not None, "a key belongs to a shop"
    event = await office.store.create_event(
        by.client, form.name, form.starts_at, form.currency, [tier.tier() for tier in form.tiers],
        rules=form.rules, cancel_until=form.cancel_until, refund_percent=form.refund_percent,
        status=form.status, on_sale_at=form.on_sale_at, off_sale_at=form.off_sale_at, by=by.name, allow=form.allow,
    )  # fmt: skip
    office.catalogue.saw(event)
    return await _shown(office, event, 201)


@router.patch(
    "/{event_id}",
    summary="Change an event",
    responses=_SHOWN,
    openapi_extra=takes("EventChangeRequest", {"on_sale_at": "2030-05-01T10:00:00Z"}),
)
async def change_event(event_id: str, request: Request, office: Office, by: Manager) -> Response:
    """Change what is named, and nothing else. It is in force from the next booking on."""
    changes, allow = requests.parse_change(await read(office, request))
    event = await office.control.change_event(event_id, by, if_version=if_match(request), allow=allow, **changes)
    return await _shown(office, event)


_BARE: dict[str, Any] = {"responses": _SHOWN, "openapi_extra": {"parameters": [IF_MATCH]}}
"""A verb that says it all: its body is empty."""


@router.post("/{event_id}/pause", summary="Pause a sale", **_BARE)
async def pause_event(event_id: str, request: Request, office: Office, by: Manager) -> Response:
    """Let nothing in from the next booking on, until it is resumed. What is held may be paid meanwhile."""
    return await _without_a_body(office.control.pause, event_id, request, office, by)


@router.post("/{event_id}/resume", summary="Resume a sale", **_BARE)
async def resume_event(event_id: str, request: Request, office: Office, by: Manager) -> Response:
    """End a pause."""
    return await _without_a_body(office.control.resume, event_id, request, office, by)


async def _without_a_body(
    verb: Callable[..., Awaitable[EventView]], event_id: str, request: Request, office: Office, by: Manager
) -> Response:
    parse_nothing(await read(office, request))
    return await _shown(office, await verb(event_id, by, if_version=if_match(request)))


@router.post(
    "/{event_id}/postpone",
    summary="Postpone an event",
    responses=_SHOWN,
    openapi_extra=takes(
        "PostponementRequest", {"starts_at": "2030-09-01T19:00:00Z", "cancel_until": "2030-07-01T00:00:00Z"}
    ),
)
async def postpone_event(event_id: str, request: Request, office: Office, by: Manager) -> Response:
    """Give it another start, and say until when bookings may be cancelled (null: until it starts)."""
    starts_at, cancel_until, allow = requests.parse_postponement(await read(office, request))
    event = await office.control.postpone(
        event_id, starts_at, cancel_until, by, if_version=if_match(request), allow=allow
    )  # fmt: skip
    return await _shown(office, event)


@router.post(
    "/{event_id}/call-off",
    status_code=202,
    summary="Call an event off",
    responses={
        202: {"model": event_schemas.CallOff, "headers": with_headers("Location")},
        **problem_responses(*REFUSALS[:4], "store-away"),
    },
    openapi_extra=takes("CallOffRequest", {"reason": "The singer is ill."}),
)
async def call_off_event(event_id: str, request: Request, office: Office, by: Manager) -> Response:
    """For good: nothing more is let in, paid or confirmed; holds end, what is pending is let go, and everybody is refunded in
    full, whatever the event's terms say. Called once more, it tells how far that is."""
    reason = requests.parse_call_off(await read(office, request))
    report = await office.calling_off.call_off(event_id, reason, by, if_version=if_match(request))
    location = (b"location", b"/v1/events/" + report["event_id"].encode() + b"/call-off")
    return respond_json(report, 202, location)


@router.get(
    "/{event_id}/call-off",
    summary="Read how far a call-off is",
    responses={
        200: {"model": event_schemas.CallOff, "headers": with_headers()},
        **problem_responses("unauthorized", "not-found", "store-away"),
    },
)
async def read_call_off(event_id: str, office: Office, by: Manager) -> Response:
    """Bookings and refunds of the event by status, and what the gateway refused to give back."""
    await office.control.owned(event_id, by)
    return respond_json(await office.calling_off.report(event_id, by))


@router.post(
    "/{event_id}/tiers",
    status_code=201,
    summary="Add a tier",
    responses={
        201: {"model": event_schemas.ManagedEvent, "headers": with_headers("ETag", "Location")}, **problem_responses(*REFUSALS)
    },
    openapi_extra=takes("TierRequest", {"code": "BALCONY", "price_cents": 2900, "capacity": 80}),
)  # fmt: skip
async def add_tier(event_id: str, request: Request, office: Office, by: Manager) -> Response:
    """One more tier, shown behind the others."""
    tier = requests.parse_tier(await read(office, request))
    event = await office.control.add_tier(event_id, tier, by, if_version=if_match(request))
    return await _shown(office, event, 201)


@router.patch(
    "/{event_id}/tiers/{tier_id}",
    summary="Change a tier",
    responses={
        200: {"model": event_schemas.EventWithCapacity, "headers": with_headers("ETag")},
        **problem_responses(*REFUSALS, "gate-closed"),
    },
    openapi_extra=takes("TierChangeRequest", {"price_cents": 5900, "capacity": 450}),
)
async def change_tier(event_id: str, tier_id: str, request: Request, office: Office, by: Manager) -> Response:
    """Change what is named. Another price is for bookings made from then on. A capacity shrinks as far as tickets are
    neither held nor sold: `capacity_change` says what was asked for and what it came to."""
    changes = requests.parse_tier_change(await read(office, request))
    changed = await office.control.change_tier(
        tier_id, by, event_id=event_id, if_version=if_match(request), **changes
    )  # fmt: skip
    capacity = changed.capacity
    moved = None if capacity is None else {"before": capacity.before, "asked": capacity.asked, "after": capacity.after}
    return await _shown(office, changed.event, 200, {"capacity_change": moved})


@router.get(
    "/{event_id}/history",
    summary="Read what was changed",
    responses={
        200: {"model": event_schemas.History, "headers": with_headers()},
        **problem_responses("malformed-request", "unauthorized", "not-found", "store-away"),
    },
)
async def list_changes(
    event_id: str, office: Office, by: Manager,
    limit: Annotated[int, Query(ge=1)] = 20,
    before: Annotated[int | None, Query(ge=1, description="Only changes older than the one of this `id`.")] = None,
) -> Response:  # fmt: skip
    """Who changed what of an event, and when, the newest first."""
    if limit > office.settings.limits.page_max:
        raise bad_parameter(f"A page has up to {office.settings.limits.page_max} changes.", "limit", "out_of_range")
    if before is not None and before >= 2**63:
        raise bad_parameter("There is no such change.", "before", "out_of_range")
    await office.control.owned(event_id, by)
    changes = await office.control.history(event_id, limit=limit, before=before)
    return respond_json({"data": changes})


@router.post(
    "/{event_id}/access-codes",
    status_code=201,
    summary="Make access codes",
    responses={
        201: {"model": holder_schemas.NewAccessCodes, "headers": with_headers()},
        **problem_responses(*REFUSALS[:3], "event-called-off", "store-away"),
    },
    openapi_extra=takes(
        "AccessCodesRequest",
        {"count": 100, "tickets": 2, "valid_until": "2030-05-01T10:00:00Z", "label": "fan club"},
        conditional=False,
    ),
)
async def create_codes(event_id: str, request: Request, office: Office, by: Manager) -> Response:
    """So many new codes, or those in `codes`, each good for `tickets` at a time. This answer is the only one that ever has
    them: what is kept of a code is its digest."""
    terms, count, given = requests.parse_codes(await read(office, request))
    made = await office.codes.create(event_id, terms, count=count, given=given, by=by)
    return respond_json({"data": made}, 201)


@router.get(
    "/{event_id}/access-codes",
    summary="List access codes",
    responses={
        200: {"model": holder_schemas.AccessCodePage, "headers": with_headers()},
        **problem_responses("malformed-request", "unauthorized", "not-found", "store-away"),
    },
)
async def list_codes(
    event_id: str, office: Office, by: Manager,
    limit: Annotated[int, Query(ge=1)] = 20,
    after: Annotated[str | None, Query(description="Only codes behind the one of this `id`.")] = None,
) -> Response:  # fmt: skip
    """What each code of an event is good for, and how many tickets are held or bought with it now."""
    if limit > office.settings.limits.page_max:
        raise bad_parameter(f"A page has up to {office.settings.limits.page_max} codes.", "limit", "out_of_range")
    if after is not None and not (after.isascii() and after.isprintable()):
        raise bad_parameter("There is no such code.", "after", "malformed")
    await office.control.owned(event_id, by)
    codes = await office.codes.page(event_id, after=after, limit=limit)
    return respond_json({"data": codes})


@router.post(
    "/{event_id}/access-codes/{code_id}/revoke",
    summary="Revoke an access code",
    responses={
        200: {"model": holder_schemas.Revoked, "headers": with_headers()},
        **problem_responses(*REFUSALS[:3], "event-called-off", "store-away"),
    },
)
async def revoke_code(event_id: str, code_id: str, request: Request, office: Office, by: Manager) -> Response:
    """Let nothing more in with it, from the next booking on. What was booked stays booked, and what is held may be paid."""
    parse_nothing(await read(office, request))
    count = await office.codes.revoke(event_id, [code_id], by=by)
    return respond_json({"revoked": count})


async def _shown(
    office: BoxOffice, event: EventView, status: int = 200, more: dict[str, Any] | None = None
) -> Response:  # fmt: skip
    """The event as it is now, off sale or not. What is left is null while Redis does not say."""
    left: list[int | None]
    try:
        left = [*await office.catalogue.availability(event, event.client)]
    except Unavailable:
        left = [None] * len(event.tiers)
    headers = [answers.etag(event)]
    if status == 201:
        headers.append((b"location", b"/v1/events/" + event.id.encode()))
    return respond_json(event.describe(left) | (more or {}), status, *headers)
