"""Pages of other origins, when there are any: Starlette's middleware, with refusals as problems."""

from __future__ import annotations

from typing import Any, Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from api import problems
from api.dependencies import respond
from api.transport.reply import Reply

__all__ = ["EXPOSED", "METHODS", "Cors"]

EXPOSED: Final = ("Content-Location", "Date", "Idempotency-Replayed", "Location", "Retry-After")
"""Headers that a page of another origin may read."""

METHODS: Final = ("GET", "HEAD", "POST")


class Cors(CORSMiddleware):
    """Says nothing of origins to who has none: every way into the application answers a shop's server alike."""

    async def simple_response(self, scope: Any, receive: Any, send: Any, request_headers: Headers) -> None:
        """A request that is not a question about requests."""
        if request_headers.get("origin") is None:
            await self.app(scope, receive, send)
        else:
            await super().simple_response(scope, receive, send, request_headers)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Whether a page may ask this: 200, or a problem."""
        found = super().preflight_response(request_headers)
        kept = [header for header in found.raw_headers if header[0] not in (b"content-type", b"content-length")]
        if found.status_code == 200:
            reply = Reply(200, b"", kept)
        else:
            refused = problems.of_status(400, "This origin, method or header is not allowed to other origins.")
            reply = Reply(400, refused.body, [*refused.headers, *kept])
        return respond(reply)
