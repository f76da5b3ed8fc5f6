"""Endpoints of a shop: where it is told what happens. What gateways tell us comes in by `webhooks.py`."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from api import endpoint_schemas as schemas
from api.dependencies import BEARER, Client, Office, respond_json
from api.refusals import problem_responses, with_headers
from api.routes.managing import named, read, takes
from boxoffice.states import DELIVERY_STATUSES
from boxoffice.wire import endpoint_requests as requests
from boxoffice.wire.hold_requests import parse_nothing
from boxoffice.wire.parameters import bad_parameter

__all__ = ["router"]

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"], dependencies=[BEARER, Depends(named)])

_REFUSALS: Final = ("malformed-request", "unauthorized", "not-found", "card-data-not-accepted", "store-away")

_SHOWN: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": schemas.WebhookEndpoint, "headers": with_headers()}, **problem_responses(*_REFUSALS)
}  # fmt: skip

NUMBER_DIGITS: Final = 18
"""Of a cursor: PostgreSQL's numbers end there."""


@router.post(
    "",
    status_code=201,
    summary="Create an endpoint",
    responses={
        201: {"model": schemas.NewWebhookEndpoint, "headers": with_headers("Location")},
        **problem_responses(*_REFUSALS),
    },
    openapi_extra=takes(
        "EndpointRequest", {"url": "https://shop.example/hooks", "types": ["booking.confirmed"]}, conditional=False
    ),
)
async def create_webhook_endpoint(request: Request, office: Office, client: Client) -> Response:
    """From now on notices of your shop are sent to this URL, signed by the Standard Webhooks specification. The answer has the
    secret, which nobody sees again."""
    form = requests.parse_new(await read(office, request))
    made = await office.endpoints.create(client, form.url, form.types, form.label, from_start=form.begin == "start")
    location = (b"location", f"/v1/webhook-endpoints/{made['id']}".encode())
    return respond_json(made, 201, location)


@router.get(
    "",
    summary="List endpoints",
    responses={
        200: {"model": schemas.WebhookEndpoints, "headers": with_headers()},
        **problem_responses("unauthorized", "store-away"),
    },
)
async def list_webhook_endpoints(office: Office, client: Client) -> Response:
    """All of your shop, and how each does."""
    return respond_json({"data": await office.endpoints.every(client)})


@router.get("/{endpoint_id}", summary="Read an endpoint", responses=_SHOWN)
async def read_webhook_endpoint(endpoint_id: str, office: Office, client: Client) -> Response:
    """How it does: whether it takes what it is sent, and how much waits."""
    return respond_json(await office.endpoints.one(client, endpoint_id))


@router.patch(
    "/{endpoint_id}",
    summary="Change an endpoint",
    responses=_SHOWN,
    openapi_extra=takes("EndpointChangeRequest", {"status": "enabled"}, conditional=False),
)
async def change_webhook_endpoint(endpoint_id: str, request: Request, office: Office, client: Client) -> Response:
    """Change what is named, and nothing else. One that is enabled is tried at once."""
    changes = requests.parse_change(await read(office, request))
    return respond_json(await office.endpoints.change(client, endpoint_id, **changes))


@router.delete(
    "/{endpoint_id}",
    summary="Delete an endpoint",
    responses={
        200: {"model": schemas.WebhookEndpoint, "headers": with_headers()},
        **problem_responses(*_REFUSALS),
    },
)
async def delete_webhook_endpoint(endpoint_id: str, request: Request, office: Office, client: Client) -> Response:
    """It hears of nothing more, and is not listed any more. The answer shows it as it was."""
    parse_nothing(await read(office, request))
    shown = await office.endpoints.one(client, endpoint_id)
    await office.endpoints.delete(client, endpoint_id)
    return respond_json(shown)


@router.post(
    "/{endpoint_id}/rotate",
    summary="Rotate the secret of an endpoint",
    responses={200: {"model": schemas.NewSecret, "headers": with_headers()}, **problem_responses(*_REFUSALS)},
    openapi_extra=takes("RotationRequest", {"overlap_s": 86400}, conditional=False),
)
async def rotate_webhook_secret(endpoint_id: str, request: Request, office: Office, client: Client) -> Response:
    """Sign with a new secret, and for `overlap_s` seconds with the one before as well: so long your server may know either."""
    overlap_s = requests.parse_rotation(await read(office, request))
    return respond_json(await office.endpoints.rotate(client, endpoint_id, overlap_s))


@router.get(
    "/{endpoint_id}/deliveries",
    summary="List deliveries of an endpoint",
    responses={200: {"model": schemas.WebhookDeliveries, "headers": with_headers()}, **problem_responses(*_REFUSALS)},
)
async def list_webhook_deliveries(
    endpoint_id: str,
    office: Office,
    client: Client,
    status: Annotated[str | None, Query(json_schema_extra={"enum": list(DELIVERY_STATUSES)})] = None,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1)] = 20,
) -> Response:
    """What was sent to it and what came of it, the latest first."""
    if status is not None and status not in DELIVERY_STATUSES:
        raise bad_parameter(f"A status is one of {', '.join(DELIVERY_STATUSES)}.", "status", "unknown")
    if limit > office.settings.limits.page_max:
        raise bad_parameter(f"A page has up to {office.settings.limits.page_max} deliveries.", "limit", "out_of_range")
    before = None if cursor is None else _number(cursor)
    rows = await office.endpoints.deliveries(client, endpoint_id, status, before, limit + 1)
    after = str(rows[limit - 1]["number"]) if len(rows) > limit else None
    return respond_json({"data": rows[:limit], "next_cursor": after})


@router.post(
    "/{endpoint_id}/redeliver",
    status_code=202,
    summary="Send deliveries anew",
    responses={202: {"model": schemas.Redelivered, "headers": with_headers()}, **problem_responses(*_REFUSALS)},
    openapi_extra=takes(
        "RedeliveryRequest", {"since": "2030-05-01T10:00:00Z", "status": "given_up"}, conditional=False
    ),
)
async def redeliver_webhooks(endpoint_id: str, request: Request, office: Office, client: Client) -> Response:
    """One notice, or those that were first tried in a range of time, under the same ids; whatever came of them, unless you say
    which `status`. Of a range at most 10,000, the oldest."""
    wanted = requests.parse_redelivery(await read(office, request))
    count = await office.endpoints.redeliver(
        client, endpoint_id, notice=wanted.notice, since=wanted.since, until=wanted.until, status=wanted.status
    )
    return respond_json({"redelivered": count}, 202)


def _number(cursor: str) -> int:
    if cursor.isascii() and cursor.isdecimal() and len(cursor) <= NUMBER_DIGITS:
        return int(cursor)
    raise bad_parameter("This is no cursor of ours.", "cursor", "cursor")
