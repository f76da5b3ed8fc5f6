"""Refusals of the shop's own, in the form of the API's: the page reads one kind."""

from __future__ import annotations

import json

from starlette.responses import Response

__all__ = ["problem"]


def problem(status: int, slug: str, detail: str, *, retry_after: int | None = None) -> Response:
    """RFC 9457. `retry_after`: seconds after which the same request may be sent again."""
    body: dict[str, object] = {"type": f"/problems/{slug}", "title": detail, "status": status, "detail": detail}
    headers = {"Cache-Control": "no-store"}
    if retry_after is not None:
        body["retry_after"] = retry_after
        headers["Retry-After"] = str(retry_after)
    return Response(json.dumps(body), status, headers, "application/problem+json")
