"""What payment gateways tell us."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from api import schemas
from api.bodies import read_body
from api.dependencies import Office, respond
from api.refusals import problem_responses, with_headers
from api.transport.reader import WEBHOOK_MAX
from api.transport.reply import JSON, NO_STORE, Reply
from boxoffice.errors import NotFound

__all__ = ["router"]

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


@router.post(
    "/{gateway}",
    summary="Hear from a gateway",
    responses={
        200: {"model": schemas.Received, "headers": with_headers()},
        **problem_responses("malformed-request", "webhook-refused", "webhook-malformed", "not-found", "store-away"),
    },
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def hear(gateway: str, request: Request, office: Office) -> Response:
    """Messages of the configured gateway, authenticated by their signature in place of an API key. Their content is not
    believed: the payment is looked up at the gateway. So a repeat, or one out of order, is answered 200 and changes nothing."""
    if gateway != office.gateway.name and not (gateway == "simulator" and office.gateway.name == "http"):
        raise NotFound("There is no such gateway.")
    body = await read_body(request.receive, WEBHOOK_MAX)
    event = office.gateway.verify_webhook(request.headers, body, time.time())
    fresh = await office.webhooks.receive(office.gateway.name, event)
    body = b'{"received":true}' if fresh else b'{"received":true,"repeated":true}'
    return respond(Reply(200, body, [JSON, NO_STORE]))
