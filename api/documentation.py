"""The API's description of itself: OpenAPI, and a page to try it."""

from __future__ import annotations

import copy
from typing import Any, Final

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic.json_schema import models_json_schema

from api import schemas
from boxoffice.errors import Unavailable

__all__ = ["DESCRIPTION", "TIER_ID", "openapi", "router"]

DESCRIPTION: Final = """
Sells tickets of events, some thousand a second, and never one twice.

Authorise with an API key of your shop (the example shop's is `demo.boxoffice`). Amounts are in minor units, times in
UTC, ids opaque. Refusals are problems (RFC 9457) with a stable `type`.
"""

TIER_ID: Final = "TIER_ID"
"""Stands in examples for a tier that is on sale."""

router = APIRouter(include_in_schema=False)


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the bodies that FastAPI does not read itself."""
    document = app.openapi()
    models = [
        (model, "validation")
        for model in (schemas.BookingRequest, schemas.ExtensionRequest, schemas.RefundRequest, schemas.Problem)
    ]
    _, found = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    document["components"]["schemas"].update(found["$defs"])
    return document


@router.get("/openapi.json")
async def openapi_json(request: Request) -> Response:
    """The document, its examples with a tier that is on sale now, so that they work when pasted."""
    document = openapi(request.app)
    try:
        on_sale = await request.app.state.office.catalogue.events()
    except Unavailable:
        on_sale = []
    tier = next((tier.id for event in on_sale for tier in event.tiers if tier.active), None)
    if tier is not None:
        document = copy.deepcopy(document)
        for path in ("/v1/bookings", "/v1/bookings/{booking_id}/refunds"):
            body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            body["example"]["items"][0]["tier_id"] = tier
    return Response(msgspec.json.encode(document), media_type="application/json")


@router.get("/docs")
async def docs() -> Response:
    """A page to read and try the API."""
    return get_swagger_ui_html(openapi_url="/openapi.json", title="boxoffice API")
