"""What every route that manages a sale reads of its request: who manages, for which version, and what is asked for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from api.bodies import read_body
from api.dependencies import Caller, header, refuse
from api.rights import is_operators
from boxoffice.errors import NotFound
from boxoffice.office import BoxOffice
from boxoffice.sales.control import Actor
from boxoffice.wire import event_requests as requests
from boxoffice.wire.parameters import check_content_encoding, check_content_type

__all__ = ["IF_MATCH", "REFUSALS", "Manager", "if_match", "named", "read", "takes"]


async def named(request: Request) -> None:
    """An id has printable ASCII alone; PostgreSQL takes not every other text. Raises `NotFound`."""
    if not all(name.isascii() and name.isprintable() for name in request.path_params.values()):
        await refuse(request, NotFound())


async def _manager(request: Request, caller: Caller) -> Actor:
    """Whoever manages: the key's own shop, and its own events alone (`Control` looks), or an operator, and everybody's. What
    else a key needs for it is asked here."""
    everybodys = is_operators(request.scope["route"].name, caller)
    return Actor(f"key:{caller.allowance.api_key}", None if everybodys else caller.client)


Manager = Annotated[Actor, Depends(_manager)]

REFUSALS = ("malformed-request", "unauthorized", "not-found", "event-changed", "event-called-off", "store-away")

IF_MATCH = {
    "name": "If-Match", "in": "header", "required": False, "schema": {"type": "string"}, "example": '"7"',
    "description": "The `ETag` of the event as it was read: if it has changed since, nothing is done (412).",
}  # fmt: skip


def takes(schema: str, example: dict[str, Any], *, conditional: bool = True) -> dict[str, Any]:
    """How the documentation shows a route that takes such a body, and an `If-Match` when it is conditional."""
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}
    body = {"required": True, "content": {"application/json": content}}
    return {"requestBody": body, "parameters": [IF_MATCH] if conditional else []}


def if_match(request: Request) -> int | None:
    """The version that it is meant for; None: any. Raises `Malformed`."""
    return requests.parse_if_match([value for name, value in request.headers.raw if name == b"if-match"])


async def read(office: BoxOffice, request: Request) -> bytes:
    """The body. Raises `Malformed`, and whatever a body may be refused with."""
    raw = await read_body(request.receive, office.settings.limits.body_max_bytes)
    if raw:
        check_content_type(header(request, "content-type"))
        check_content_encoding(header(request, "content-encoding"))
    return raw
