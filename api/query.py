"""Parameters of the query: only those that the route has, each once. One rule for every route that shops and operators call.

The front answers the hot routes only without a query, so a request with one comes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.dependencies import refuse
from boxoffice.errors import Malformed
from boxoffice.wire.parameters import bad_parameter
from boxoffice.wire.strict import may_be_named

__all__ = ["only_known", "parameters_of"]

MOST: Final = 50
"""Parameters that are looked at: no route has as many."""


async def only_known(request: Request) -> None:
    """A dependency of every route but those that gateways and load balancers call. Raises `Malformed` for a parameter that the
    route does not have, or that is there twice: it would be left out without a word. The refusal has its name when that is a
    plain one, never its value."""
    if request.scope["query_string"] and (error := _odd_one(request)):
        await refuse(request, error)


def _odd_one(request: Request) -> Malformed | None:
    known = parameters_of(request.scope["route"])
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items()[:MOST]:
        if name not in known:
            there = f"There are: {', '.join(sorted(known))}." if known else "There are none."
            return bad_parameter(
                f"This route has no such parameter. {there}", name if may_be_named(name) else None, "unknown_parameter"
            )
        if name in seen:
            return bad_parameter("This parameter is there twice.", name, "duplicate")
        seen.add(name)
    return None


def parameters_of(route: APIRoute) -> frozenset[str]:
    """Names of the parameters that a route reads."""
    return frozenset(_names(route.dependant))


def _names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _names(each)
