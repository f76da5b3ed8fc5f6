"""The API's description of itself: OpenAPI, and a page to try it."""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any, Final

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse
from pydantic.json_schema import models_json_schema

from api import endpoint_schemas, event_schemas, hold_schemas, holder_schemas, ops_schemas, schemas
from api.problem_schemas import problem_schemas
from api.refusals import HEADERS
from api.rights import RIGHTS
from api.routes.events import is_on_sale
from boxoffice.errors import NotFound, Unauthorized, Unavailable

__all__ = ["DESCRIPTION", "TIER_ID", "openapi", "router"]

DESCRIPTION: Final = """
Sells tickets of events, some thousand a second, and never one twice.

Authorise with an API key of your shop (the example shop's is `demo.boxoffice`). Amounts are in minor units, times in
UTC, ids opaque. Refusals are problems (RFC 9457) with a stable `type`.
"""

DEMO_KEY: Final = "demo.boxoffice"
"""Where this key is good, everybody may know what its shop sells."""

TIER_ID: Final = "TIER_ID"
"""Stands in examples for a tier that is on sale."""

_FILES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
"""Swagger UI (Apache License 2.0), packaged by fastapi-offline (MIT)."""

_LICENCE: Final = "swagger-ui-bundle.js.LICENSE.txt"
"""Who gets the files gets this, too: so says the licence."""

_PAGE: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""FastAPI's page starts Swagger UI from a script of its own."""

router = APIRouter(include_in_schema=False)


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the bodies that FastAPI does not read itself."""
    document = copy.deepcopy(app.openapi())
    document["servers"] = [{"url": "/", "description": "Wherever this description came from."}]
    models = [
        (model, "validation")
        for model in (
            schemas.BookingRequest,
            hold_schemas.HoldPaymentRequest,
            hold_schemas.ChangeRequest,
            hold_schemas.ExtensionRequest,
            schemas.RefundRequest,
            schemas.Problem,
            ops_schemas.DeskCancelRequest,
            ops_schemas.DeskRefundRequest,
            ops_schemas.ReconcileRequest,
            event_schemas.EventRequest,
            event_schemas.EventChangeRequest,
            event_schemas.PostponementRequest,
            holder_schemas.AccessCodesRequest,
            holder_schemas.AllocationRequest,
            holder_schemas.AllocationChangeRequest,
            holder_schemas.ReleaseRequest,
            event_schemas.CallOffRequest,
            event_schemas.TierRequest,
            event_schemas.TierChangeRequest,
            endpoint_schemas.EndpointRequest,
            endpoint_schemas.EndpointChangeRequest,
            endpoint_schemas.RotationRequest,
            endpoint_schemas.RedeliveryRequest,
        )
    ]
    _, found = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    components = document["components"]
    components["schemas"].update(found["$defs"])
    components["schemas"].update(problem_schemas(components["schemas"]["Problem"]))
    components["headers"] = HEADERS
    for operations in document["paths"].values():
        for operation in operations.values():
            _correct(operation)
            _add_scope(operation)
    for never in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(never, None)
    return document


def _correct(operation: dict[str, Any]) -> None:
    """FastAPI takes it that it answers what is malformed itself, with 422, and that a parameter may be null."""
    content = operation["responses"].get("422", {}).get("content", {})
    if "application/json" in content:
        del operation["responses"]["422"]
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        if "anyOf" in schema:
            (kind,) = (each for each in schema.pop("anyOf") if each != {"type": "null"})
            schema |= kind


def _add_scope(operation: dict[str, Any]) -> None:
    right = RIGHTS[operation["operationId"]]
    if right.scope is not None:
        operators = ", or `ops`: then of every shop" if right.operators else ""
        operation["description"] += f"\n\nScope: `{right.scope}`{operators}."


@router.get("/openapi.json")
async def openapi_json(request: Request) -> Response:
    """The document, its examples with a tier that the example shop sells now, so that they work when pasted."""
    try:
        catalogue = request.app.state.office.catalogue
        demo = (await catalogue.api_keys.caller_of(DEMO_KEY)).client
        on_sale = [event for event in await catalogue.events() if event.sold_by(demo)]
    except (Unavailable, Unauthorized):
        on_sale = []
    tiers = (tier.id for event in on_sale if is_on_sale(event) for tier in event.tiers if tier.active)
    tier = next(tiers, TIER_ID)
    written: tuple[str, bytes] | None = getattr(request.app.state, "openapi", None)
    if written is None or written[0] != tier:
        written = request.app.state.openapi = (tier, _written(request.app, tier))
    return Response(written[1], media_type="application/json", headers={"Cache-Control": "max-age=60"})


def _written(app: FastAPI, tier: str) -> bytes:
    document = copy.deepcopy(openapi(app))
    for method, path in (
        ("post", "/v1/bookings"), ("patch", "/v1/bookings/{booking_id}"), ("post", "/v1/bookings/{booking_id}/refunds"),
    ):  # fmt: skip
        body = document["paths"][path][method]["requestBody"]["content"]["application/json"]
        body["example"]["items"][0]["tier_id"] = tier
    return msgspec.json.encode(document)


@router.get("/docs")
async def docs() -> Response:
    """A page to read and try the API. All that it needs comes from here: a browser without the internet shows it too."""
    page = get_swagger_ui_html(
        # It would have the document judged by a server of Swagger's.
        swagger_ui_parameters={"validatorUrl": None},
        openapi_url="/openapi.json",
        title="boxoffice API",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon.png",
    )
    page.headers["Cache-Control"] = "max-age=3600"
    page.headers["Content-Security-Policy"] = _PAGE
    return page


@router.get("/docs/{name}")
async def docs_file(name: str) -> Response:
    """Swagger UI's own files, as the package that we install has them, and the licence that its first line names."""
    if name == _LICENCE:
        return Response(_licence(), media_type="text/plain", headers={"Cache-Control": "max-age=86400"})
    kind = _FILES.get(name)
    package = importlib.util.find_spec("fastapi_offline")
    if kind is None or package is None or not package.submodule_search_locations:
        raise NotFound("There is nothing at this path.")
    path = Path(package.submodule_search_locations[0]) / "static" / name
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "max-age=86400"})


def _licence() -> str:
    """Swagger UI's is the one that we have, word for word."""
    text = importlib.metadata.distribution("boxoffice").read_text("licenses/LICENSE")
    return f"Swagger UI. Copyright SmartBear Software Inc. Licensed under the Apache License 2.0:\n\n{text or ''}"
