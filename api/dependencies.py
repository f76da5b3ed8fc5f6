"""What routes ask for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request, Response, Security
from fastapi.security import HTTPBearer

from api import answers
from api.reply import Reply
from boxoffice.office import BoxOffice

__all__ = ["BEARER", "Client", "Office", "header", "respond"]

BEARER = Security(HTTPBearer(auto_error=False, description="An API key of your shop, such as `demo.boxoffice`."))
"""For the documentation only: `client_of` decides."""


def _office(request: Request) -> BoxOffice:
    office: BoxOffice = request.app.state.office
    return office


Office = Annotated[BoxOffice, Depends(_office)]


async def _client(request: Request, office: Office) -> str:
    return await answers.client_of(office, header(request, "authorization"))


Client = Annotated[str, Depends(_client)]
"""The shop that calls."""


def header(request: Request, name: str) -> bytes | None:
    """A header as it came."""
    value = request.headers.get(name)
    return None if value is None else value.encode("latin-1")


def respond(reply: Reply) -> Response:
    """An answer in FastAPI's own words."""
    response = Response(reply.body, reply.status)
    response.raw_headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    return response


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the documentation says of refusals."""
    return {
        status: {
            "description": _SAID[status],
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


_SAID = {
    400: "Something is missing or malformed: `errors` says where.",
    401: "The API key is missing, unknown or revoked.",
    404: "There is no such thing, or it is not yours.",
    409: "The sale says no, or the booking is not in a state for this: `type` says why (`docs/errors.md`).",
    422: "`idempotency-key-reused`: the key was used with another request. `card-data-not-accepted`.",
    503: "Nobody can say now. Ask again after `Retry-After` seconds, with the same key.",
}
