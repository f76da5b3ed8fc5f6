"""Tickets that are set aside for one shop or one access code: set aside, list, change, release."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from api import holder_schemas
from api.dependencies import BEARER, Office, respond_json
from api.refusals import problem_responses, with_headers
from api.routes.managing import REFUSALS, Manager, if_match, named, read, takes
from boxoffice.wire import allocation_requests as requests

__all__ = ["router"]

router = APIRouter(prefix="/v1/events", tags=["sales"], dependencies=[BEARER, Depends(named)])

_SHOWN: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": holder_schemas.Allocation, "headers": with_headers()}, **problem_responses(*REFUSALS, "gate-closed")
}  # fmt: skip


@router.post(
    "/{event_id}/allocations",
    status_code=201,
    summary="Set tickets aside",
    responses={
        201: {"model": holder_schemas.Allocation, "headers": with_headers("Location")},
        **problem_responses(*REFUSALS, "gate-closed"),
    },
    openapi_extra=takes("AllocationRequest", {"tier_id": "m3k9x2pq7r4t", "shop": "n5v8w1yz6s0b", "tickets": 50}),
)  # fmt: skip
async def create_allocation(event_id: str, request: Request, office: Office, by: Manager) -> Response:
    """So many tickets of a tier for one shop, or for one access code, on top of what it holds or has bought of the tier; as
    many as are available, when those are fewer: `reserved` says how many. Nobody else books them until they are released."""
    tier_id, holder, tickets = requests.parse_allocation(await read(office, request))
    made = await office.allocations.create(event_id, tier_id, holder, tickets, by, if_version=if_match(request))
    location = (b"location", f"/v1/events/{event_id}/allocations/{made['id']}".encode())
    return respond_json(made, 201, location)


@router.get(
    "/{event_id}/allocations",
    summary="List what is set aside",
    responses={
        200: {"model": holder_schemas.Allocations, "headers": with_headers()},
        **problem_responses("malformed-request", "unauthorized", "not-found", "store-away"),
    },
)
async def list_allocations(
    event_id: str, office: Office, by: Manager,
    released: Annotated[bool, Query(description="Show those that were released, too.")] = False,
) -> Response:  # fmt: skip
    """All allocations of an event: what of each its holder has, held or bought, and what is reserved."""
    found = await office.allocations.page(event_id, by, every=released)
    return respond_json({"data": found})


@router.get(
    "/{event_id}/allocations/{allocation_id}",
    summary="Read what is set aside",
    responses={
        200: {"model": holder_schemas.Allocation, "headers": with_headers()},
        **problem_responses("unauthorized", "not-found", "store-away"),
    },
)
async def read_allocation(event_id: str, allocation_id: str, office: Office, by: Manager) -> Response:
    """One allocation, released or not."""
    return _shown(await office.allocations.one(event_id, allocation_id, by))


@router.patch(
    "/{event_id}/allocations/{allocation_id}",
    summary="Change what is set aside",
    responses=_SHOWN,
    openapi_extra=takes("AllocationChangeRequest", {"tickets": 80}),
)
async def change_allocation(
    event_id: str, allocation_id: str, request: Request, office: Office, by: Manager
) -> Response:  # fmt: skip
    """Let it be of so many tickets: not fewer than its holder has of them, and not more than are available. The answer says
    what it came to."""
    tickets = requests.parse_size(await read(office, request))
    return _shown(
        await office.allocations.resize(event_id, allocation_id, tickets, by, if_version=if_match(request))
    )  # fmt: skip


@router.post(
    "/{event_id}/allocations/{allocation_id}/release",
    summary="Release what is set aside",
    responses=_SHOWN,
    openapi_extra=takes("ReleaseRequest", {"tickets": None}),
)
async def release_allocation(
    event_id: str, allocation_id: str, request: Request, office: Office, by: Manager
) -> Response:  # fmt: skip
    """Let everybody book, in one step, what of it nobody has taken: all of that (`"tickets": null`), with which it ends, or so
    many tickets. What its holder has stays its own. Send `If-Match` with a number: a repeat releases nothing more."""
    tickets = requests.parse_release(await read(office, request))
    return _shown(
        await office.allocations.release(event_id, allocation_id, tickets, by, if_version=if_match(request))
    )  # fmt: skip


def _shown(allocation: dict[str, Any]) -> Response:
    return respond_json(allocation)
